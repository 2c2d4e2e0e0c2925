"""Watches: everybody who watches one machine, found by the keys that they watch.

Rules of this file:

* A change looks only at watches of what its key begins with: those of other keys cost it nothing,
  however many they are. A range is found by what its two ends begin with in common.
* Nothing of a watch is kept here but the index that it wants next, and that of the first change
  that woke it. What lies between the two does not concern it, and is not looked at again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, final

import attrs
import msgspec
import trio

from ..core.types import LogIndex
from ..tasks.wakeup import Wakeup
from .commands import Change, Changed, Changes, Compacted
from .spans import Span

Look: TypeAlias = Callable[[Changes], Changed | Compacted]
"""What there is now."""


@final
@attrs.define(eq=False)
class _KeyWatch:
    span: Span
    is_prefix: bool
    news: Wakeup = attrs.field(factory=Wakeup)
    woken_index: LogIndex | None = None
    """Of the first change since it last looked."""

    def wake(self, index: LogIndex) -> None:
        if self.woken_index is None:
            self.woken_index = index
        self.news.set()


@final
class Watches:
    """Everybody who watches one machine."""

    def __init__(self) -> None:
        self._of_key: dict[bytes, set[_KeyWatch]] = {}
        self._of_prefix: dict[bytes, set[_KeyWatch]] = {}
        self._lengths: Counter[int] = Counter()  # of those prefixes
        self._token: trio.lowlevel.TrioToken | None = None

    def changed(self, change: Change) -> None:
        """A key was changed; called in the Trio thread."""
        key = change.key
        if self._of_key:
            for watch in self._of_key.get(key, ()):
                watch.wake(change.index)
        for length in self._lengths:
            for watch in self._of_prefix.get(key[:length], ()):
                if watch.is_prefix or key in watch.span:
                    watch.wake(change.index)

    def restored(self) -> None:
        """All may be different now; called in any thread."""
        if self._token is not None and (self._of_key or self._of_prefix):
            self._token.run_sync_soon(self._wake_all)

    def _wake_all(self) -> None:
        for group in (self._of_key, self._of_prefix):
            for watches in group.values():
                for watch in watches:
                    watch.woken_index = 0
                    watch.news.set()

    @contextmanager
    def watching(self, wanted: Changes, look: Look) -> Iterator[AsyncIterator[Changed | Compacted]]:
        """Changes as they come. Each item has some; a `Compacted` is the last one."""
        self._token = trio.lowlevel.current_trio_token()
        span = Span.of(wanted.prefix, wanted.until)
        prefix = span.common_prefix
        watch = _KeyWatch(span, is_prefix=span == Span.of(prefix))
        only_key = span.only_key
        if only_key is not None:
            group, name = self._of_key, only_key
        else:
            group, name = self._of_prefix, prefix
            self._lengths[len(prefix)] += 1
        group.setdefault(name, set()).add(watch)
        try:
            yield _Follow(wanted, look, watch)
        finally:
            group[name].discard(watch)
            if not group[name]:
                del group[name]
            if only_key is None:
                self._lengths[len(prefix)] -= 1
                if not self._lengths[len(prefix)]:
                    del self._lengths[len(prefix)]


@final
class _Follow:
    """The items of one watch. No generator: one that is not iterated to its end is a leak."""

    def __init__(self, wanted: Changes, look: Look, watch: _KeyWatch) -> None:
        self._wanted = wanted
        self._look = look
        self._watch = watch
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
            self._go_on_from(found.next_index)
            if found.changes:
                await trio.lowlevel.checkpoint_if_cancelled()
                return found
            if has_more:
                await trio.lowlevel.checkpoint()
                continue
            self._watch.woken_index = None  # all up to here was looked at
            await self._watch.news.wait()
            self._go_on_from(max(self._wanted.from_index, self._watch.woken_index or 0))
        raise StopAsyncIteration

    def _go_on_from(self, index: LogIndex) -> None:
        self._wanted = msgspec.structs.replace(self._wanted, from_index=index)
