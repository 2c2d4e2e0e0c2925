"""Ready-made replicated objects: Counter, Dict, List, Set.

Each is written with `ReplicatedObject` as you would write yours. To keep values of your own
classes, name them in a subclass: `class Jobs(Dict[str, Job])`. No set of Python's is part of any
state: its order differs between processes, and a command that depends on it would let the nodes
differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar, final

import msgspec

from ..core.errors import RaftError
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
        """Make it `value` if it is `expected`; returns whether it was.

        Args:
            expected: what it must be.
            value: what it shall be.
        """
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
T = TypeVar("T")


@final
class Each(Generic[T]):
    """What there was when the first was asked for, one after the other: an async iterator.
    Made by iterating a collection."""

    def __init__(self, ask: Callable[[], Awaitable[list[T]]]) -> None:
        self._ask = ask
        self._items: Iterator[T] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._items is None:
            self._items = iter(await self._ask())
        for item in self._items:
            return item
        raise StopAsyncIteration


class KeysHandle(Handle[Any], Generic[K, V]):
    """What a dict's handle does by itself."""

    async def keys(self) -> list[K]:
        """`Dict.keys`."""
        found: list[K] = await self(Dict.keys)
        return found

    def __aiter__(self) -> Each[K]:
        return Each(self.keys)


class BlockingKeysHandle(BlockingHandle[Any], Generic[K, V]):
    """What a dict's handle for threads does by itself."""

    def keys(self) -> list[K]:
        """`Dict.keys`."""
        found: list[K] = self(Dict.keys)
        return found

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())


class Dict(WithHandles["DictHandle[K, V]", "BlockingDictHandle[K, V]"], Generic[K, V]):
    """A replicated dict, in the order in which the keys came. An absent key reads as None, so a
    stored None cannot be told from none at all; `contains` can.

    It has the methods of a dict that can be awaited, and none of those that cannot: `d[key] = x`
    would have to go on before it is done, and `len(d)` or `key in d` to answer without asking.
    `async for key in d` goes over the keys that there were when it began.
    """

    _handle_base = KeysHandle

    entries: dict[K, V] = msgspec.field(default_factory=dict)

    @command
    def put(self, key: K, value: V) -> V | None:
        """Store a value; returns the one before, or None.

        Args:
            key: where.
            value: what.
        """
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

        Args:
            key: where.
            expected: what must be there; None: nothing.
            value: what shall be there.
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
    def keys(self) -> list[K]:
        """All keys, in the order in which they came."""
        return list(self.entries)

    @query
    def values(self) -> list[V]:
        """All values, in the order in which their keys came."""
        return list(self.entries.values())

    @query
    def items(self) -> dict[K, V]:
        """A copy of all keys and values."""
        return self.entries

    def __aiter__(self) -> Each[K]:
        return Each(self.keys)


class List(WithHandles["ListHandle[T]", "BlockingListHandle[T]"], Generic[T]):
    """A replicated list. Places are counted from 0, and from the end with negative numbers; one
    that there is not raises `IndexError`, and nothing changes."""

    items_max: ClassVar[int] = 100_000
    """Items that it holds at most. It decides what a command does, so it is the same on every node:
    another number needs a subclass."""

    entries: list[T] = msgspec.field(default_factory=list)

    @command
    def append(self, item: T) -> int:
        """Add an item at the end; returns its place. Raises `ListFull` when there are too many."""
        self._check_room(1)
        self.entries.append(item)
        return len(self.entries) - 1

    @command
    def extend(self, items: list[T]) -> int:
        """Add items at the end, all or none; returns how many there are then. Raises `ListFull`."""
        self._check_room(len(items))
        self.entries.extend(items)
        return len(self.entries)

    @command
    def insert(self, place: int, item: T) -> None:
        """Add an item before the one at `place`. Raises `ListFull`.

        Args:
            place: an index as of a Python list; negative ones count from the end.
            item: what.
        """
        self._check_room(1)
        self.entries.insert(place, item)

    @command
    def put(self, place: int, item: T) -> T:
        """Replace the item at `place`; returns the one before.

        Args:
            place: an index as of a Python list; negative ones count from the end.
            item: what shall be there.
        """
        before = self.entries[place]
        self.entries[place] = item
        return before

    @command
    def compare_and_put(self, place: int, expected: T, item: T) -> bool:
        """Replace the item at `place` if it is `expected`; returns whether it was.

        Args:
            place: an index as of a Python list; negative ones count from the end.
            expected: what must be there.
            item: what shall be there.
        """
        if self.entries[place] != expected:
            return False
        self.entries[place] = item
        return True

    @command
    def pop(self, place: int = -1) -> T:
        """Remove the item at `place`, the last one by default, and return it."""
        return self.entries.pop(place)

    @command
    def remove(self, item: T) -> bool:
        """Remove the first item that is equal to this one; returns whether there was one."""
        if item not in self.entries:
            return False
        self.entries.remove(item)
        return True

    @command
    def clear(self) -> None:
        """Remove all items."""
        self.entries.clear()

    @query
    def get(self, place: int) -> T:
        """The item at `place`."""
        return self.entries[place]

    @query
    def slice(self, start: int = 0, stop: int | None = None) -> list[T]:
        """The items from `start` to before `stop`, as `entries[start:stop]`.

        Args:
            start: the first place, as of a Python slice.
            stop: the place behind the last; None: to the end.
        """
        return self.entries[start:stop]

    @query
    def index(self, item: T) -> int | None:
        """Where the first item stands that is equal to this one; None if there is none."""
        return self.entries.index(item) if item in self.entries else None

    @query
    def size(self) -> int:
        """How many items there are."""
        return len(self.entries)

    def _check_room(self, count: int) -> None:
        if len(self.entries) + count > self.items_max:
            raise ListFull(
                f"the list holds {len(self.entries)} items, of {self.items_max}, its items_max: "
                "remove some first"
            )


class ListFull(RaftError):  # noqa: N818 - what it is, as in the other errors of this kind
    """The list would hold more items than it may; nothing was added.

    Fault: of whoever adds more than is removed.
    Remedy: remove some first, or derive a class with a larger `items_max`.
    """


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


class DictHandle(KeysHandle[K, V], Generic[K, V]):
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

    async def values(self) -> list[V]:
        """`Dict.values`."""
        return await self(Dict.values)

    async def items(self) -> dict[K, V]:
        """`Dict.items`."""
        return await self(Dict.items)


class BlockingDictHandle(BlockingKeysHandle[K, V], Generic[K, V]):
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

    def values(self) -> list[V]:
        """`Dict.values`."""
        return self(Dict.values)

    def items(self) -> dict[K, V]:
        """`Dict.items`."""
        return self(Dict.items)


class ListHandle(Handle[List[T]], Generic[T]):
    """A `List` on other machines, for Trio and asyncio."""

    async def append(self, item: T) -> int:
        """`List.append`."""
        return await self(List.append, item)

    async def extend(self, items: list[T]) -> int:
        """`List.extend`."""
        return await self(List.extend, items)

    async def insert(self, place: int, item: T) -> None:
        """`List.insert`."""
        return await self(List.insert, place, item)

    async def put(self, place: int, item: T) -> T:
        """`List.put`."""
        return await self(List.put, place, item)

    async def compare_and_put(self, place: int, expected: T, item: T) -> bool:
        """`List.compare_and_put`."""
        return await self(List.compare_and_put, place, expected, item)

    async def pop(self, place: int = -1) -> T:
        """`List.pop`."""
        return await self(List.pop, place)

    async def remove(self, item: T) -> bool:
        """`List.remove`."""
        return await self(List.remove, item)

    async def clear(self) -> None:
        """`List.clear`."""
        return await self(List.clear)

    async def get(self, place: int) -> T:
        """`List.get`."""
        return await self(List.get, place)

    async def slice(self, start: int = 0, stop: int | None = None) -> list[T]:
        """`List.slice`."""
        return await self(List.slice, start, stop)

    async def index(self, item: T) -> int | None:
        """`List.index`."""
        return await self(List.index, item)

    async def size(self) -> int:
        """`List.size`."""
        return await self(List.size)


class BlockingListHandle(BlockingHandle[List[T]], Generic[T]):
    """A `List` on other machines, for threads."""

    def append(self, item: T) -> int:
        """`List.append`."""
        return self(List.append, item)

    def extend(self, items: list[T]) -> int:
        """`List.extend`."""
        return self(List.extend, items)

    def insert(self, place: int, item: T) -> None:
        """`List.insert`."""
        return self(List.insert, place, item)

    def put(self, place: int, item: T) -> T:
        """`List.put`."""
        return self(List.put, place, item)

    def compare_and_put(self, place: int, expected: T, item: T) -> bool:
        """`List.compare_and_put`."""
        return self(List.compare_and_put, place, expected, item)

    def pop(self, place: int = -1) -> T:
        """`List.pop`."""
        return self(List.pop, place)

    def remove(self, item: T) -> bool:
        """`List.remove`."""
        return self(List.remove, item)

    def clear(self) -> None:
        """`List.clear`."""
        return self(List.clear)

    def get(self, place: int) -> T:
        """`List.get`."""
        return self(List.get, place)

    def slice(self, start: int = 0, stop: int | None = None) -> list[T]:
        """`List.slice`."""
        return self(List.slice, start, stop)

    def index(self, item: T) -> int | None:
        """`List.index`."""
        return self(List.index, item)

    def size(self) -> int:
        """`List.size`."""
        return self(List.size)


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
List._handle_type = ListHandle
List._blocking_handle_type = BlockingListHandle
Set._handle_type = SetHandle
Set._blocking_handle_type = BlockingSetHandle
