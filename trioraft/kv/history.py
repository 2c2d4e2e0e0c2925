"""ChangeHistory: the last changes of a key-value state, for those who watch it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import attrgetter
from typing import Final, final

from ..core.types import LogIndex
from .commands import Change

CHANGES_MAX: Final = 10_000
"""Changes that are kept, unless said otherwise."""
CHANGES_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of keys and values in them, those before a change included."""

_index_of = attrgetter("index")


@final
class ChangeHistory:
    """The last changes, in order. What was dropped is known: a watch never skips a change in
    silence, one that is too slow is told so.

    Args:
        changes_max: how many are kept.
        bytes_max: bytes of keys and values that are kept; one more change is kept in any case.
        changes: what it holds at first.
        dropped_index: changes up to this index are not kept.
    """

    def __init__(
        self,
        changes_max: int = CHANGES_MAX,
        bytes_max: int = CHANGES_BYTES_MAX,
        *,
        changes: Iterable[Change] = (),
        dropped_index: LogIndex = 0,
    ) -> None:
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self._changes: list[Change] = []
        self._start = 0  # of those that count; what lies before is removed now and then
        self._bytes = 0
        self._dropped_index = dropped_index
        for change in changes:
            self.add(change)

    def __len__(self) -> int:
        return len(self._changes) - self._start

    @property
    def held_bytes(self) -> int:
        """Bytes of keys and values in them."""
        return self._bytes

    @property
    def oldest_index(self) -> LogIndex:
        """Changes from here on are kept."""
        return self._dropped_index + 1

    def add(self, change: Change) -> None:
        """Keep one more change, and drop old ones beyond the bounds."""
        self._changes.append(change)
        self._bytes += size_bytes(change)
        while len(self) > self._changes_max or (self._bytes > self._bytes_max and len(self) > 1):
            dropped = self._changes[self._start]
            self._changes[self._start] = _DROPPED  # its value is let go at once
            self._start += 1
            self._bytes -= size_bytes(dropped)
            self._dropped_index = dropped.index
        if self._start > self._changes_max:  # so that dropping costs nothing per change
            del self._changes[: self._start]
            self._start = 0

    def since(self, index: LogIndex) -> Iterable[Change]:
        """The changes from `index` on, which is at least `oldest_index`. Not to be used any more
        once another change was added."""
        first = bisect_left(self._changes, index, lo=self._start, key=_index_of)
        return (self._changes[place] for place in range(first, len(self._changes)))

    def view(self) -> tuple[Change, ...]:
        """All of them, as they are now."""
        return tuple(self._changes[self._start :])


_DROPPED: Final = Change(0, b"", None)


def size_bytes(change: Change) -> int:
    """Of its key and its values."""
    return len(change.key) + len(change.value or b"") + len(change.previous or b"")
