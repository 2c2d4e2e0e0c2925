"""Watching: the latest changes, and those who want them as they are made. What is kept is bounded,
and a watch that is too slow is told so: none skips a change in silence.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Final, TypeAlias, final

import attrs
import msgspec
import trio

from ..core.types import LogIndex
from ..tasks.wakeup import Wakeup
from .commands import Change, Changed, Changes, Compacted

CHANGES_MAX: Final = 10_000
"""Changes that are kept, unless said otherwise."""
CHANGES_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of keys and values in them."""

_index_of = attrgetter("index")


@final
class ChangeHistory:
    """The last changes, in order.

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
    def oldest_index(self) -> LogIndex:
        """Changes from here on are kept."""
        return self._dropped_index + 1

    def add(self, change: Change) -> None:
        """Keep one more change, and drop old ones beyond the bounds."""
        self._changes.append(change)
        self._bytes += _size_bytes(change)
        while len(self) > self._changes_max or (self._bytes > self._bytes_max and len(self) > 1):
            dropped = self._changes[self._start]
            self._start += 1
            self._bytes -= _size_bytes(dropped)
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


def _size_bytes(change: Change) -> int:
    return len(change.key) + len(change.value or b"")


Look: TypeAlias = Callable[[Changes], Changed | Compacted]
"""What there is now."""


@attrs.define(eq=False)
class _KeyWatch:
    prefix: bytes
    news: Wakeup = attrs.field(factory=Wakeup)


@final
class Watches:
    """Everybody who watches one machine."""

    def __init__(self) -> None:
        self._watches: set[_KeyWatch] = set()
        self._token: trio.lowlevel.TrioToken | None = None

    def changed(self, key: bytes) -> None:
        """This key was changed; called in the Trio thread."""
        for watch in self._watches:
            if key.startswith(watch.prefix):
                watch.news.set()

    def restored(self) -> None:
        """All may be different now; called in any thread."""
        if self._token is not None and self._watches:
            self._token.run_sync_soon(self._wake_all)

    def _wake_all(self) -> None:
        for watch in self._watches:
            watch.news.set()

    @contextmanager
    def watching(self, wanted: Changes, look: Look) -> Iterator[AsyncIterator[Changed | Compacted]]:
        """Changes as they come. Each item has some; a `Compacted` is the last one."""
        self._token = trio.lowlevel.current_trio_token()
        watch = _KeyWatch(wanted.prefix)
        self._watches.add(watch)
        try:
            yield _Follow(wanted, look, watch.news)
        finally:
            self._watches.discard(watch)


class _Follow:
    """The items of one watch. No generator: one that is not iterated to its end is a leak."""

    def __init__(self, wanted: Changes, look: Look, news: Wakeup) -> None:
        self._wanted = wanted
        self._look = look
        self._news = news
        self._is_over = False

    def __aiter__(self) -> _Follow:
        return self

    async def __anext__(self) -> Changed | Compacted:
        while not self._is_over:
            found = self._look(self._wanted)
            if isinstance(found, Compacted):
                self._is_over = True
                return found
            has_more = found.next_index != self._wanted.from_index
            self._wanted = msgspec.structs.replace(self._wanted, from_index=found.next_index)
            if found.changes:
                await trio.lowlevel.checkpoint_if_cancelled()
                return found
            if has_more:
                await trio.lowlevel.checkpoint()
            else:
                await self._news.wait()
        raise StopAsyncIteration
