"""Network: links that delay, and what is wrong with them.

* Without faults a link keeps the order and loses nothing, as TCP does. What goes wrong is a cut
  (how many faults hold a link cut is counted) or a fault that lasts from one moment to another.
* Each link and each fault draws from its own chance: what happens on one changes no other.
* On a narrow line entries and snapshots wait for each other, and what is small goes first, but for
  the question whether they have come (as `transport.outgoing` does it). Where the bottleneck is
  beyond the host nothing goes first.
* What is lost a kernel sends again, and all that comes after it waits meanwhile.
* A connection may be dead without a sign. A new one is made once nothing came of it for an election
  timeout, and at once by whoever campaigns (as `transport.links` does it).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ..core.config import RETRANSMIT_S
from ..core.messages import (
    AppendEntries,
    Forward,
    InstallSnapshot,
    Introduction,
    Message,
    RequestPreVote,
    RequestVote,
)
from ..core.types import NodeId
from .agenda import Agenda
from .draw import EVERYONE, Kind, Pair
from .outcomes import RunRecording

GHOST_FACTOR_MAX: Final = 100.0
"""How much later than its original a duplicate may come."""
GHOST_MAX_S: Final = 1.5
"""Half of them come as late as this: in another life of their receiver, or under another leader."""
OVERTAKEN_FACTOR_MAX: Final = 20.0
HEAD_BYTES: Final = 60
"""Of a message, without what it carries."""
ENTRY_BYTES: Final = 20
QUEUE_S: Final = 20.0
"""What would wait longer for its turn on a narrow line is dropped: queues are bounded."""


@attrs.define(eq=False)
class LinkFault:
    """What is wrong with some links for a while."""

    kind: Kind
    level: float
    victim: NodeId
    """Links from and to this node; EVERYONE: all links."""
    rng: random.Random

    def covers(self, pair: Pair) -> bool:
        """Whether this link is under it."""
        return self.victim == EVERYONE or self.victim in pair


@attrs.define(eq=False)
class _Link:
    rng: random.Random
    cuts: int = 0
    last_arrival_s: float = 0.0
    drained_s: float = 0.0
    """When a narrow line will have let through all that was sent."""
    bulk_arrival_s: float = 0.0
    """When the last of what is large arrives."""
    is_dead: bool = False
    """Its connection carries nothing any more, and nobody was told."""
    doubted_since_s: float | None = None


class SimulatedNetwork:
    """Carries messages between nodes."""

    def __init__(
        self,
        agenda: Agenda,
        recording: RunRecording,
        seed: int,
        nodes: Iterable[NodeId],
        delay_s: tuple[float, float],
        deliver: Callable[[Message, Introduction], None],
        *,
        patience_s: float,
    ) -> None:
        self._patience_s = patience_s  # of links that nobody answers over
        self._agenda = agenda
        self._recording = recording
        self._deliver = deliver
        self.delay(delay_s)
        self.link_faults: list[LinkFault] = []
        ids = tuple(nodes)
        self._links = {
            (a, b): _Link(random.Random(f"{seed} link {a} {b}")) for a in ids for b in ids if a != b
        }

    def delay(self, delay_s: tuple[float, float]) -> None:
        """Every line takes so long from now on, at least and at most, in seconds."""
        self._delay_s, self._spread_s = delay_s[0], delay_s[1] - delay_s[0]

    def send(self, message: Message, origin: Introduction) -> None:
        """A node says something to another, who knows by `origin` whose disk it came from."""
        pair = (message.sender, message.receiver)
        link = self._links.get(pair)
        if link is None or link.cuts:
            return
        now = self._agenda.now
        delay_s = self._delay_s + link.rng.random() * self._spread_s
        if link.is_dead:
            if not self._connects_anew(message, link, pair):
                return
            # To be heard of, and let in.
            delay_s += 3 * (self._delay_s + self._spread_s + self._longer_s(pair))
        if not self.link_faults:
            arrival_s = max(now + delay_s, link.last_arrival_s)
            link.last_arrival_s = arrival_s
            self._agenda.at(arrival_s, self._deliver, message, origin)
            return
        self._send_through(message, origin, link, pair, delay_s)

    def _send_through(
        self, message: Message, origin: Introduction, link: _Link, pair: Pair, delay_s: float
    ) -> None:
        now, count = self._agenda.now, self._recording.count
        is_ordered = True
        for fault in self.link_faults:
            if not fault.covers(pair):
                continue
            rng, level = fault.rng, fault.level
            if fault.kind is Kind.DELAY:
                delay_s += rng.random() * level
                count(Kind.DELAY)
            elif fault.kind is Kind.LONG:
                delay_s += level
                count(Kind.LONG)
            elif fault.kind is Kind.LOSS:
                delay_s += self._retransmitted_s(fault, delay_s)
            elif fault.kind in (Kind.NARROW, Kind.BOTTLENECK):
                if fault.kind is Kind.NARROW and _overtakes(message):
                    continue
                waits_s = self._through_narrow(message, link, fault, delay_s)
                if waits_s is None:
                    return
                delay_s, is_ordered = waits_s, False
            elif rng.random() >= level:
                continue
            elif fault.kind is Kind.DROP:
                count(Kind.DROP)
                return
            elif fault.kind is Kind.DUPLICATE:
                soon_s = delay_s * rng.uniform(0.5, GHOST_FACTOR_MAX)
                ghost_s = soon_s if rng.random() < 0.5 else rng.uniform(0.0, GHOST_MAX_S)
                self._agenda.at(now + ghost_s, self._deliver, message, origin)
                count(Kind.DUPLICATE)
            elif fault.kind is Kind.REORDER:
                delay_s *= rng.uniform(1.0, OVERTAKEN_FACTOR_MAX)
                is_ordered = False
                count(Kind.REORDER)
        arrival_s = now + delay_s
        if is_ordered:
            arrival_s = max(arrival_s, link.last_arrival_s)
            link.last_arrival_s = arrival_s
        self._agenda.at(arrival_s, self._deliver, message, origin)

    def _through_narrow(
        self, message: Message, link: _Link, fault: LinkFault, delay_s: float
    ) -> float | None:
        """How long it takes through a narrow line; None: the queue before it is full."""
        now, size = self._agenda.now, _bulk_bytes(message)
        if fault.kind is Kind.BOTTLENECK:
            size = size or HEAD_BYTES
        if not size:
            return max(delay_s, link.bulk_arrival_s - now)
        drained_s = max(now, link.drained_s) + size / fault.level
        if drained_s - now > QUEUE_S:
            return None
        link.drained_s = drained_s
        link.bulk_arrival_s = max(link.bulk_arrival_s, link.drained_s + delay_s)
        self._recording.count(fault.kind)
        return link.bulk_arrival_s - now

    def _retransmitted_s(self, fault: LinkFault, delay_s: float) -> float:
        """How long it takes until what is lost has been sent again often enough."""
        waits_s, stall_s = 2 * delay_s + RETRANSMIT_S, 0.0
        while fault.rng.random() < fault.level:
            self._recording.count(Kind.LOSS)
            stall_s += waits_s
            waits_s *= 2
        return stall_s

    def _longer_s(self, pair: Pair) -> float:
        faults = self.link_faults
        return sum(f.level for f in faults if f.kind is Kind.LONG and f.covers(pair))

    def empty_queues(self) -> None:
        """No line is narrow any more: nothing waits for its turn from now on."""
        for link in self._links.values():
            link.drained_s = link.bulk_arrival_s = 0.0

    # -- dead connections ------------------------------------------------------------------

    def let_die(self, pairs: Iterable[Pair]) -> None:
        """These connections carry nothing any more; a new one would."""
        pairs = tuple(pairs)
        self._say("Dead", pairs)
        for pair in pairs:
            self._links[pair].is_dead, self._links[pair].doubted_since_s = True, None

    def _connects_anew(self, message: Message, link: _Link, pair: Pair) -> bool:
        """Whether this message goes over a connection that was made beside the dead one."""
        now = self._agenda.now
        if link.doubted_since_s is None:
            link.doubted_since_s = now
        is_campaign = isinstance(message, RequestVote | RequestPreVote)
        if not is_campaign and now - link.doubted_since_s < self._patience_s:
            return False
        link.is_dead = self._links[pair[1], pair[0]].is_dead = False  # it sees that one comes
        return True

    # -- cuts ------------------------------------------------------------------------------

    def cut(self, pairs: Iterable[Pair]) -> None:
        """One fault more holds these links cut."""
        pairs = tuple(pairs)
        self._say("Cut", pairs)
        for pair in pairs:
            self._links[pair].cuts += 1

    def mend(self, pairs: Iterable[Pair]) -> None:
        """One fault less does; a link that was mended altogether stays so."""
        pairs = tuple(pairs)
        self._say("Mend", pairs)
        for pair in pairs:
            link = self._links[pair]
            link.cuts = max(0, link.cuts - 1)

    def mend_all(self, pairs: Iterable[Pair]) -> None:
        """These links work again, whatever held them cut."""
        self._recording.remark("Heal")
        for pair in pairs:
            self._links[pair].cuts = 0
            self._links[pair].is_dead = False

    def _say(self, verb: str, pairs: Iterable[Pair]) -> None:
        """In words that `trioraft viz` reads."""
        if self._recording.traced:
            ways = " ".join(f"{sender}>{receiver}" for sender, receiver in pairs)
            self._recording.remark(f"{verb} {ways}")

    def is_open(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether anything gets through."""
        return not self._links[sender, receiver].cuts


def _bulk_bytes(message: Message) -> int:
    """The size of what is large: entries, and parts of a snapshot; 0 of anything else."""
    match message:
        case AppendEntries() if message.entries:
            return HEAD_BYTES + sum(ENTRY_BYTES + len(entry.data) for entry in message.entries)
        case InstallSnapshot() | Forward():
            return HEAD_BYTES + len(message.data)
        case _:
            return 0


def _overtakes(message: Message) -> bool:
    """Whether it goes before all that is large (hazard P2), as `transport.outgoing` has it."""
    return not _bulk_bytes(message) and not _asks_after_bulk(message)


def _asks_after_bulk(message: Message) -> bool:
    """Whether it may be the question what has come of the entries that were sent before it."""
    return isinstance(message, AppendEntries) and message.prev_log_index > message.leader_commit
