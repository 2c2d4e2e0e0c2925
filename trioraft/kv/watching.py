"""Watching: changes as they are made, for as long as somebody wants them.

Rules of this file:

* A watch holds nothing but the index that it wants next; what it is told comes out of the bounded
  `History`. One that is too slow for it is told so, and never skips a change.
* A change wakes those that it concerns. A restore, which may be made in another thread, wakes all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, final

import attrs
import msgspec
import trio

from ..tasks.wakeup import Wakeup
from .commands import Changed, Changes, Compacted

Look: TypeAlias = Callable[[Changes], Changed | Compacted]
"""What there is now."""


@final
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


@final
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
