"""Disk: a journal of records and two snapshots, which crash, tear, fill up and rot.

The journal is what a node comes back with; only an incomplete last record of it is dropped, and
whatever else is not as it was written is refused (contract of `storage.base`).
"""

from __future__ import annotations

import copy
import enum
import random
import zlib
from typing import Final, TypeAlias

import attrs
import msgspec

from ..core.errors import CorruptStorage
from ..core.ready import SnapshotChunk, Write
from ..core.reconfiguration import CONFIGURATIONS, configuration_of
from ..core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    Recovered,
    SnapshotMeta,
    Term,
)

SNAPSHOTS_KEPT: Final = 2
_HEAD_BYTES: Final = 4


class _Appended(msgspec.Struct, frozen=True, array_like=True, tag=0):
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    replace_from: LogIndex | None


class _Whole(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Everything, as one record: what a journal is replaced with when its start is dropped."""

    hard_state: HardState
    base_index: LogIndex
    base_term: Term
    entries: tuple[Entry, ...]


class _Identified(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A record, and the identity that was written with it: one frame, so one fate."""

    identity: bytes
    record: _Appended | _Whole


_Record: TypeAlias = _Appended | _Whole | _Identified

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder[_Record](_Record).decode


class Fate(enum.Enum):
    """What becomes of a write that was under way at a crash."""

    SURVIVES = "survives"
    LOST = "lost"
    TORN = "torn"


@attrs.define
class _Log:
    """A log as journal records build it up."""

    hard_state: HardState = attrs.field(factory=HardState)
    base_index: LogIndex = 0
    base_term: Term = 0
    entries: list[Entry] = attrs.field(factory=list)
    identity: bytes | None = None

    def take(self, record: _Record) -> None:
        """One record more."""
        if isinstance(record, _Identified):
            self.identity = record.identity
            record = record.record
        if isinstance(record, _Whole):
            self.hard_state = record.hard_state
            self.base_index, self.base_term = record.base_index, record.base_term
            self.entries = list(record.entries)
            return
        if record.hard_state is not None:
            self.hard_state = record.hard_state
        if record.replace_from is None:
            return
        position = record.replace_from - self.base_index - 1
        if not 0 <= position <= len(self.entries):
            raise CorruptStorage(
                f"entry {record.replace_from} does not continue a log of "
                f"{self.base_index + 1}..{self.base_index + len(self.entries)}"
            )
        del self.entries[position:]
        self.entries.extend(record.entries)

    def whole(self) -> _Record:
        """All of it as one record."""
        whole = _Whole(self.hard_state, self.base_index, self.base_term, tuple(self.entries))
        return whole if self.identity is None else _Identified(self.identity, whole)

    def entry_at(self, index: LogIndex) -> Entry | None:
        """The entry, if it is there."""
        position = index - self.base_index - 1
        return self.entries[position] if 0 <= position < len(self.entries) else None

    @property
    def last_index(self) -> LogIndex:
        """Of the last entry, or of the base."""
        return self.base_index + len(self.entries)


class Disk:
    """The disk of one node, over all its lives."""

    def __init__(self) -> None:
        self.is_full = False
        self.fails_next = False
        """The next sync fails (EIO): it is not known what became of the write."""
        self.is_rotten: bool = False
        """A bit flipped in the journal: whoever reads it must notice."""
        self.is_older = False
        """It is an older copy of what its node had: whoever has it is to be found out."""
        self.is_foreign = False
        """It is of another cluster."""
        self._journal: list[bytes] = []
        self._log = _Log()
        self._under_way: _Record | None = None
        self._snapshots: list[tuple[SnapshotMeta, bytes]] = []
        self._receiving: tuple[SnapshotMeta, bytes] | None = None

    def copy(self) -> Disk:
        """As it is now; what is under way is not in it."""
        copied = copy.copy(self)
        copied._journal = list(self._journal)
        copied._log = attrs.evolve(self._log, entries=list(self._log.entries))
        copied._snapshots = list(self._snapshots)
        copied._under_way = None
        return copied

    # -- what is durable now, for the checks -----------------------------------------------

    @property
    def hard_state(self) -> HardState:
        """The durable term and vote."""
        return self._log.hard_state

    @property
    def identity(self) -> bytes | None:
        """What is durable of whose disk this is."""
        return self._log.identity

    @property
    def last_index(self) -> LogIndex:
        """The last durable entry."""
        return self._log.last_index

    @property
    def base_index(self) -> LogIndex:
        """What comes before is compacted away."""
        return self._log.base_index

    def holds(self, index: LogIndex, term: Term) -> bool:
        """Whether this entry is durable here, in the log or in what a snapshot stands for."""
        entry = self._log.entry_at(index)
        return entry.term == term if entry is not None else index <= self._log.base_index

    def entry_at(self, index: LogIndex) -> Entry | None:
        """A durable entry of the log."""
        return self._log.entry_at(index)

    def configurations(self) -> list[Configuration]:
        """Those that stand in the durable log, and in snapshots."""
        stored = [meta.configuration for meta, _ in self._snapshots]
        entries = [e for e in self._log.entries if e.kind in CONFIGURATIONS]
        return [*stored, *map(configuration_of, entries)]

    # -- coming back -----------------------------------------------------------------------

    def recover(self, configuration: Configuration) -> Recovered:
        """What a node finds when it is started.

        Raises:
            CorruptStorage: something is not as it was written.
        """
        log = self._replay()
        self._drop_bad_snapshots(log)
        self._log = log
        self._journal = [_framed(log.whole())]
        return Recovered(
            log.hard_state,
            tuple(log.entries),
            configuration,
            log.base_index,
            log.base_term,
            self._snapshots[-1][0] if self._snapshots else None,
            log.identity,
        )

    def _replay(self) -> _Log:
        log = _Log()
        for position, frame in enumerate(self._journal):
            if _is_torn(frame) and position == len(self._journal) - 1:
                break  # it was never synced, so nobody was promised anything
            payload = frame[2 * _HEAD_BYTES :]
            crc = int.from_bytes(frame[_HEAD_BYTES : 2 * _HEAD_BYTES], "big")
            if _is_torn(frame) or zlib.crc32(payload) != crc:
                raise CorruptStorage(f"record {position} of {len(self._journal)} is damaged")
            log.take(_decode(payload))
        return log

    def _drop_bad_snapshots(self, log: _Log) -> None:
        whole = [stored for stored in self._snapshots if _is_whole(*stored)]
        self._snapshots = [
            stored for stored in whole if log.base_index <= stored[0].index <= log.last_index
        ]
        if log.base_index and not self._snapshots:
            raise CorruptStorage(f"no snapshot that can be read reaches entry {log.base_index}")

    # -- writing ---------------------------------------------------------------------------

    def begin(self, write: Write) -> None:
        """This write is on its way; until `sync`, a crash may take it."""
        record = _Appended(write.hard_state, write.entries, write.replace_from)
        identity = write.identity
        self._under_way = record if identity is None else _Identified(identity, record)

    def sync(self) -> None:
        """What was begun is durable."""
        record = self._under_way
        self._under_way = None
        if record is not None:
            self._log.take(record)
            self._journal.append(_framed(record))

    @property
    def is_writing(self) -> bool:
        """Whether a write is under way."""
        return self._under_way is not None

    def crash(self, fate: Fate, rng: random.Random) -> Fate | None:
        """The power goes. Returns what became of a write under way; None if there was none."""
        record = self._under_way
        self._under_way = None
        if record is None:
            return None
        frame = _framed(record)
        if fate is Fate.SURVIVES:
            self._log.take(record)
            self._journal.append(frame)
        elif fate is Fate.TORN:
            # The file system knows a file's length: at least the head of the record is there.
            self._journal.append(frame[: rng.randint(2 * _HEAD_BYTES, len(frame) - 1)])
        return fate

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Forget the entries up to this one; a snapshot stands for them."""
        log = self._log
        if not self._snapshots or self._snapshots[-1][0].index < base_index:
            raise CorruptStorage(f"compacting up to {base_index} without a snapshot of it")
        if base_index > log.base_index:
            del log.entries[: base_index - log.base_index]
            log.base_index, log.base_term = base_index, base_term
            self._journal = [_framed(log.whole())]

    # -- snapshots -------------------------------------------------------------------------

    def save_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, content: bytes
    ) -> SnapshotMeta:
        """Store a snapshot of this node's own."""
        meta = SnapshotMeta(index, term, configuration, len(content), zlib.crc32(content))
        self._keep(meta, content)
        return meta

    def read_snapshot(self, meta: SnapshotMeta) -> bytes | None:
        """A stored snapshot; None if it is gone."""
        for stored, content in self._snapshots:
            if stored == meta:
                return content
        return None

    def receive(self, chunk: SnapshotChunk) -> int:
        """Keep part of a snapshot; returns from where more of it is wanted."""
        meta = chunk.meta
        if self._receiving is None or self._receiving[0] != meta:
            if chunk.offset:
                return 0
            self._receiving = (meta, b"")
        content = self._receiving[1]
        if chunk.offset == len(content):
            content += chunk.data
            self._receiving = (meta, content)
        if len(content) == meta.size_bytes and not _is_whole(meta, content):
            self._receiving = None
            return 0
        return len(content)

    def install(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        """What was received takes the place of the log up to its index; the identity with it.

        Raises:
            CorruptStorage: it was not received, or not as a whole.
        """
        if self._receiving is None or self._receiving[0] != meta:
            raise CorruptStorage(f"the snapshot of {meta.index} is to be installed, and not here")
        content = self._receiving[1]
        if not _is_whole(meta, content):
            raise CorruptStorage(f"the snapshot of {meta.index} is to be installed, and damaged")
        self._receiving = None
        self._keep(meta, content)
        log = self._log
        keeps_rest = self.holds(meta.index, meta.term) and meta.index > log.base_index
        log.entries = log.entries[meta.index - log.base_index :] if keeps_rest else []
        log.base_index, log.base_term = meta.index, meta.term
        if identity is not None:
            log.identity = identity
        self._journal = [_framed(log.whole())]

    def _keep(self, meta: SnapshotMeta, content: bytes) -> None:
        self._snapshots.append((meta, content))
        self._snapshots.sort(key=lambda stored: stored[0].index)
        del self._snapshots[:-SNAPSHOTS_KEPT]

    def rot(self, rng: random.Random) -> bool:
        """Flip one bit of the journal. False if there is nothing to flip."""
        whole = [place for place, frame in enumerate(self._journal) if not _is_torn(frame)]
        if not whole:
            return False
        place = rng.choice(whole)
        frame = self._journal[place]
        # Not in the length: where a file ends the file system knows, and it is not what rots here.
        self._journal[place] = _with_flipped_bit(frame, rng, _HEAD_BYTES)
        self.is_rotten = True
        return True

    def rot_snapshot_of(self, index: LogIndex, rng: random.Random) -> bool:
        """Flip one bit of this snapshot, if a newer one is there. Otherwise False."""
        for place, (meta, content) in enumerate(self._snapshots[:-1]):
            if meta.index == index and content:
                self._snapshots[place] = (meta, _with_flipped_bit(content, rng, 0))
                return True
        return False

    def rot_snapshot(self, rng: random.Random) -> bool:
        """Flip one bit of the newest snapshot, if the log can do without it. Otherwise False."""
        spare = len(self._snapshots) > 1 and self._snapshots[-2][0].index >= self._log.base_index
        if not (spare or (self._snapshots and not self._log.base_index)):
            return False
        meta, content = self._snapshots[-1]
        if not content:
            return False
        self._snapshots[-1] = (meta, _with_flipped_bit(content, rng, 0))
        return True


def _framed(record: _Record) -> bytes:
    payload = _encode(record)
    head = len(payload).to_bytes(_HEAD_BYTES, "big")
    return head + zlib.crc32(payload).to_bytes(_HEAD_BYTES, "big") + payload


def _is_torn(frame: bytes) -> bool:
    return len(frame) - 2 * _HEAD_BYTES < int.from_bytes(frame[:_HEAD_BYTES], "big")


def _is_whole(meta: SnapshotMeta, content: bytes) -> bool:
    return len(content) == meta.size_bytes and zlib.crc32(content) == meta.checksum


def _with_flipped_bit(content: bytes, rng: random.Random, first: int) -> bytes:
    damaged = bytearray(content)
    damaged[rng.randrange(first, len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)
