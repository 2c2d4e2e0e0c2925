"""Queue: first in, first out, each item to one taker.

Rules of this file: bounded, by a number that is part of the class, since it decides what a command
does and so must be the same on every node. An item that was taken is gone: a taker that may die
with it keeps it in a `Dict` of work under way instead.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import msgspec

from ...core.errors import RaftError
from ..replicated import ReplicatedObject, command, query

T = TypeVar("T")


class QueueFull(RaftError):  # noqa: N818 - what it is, as in the other errors of this kind
    """The queue holds as many items as it may; nothing was put."""


class Queue(ReplicatedObject, Generic[T]):
    """A replicated queue."""

    items_max: ClassVar[int] = 100_000
    """Items that it holds at most. Another number needs a subclass."""

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
