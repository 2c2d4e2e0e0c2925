"""ItemReader: msgpack that comes in chunks, read piece by piece, however large it is.

Rules of this file: msgspec decodes a message as a whole, in one call that holds up all threads. So
it is looked here where items end, and it is given some at a time, with a head of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, final

import msgspec

from .viewed import PIECE_ENTRIES_MAX

_LONGER: Final = {  # first byte: how many bytes say the length, and what stands beside those
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
}  # fmt: skip
_COUNTED: Final = {  # likewise: how many bytes say the number of items, and objects in each
    0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2),
}  # fmt: skip
_FIXED: Final = {  # bytes in all
    0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9,
    0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18,
}  # fmt: skip


def _step(first: int) -> int:
    """Bytes of an object, or of its head, by its first byte; 0: look further."""
    if first < 0xA0 or first >= 0xE0:
        return 1
    if first < 0xC0:
        return 1 + (first & 0x1F)
    return _FIXED.get(first, 0)


def _within(first: int) -> int:
    """Objects that follow within one, less the one itself."""
    if 0x90 <= first < 0xA0:
        return (first & 0x0F) - 1
    if 0x80 <= first < 0x90:
        return 2 * (first & 0x0F) - 1
    return -1


def _alone(first: int) -> int:
    """Bytes of an object that has none within it, by its first byte; -1: the next byte says it; 0:
    look further."""
    if 0x80 <= first < 0xA0:
        return 0
    return -1 if first in {0xD9, 0xC4} else _step(first)


_STEPS: Final = tuple(map(_step, range(256)))
_WITHIN: Final = tuple(map(_within, range(256)))
_ALONE: Final = tuple(map(_alone, range(256)))


def _end(data: bytes, at: int, objects: int) -> int:
    """Where so many objects end; beyond the data, if it is cut there.

    Raises:
        IndexError: it is cut in the middle of a head.
        DecodeError: it is no msgpack.
    """
    alone = _ALONE
    for _ in range(objects):
        step = alone[data[at]]
        if step > 0:
            at += step
        elif step:
            at += 2 + data[at + 1]
        else:
            at = _end_of_one(data, at)
    return at


def _end_of_one(data: bytes, at: int) -> int:
    """Likewise of one, whatever is within it."""
    steps, within, objects = _STEPS, _WITHIN, 1
    while objects > 0:
        first = data[at]
        step = steps[first]
        if step:
            at += step
            objects += within[first]
        elif first in {0xD9, 0xC4}:  # the usual text, and bytes: a shorter way to the same
            at += 2 + data[at + 1]
            objects -= 1
        elif first in _LONGER:
            length, beside = _LONGER[first]
            data[at + length]
            at += 1 + length + beside + int.from_bytes(data[at + 1 : at + 1 + length], "big")
            objects -= 1
        elif first in _COUNTED:
            length, each = _COUNTED[first]
            data[at + length]
            objects += each * int.from_bytes(data[at + 1 : at + 1 + length], "big") - 1
            at += 1 + length
        else:
            raise msgspec.DecodeError(f"no msgpack begins with {first:#x}")
    return at


NUMBER: Final = rb"(?:[\x00-\x7f]|\xcc.|\xcd..|\xce.{4}|\xcf.{8})"
"""A whole number that is not negative, as a pattern."""
SHORT_BYTES: Final = rb"\xc4(?:" + b"|".join(
    re.escape(bytes([size])) + b".{%d}" % size for size in range(32)
) + rb")"  # fmt: skip
"""At most 31 bytes, as a pattern."""
ALIKE: Final = 64
"""Items that are matched at once."""


def alike(item: bytes) -> re.Pattern[bytes]:
    """What `ItemReader.pieces` takes: a pattern of most items. It must match as many bytes as the
    item has, or not at all."""
    return re.compile(b"(?>%s){%d}+" % (item, ALIKE), re.DOTALL)


@final
class ItemReader:
    """Reads objects out of chunks that are cut anywhere.

    All of it raises `msgspec.DecodeError` where the content is cut short, or no msgpack.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._data = b""
        self._at = 0

    def count(self, *, is_map: bool) -> int | None:
        """The head of an array or a map: how many items follow; None: it is neither, and nothing
        was read."""
        first = self._ahead(1)[0]
        small, medium = (0x80, 0xDE) if is_map else (0x90, 0xDC)
        if first & 0xF0 == small:
            self._at += 1
            return first & 0x0F
        if first not in (medium, medium + 1):
            return None
        length = 2 if first == medium else 4
        head = self._ahead(1 + length)
        self._at += 1 + length
        return int.from_bytes(head[1:], "big")

    def one(self) -> bytes:
        """The next object, as it is."""
        while True:
            end = self._end_of_objects(1)
            if end is not None:
                found = self._data[self._at : end]
                self._at = end
                return found
            self._more()

    def pieces(
        self,
        count: int,
        objects_each: int,
        head_of: Callable[[int], bytes],
        usual: re.Pattern[bytes] | None = None,
    ) -> Iterator[bytes]:
        """So many items, some at a time, each time with a head before them.

        Args:
            count: how many items.
            objects_each: 2 for the pairs of a map, else 1.
            head_of: makes the head before so many.
            usual: what most of them look like (`alike`): those are found several times as fast.
        """
        while count:
            most = min(count, PIECE_ENTRIES_MAX)
            found, end = (0, self._at) if usual is None else self._alike(most, usual)
            if not found:
                found, end = self._whole_items(most, objects_each)
            if not found:
                self._more()
                continue
            piece = head_of(found) + self._data[self._at : end]
            self._at = end
            count -= found
            yield piece

    def binary(self) -> Iterator[bytes]:
        """The next object, bytes, in the chunks in which they come; to be read to their end."""
        length = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(self._ahead(1)[0])
        if length is None:
            raise msgspec.DecodeError("these are no bytes")
        left_bytes = int.from_bytes(self._ahead(1 + length)[1:], "big")
        self._at += 1 + length
        return self._in_chunks(left_bytes)

    def _in_chunks(self, left_bytes: int) -> Iterator[bytes]:
        while left_bytes:
            if self._at == len(self._data):
                self._more()
                continue
            chunk = self._data[self._at : self._at + left_bytes]
            self._at += len(chunk)
            left_bytes -= len(chunk)
            yield chunk

    def is_at_end(self) -> bool:
        """Whether nothing follows."""
        while self._at == len(self._data):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._data, self._at = chunk, 0
        return False

    def _alike(self, most: int, usual: re.Pattern[bytes]) -> tuple[int, int]:
        found, end = 0, self._at
        while found + ALIKE <= most and (match := usual.match(self._data, end)) is not None:
            found, end = found + ALIKE, match.end()
        return found, end

    def _whole_items(self, most: int, objects_each: int) -> tuple[int, int]:
        """How many items, of so many at most, are here as a whole, and where they end."""
        end = self._end_of_objects(most * objects_each)
        if end is not None:
            return most, end
        found, end = 0, self._at
        data = self._data
        try:
            while (after := _end(data, end, objects_each)) <= len(data):
                found, end = found + 1, after
        except IndexError:
            pass
        return found, end

    def _end_of_objects(self, objects: int) -> int | None:
        try:
            end = _end(self._data, self._at, objects)
        except IndexError:
            return None
        return end if end <= len(self._data) else None

    def _ahead(self, size_bytes: int) -> bytes:
        while len(self._data) - self._at < size_bytes:
            self._more()
        return self._data[self._at : self._at + size_bytes]

    def _more(self) -> None:
        """As much again as is here: what is large is not looked at for each chunk."""
        parts = [self._data[self._at :]]
        wanted_bytes = len(parts[0]) or 1
        while wanted_bytes > 0:
            chunk = next(self._chunks, None)
            if chunk is None:
                if len(parts) == 1:
                    raise msgspec.DecodeError("the content is cut short")
                break
            parts.append(chunk)
            wanted_bytes -= len(chunk)
        self._data, self._at = b"".join(parts), 0
