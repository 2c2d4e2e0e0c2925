"""WaitingLine: who waits for a turn, in which order, and until when it is believed to live.

Rules of this file:

* First come, first served, by the order of the log. Whoever gives something back has the next in
  line get it, in the same entry: a hand-over costs an entry to line up and one to leave, however
  many wait.
* A *host* is one process (or one of its handles). It has one lease, by log time, for all its
  places together; when that is over, so are its places. The leader sees to that (`Expiring`).
* The *epoch* of a host is the log index at which it was last unknown. Whoever took a place in an
  earlier epoch has lost it, whatever was answered in between: so answers may come in any order.
* No command looks at everybody who waits. What makes that possible (`_Order`) is not part of the
  state: it is made from the state, and decides nothing that the state does not.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Self, final

import anyio
import msgspec

from ..core.errors import RaftError
from ..core.types import LogIndex
from ..machines.replicated import Expiring, command, query
from ..machines.sessions import UnknownCommand
from .answers import KeptAlive, LeaseTime, LinedUp, Name, News
from .presence import Presence, presence_of

EVERYBODY = ""
"""Whoever watches this instead of a host, hears of all turns."""

_ENCODER = msgspec.msgpack.Encoder()
_NAMES: msgspec.msgpack.Decoder[str] = msgspec.msgpack.Decoder(Name)


class LineFull(RaftError):  # noqa: N818 - what it is, as in the other errors of this kind
    """As many wait, or as many processes are known, as may; nothing was taken.

    Fault: the callers', who are more than the line was made for.
    Remedy: wait for some to leave, or derive a class with larger bounds.
    """


class Host(msgspec.Struct):
    """A process, and what it has."""

    expires_at_s: float
    """The log time at which its lease ends, unless it is renewed."""
    epoch: LogIndex
    places: dict[str, None] = msgspec.field(default_factory=dict)
    """Their tickets."""


class Place(msgspec.Struct, frozen=True):
    """Somebody who waits, or has the turn."""

    host: str
    owner: str
    number: LogIndex
    """When it lined up."""
    token: LogIndex = 0
    """When it got its turn; 0: it waits."""


@final
class _Order:
    """What is made from the state of a line: who is next, and whose lease is over first.

    Both are looked at lazily: what is not in the state any more, is passed over.
    """

    def __init__(self, hosts: dict[str, Host], waiting: dict[str, Place]) -> None:
        self._line = deque((place.number, ticket) for ticket, place in waiting.items())
        self._ends = [(host.expires_at_s, name) for name, host in hosts.items()]
        heapq.heapify(self._ends)

    def add(self, ticket: str, place: Place) -> None:
        self._line.append((place.number, ticket))

    def first(self, waiting: dict[str, Place]) -> str | None:
        """Who is next; it stays."""
        line = self._line
        while line:
            number, ticket = line[0]
            place = waiting.get(ticket)
            if place is not None and place.number == number:
                return ticket
            line.popleft()
        return None

    def note_lease(self, name: str, host: Host, before_s: float | None) -> None:
        """A host's lease was renewed; `before_s` is when it had ended before, if it is known."""
        if before_s is None or host.expires_at_s < before_s:
            heapq.heappush(self._ends, (host.expires_at_s, name))

    def earliest_end_s(self, hosts: dict[str, Host]) -> float | None:
        """When a lease is over, at the earliest."""
        ends = self._ends
        while ends:
            end_s, name = ends[0]
            host = hosts.get(name)
            if host is None:
                heapq.heappop(ends)
            elif host.expires_at_s > end_s:  # renewed since
                heapq.heapreplace(ends, (host.expires_at_s, name))
            else:
                return end_s
        return None

    def pop_ended(self, hosts: dict[str, Host], now_s: float) -> list[str]:
        """Whose lease is over by now, in the order in which they ended."""
        ended: dict[str, None] = {}
        while (end_s := self.earliest_end_s(hosts)) is not None and end_s <= now_s:
            ended[heapq.heappop(self._ends)[1]] = None
        return sorted(ended, key=lambda name: (hosts[name].expires_at_s, name))

    def is_worn(self, hosts: int, waiting: int) -> bool:
        """Whether it holds much that is not so any more."""
        return len(self._line) > 2 * waiting + 64 or len(self._ends) > 2 * hosts + 64


@final
class _Listener:
    """The news of one host that were not fetched yet."""

    def __init__(self) -> None:
        self._news: News = {}
        self._is_there = anyio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> News:
        await self._is_there.wait()
        news, self._news, self._is_there = self._news, {}, anyio.Event()
        return news

    def tell(self, news: News) -> None:
        """Of one place the latest counts, so this stays as small as what the host has."""
        self._news.update(news)
        self._is_there.set()


@final
class _Local:
    """What a line has on this node alone."""

    def __init__(self) -> None:
        self.order: _Order | None = None  # None: to be made
        self.listeners: dict[str, set[_Listener]] = {}
        self.must_tell_all = False  # the state came from elsewhere
        self.presences: dict[float, Presence] = {}  # of this process


class WaitingLine(Expiring):
    """What all structures with a waiting line have. Derived classes say who gets a turn when."""

    version: ClassVar[int] = 2
    """The first one of `Lock` and `Queue` had no line."""
    places_max: ClassVar[int] = 10_000
    """How many may wait and have their turn, all together. It decides what a command does, so it is
    the same on every node: another number needs a subclass. So it is with `hosts_max`."""
    hosts_max: ClassVar[int] = 10_000
    """How many processes may be known."""

    hosts: dict[str, Host] = msgspec.field(default_factory=dict)
    waiting: dict[str, Place] = msgspec.field(default_factory=dict)
    """Who waits, by ticket, in the order in which they lined up."""
    holding: dict[str, Place] = msgspec.field(default_factory=dict)
    """Who has a turn, by ticket, in the order in which they got it."""

    _local: _Local

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        instance = super().__new__(cls, *args, **kwargs)
        object.__setattr__(instance, "_local", _Local())
        return instance

    # -- what a process says ---------------------------------------------------------------

    @command(since=2)
    def line_up(self, host: Name, ticket: Name, owner: Name, lease_s: LeaseTime) -> LinedUp:
        """Take a place at the end of the line. Asking again with the same ticket does no harm.

        Args:
            host: the process; its lease is renewed.
            ticket: names the place.
            owner: who waits, for people.
            lease_s: how long the host is believed to live from now on, in seconds of log time.

        Raises:
            LineFull: too many wait.
        """
        return self._line_up(host, ticket, owner, lease_s)

    @command(since=2)
    def leave_line(self, tickets: list[Name]) -> int:
        """Give up places, whether they wait or have their turn; returns how many there were."""
        return self._give_up(tickets)

    @command(since=2)
    def keep_alive(self, host: Name, lease_s: LeaseTime, gone: list[Name]) -> KeptAlive:
        """Renew a host's lease, unless it is over.

        Args:
            host: the process.
            lease_s: how long from now on, in seconds of log time.
            gone: tickets of places that it has no more.
        """
        for ticket in gone:
            self._leave(ticket)
        known = self.hosts.get(host)
        if known is None:
            answer = KeptAlive(self.log_index, self.log_index, {})
        else:
            self._renew(host, known, lease_s)
            holding = {
                ticket: self.holding[ticket].token
                for ticket in known.places
                if ticket in self.holding
            }
            answer = KeptAlive(self.log_index, known.epoch, holding)
        self._serve()
        return answer

    @query
    def waiting_count(self) -> int:
        """How many wait."""
        return len(self.waiting)

    # -- what derived classes use ----------------------------------------------------------

    def _has_turn(self) -> bool:
        """Whether the next in line may have its turn now."""
        raise NotImplementedError

    def _on_turn(self, ticket: str, place: Place) -> None:
        """Somebody has its turn now."""

    def _on_leave(self, ticket: str, place: Place) -> None:
        """Somebody who had its turn is gone: it gave it up, or its lease is over."""

    def _line_up(self, host: str, ticket: str, owner: str, lease_s: float) -> LinedUp:
        known = self.hosts.get(host)
        if ticket not in self.waiting and ticket not in self.holding:
            self._check_room(is_new=known is None)
            known = self._present(host, lease_s)
            place = Place(host, owner, self.log_index)
            known.places[ticket] = None
            self.waiting[ticket] = place
            self._order.add(ticket, place)
            self._serve(told=ticket)
        elif known is not None:
            self._renew(host, known, lease_s)
        place = self.holding[ticket] if ticket in self.holding else self.waiting[ticket]
        return LinedUp(self.hosts[place.host].epoch, place.token)

    def _check_room(self, *, is_new: bool) -> None:
        if len(self.waiting) + len(self.holding) >= self.places_max:
            raise LineFull(f"{self.places_max} wait already, the line's places_max: try later")
        if is_new and len(self.hosts) >= self.hosts_max:
            raise LineFull(f"{self.hosts_max} processes wait already, its hosts_max: try later")

    def _present(self, name: str, lease_s: float) -> Host:
        """The host, which lives from now on for at least so long."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(self.log_time_s + lease_s, self.log_index)
            self._order.note_lease(name, host, None)
        else:
            self._renew(name, host, lease_s)
        return host

    def _renew(self, name: str, host: Host, lease_s: float) -> None:
        before_s, host.expires_at_s = host.expires_at_s, self.log_time_s + lease_s
        self._order.note_lease(name, host, before_s)

    def _give_up(self, tickets: Iterable[str], *, tells: bool = False) -> int:
        left = sum(self._leave(ticket, tells=tells) for ticket in tickets)
        self._serve()
        return left

    def _leave(self, ticket: str, *, tells: bool = False) -> bool:
        """A place is gone. `tells`: its host did not ask for that, so it has to learn of it."""
        place = self.holding.pop(ticket, None)
        had_turn = place is not None
        place = place or self.waiting.pop(ticket, None)
        if place is None:
            return False
        host = self.hosts[place.host]
        del host.places[ticket]
        if not host.places:
            del self.hosts[place.host]
        if had_turn:
            self._on_leave(ticket, place)
        if tells:
            self._tell(place.host, {ticket: 0})
        if had_turn:
            self._tell(EVERYBODY, {ticket: 0})
        return True

    def _serve(self, told: str | None = None) -> None:
        """Have everybody get its turn who may. `told`: who learns by its answer."""
        order = self._order
        while self._has_turn() and (ticket := order.first(self.waiting)) is not None:
            waited = self.waiting.pop(ticket)
            place = Place(waited.host, waited.owner, waited.number, self.log_index)
            self.holding[ticket] = place
            self._on_turn(ticket, place)
            if ticket != told:
                self._tell(place.host, {ticket: place.token})
            self._tell(EVERYBODY, {ticket: place.token})
        if self._local.must_tell_all:
            self._tell_all()

    @property
    def _order(self) -> _Order:
        """Made again when much in it is not so any more: that is how it stays small."""
        local = self._local
        if local.order is None or local.order.is_worn(len(self.hosts), len(self.waiting)):
            local.order = _Order(self.hosts, self.waiting)
        return local.order

    # -- leases ----------------------------------------------------------------------------

    def next_expiry_s(self) -> float | None:
        """When the first host's lease is over."""
        return self._order.earliest_end_s(self.hosts)

    def expire(self) -> None:
        """End hosts whose lease is over: all of them before anybody gets its turn."""
        for name in self._order.pop_ended(self.hosts, self.log_time_s):
            for ticket in list(self.hosts[name].places):
                self._leave(ticket, tells=True)
        self._serve()

    # -- news ------------------------------------------------------------------------------

    @asynccontextmanager
    async def watch(self, data: bytes) -> AsyncIterator[AsyncIterator[News]]:
        """What happens to one host's places, on this node; called by the service.

        It begins with all of them that have their turn, so whoever subscribes again misses nothing.

        Args:
            data: the host's name, as `encode_watch` has it.

        Raises:
            UnknownCommand: it cannot be read.

        Cancelling the body ends the subscription.
        """
        try:
            host = _NAMES.decode(data)
        except msgspec.MsgspecError as error:
            raise UnknownCommand(f"a subscription to a line cannot be read: {error}") from error
        listener = _Listener()
        listeners = self._local.listeners
        listener.tell(self._turns_of(host))
        listeners.setdefault(host, set()).add(listener)
        try:
            yield listener
        finally:
            listeners[host].discard(listener)
            if not listeners[host]:
                del listeners[host]

    def line_news(self, host: str) -> AbstractAsyncContextManager[AsyncIterator[News]]:
        """`watch`, by a host's name."""
        return self.watch(encode_watch(host))

    def _presence(self, lease_s: float) -> Presence:
        """This process, in the line."""
        return presence_of(self, self._local.presences, lease_s)

    def _turns_of(self, name: str) -> News:
        if name == EVERYBODY:
            return {ticket: place.token for ticket, place in self.holding.items()}
        host = self.hosts.get(name)
        places: Iterable[str] = () if host is None else host.places
        return {ticket: self.holding[ticket].token for ticket in places if ticket in self.holding}

    def _tell(self, host: str, news: News) -> None:
        for listener in self._local.listeners.get(host, ()):
            listener.tell(news)

    def _tell_all(self) -> None:
        self._local.must_tell_all = False
        for host, listeners in self._local.listeners.items():
            for listener in listeners:
                listener.tell(self._turns_of(host))

    def load_state(self, chunks: Iterable[bytes]) -> None:
        """As of any object. Who listens here is told with the next command: this may be another
        thread."""
        super().load_state(chunks)
        self._local.order = None
        self._local.must_tell_all = True


def encode_watch(host: str) -> bytes:
    """What to watch to get a host's news."""
    return _ENCODER.encode(host)
