"""A disk for cores: what survives a crash, by the contract of `trioraft.storage.base`.

Rules of this file: every write is atomic; nothing is repaired. A snapshot's content is the list
of all entries that it stands for, so that a restored state machine can be compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import attrs
import msgspec

from trioraft.core.ready import SnapshotChunk, Write
from trioraft.core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    Recovered,
    SnapshotMeta,
    Term,
)
from trioraft.member.actions import Compact, Install, StorageStep

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


@attrs.define
class Disk:
    """Hard state, log, snapshots, and what is received of one."""

    hard_state: HardState = attrs.field(factory=HardState)
    entries: list[Entry] = attrs.field(factory=list)
    """The entries after the base."""
    base_index: LogIndex = 0
    base_term: Term = 0
    snapshots: list[tuple[SnapshotMeta, bytes]] = attrs.field(factory=list)
    """The last two, the newest last."""
    receiving: tuple[SnapshotMeta, bytes] | None = None
    identity: bytes | None = None

    # -- reading ---------------------------------------------------------------------------

    def recovered(self, configuration: Configuration) -> Recovered:
        """What a node finds when it comes back."""
        return Recovered(
            self.hard_state,
            tuple(self.entries),
            configuration,
            self.base_index,
            self.base_term,
            self.snapshots[-1][0] if self.snapshots else None,
            self.identity,
        )

    def restored(self) -> list[Entry]:
        """The state machine of the newest snapshot."""
        return _decode(self.snapshots[-1][1]) if self.snapshots else []

    def entry_at(self, index: LogIndex) -> Entry | None:
        """The entry as it stands on the disk, or None."""
        position = index - self.base_index - 1
        return self.entries[position] if 0 <= position < len(self.entries) else None

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes | None:
        """Part of a stored snapshot; None if it is gone."""
        for stored, content in self.snapshots:
            if stored == meta:
                return content[offset : offset + bytes_max]
        return None

    # -- writing ---------------------------------------------------------------------------

    def write(self, step: StorageStep) -> int | None:
        """One step; of a chunk it returns from where more of the snapshot is wanted."""
        if isinstance(step, Write | Install) and step.identity is not None:
            self.identity = step.identity
        match step:
            case Write(hard_state, entries, replace_from):
                self._append(hard_state, entries, replace_from)
            case Install(meta):
                self._install(meta)
            case SnapshotChunk():
                return self._receive(step)
            case Compact(base_index, base_term):
                self._compact(base_index, base_term)
        return None

    def save_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, applied: Iterable[Entry]
    ) -> SnapshotMeta:
        """Store a snapshot of this node's own state machine."""
        content = _encode(list(applied))
        meta = SnapshotMeta(index, term, configuration, len(content), zlib.crc32(content))
        self._keep(meta, content)
        return meta

    def _append(
        self, hard_state: HardState | None, entries: Iterable[Entry], first: LogIndex | None
    ) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if first is not None:
            position = first - self.base_index - 1
            if not 0 <= position <= len(self.entries):
                raise AssertionError(f"entry {first} does not continue the log on the disk")
            del self.entries[position:]
            self.entries.extend(entries)

    def _receive(self, chunk: SnapshotChunk) -> int:
        meta = chunk.meta
        if self.receiving is None or self.receiving[0] != meta:
            if chunk.offset:
                return 0
            self.receiving = (meta, b"")
        content = self.receiving[1]
        if chunk.offset == len(content):
            content += chunk.data
            self.receiving = (meta, content)
        if len(content) == meta.size_bytes and zlib.crc32(content) != meta.checksum:
            self.receiving = None
            return 0
        return len(content)

    def _install(self, meta: SnapshotMeta) -> None:
        if self.receiving is None or self.receiving[0] != meta:
            raise AssertionError(f"{meta} is to be installed and was not received")
        content = self.receiving[1]
        if len(content) != meta.size_bytes or zlib.crc32(content) != meta.checksum:
            raise AssertionError(f"{meta} is to be installed and is not complete")
        self.receiving = None
        self._keep(meta, content)
        at = self.entry_at(meta.index)
        keeps = at is not None and at.term == meta.term
        self.entries = self.entries[meta.index - self.base_index :] if keeps else []
        self.base_index, self.base_term = meta.index, meta.term

    def _compact(self, base_index: LogIndex, base_term: Term) -> None:
        if not self.snapshots or self.snapshots[-1][0].index < base_index:
            raise AssertionError(f"compacting up to {base_index} without a snapshot of it")
        if base_index > self.base_index:
            del self.entries[: base_index - self.base_index]
            self.base_index, self.base_term = base_index, base_term

    def _keep(self, meta: SnapshotMeta, content: bytes) -> None:
        self.snapshots.append((meta, content))
        self.snapshots.sort(key=lambda stored: stored[0].index)
        del self.snapshots[:-2]
