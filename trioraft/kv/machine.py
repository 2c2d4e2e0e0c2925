"""KvMachine: the replicated state of a key-value service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Final, final

from ..core.types import LogIndex
from ..machines.sessions import UnknownCommand
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
from .watching import CHANGES_BYTES_MAX, CHANGES_MAX, ChangeHistory, Watches

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
    def index(self) -> LogIndex:
        """Of the last command that was applied."""
        return self._index

    # -- commands --------------------------------------------------------------------------

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

    # -- snapshots -------------------------------------------------------------------------

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
