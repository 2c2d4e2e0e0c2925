"""SortedMap: keys in order, and views that later changes leave alone.

The pairs lie in chunks, in order. Taking a view shares the chunks, and whoever changes a shared
chunk copies it first: a view costs the number of chunks, not of pairs, and a snapshot of it may be
written in another thread while commands go on (design, section 6). Values must not refer to the
map: the collector does not look for it in them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar, final

from ..tasks.untracked import untracked

CHUNK_PAIRS_MAX: Final = 256
"""A change copies at most one chunk of this size; a chunk that outgrows it becomes two."""

V = TypeVar("V")


class _Chunk(Generic[V]):
    """Some pairs that follow each other."""

    __slots__ = ("epoch", "keys", "values")

    def __init__(self, keys: list[bytes], values: list[V], epoch: int) -> None:
        self.keys = untracked(keys)
        self.values = untracked(values)
        self.epoch = epoch
        """Of the map when it was made; one that is older than the map's is shared with a view."""


@final
class MapView(Generic[V]):
    """What a `SortedMap` held when this was taken. May be read in any thread."""

    def __init__(self, chunks: tuple[_Chunk[V], ...], size: int) -> None:
        self._chunks = chunks
        self._size = size

    def __len__(self) -> int:
        return self._size

    def items(self) -> Iterator[tuple[bytes, V]]:
        """All pairs, by key."""
        for chunk in self._chunks:
            yield from zip(chunk.keys, chunk.values, strict=True)


@final
class SortedMap(Generic[V]):
    """A mapping from bytes, ordered by them.

    Args:
        parts: what it holds at first, some pairs at a time, by key, each key once.
    """

    def __init__(self, parts: Iterable[list[tuple[bytes, V]]] = ()) -> None:
        self._chunks: list[_Chunk[V]] = []
        self._firsts: list[bytes] = []
        self._epoch = 0
        self._size = 0
        keys: list[bytes] = []
        values: list[V] = []
        for part in parts:
            keys += [key for key, _ in part]
            values += [value for _, value in part]
            while len(keys) > CHUNK_PAIRS_MAX:
                self._add_chunk(keys[:CHUNK_PAIRS_MAX], values[:CHUNK_PAIRS_MAX])
                del keys[:CHUNK_PAIRS_MAX], values[:CHUNK_PAIRS_MAX]
        if keys:
            self._add_chunk(keys, values)

    def __len__(self) -> int:
        return self._size

    def get(self, key: bytes) -> V | None:
        """The value, or None."""
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return None
        chunk = self._chunks[number]
        place = bisect_left(chunk.keys, key)
        if place == len(chunk.keys) or chunk.keys[place] != key:
            return None
        return chunk.values[place]

    def set(self, key: bytes, value: V) -> None:
        """Add the pair, or replace the value."""
        if not self._chunks:
            self._add_chunk([key], [value])
            return
        number = max(bisect_right(self._firsts, key) - 1, 0)
        chunk = self._own(number)
        place = bisect_left(chunk.keys, key)
        if place < len(chunk.keys) and chunk.keys[place] == key:
            chunk.values[place] = value
            return
        chunk.keys.insert(place, key)
        chunk.values.insert(place, value)
        self._size += 1
        self._firsts[number] = chunk.keys[0]
        if len(chunk.keys) > CHUNK_PAIRS_MAX:
            self._split(number)

    def delete(self, key: bytes) -> None:
        """Remove the pair, if it is there."""
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return
        keys = self._chunks[number].keys
        place = bisect_left(keys, key)
        if place == len(keys) or keys[place] != key:
            return
        chunk = self._own(number)
        del chunk.keys[place], chunk.values[place]
        self._size -= 1
        if chunk.keys:
            self._firsts[number] = chunk.keys[0]
        else:
            del self._chunks[number], self._firsts[number]

    def items_from(self, key: bytes) -> Iterator[tuple[bytes, V]]:
        """The pairs from `key` on, by key. Not to be used any more once the map has changed."""
        number = max(bisect_right(self._firsts, key) - 1, 0)
        for chunk in self._chunks[number : number + 1]:
            for place in range(bisect_left(chunk.keys, key), len(chunk.keys)):
                yield chunk.keys[place], chunk.values[place]
        for later in range(number + 1, len(self._chunks)):
            chunk = self._chunks[later]
            yield from zip(chunk.keys, chunk.values, strict=True)

    def items_before(self, key: bytes | None) -> Iterator[tuple[bytes, V]]:
        """The pairs before `key` (None: all), the last one first. As above."""
        number = len(self._chunks) if key is None else bisect_left(self._firsts, key)
        if key is not None and number > 0:
            number -= 1
            chunk = self._chunks[number]
            for place in range(bisect_left(chunk.keys, key) - 1, -1, -1):
                yield chunk.keys[place], chunk.values[place]
        for earlier in range(number - 1, -1, -1):
            chunk = self._chunks[earlier]
            yield from zip(reversed(chunk.keys), reversed(chunk.values), strict=True)

    def count(self, start: bytes, end: bytes | None) -> int:
        """How many keys there are from `start` on, and before `end` (None: to the last one)."""
        if end is None:
            return self._size - self._rank(start)
        return max(0, self._rank(end) - self._rank(start))

    def _rank(self, key: bytes) -> int:
        """How many keys are before this one. A look at each chunk's length, not at each key."""
        number = bisect_right(self._firsts, key) - 1
        if number < 0:
            return 0
        before = sum(len(chunk.keys) for chunk in self._chunks[:number])
        return before + bisect_left(self._chunks[number].keys, key)

    def view(self) -> MapView[V]:
        """All that it holds now; changes of the map do not show in it."""
        self._epoch += 1
        return MapView(tuple(self._chunks), self._size)

    def taken_apart(self) -> list[_Chunk[V]]:
        """Its chunks: nobody uses the map any more, and they go one by one. (Whoever goes through
        it at this moment has a list of its own of what it wants.)"""
        return self._chunks.copy()

    def _add_chunk(self, keys: list[bytes], values: list[V]) -> None:
        """Behind all others."""
        self._chunks.append(_Chunk(keys, values, self._epoch))
        self._firsts.append(keys[0])
        self._size += len(keys)

    def _own(self, number: int) -> _Chunk[V]:
        """The chunk, shared with no view."""
        chunk = self._chunks[number]
        if chunk.epoch != self._epoch:
            chunk = _Chunk(chunk.keys.copy(), chunk.values.copy(), self._epoch)
            self._chunks[number] = chunk
        return chunk

    def _split(self, number: int) -> None:
        chunk = self._chunks[number]
        half = len(chunk.keys) // 2
        upper = _Chunk(chunk.keys[half:], chunk.values[half:], self._epoch)
        del chunk.keys[half:], chunk.values[half:]
        self._chunks.insert(number + 1, upper)
        self._firsts.insert(number + 1, upper.keys[0])
