"""MemoryStorage: survives the node, not the process; for tests, simulations, throw-away state."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import final

import attrs

from ..core.errors import StorageError
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
from . import refusals

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

    All methods are as `Storage` has them.
    """

    blocking = False
    is_volatile = True
    notices: tuple[()] = ()

    def __init__(self) -> None:
        self._owner: tuple[str, NodeId] | None = None
        self._identity: bytes | None = None
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
        owner = (cluster_id, node_id)
        if self._is_open:
            raise StorageError(
                f"this MemoryStorage is in use by node {node_id!r}: give each node its own"
            )
        if self._owner not in (None, owner):
            raise StorageError(
                f"this MemoryStorage belongs to (cluster, node) {self._owner}, not {owner}: "
                "give each node its own"
            )
        is_new = self._owner is None
        self._owner = owner
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
            self._identity,
        )

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """Store atomically; see `Storage.append`."""
        if not self._is_open:
            raise StorageError("append on a MemoryStorage that is not open: open it first")
        refusals.check_append(
            entries, replace_from, self._base_index, self._last_index, self._newest_index
        )
        if replace_from is not None:
            self._entries[replace_from - self._base_index - 1 :] = entries
        if hard_state is not None:
            self._hard_state = hard_state
        if identity is not None:
            self._identity = identity

    def _newest_index(self) -> LogIndex:
        return self._snapshots[-1].meta.index if self._snapshots else 0

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Forget entries up to `base_index`; see `Storage.compact`."""
        self._check_open()
        if base_index <= self._base_index:
            return
        term = self._term_at(base_index)
        refusals.check_compaction(base_index, base_term, term, self._newest_index())
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
        refusals.check_snapshot(index, self._last_index)
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
        refusals.check_offset(offset)
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

    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        """Make a received snapshot the newest; see `Storage.install_snapshot`."""
        self._check_open()
        refusals.check_installable(meta, self._base_index)
        transfer = self._transfer
        if transfer is None or transfer.meta != meta:
            raise refusals.incomplete(meta, 0)
        if len(transfer.content) < meta.size_bytes:
            raise refusals.incomplete(meta, len(transfer.content))
        self._transfer = None
        content = bytes(transfer.content)
        if transfer.crc != meta.checksum:
            raise refusals.not_as_sent(meta, transfer.crc)
        if self._term_at(meta.index) != meta.term:
            self._entries.clear()
            self._base_index = meta.index
        self._forget(meta.index, meta.term)
        self._adopt(_Snapshot(meta, content))
        if identity is not None:
            self._identity = identity

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
        raise refusals.gone(meta)
