"""MemoryStorage: survives the node, not the process. For tests, simulations and throw-away state.

Rules of this file: it keeps the storage protocol to the letter, so that a test with it says
something about the others; nothing of a failed call is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import final

import attrs

from ..core.errors import CorruptStorage, SnapshotGone, StorageError
from ..core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
    SnapshotMeta,
    Term,
)

SNAPSHOTS_KEPT = 2
CHUNK_BYTES = 256 * 1024


@attrs.frozen
class _Snapshot:
    meta: SnapshotMeta
    content: bytes


@attrs.define
class _MemoryTransfer:
    """A snapshot that is being received."""

    meta: SnapshotMeta
    content: bytearray = attrs.field(factory=bytearray)
    crc: int = 0


@final
class MemoryStorage:
    """A storage in this process's memory. Open it again and it holds what was appended.

    ```python
    storage = MemoryStorage()  # one for each node; keep it to restart the node
    ```
    """

    blocking = False
    notices = ()

    def __init__(self) -> None:
        self._identity: tuple[str, NodeId] | None = None
        self._is_open = False
        self._hard_state = HardState()
        self._base_index: LogIndex = 0
        self._base_term: Term = 0
        self._entries: list[Entry] = []
        self._snapshots: list[_Snapshot] = []  # by index, the newest last
        self._transfer: _MemoryTransfer | None = None

    @property
    def _last_index(self) -> LogIndex:
        return self._base_index + len(self._entries)

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """Take the storage; see `Storage.open`.

        Raises:
            StorageError: it is open already, or belongs to another node or cluster.
        """
        identity = (cluster_id, node_id)
        if self._is_open:
            raise StorageError(
                f"this MemoryStorage is in use by node {node_id!r}: give each node its own"
            )
        if self._identity not in (None, identity):
            raise StorageError(
                f"this MemoryStorage belongs to (cluster, node) {self._identity}, not {identity}: "
                "give each node its own"
            )
        is_new = self._identity is None
        self._identity = identity
        self._is_open = True
        if is_new:
            return None
        newest = self._snapshots[-1].meta if self._snapshots else None
        return Recovered(
            self._hard_state,
            tuple(self._entries),
            Configuration(()) if newest is None else newest.configuration,
            self._base_index,
            self._base_term,
            newest,
        )

    def append(
        self, hard_state: HardState | None, entries: Sequence[Entry], replace_from: LogIndex | None
    ) -> None:
        """Store atomically; see `Storage.append`."""
        if not self._is_open:
            raise StorageError("append on a MemoryStorage that is not open: open it first")
        if replace_from is not None:
            position = replace_from - self._base_index - 1
            if not 0 <= position <= len(self._entries) or (
                entries
                and not entries[0].index == replace_from == entries[-1].index - len(entries) + 1
            ):
                raise self._misfit(entries, replace_from)
            if self._snapshots and replace_from <= self._snapshots[-1].meta.index:
                raise self._misfit(entries, replace_from)
            self._entries[position:] = entries
        elif entries:
            raise self._misfit(entries, replace_from)
        if hard_state is not None:
            self._hard_state = hard_state

    def _misfit(self, entries: Sequence[Entry], replace_from: LogIndex | None) -> StorageError:
        given = f"{entries[0].index} to {entries[-1].index}" if entries else "none"
        return StorageError(
            f"entries {given} from {replace_from} do not continue a log that holds "
            f"{self._base_index + 1} to {self._last_index}, with snapshots of "
            f"{[s.meta.index for s in self._snapshots]}. Nothing is stored"
        )

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Forget entries up to `base_index`; see `Storage.compact`."""
        self._check_open()
        if base_index <= self._base_index:
            return
        newest = self._snapshots[-1].meta.index if self._snapshots else 0
        term = self._term_at(base_index)
        if base_index > newest or term != base_term:
            raise StorageError(
                f"the log cannot be compacted up to entry {base_index} of term {base_term}: the "
                f"newest snapshot reaches {newest}, and the term there is {term}. Take a snapshot "
                "first; nothing was changed"
            )
        self._forget(base_index, base_term)

    def write_snapshot(
        self,
        index: LogIndex,
        term: Term,
        configuration: Configuration,
        chunks: Iterable[bytes],
    ) -> SnapshotMeta:
        """Store a snapshot of this node; see `Storage.write_snapshot`."""
        self._check_open()
        if not 0 < index <= self._last_index:
            raise StorageError(
                f"a snapshot of entries up to {index} does not fit a log that ends at "
                f"{self._last_index}: only what is stored can be replaced. Nothing is stored"
            )
        content = b"".join(chunks)
        meta = SnapshotMeta(index, term, configuration, len(content), zlib.crc32(content))
        self._adopt(_Snapshot(meta, content))
        return meta

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """The content in chunks; see `Storage.read_snapshot`."""
        content = self._content(meta)
        return (
            content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)
        )

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """Part of a snapshot; see `Storage.read_chunk`."""
        if offset < 0:
            raise StorageError(f"a snapshot has no byte {offset}; give an offset from 0")
        return self._content(meta)[offset : offset + bytes_max]

    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Keep part of a snapshot that is sent to us; see `Storage.receive_chunk`."""
        self._check_open()
        transfer = self._transfer
        if transfer is None or transfer.meta != meta:
            if offset != 0:
                return 0
            transfer = self._transfer = _MemoryTransfer(meta)
        content = transfer.content
        if offset == len(content) and offset + len(data) <= meta.size_bytes:
            content += data
            transfer.crc = zlib.crc32(data, transfer.crc)
        # Of an empty one, 0 would say nothing: that is told when it is installed.
        if 0 < meta.size_bytes == len(content) and transfer.crc != meta.checksum:
            self._transfer = None
            return 0
        return len(content)

    def install_snapshot(self, meta: SnapshotMeta) -> None:
        """Make a received snapshot the newest; see `Storage.install_snapshot`."""
        self._check_open()
        if meta.index < self._base_index:
            raise StorageError(
                f"a snapshot of entries up to {meta.index} would move the log back, which begins "
                f"after entry {self._base_index}. Nothing was changed"
            )
        transfer = self._transfer
        received = len(transfer.content) if transfer and transfer.meta == meta else 0
        if transfer is None or transfer.meta != meta or received < meta.size_bytes:
            raise StorageError(
                f"the snapshot of entries up to {meta.index} is not complete: {received} of "
                f"{meta.size_bytes} bytes were received. Nothing was installed"
            )
        self._transfer = None
        content = bytes(transfer.content)
        if transfer.crc != meta.checksum:
            raise CorruptStorage(
                f"the received snapshot of entries up to {meta.index} ({meta.size_bytes} bytes) is "
                f"not what was sent: its CRC-32 is {transfer.crc:08x} and should be "
                f"{meta.checksum:08x}. It was thrown away; let it be sent again"
            )
        if self._term_at(meta.index) != meta.term:
            self._entries.clear()
            self._base_index = meta.index
        self._forget(meta.index, meta.term)
        self._adopt(_Snapshot(meta, content))

    def close(self) -> None:
        """Let go of it; see `Storage.close`."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageError("this MemoryStorage is not open: open it first")

    def _term_at(self, index: LogIndex) -> Term | None:
        if index == self._base_index:
            return self._base_term
        if self._base_index < index <= self._last_index:
            return self._entries[index - self._base_index - 1].term
        return None

    def _forget(self, base_index: LogIndex, base_term: Term) -> None:
        del self._entries[: base_index - self._base_index]
        self._base_index = base_index
        self._base_term = base_term

    def _adopt(self, snapshot: _Snapshot) -> None:
        """Take it in among the others, instead of one that stands for the same entry."""
        position = (snapshot.meta.index, snapshot.meta.term)
        others = [s for s in self._snapshots if (s.meta.index, s.meta.term) != position]
        others.append(snapshot)
        others.sort(key=lambda s: (s.meta.index, s.meta.term))
        self._snapshots = others[-SNAPSHOTS_KEPT:]

    def _content(self, meta: SnapshotMeta) -> bytes:
        self._check_open()
        for snapshot in self._snapshots:
            if snapshot.meta == meta:
                return snapshot.content
        raise SnapshotGone(
            f"the snapshot of entries up to {meta.index} (term {meta.term}, {meta.size_bytes} "
            "bytes) is not stored any more: take the newest one"
        )
