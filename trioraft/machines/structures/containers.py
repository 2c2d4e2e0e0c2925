"""Counter, Dict, Set and Queue: what every node agrees on, in the order in which it came.

No set of Python's is part of any state: its order differs between processes, and a command that
depends on it would let the nodes differ.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import msgspec

from ...core.errors import RaftError
from ..replicated import ReplicatedObject, command, query

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
    """The queue holds as many items as it may; nothing was put."""


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
