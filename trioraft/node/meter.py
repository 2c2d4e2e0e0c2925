"""Meter: what is counted and timed of one node while somebody wants to know.

Rules of this file:

* A node has none until it is asked for (`figures.begin_measuring`), and then pays nothing for it.
* With one, a command costs as little as may be: what can be is counted once a batch, and nothing
  here knows the format in which it will be told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from time import perf_counter
from typing import Final, final

import attrs

from ..core.errors import OutcomeUnknown, RaftError
from ..core.events import RoleChanged
from ..core.raft import Raft
from ..core.types import LogIndex, NodeId, Role
from ..tasks.byte_budget import ByteBudget
from .event_stream import NodeEvent
from .proposal import Proposal

BUCKETS_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Bounds of every distribution, in seconds: from a quick disk to a patient client."""
BATCHES_MAX: Final = 10_000
"""Batches of entries of which it is known when they were appended; older ones are not measured."""


@final
@attrs.define(eq=False)
class Distribution:
    """How often something took how long. Handed out in `Figures.meter`."""

    counts: list[int] = attrs.Factory(lambda: [0] * (len(BUCKETS_S) + 1))
    """For each bound what was no longer, and longer than the bound before; then what was longer
    than all."""
    sum_s: float = 0.0

    def add(self, took_s: float, times: int = 1) -> None:
        """It took so long, so often.

        Args:
            took_s: how long, in seconds.
            times: how often.
        """
        self.counts[bisect_left(BUCKETS_S, took_s)] += times
        self.sum_s += took_s * times

    def copy(self) -> Distribution:
        """As it is now."""
        return Distribution(self.counts[:], self.sum_s)

    @property
    def count(self) -> int:
        """How often, in all."""
        return sum(self.counts)

    def cumulated(self) -> Sequence[tuple[str, float]]:
        """By bound, how often it was no longer than that: as Prometheus has it."""
        total, found = 0, []
        for bound_s, count in zip((*BUCKETS_S, None), self.counts, strict=True):
            total += count
            found.append(("+Inf" if bound_s is None else str(bound_s), float(total)))
        return found


@final
@attrs.define(eq=False)
class Meter:
    """What was counted and timed of one node. Handed out in `Figures.meter`."""

    roles: Counter[tuple[Role, Role, str]] = attrs.Factory(Counter)
    """Changes of role: from which, to which, and the kind of reason."""
    leaders: int = 0
    """How often another leader, or the same one in another term, came to be known."""
    events: Counter[type[NodeEvent]] = attrs.Factory(Counter)
    """All other events, by their type."""
    taken: int = 0
    """Commands that were taken here, to be proposed or forwarded."""
    applied: int = 0
    """Of them, applied here, with a result or an exception of their own."""
    failed: Counter[str] = attrs.Factory(Counter)
    """Of them, not applied: by the name of the error's type."""
    unknown: int = 0
    """Of them, whether applied or not is not known."""
    refused: Counter[str] = attrs.Factory(Counter)
    """Commands that were not taken: by the name of the error's type."""
    commit: Distribution = attrs.Factory(Distribution)
    """From an entry's append on the leader to its commit; once for each entry."""
    write: Distribution = attrs.Factory(Distribution)
    """A durable write of the log."""
    apply: Distribution = attrs.Factory(Distribution)
    """A slice of entries into the state machine."""
    read: Distribution = attrs.Factory(Distribution)
    """A read barrier, for whoever waits."""
    outcome: Distribution = attrs.Factory(Distribution)
    """From taking a command to its outcome."""
    snapshot: Distribution = attrs.Factory(Distribution)
    """Writing a snapshot of this node's own."""
    round_trips: dict[NodeId, Distribution] = attrs.Factory(dict)
    """On a leader, from a heartbeat round's leaving to each follower's answer."""
    _known_leader: tuple[NodeId, int] | None = None
    _answered: dict[NodeId, tuple[int, int]] = attrs.Factory(dict)
    _appended: deque[tuple[LogIndex, float]] = attrs.Factory(lambda: deque(maxlen=BATCHES_MAX))
    _last_index: LogIndex = 0
    _commit_index: LogIndex = 0
    _term: int = -1

    def on_acted(self, raft: Raft, now: float, batch_s: float) -> None:
        """The node has acted on its inputs.

        Args:
            raft: its core.
            now: the time, in seconds of the node's clock.
            batch_s: when the first of the commands was proposed that came together lately, in
                seconds of that clock.
        """
        if raft.leader_id is not None and self._known_leader != (raft.leader_id, raft.term):
            self._known_leader = raft.leader_id, raft.term
            self.leaders += 1
        leadership = raft.leadership
        if leadership is None:
            self._term = -1
            return
        log = raft.log
        if raft.term != self._term:
            self._term, self._commit_index = raft.term, log.commit_index
            self._last_index = log.last_index
            self._appended.clear()
            self._answered.clear()
        if log.last_index > self._last_index:
            since_s = self._appended[-1][1] if self._appended else 0.0
            self._appended.append((log.last_index, batch_s if batch_s > since_s else now))
            self._last_index = log.last_index
        if log.commit_index > self._commit_index:
            self._on_commit(log.commit_index, now)
        for peer, progress in leadership.progress.items():
            known = self._answered.get(peer)
            if known is None or known[1] != progress.answered_round:
                self._answered[peer] = raft.term, progress.answered_round
                if known is not None and progress.newest_round_trip_s:
                    trips = self.round_trips.setdefault(peer, Distribution())
                    trips.add(progress.newest_round_trip_s)
        if len(self.round_trips) > len(leadership.progress):  # who has left
            for peer in self.round_trips.keys() - leadership.progress.keys():
                del self.round_trips[peer]

    def _on_commit(self, index: LogIndex, now: float) -> None:
        before, self._commit_index = self._commit_index, index
        appended = self._appended
        while appended and before < index:
            last, at_s = appended[0]
            upto = min(last, index)
            if upto > before:
                self.commit.add(max(now - at_s, 0.0), upto - before)
                before = upto
            if last <= index:
                appended.popleft()

    def on_event(self, event: NodeEvent) -> None:
        """Something was told."""
        if isinstance(event, RoleChanged):
            self.roles[event.previous, event.role, type(event.reason).__name__] += 1
        else:
            self.events[type(event)] += 1

    def on_refused(self, error: RaftError) -> None:
        """A command was not taken."""
        self.refused[type(error).__name__] += 1

    def proposal(self, size_bytes: int, budget: ByteBudget) -> Proposal:
        """A command is taken: count it, and time it until its outcome.

        Args:
            size_bytes: of the command, in bytes.
            budget: what it has been taken from.
        """
        self.taken += 1
        return _MeasuredProposal(size_bytes, budget, self)

    def copy(self) -> Meter:
        """As it is now: for another thread."""
        return Meter(
            roles=self.roles.copy(),
            leaders=self.leaders,
            events=self.events.copy(),
            taken=self.taken,
            applied=self.applied,
            failed=self.failed.copy(),
            unknown=self.unknown,
            refused=self.refused.copy(),
            commit=self.commit.copy(),
            write=self.write.copy(),
            apply=self.apply.copy(),
            read=self.read.copy(),
            outcome=self.outcome.copy(),
            snapshot=self.snapshot.copy(),
            round_trips={peer: trips.copy() for peer, trips in self.round_trips.items()},
        )


@final
class _MeasuredProposal(Proposal):
    """Tells the meter what becomes of it."""

    __slots__ = ("_begun_s", "_meter")

    def __init__(self, size_bytes: int, budget: ByteBudget, meter: Meter) -> None:
        super().__init__(size_bytes, budget)
        self._meter = meter
        self._begun_s = perf_counter()

    def fail(self, error: Exception) -> None:
        if not self.was_applied:
            if isinstance(error, OutcomeUnknown):
                self._meter.unknown += 1
            else:
                self._meter.failed[type(error).__name__] += 1
        super().fail(error)

    def _finish(self) -> None:
        if self.was_applied:
            self._meter.applied += 1
        self._meter.outcome.add(perf_counter() - self._begun_s)
        super()._finish()
