"""KvMachine: the replicated state of a key-value service, and those who watch it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import Final, TypeAlias, final

import attrs
import msgspec
import trio

from ..core.types import LogIndex
from ..machines.nesting import check_nesting
from ..machines.sessions import UnknownCommand
from ..tasks.wakeup import Wakeup
from .commands import (
    VALUE_BYTES_MAX,
    Answer,
    Append,
    Cas,
    Change,
    Changed,
    Changes,
    Compacted,
    Delete,
    Found,
    Get,
    Page,
    Pair,
    Put,
    Range,
    Result,
    Swapped,
    ValueTooLarge,
    Written,
    decode_command,
    decode_query,
)
from .snapshot import KvState, SnapshotRecord, decode_state, encode_state
from .sorted_map import SortedMap

CHANGES_MAX: Final = 10_000
"""Changes that are kept, unless said otherwise."""
CHANGES_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of keys and values in them."""

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
        self._bytes += _size_bytes(change)
        while len(self) > self._changes_max or (self._bytes > self._bytes_max and len(self) > 1):
            dropped = self._changes[self._start]
            self._changes[self._start] = _DROPPED  # its value is let go at once
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


_DROPPED: Final = Change(0, b"", None)


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


ANSWER_BYTES_MAX: Final = 1024 * 1024
"""Bytes of keys and values from which on an answer holds no further pair or change."""
SCANNED_MAX: Final = 10_000
"""Changes that one query looks at, whether they match or not."""


@final
class KvMachine:
    """Keys and values, both bytes; see `trioraft.kv.commands` for what it is told.

    Args:
        changes_max: latest changes that are kept for those who watch.
        changes_bytes_max: bytes of keys and values in them.
    """

    error_types: Final = (UnknownCommand, ValueTooLarge)
    """All that `apply` raises on purpose."""

    def __init__(
        self, *, changes_max: int = CHANGES_MAX, changes_bytes_max: int = CHANGES_BYTES_MAX
    ) -> None:
        self._changes_max = changes_max
        self._changes_bytes_max = changes_bytes_max
        self._records: SortedMap[SnapshotRecord] = SortedMap()
        self._history = ChangeHistory(changes_max, changes_bytes_max)
        self._watches = Watches()
        self._index: LogIndex = 0

    @property
    def keys_count(self) -> int:
        """How many keys there are."""
        return len(self._records)

    @property
    def changes_bytes(self) -> int:
        """Bytes of keys and values in the changes that are kept for who watches from the past."""
        return self._history.held_bytes

    def usage(self) -> dict[str, tuple[int, int | None]]:
        """What counts against a bound: by name, how much there is and how much there may be."""
        return {"changes_bytes": (self.changes_bytes, self._changes_bytes_max)}

    @property
    def index(self) -> LogIndex:
        """Of the last command that was applied."""
        return self._index

    # -- commands --------------------------------------------------------------------------

    def prepare_command(self, data: bytes) -> bytes:
        """Refuse what cannot be read, or is nested too deep, before it is proposed.

        Raises:
            UnknownCommand, ConfigError: that is so.
        """
        check_nesting(data[1:])
        decode_command(data)
        return data

    def apply(self, index: LogIndex, data: bytes) -> Result:
        """Apply one command, as `trioraft.kv.commands.encode` makes them.

        Raises:
            UnknownCommand: the command cannot be read; nothing was changed, on any node.
            ValueTooLarge: an append went too far; nothing was changed.
        """
        self._index = index
        command = decode_command(data)
        key = command.key
        record = self._records.get(key)
        before = None if record is None else record.value
        match command:
            case Put():
                self._set(index, key, command.value)
            case Append():
                self._set(index, key, _joined(key, before or b"", command.value))
            case Delete():
                if before is not None:
                    self._records.delete(key)
                    self._tell(Change(index, key, None))
            case Cas():
                swapped = before == command.expected
                if swapped:
                    self._set(index, key, command.value)
                return Swapped(index, swapped, before)
        return Written(index, before is not None, before if command.wants_previous else None)

    def _set(self, index: LogIndex, key: bytes, value: bytes) -> None:
        self._records.set(key, SnapshotRecord(value, index))
        self._tell(Change(index, key, value))

    def _tell(self, change: Change) -> None:
        self._history.add(change)
        self._watches.changed(change.key)

    def keys_written(self, data: bytes) -> Iterable[bytes]:
        """The keys that a command may change (and whose values it may be told).

        Raises:
            UnknownCommand, ConfigError: the command cannot be read.
        """
        check_nesting(data[1:])
        return (decode_command(data).key,)

    def keys_read(self, data: bytes) -> Iterable[bytes]:
        """What the answer to a query may show: keys, or what they begin with.

        Raises:
            UnknownCommand, ConfigError: the query cannot be read.
        """
        check_nesting(data[1:])
        query = decode_query(data)
        return (query.key if isinstance(query, Get) else query.prefix,)

    # -- queries ---------------------------------------------------------------------------

    def query(self, data: bytes) -> Answer:
        """Answer one query from what is applied here, as `trioraft.kv.commands.encode` makes them.

        Raises:
            UnknownCommand: the query cannot be read.
        """
        query = decode_query(data)
        match query:
            case Get():
                return self._get(query)
            case Range():
                return self._range(query)
            case Changes():
                return self._changes(query)

    def _get(self, query: Get) -> Found:
        record = self._records.get(query.key)
        if record is None:
            return Found(self._index, None)
        return Found(self._index, record.value, record.changed_index)

    def _range(self, query: Range) -> Page:
        after = query.after
        start = query.prefix if after is None else max(query.prefix, after)
        pairs: list[Pair] = []
        room_bytes = ANSWER_BYTES_MAX
        for key, record in self._records.items_from(start):
            if key == after:
                continue
            if not key.startswith(query.prefix):
                break
            if len(pairs) >= query.items_max or room_bytes <= 0:
                return Page(self._index, tuple(pairs), has_more=True)
            pairs.append(Pair(key, record.value, record.changed_index))
            room_bytes -= len(key) + len(record.value)
        return Page(self._index, tuple(pairs), has_more=False)

    def _changes(self, query: Changes) -> Changed | Compacted:
        oldest_index = self._history.oldest_index
        if query.from_index < oldest_index:
            return Compacted(oldest_index)
        found: list[Change] = []
        room_bytes = ANSWER_BYTES_MAX
        for scanned, change in enumerate(self._history.since(query.from_index)):
            if len(found) >= query.changes_max or room_bytes <= 0 or scanned >= SCANNED_MAX:
                return Changed(tuple(found), change.index)
            if change.key.startswith(query.prefix):
                found.append(change)
                room_bytes -= len(change.key) + len(change.value or b"")
        return Changed(tuple(found), max(query.from_index, self._index + 1))

    @asynccontextmanager
    async def watch(self, data: bytes) -> AsyncIterator[AsyncIterator[Changed | Compacted]]:
        """Follow the changes that a `Changes` query, encoded, asks for, as they are made.

        Each item holds some changes; after a `Compacted` there are no more items. Nothing of a
        watch is kept here but the index that it wants next.

        Raises:
            UnknownCommand: it is no such query.
        """
        wanted = decode_query(data)
        if not isinstance(wanted, Changes):
            raise UnknownCommand(f"a {type(wanted).__name__} cannot be watched: encode a Changes")
        with self._watches.watching(wanted, self._changes) as items:
            yield items

    def snapshot(self) -> Iterator[bytes]:
        """The whole state as it is now; further commands do not show in it."""
        return encode_state(
            KvState(
                self._index,
                self._records.view(),
                self._history.view(),
                self._history.oldest_index,
            )
        )

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state.

        Raises:
            ConfigError: the snapshot is not one of a `KvMachine`, or of a later release's.
        """
        restored = decode_state(chunks)
        records = SortedMap(restored.pairs)
        history = ChangeHistory(
            self._changes_max,
            self._changes_bytes_max,
            changes=restored.changes,
            dropped_index=restored.oldest_index - 1,
        )
        self._records, self._history, self._index = records, history, restored.index
        self._watches.restored()


def _joined(key: bytes, before: bytes, appended: bytes) -> bytes:
    size_bytes = len(before) + len(appended)
    if size_bytes > VALUE_BYTES_MAX:
        raise ValueTooLarge(
            f"appending {len(appended)} bytes to {len(before)} at key {key[:80]!r} makes "
            f"{size_bytes}; at most {VALUE_BYTES_MAX} are kept: begin another key"
        )
    return before + appended
