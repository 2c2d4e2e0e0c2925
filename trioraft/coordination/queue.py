"""Queues: each item to one taker; takers stand in a line, and what a dead one had taken comes back.

Rules of this file: an item is in the queue, or with one taker, until that one says that it is done.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Any, ClassVar, Generic, Protocol, TypeVar, final

import msgspec

from ..core.errors import LockLost, RaftError
from ..machines.replicated import WithHandles, command, query
from .answers import Name
from .elsewhere import BlockingLineHandle, LineHandle
from .line import Place, WaitingLine
from .presence import LEASE_S, Grant, Presence, persistently

LINE_VERSION = 2
"""Of `Queue`, since which takers stand in a line."""
TAKER = "taker"
"""What takers are called, to people."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class QueueFull(RaftError):  # noqa: N818 - what it is, as in the other errors of this kind
    """The queue holds as many items as it may; nothing was put.

    Fault: of whoever puts more than is taken.
    Remedy: take some first, or derive a class with a larger `items_max`.
    """


@final
class Taken(Generic[T_co]):
    """An item that is being worked at.

    Handed out by `Queue.taking` and `PriorityQueue.taking`.

    Attributes:
        item: it.
        token: the index of the log entry that handed it out, as of a `Grant`.
    """

    def __init__(self, item: T_co, grant: Grant) -> None:
        self.item = item
        self.token: int = grant.token
        self._grant = grant

    def __repr__(self) -> str:
        return f"<Taken {self.item!r}{', lost' if self.is_lost else ''}>"

    @property
    def is_lost(self) -> bool:
        """Whether it went back to the queue. May be asked from any thread."""
        return self._grant.is_lost

    def check(self) -> None:
        """Raise what ended it, if it is lost: for bodies that nobody can cancel.

        Raises:
            LockLost: it is lost.
        """
        self._grant.check()


class ItemAccess(Protocol[T]):
    """A line of takers, here or elsewhere."""

    async def taken_item(self, ticket: str) -> list[T]: ...

    async def done(self, ticket: str) -> bool: ...


@asynccontextmanager
async def taking_from(
    line: ItemAccess[T], presence: Presence, *, cancels: bool = True
) -> AsyncIterator[Taken[T]]:
    """As `ItemLine.taking`."""
    while True:
        async with presence.hold(TAKER, cancels=cancels) as grant:
            items = await persistently(lambda: line.taken_item(grant.ticket))
            if items:
                yield Taken(items[0], grant)
                if not await _is_done(line, grant):
                    raise LockLost(
                        "the item was lost before it was said to be done: another taker gets it"
                    )
                return


async def take_from(line: ItemAccess[T], presence: Presence) -> T:
    """As `ItemLine.take`."""
    while True:
        try:
            async with presence.hold(TAKER) as grant:
                items = await persistently(lambda: line.taken_item(grant.ticket))
                if items and await _is_done(line, grant):
                    return items[0]
        except LockLost:
            continue  # it went back to the queue, and nobody has seen it


async def _is_done(line: ItemAccess[Any], grant: Grant) -> bool:
    grant.settle()
    return grant.settled(is_over=await persistently(lambda: line.done(grant.ticket)))


class ItemLine(WaitingLine, Generic[T]):
    """What queues have in common. Derived classes say which item is next."""

    items_max: ClassVar[int] = 100_000
    """Items that it holds at most. It decides what a command does, so it is the same on every node:
    another number needs a subclass."""

    taken: dict[str, T] = msgspec.field(default_factory=dict)
    """What takers have, by their tickets."""
    taken_keys: dict[str, tuple[float, int]] = msgspec.field(default_factory=dict)
    """Where it comes back to, if it does."""

    async def take(self, *, lease_s: float = LEASE_S) -> T:
        """Take the next item, for good; waits in line until there is one.

        It is out of the queue before this returns, so that it is taken at most once: if this
        process dies with it, or this is cancelled in that moment, it is gone. See `taking`.

        Args:
            lease_s: how long the place in the line is kept, in seconds, if this process vanishes.

        Raises:
            RaftError: as `Lock.hold`.
        """
        return await take_from(self, self._presence(lease_s))

    def taking(self, *, lease_s: float = LEASE_S) -> AbstractAsyncContextManager[Taken[T]]:
        """Take the next item to work at it; it is out of the queue when the body is over.

        ```python
        async with jobs.taking(lease_s=30) as taken:
            print("at work on", taken.item)
        ```

        If the body raises, is cancelled, or this process vanishes for `lease_s`, the item comes
        back to where it was, for another taker: it is worked at *at least once*. Whoever does it
        outside can tell by `taken.token`, which rises, who came later.

        Args:
            lease_s: how long the item is kept for this process, in seconds, if it vanishes.

        Raises:
            LockLost: the item was lost while the body ran, which was cancelled.
            RaftError: as `Lock.hold`.
        """
        return taking_from(self, self._presence(lease_s))

    @command(since=2)
    def done(self, ticket: Name) -> bool:
        """What was taken with this ticket is out of the queue; returns False if it was already, or
        is back in it."""
        if ticket not in self.taken:
            return False
        del self.taken[ticket], self.taken_keys[ticket]
        self._give_up([ticket])
        return True

    @query
    def taken_item(self, ticket: str) -> list[T]:
        """What was taken with this ticket: one item, or none."""
        return [self.taken[ticket]] if ticket in self.taken else []

    # -- what derived classes say ----------------------------------------------------------

    def _next(self) -> tuple[tuple[float, int], T]:
        """Remove the next item; with what says where it stood."""
        raise NotImplementedError

    def _put_back(self, key: tuple[float, int], item: T) -> None:
        """An item that was taken is back."""
        raise NotImplementedError

    def _on_turn(self, ticket: str, place: Place) -> None:
        self.taken_keys[ticket], self.taken[ticket] = self._next()

    def _on_leave(self, ticket: str, place: Place) -> None:
        if ticket in self.taken:
            self._put_back(self.taken_keys.pop(ticket), self.taken.pop(ticket))

    def _check_items(self, count: int) -> None:
        if count >= self.items_max:
            raise QueueFull(
                f"the queue holds {self.items_max} items, its items_max: take some first"
            )


class ItemHandle(LineHandle[Any], Generic[T]):
    """What the handles of queues have in common."""

    async def done(self, ticket: str) -> bool:
        """`ItemLine.done`."""
        return await self(ItemLine.done, ticket)

    async def taken_item(self, ticket: str) -> list[T]:
        """`ItemLine.taken_item`."""
        found: list[T] = await self(ItemLine.taken_item, ticket)
        return found

    async def take(self, *, lease_s: float = LEASE_S) -> T:
        """`ItemLine.take`."""
        return await take_from(self, self._presence(lease_s))

    def taking(self, *, lease_s: float = LEASE_S) -> AbstractAsyncContextManager[Taken[T]]:
        """`ItemLine.taking`."""
        return taking_from(self, self._presence(lease_s))


class BlockingItemHandle(BlockingLineHandle[Any], Generic[T]):
    """What the handles of queues have in common, for threads."""

    def take(self, *, lease_s: float = LEASE_S) -> T:
        """`ItemLine.take`."""
        item: T = self._run(lambda handle: handle.take(lease_s=lease_s))
        return item

    def taking(self, *, lease_s: float = LEASE_S) -> AbstractContextManager[Taken[T]]:
        """As `ItemLine.taking`; but a thread cannot be cancelled, so look at `taken.is_lost`."""
        return self._held(
            lambda handle: taking_from(handle, handle._presence(lease_s), cancels=False)
        )


class Queue(ItemLine[T], WithHandles["QueueHandle[T]", "BlockingQueueHandle[T]"], Generic[T]):
    """A replicated queue: first in, first out, each item to one taker, takers in line."""

    _handle_base = ItemHandle

    entries: dict[int, T] = msgspec.field(default_factory=dict)
    head: int = 0
    """Number of the item that is next."""
    returned: dict[int, T] = msgspec.field(default_factory=dict)
    """What came back from takers: next before all others, by number."""
    returned_order: list[int] = msgspec.field(default_factory=list)
    """Their numbers, as a heap."""

    @command
    def put(self, item: T) -> int:
        """Append an item; returns its number. Raises `QueueFull` when there are too many."""
        self._check_items(len(self.entries) + len(self.returned))
        number = self.head + len(self.entries)
        self.entries[number] = item
        self._serve()
        return number

    @command
    def get(self) -> T | None:
        """Take the first item, for good; None if there is none.

        If it raises `OutcomeUnknown`, an item may have been taken that nobody got.
        """
        return self._next()[1] if self._has_turn() else None

    @query
    def peek(self) -> T | None:
        """The first item, which stays; None if there is none."""
        if self.returned_order:
            return self.returned[self.returned_order[0]]
        return self.entries.get(self.head)

    @query
    def size(self) -> int:
        """How many items there are, without those that takers have."""
        return len(self.entries) + len(self.returned)

    def _has_turn(self) -> bool:
        return bool(self.entries or self.returned)

    def _next(self) -> tuple[tuple[float, int], T]:
        if self.returned_order:
            number = heapq.heappop(self.returned_order)
            return (0, number), self.returned.pop(number)
        number, self.head = self.head, self.head + 1
        return (0, number), self.entries.pop(number)

    def _put_back(self, key: tuple[float, int], item: T) -> None:
        number = key[1]
        heapq.heappush(self.returned_order, number)
        self.returned[number] = item


class PriorityQueue(
    ItemLine[T], WithHandles["PriorityQueueHandle[T]", "BlockingPriorityQueueHandle[T]"], Generic[T]
):
    """A replicated queue: the lowest priority first, and of one priority first in, first out."""

    _handle_base = ItemHandle

    entries: dict[int, T] = msgspec.field(default_factory=dict)
    order: list[tuple[float, int]] = msgspec.field(default_factory=list)
    """Priorities and numbers, as a heap."""
    next_number: int = 0

    @command
    def put(self, item: T, priority: float = 0) -> int:
        """Add an item; returns its number. The lower `priority` is, the sooner it is taken.

        Args:
            item: what.
            priority: when it is taken, compared with the others.

        Raises:
            QueueFull: there are too many.
            ValueError: a priority that is not a number has no place in any order.
        """
        if priority != priority:
            raise ValueError("priority is nan: give a number")
        self._check_items(len(self.entries))
        number, self.next_number = self.next_number, self.next_number + 1
        self._put_back((priority, number), item)
        self._serve()
        return number

    @command
    def get(self) -> T | None:
        """Take the first item, for good; None if there is none. As `Queue.get`."""
        return self._next()[1] if self._has_turn() else None

    @query
    def peek(self) -> T | None:
        """The first item, which stays; None if there is none."""
        return self.entries[self.order[0][1]] if self.order else None

    @query
    def size(self) -> int:
        """How many items there are, without those that takers have."""
        return len(self.entries)

    def _has_turn(self) -> bool:
        return bool(self.order)

    def _next(self) -> tuple[tuple[float, int], T]:
        key = heapq.heappop(self.order)
        return key, self.entries.pop(key[1])

    def _put_back(self, key: tuple[float, int], item: T) -> None:
        heapq.heappush(self.order, key)
        self.entries[key[1]] = item


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class QueueHandle(ItemHandle[T], Generic[T]):
    """A `Queue` on other machines, for Trio and asyncio."""

    async def put(self, item: T) -> int:
        """`Queue.put`."""
        return await self(Queue.put, item)

    async def get(self) -> T | None:
        """`Queue.get`."""
        return await self(Queue.get)

    async def peek(self) -> T | None:
        """`Queue.peek`."""
        return await self(Queue.peek)

    async def size(self) -> int:
        """`Queue.size`."""
        return await self(Queue.size)


class BlockingQueueHandle(BlockingItemHandle[T], Generic[T]):
    """A `Queue` on other machines, for threads."""

    def put(self, item: T) -> int:
        """`Queue.put`."""
        return self(Queue.put, item)

    def get(self) -> T | None:
        """`Queue.get`."""
        return self(Queue.get)

    def peek(self) -> T | None:
        """`Queue.peek`."""
        return self(Queue.peek)

    def size(self) -> int:
        """`Queue.size`."""
        return self(Queue.size)


class PriorityQueueHandle(ItemHandle[T], Generic[T]):
    """A `PriorityQueue` on other machines, for Trio and asyncio."""

    async def put(self, item: T, priority: float = 0) -> int:
        """`PriorityQueue.put`."""
        return await self(PriorityQueue.put, item, priority)

    async def get(self) -> T | None:
        """`PriorityQueue.get`."""
        return await self(PriorityQueue.get)

    async def peek(self) -> T | None:
        """`PriorityQueue.peek`."""
        return await self(PriorityQueue.peek)

    async def size(self) -> int:
        """`PriorityQueue.size`."""
        return await self(PriorityQueue.size)


class BlockingPriorityQueueHandle(BlockingItemHandle[T], Generic[T]):
    """A `PriorityQueue` on other machines, for threads."""

    def put(self, item: T, priority: float = 0) -> int:
        """`PriorityQueue.put`."""
        return self(PriorityQueue.put, item, priority)

    def get(self) -> T | None:
        """`PriorityQueue.get`."""
        return self(PriorityQueue.get)

    def peek(self) -> T | None:
        """`PriorityQueue.peek`."""
        return self(PriorityQueue.peek)

    def size(self) -> int:
        """`PriorityQueue.size`."""
        return self(PriorityQueue.size)


Queue._handle_type = QueueHandle
Queue._blocking_handle_type = BlockingQueueHandle
PriorityQueue._handle_type = PriorityQueueHandle
PriorityQueue._blocking_handle_type = BlockingPriorityQueueHandle
