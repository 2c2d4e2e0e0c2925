"""Ready-made replicated objects: Counter, Dict, Set, Queue, and a Lock.

Each is written with `ReplicatedObject` as you would write yours. To keep values of your own
classes, name them in a subclass: `class Jobs(Queue[Job])`. No set of Python's is part of any state:
its order differs between processes, and a command that depends on it would let the nodes differ.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar, Generic, TypeAlias, TypeVar

import attrs
import msgspec
import trio

from ..core.errors import NotLeader, OutcomeUnknown, ProposalDropped, RaftError
from ..core.types import Role
from ..member.status import Status
from ..tasks.background import running_beside
from .replicated import ReplicatedObject, command, query

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Counter(ReplicatedObject):
    """A replicated integer of 64 bits, 0 at first; what would leave them changes nothing."""

    value: int = 0

    @command
    def add(self, n: int = 1) -> int:
        """Add `n`; returns the new value. Raises OverflowError beyond 64 bits."""
        return self._become(self.value + n)

    @command
    def put(self, value: int) -> int:
        """Make it `value`; returns the value before."""
        before = self.value
        self._become(value)
        return before

    @command
    def compare_and_put(self, expected: int, value: int) -> bool:
        """Make it `value` if it is `expected`; returns whether it was."""
        if self.value != expected:
            return False
        self._become(value)
        return True

    @query
    def get(self) -> int:
        """The value."""
        return self.value

    def _become(self, value: int) -> int:
        if not _LOWEST <= value <= _HIGHEST:
            raise OverflowError(f"a Counter holds 64 bits; {value} is more, so it stays")
        self.value = value
        return value


K = TypeVar("K")
V = TypeVar("V")


class Dict(ReplicatedObject, Generic[K, V]):
    """A replicated dict, in the order in which the keys came. An absent key reads as None, so a
    stored None cannot be told from none at all; `contains` can."""

    entries: dict[K, V] = msgspec.field(default_factory=dict)

    @command
    def put(self, key: K, value: V) -> V | None:
        """Store a value; returns the one before, or None."""
        before = self.entries.get(key)
        self.entries[key] = value
        return before

    @command
    def put_all(self, entries: dict[K, V]) -> None:
        """Store several values at once."""
        self.entries.update(entries)

    @command
    def pop(self, key: K) -> V | None:
        """Remove a key; returns its value, or None."""
        return self.entries.pop(key, None)

    @command
    def compare_and_put(self, key: K, expected: V | None, value: V) -> bool:
        """Store a value if the present one is `expected` (None: there is none).

        Returns whether it was.
        """
        if self.entries.get(key) != expected:
            return False
        self.entries[key] = value
        return True

    @command
    def clear(self) -> None:
        """Remove all keys."""
        self.entries.clear()

    @query
    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        return self.entries.get(key)

    @query
    def contains(self, key: K) -> bool:
        """Whether there is such a key."""
        return key in self.entries

    @query
    def size(self) -> int:
        """How many keys there are."""
        return len(self.entries)

    @query
    def items(self) -> dict[K, V]:
        """A copy of all keys and values."""
        return self.entries


T = TypeVar("T")


class Set(ReplicatedObject, Generic[T]):
    """A replicated set: members, each once, in the order in which they came."""

    entries: dict[T, None] = msgspec.field(default_factory=dict)

    @command
    def add(self, member: T) -> bool:
        """Add a member; returns whether it is new."""
        is_new = member not in self.entries
        self.entries[member] = None
        return is_new

    @command
    def discard(self, member: T) -> bool:
        """Remove a member; returns whether it was one."""
        if member not in self.entries:
            return False
        del self.entries[member]
        return True

    @query
    def contains(self, member: T) -> bool:
        """Whether it is a member."""
        return member in self.entries

    @query
    def size(self) -> int:
        """How many members there are."""
        return len(self.entries)

    @query
    def members(self) -> list[T]:
        """All members, in the order in which they came."""
        return list(self.entries)


class QueueFull(RaftError):  # noqa: N818 - what it is, as in the other errors of this kind
    """The queue holds as many items as it may; nothing was put.

    Fault: of those who put more than is taken.
    Remedy: put it again when items were taken, or derive a queue with a larger `items_max`.
    """


class Queue(ReplicatedObject, Generic[T]):
    """A replicated queue: first in, first out, each item to one taker. An item that was taken is
    gone: a taker that may die with it keeps it in a `Dict` of work under way instead."""

    items_max: ClassVar[int] = 100_000
    """Items that it holds at most. It decides what a command does, so it is the same on every node:
    another number needs a subclass."""

    entries: dict[int, T] = msgspec.field(default_factory=dict)
    head: int = 0
    """Number of the item that is next."""

    @command
    def put(self, item: T) -> int:
        """Append an item; returns its number. Raises `QueueFull` when there are too many."""
        if len(self.entries) >= self.items_max:
            raise QueueFull(
                f"the queue holds {self.items_max} items, its items_max: take some first"
            )
        number = self.head + len(self.entries)
        self.entries[number] = item
        return number

    @command
    def get(self) -> T | None:
        """Take the first item; None if there is none.

        If it raises `OutcomeUnknown`, an item may have been taken that nobody got.
        """
        if not self.entries:
            return None
        item = self.entries.pop(self.head)
        self.head += 1
        return item

    async def take(self) -> T:
        """Take the first item; waits until there is one that no other taker gets before.

        Raises:
            RaftError: as `Node.propose`.

        Cancelling it may lose an item that is being taken.
        """
        while True:
            await self.wait(lambda queue: bool(queue.entries))
            item = await self.get()
            if item is not None:
                return item

    @query
    def peek(self) -> T | None:
        """The first item, which stays; None if there is none."""
        return self.entries.get(self.head)

    @query
    def size(self) -> int:
        """How many items there are."""
        return len(self.entries)


LEASE_S_MAX = 366 * 24 * 3600.0
"""Longest lease, in seconds."""
RENEWALS_PER_LEASE = 3
"""`hold` renews this often within a lease."""
RELEASE_PATIENCE_S = 1.0
"""How long `hold` tries to give the lock back; after that the lease has to run out."""
_EXPIRY_MARGIN_S = 0.001
"""Who waits for the end of a lease comes this much later, so that rounding does not matter."""

LeaseTime: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=LEASE_S_MAX)]
"""How long a lease lasts, in seconds."""


class LockLost(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """The lease ran out, or was taken away, while its holder was at work; that was cancelled.

    Fault: nobody's: the holder, or the cluster, was away for longer than the lease.
    Remedy: take the lock again; a longer lease outlives longer pauses.
    """


class Lease(msgspec.Struct, frozen=True):
    """Who holds the lock."""

    owner: str
    token: int
    """Rises with each holder."""
    expires_at_s: float
    """The log time at which it ends, unless it is renewed."""


class Lock(ReplicatedObject):
    """A replicated lock: one holder at a time, for as long as its lease lasts.

    A lease ends by *log time* (see `LogClock`), so all nodes agree on whether it did: it ends with
    the first command that was proposed so late. The holder counts on its own monotonic clock, from
    before it asked; what it takes for its lease ends first, but for clocks' drift. No lease can
    stop a holder that is asleep: whoever acts for the holder outside should be given the *token*,
    which rises with each holder, and refuse one that is lower than the last it saw.

    ```python
    async with lock.hold("backup", lease_s=10) as token:
        print("whoever acts for us is told", token)
    ```
    """

    lease: Lease | None = None
    last_token: int = 0

    @command
    def acquire(self, owner: str, lease_s: LeaseTime) -> int | None:
        """Take the lock, or hold it on if `owner` has it.

        Args:
            owner: names one holder; the same name means the same holder, so that asking again
                after `OutcomeUnknown` does no harm.
            lease_s: how long from now on, in seconds of log time.

        Returns:
            The token, or None if another holds it.
        """
        lease = self._valid_lease()
        if lease is not None and lease.owner != owner:
            return None
        if lease is None:
            self.last_token += 1
        self.lease = Lease(owner, self.last_token, self.log_time_s + lease_s)
        return self.last_token

    @command
    def renew(self, token: int, lease_s: LeaseTime) -> bool:
        """Make a lease last `lease_s` seconds from now; returns False if it is over already."""
        lease = self._valid_lease()
        if lease is None or lease.token != token:
            return False
        self.lease = Lease(lease.owner, token, self.log_time_s + lease_s)
        return True

    @command
    def release(self, token: int) -> bool:
        """Give the lock back; returns False if the lease was over already."""
        lease = self._valid_lease()
        if lease is None or lease.token != token:
            return False
        self.lease = None
        return True

    @query
    def holder(self) -> Lease | None:
        """Who holds the lock, as of the latest command; its lease may be over by now."""
        return self._valid_lease()

    def _valid_lease(self) -> Lease | None:
        lease = self.lease
        return None if lease is None or lease.expires_at_s <= self.log_time_s else lease

    @asynccontextmanager
    async def hold(self, owner: str, *, lease_s: float) -> AsyncIterator[int]:
        """Wait for the lock, hold it for the body, renewing the lease, and give it back.

        Args:
            owner: says who it is, to people; each call is a holder of its own.
            lease_s: how long the lock stays taken, in seconds, if this process vanishes.

        Yields:
            The token.

        Raises:
            LockLost: the body was cancelled, because the lease could not be renewed.
            NotLeader: this node does not lead, so it cannot acquire the lock.
            NodeDead: the node died; the body was cancelled.
            Exception: the body's own.

        If it is cancelled while it waits, the lock may stay taken until the lease is over.
        """
        keeper = _Keeper(self, f"{owner}/{secrets.token_hex(8)}", lease_s)
        await keeper.acquire()
        try:
            async with running_beside(keeper.run, stop=keeper.stop, name=f"lock[{owner}]"):
                yield keeper.token
        finally:
            await keeper.release()


@attrs.define(eq=False)
class _Keeper:
    """One holder's view of its lease."""

    _lock: Lock
    _owner: str
    _lease_s: float
    token: int = 0
    _until_s: float = 0.0
    """On the local monotonic clock; the lease in the log ends no earlier."""
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def acquire(self) -> None:
        """Wait until the lock is ours."""
        while True:
            asked_s = trio.current_time()
            try:
                token = await self._lock.acquire(self._owner, self._lease_s)
            except (ProposalDropped, OutcomeUnknown):
                continue  # the same owner asks again: at worst it has the lock already
            if token is not None:
                self.token, self._until_s = token, asked_s + self._lease_s
                return
            await self._until_free()

    async def _until_free(self) -> None:
        """Wait until somebody else's lease is given back, renewed, or over."""
        lock, lease = self._lock, self._lock.lease
        if lease is None:
            return
        remaining_s = max(0.0, lease.expires_at_s - lock.log_now_s()) + _EXPIRY_MARGIN_S
        with trio.move_on_after(remaining_s):
            await lock.wait(lambda now: now.lease != lease)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Renew the lease until stopped; fail when it is lost."""
        task_status.started()
        with self._scope:
            while True:
                pause_s = self._lease_s / RENEWALS_PER_LEASE
                await trio.sleep_until(self._until_s - self._lease_s + pause_s)
                with trio.move_on_at(self._until_s) as in_time:
                    await self._renew()
                if in_time.cancelled_caught:
                    raise LockLost(
                        f"the lease of {self._lease_s:g} s could not be renewed in time (no "
                        "leader, or no majority): what was done under it was cancelled"
                    )

    async def _renew(self) -> None:
        while True:
            asked_s = trio.current_time()
            try:
                is_ours = await self._lock.renew(self.token, self._lease_s)
            except NotLeader:
                await self._lock.port.wait(_leads)
            except (ProposalDropped, OutcomeUnknown):
                continue  # another turn says who leads now
            else:
                break
        if not is_ours:
            raise LockLost(
                f"the lease with token {self.token} is over: it was not renewed in time, by log "
                "time, or was released"
            )
        self._until_s = asked_s + self._lease_s

    def stop(self) -> None:
        self._scope.cancel()

    async def release(self) -> None:
        """Give the lock back if that can be done soon; otherwise its lease runs out."""
        patience_s = min(RELEASE_PATIENCE_S, self._until_s - trio.current_time())
        with trio.move_on_after(patience_s, shield=True):
            try:
                await self._lock.release(self.token)
            except RaftError:
                return  # nobody here can: the lease will be over soon enough


def _leads(status: Status) -> bool:
    return status.role is Role.LEADER
