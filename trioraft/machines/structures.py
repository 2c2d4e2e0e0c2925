"""Ready-made replicated objects: Counter, Dict, Set.

Each is written with `ReplicatedObject` as you would write yours. To keep values of your own
classes, name them in a subclass: `class Jobs(Dict[str, Job])`. No set of Python's is part of any
state: its order differs between processes, and a command that depends on it would let the nodes
differ.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from .replicated import BlockingHandle, Handle, WithHandles, command, query

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Counter(WithHandles["CounterHandle", "BlockingCounterHandle"]):
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


class Dict(WithHandles["DictHandle[K, V]", "BlockingDictHandle[K, V]"], Generic[K, V]):
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


class Set(WithHandles["SetHandle[T]", "BlockingSetHandle[T]"], Generic[T]):
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


# -- handles: written by `python -m tests.handles --update` ----------------------------------------


class CounterHandle(Handle[Counter]):
    """A `Counter` on other machines, for Trio and asyncio."""

    async def add(self, n: int = 1) -> int:
        """`Counter.add`."""
        return await self(Counter.add, n)

    async def put(self, value: int) -> int:
        """`Counter.put`."""
        return await self(Counter.put, value)

    async def compare_and_put(self, expected: int, value: int) -> bool:
        """`Counter.compare_and_put`."""
        return await self(Counter.compare_and_put, expected, value)

    async def get(self) -> int:
        """`Counter.get`."""
        return await self(Counter.get)


class BlockingCounterHandle(BlockingHandle[Counter]):
    """A `Counter` on other machines, for threads."""

    def add(self, n: int = 1) -> int:
        """`Counter.add`."""
        return self(Counter.add, n)

    def put(self, value: int) -> int:
        """`Counter.put`."""
        return self(Counter.put, value)

    def compare_and_put(self, expected: int, value: int) -> bool:
        """`Counter.compare_and_put`."""
        return self(Counter.compare_and_put, expected, value)

    def get(self) -> int:
        """`Counter.get`."""
        return self(Counter.get)


class DictHandle(Handle[Dict[K, V]], Generic[K, V]):
    """A `Dict` on other machines, for Trio and asyncio."""

    async def put(self, key: K, value: V) -> V | None:
        """`Dict.put`."""
        return await self(Dict.put, key, value)

    async def put_all(self, entries: dict[K, V]) -> None:
        """`Dict.put_all`."""
        return await self(Dict.put_all, entries)

    async def pop(self, key: K) -> V | None:
        """`Dict.pop`."""
        return await self(Dict.pop, key)

    async def compare_and_put(self, key: K, expected: V | None, value: V) -> bool:
        """`Dict.compare_and_put`."""
        return await self(Dict.compare_and_put, key, expected, value)

    async def clear(self) -> None:
        """`Dict.clear`."""
        return await self(Dict.clear)

    async def get(self, key: K) -> V | None:
        """`Dict.get`."""
        return await self(Dict.get, key)

    async def contains(self, key: K) -> bool:
        """`Dict.contains`."""
        return await self(Dict.contains, key)

    async def size(self) -> int:
        """`Dict.size`."""
        return await self(Dict.size)

    async def items(self) -> dict[K, V]:
        """`Dict.items`."""
        return await self(Dict.items)


class BlockingDictHandle(BlockingHandle[Dict[K, V]], Generic[K, V]):
    """A `Dict` on other machines, for threads."""

    def put(self, key: K, value: V) -> V | None:
        """`Dict.put`."""
        return self(Dict.put, key, value)

    def put_all(self, entries: dict[K, V]) -> None:
        """`Dict.put_all`."""
        return self(Dict.put_all, entries)

    def pop(self, key: K) -> V | None:
        """`Dict.pop`."""
        return self(Dict.pop, key)

    def compare_and_put(self, key: K, expected: V | None, value: V) -> bool:
        """`Dict.compare_and_put`."""
        return self(Dict.compare_and_put, key, expected, value)

    def clear(self) -> None:
        """`Dict.clear`."""
        return self(Dict.clear)

    def get(self, key: K) -> V | None:
        """`Dict.get`."""
        return self(Dict.get, key)

    def contains(self, key: K) -> bool:
        """`Dict.contains`."""
        return self(Dict.contains, key)

    def size(self) -> int:
        """`Dict.size`."""
        return self(Dict.size)

    def items(self) -> dict[K, V]:
        """`Dict.items`."""
        return self(Dict.items)


class SetHandle(Handle[Set[T]], Generic[T]):
    """A `Set` on other machines, for Trio and asyncio."""

    async def add(self, member: T) -> bool:
        """`Set.add`."""
        return await self(Set.add, member)

    async def discard(self, member: T) -> bool:
        """`Set.discard`."""
        return await self(Set.discard, member)

    async def contains(self, member: T) -> bool:
        """`Set.contains`."""
        return await self(Set.contains, member)

    async def size(self) -> int:
        """`Set.size`."""
        return await self(Set.size)

    async def members(self) -> list[T]:
        """`Set.members`."""
        return await self(Set.members)


class BlockingSetHandle(BlockingHandle[Set[T]], Generic[T]):
    """A `Set` on other machines, for threads."""

    def add(self, member: T) -> bool:
        """`Set.add`."""
        return self(Set.add, member)

    def discard(self, member: T) -> bool:
        """`Set.discard`."""
        return self(Set.discard, member)

    def contains(self, member: T) -> bool:
        """`Set.contains`."""
        return self(Set.contains, member)

    def size(self) -> int:
        """`Set.size`."""
        return self(Set.size)

    def members(self) -> list[T]:
        """`Set.members`."""
        return self(Set.members)


Counter._handle_type = CounterHandle
Counter._blocking_handle_type = BlockingCounterHandle
Dict._handle_type = DictHandle
Dict._blocking_handle_type = BlockingDictHandle
Set._handle_type = SetHandle
Set._blocking_handle_type = BlockingSetHandle
