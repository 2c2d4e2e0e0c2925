"""Where a node's disk is put, how slow it is there, and what a life sees of it.

A write is begun, takes its time, and is durable at the end; any other call is done at one moment of
the time that it takes.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar, final

import attrs
import trio

from ...core.errors import CorruptStorage, DiskFull, InvariantViolation, SnapshotGone, StorageError
from ...core.ready import SnapshotChunk, Write
from ...core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
    SnapshotMeta,
    Term,
)
from ..disk import Disk, Fate
from ..faults import Kind
from ..outcomes import RunRecording

T = TypeVar("T")

READ_BYTES: Final = 97
"""A snapshot is read in pieces of this size, so that none ends where one would like."""


@final
@attrs.define(eq=False)
class NodeDisk:
    """One node's disk over all its lives, and what is wrong with it at the moment."""

    disk: Disk
    rng: random.Random
    disk_s: tuple[float, float]
    """Range of how long a call takes; (0, 0): the storage does not block."""
    slow_s: float = 0.0
    """How much longer it takes now."""
    busy_until_s: float = 0.0
    """When the calls that have begun are done: one that began while it was slow takes its time."""
    crash_in_write: Fate | None = None
    """The next write ends in a crash, and this becomes of it."""
    is_new: bool = True
    snapshot_index: LogIndex = 0
    """Of the newest snapshot; what lies under it is never replaced."""

    @property
    def blocks(self) -> bool:
        """Whether calls take time."""
        return self.disk_s != (0.0, 0.0)

    @property
    def time_s(self) -> float:
        """How long a call may take at the moment."""
        return self.disk_s[1] + self.slow_s

    def repair(self) -> None:
        """Whole, empty enough and as fast as ever."""
        self.slow_s, self.crash_in_write = 0.0, None
        self.disk.is_full = self.disk.fails_next = False


class MountOwner(Protocol):
    """A life, as its mount sees it."""

    def crash(self, fate: Fate) -> None:
        """End, now."""

    def on_disk_failed(self) -> None:
        """The disk has failed (EIO): a node that lives on is wrong."""


@final
class Mount:
    """A `Storage`: one life's view of its node's disk."""

    notices: Sequence[str] = ()

    def __init__(self, node_disk: NodeDisk, owner: MountOwner, recording: RunRecording) -> None:
        self.blocking = node_disk.blocks
        self._node_disk = node_disk
        self._disk = node_disk.disk
        self._owner = owner
        self._recording = recording
        self._is_fenced = False
        self._has_failed = False
        self._is_gone = trio.Event()  # fenced or failed: nobody waits for this disk any more
        self._has_begun = False
        self._is_open = False

    def fence(self, fate: Fate) -> None:
        """From now on nothing of this life reaches the disk; this becomes of a write under way."""
        if self._is_fenced:
            return
        self._is_fenced = True
        met = None if self._has_failed else self._disk.crash(fate, self._node_disk.rng)
        if met in (Fate.LOST, Fate.TORN):
            self._recording.count(Kind.TORN_TAIL if met is Fate.TORN else Kind.UNSYNCED_LOST)
        self._is_gone.set()

    # -- how calls are run -----------------------------------------------------------------

    async def run_blocking(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        """What `persistence.RUN_BLOCKING` asks for: as a worker thread would, in virtual time."""
        async with limiter:
            before_s, after_s = self._drawn_s(), self._drawn_s()
            done_s = trio.current_time() + before_s + after_s
            self._node_disk.busy_until_s = max(self._node_disk.busy_until_s, done_s)
            await self._pass(before_s)
            self._has_begun = False
            result = call()
            is_write = self._has_begun
            await self._pass(after_s)
            if is_write:
                self._sync()
        return result

    def _drawn_s(self) -> float:
        node_disk = self._node_disk
        return (node_disk.rng.uniform(*node_disk.disk_s) + node_disk.slow_s) / 2

    async def _pass(self, time_s: float) -> None:
        with trio.move_on_after(time_s):
            await self._is_gone.wait()

    def _sync(self) -> None:
        if self._is_fenced or self._has_failed:
            return
        if self._node_disk.crash_in_write is not None:
            fate, self._node_disk.crash_in_write = self._node_disk.crash_in_write, None
            self._owner.crash(fate)
            return
        if self._disk.fails_next:
            self._disk.fails_next = False
            self._has_failed = True
            self._disk.crash(self._node_disk.rng.choice(list(Fate)), self._node_disk.rng)
            self._is_gone.set()
            self._recording.count(Kind.EIO)
            self._owner.on_disk_failed()
            raise StorageError("the disk failed (on purpose): what is stored is unknown")
        self._disk.sync()

    def _is_writable(self) -> bool:
        """Whether a call may change the disk; raises if it is to be told that it may not."""
        if self._is_fenced:
            return False
        self._refuse(not self._is_open, "it is not open")
        if self._has_failed:
            raise StorageError("the disk failed earlier (on purpose)")
        if self._disk.is_full:
            self._recording.count(Kind.DISK_FULL)
            raise DiskFull("no room (on purpose): nothing of this call is stored")
        return True

    def _refuse(self, is_wrong: bool, why: str) -> None:
        """Whoever calls like this is mistaken: no storage takes it, and no test may hide it."""
        if is_wrong:
            raise StorageError(f"the node calls its storage wrongly: {why}")

    # -- the storage -----------------------------------------------------------------------

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """See `Storage.open`."""
        if self._is_fenced:
            raise StorageError("this life of the node is over")
        self._is_open = True
        if self._node_disk.is_new:
            self._node_disk.is_new = False
            return None
        before, last_index = self._disk.hard_state, self._disk.last_index
        recovered = self._disk.recover(Configuration(()))
        if (before, last_index) != (self._disk.hard_state, self._disk.last_index):
            raise InvariantViolation(f"{node_id!r} came back with less than was durable")
        if recovered.snapshot is None:
            return recovered
        self._node_disk.snapshot_index = recovered.snapshot.index
        return attrs.evolve(recovered, configuration=recovered.snapshot.configuration)

    def append(
        self, hard_state: HardState | None, entries: Sequence[Entry], replace_from: LogIndex | None
    ) -> None:
        """See `Storage.append`."""
        if not self._is_writable():
            return
        self._check_fits(entries, replace_from)
        self._disk.begin(Write(hard_state, tuple(entries), replace_from))
        self._has_begun = True
        if not self.blocking:
            self._sync()

    def _check_fits(self, entries: Sequence[Entry], replace_from: LogIndex | None) -> None:
        disk = self._disk
        if replace_from is None:
            self._refuse(bool(entries), "entries, and nowhere to put them")
            return
        indexes = [entry.index for entry in entries]
        is_gap = indexes != list(range(replace_from, replace_from + len(entries)))
        self._refuse(is_gap, f"entries {indexes} from {replace_from} on")
        fits = disk.base_index < replace_from <= disk.last_index + 1
        held = f"a log that holds {disk.base_index + 1} to {disk.last_index}"
        self._refuse(not fits, f"entries from {replace_from} on do not continue {held}")
        newest = self._node_disk.snapshot_index
        self._refuse(replace_from <= newest, f"{replace_from} lies under snapshot {newest}")

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """See `Storage.compact`."""
        if self._is_writable() and base_index > self._disk.base_index:
            is_right = self._disk.holds(base_index, base_term)
            is_covered = base_index <= self._node_disk.snapshot_index
            self._refuse(
                not (is_right and is_covered), f"no snapshot of {base_index}, term {base_term}"
            )
            self._disk.compact(base_index, base_term)

    def write_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """See `Storage.write_snapshot`."""
        content = b"".join(chunks)
        if not self._is_writable():
            return SnapshotMeta(index, term, configuration, len(content), zlib.crc32(content))
        self._refuse(
            not 0 < index <= self._disk.last_index, f"a snapshot of {index}, which is not stored"
        )
        self._recording.count("snapshot_saved")
        self._node_disk.snapshot_index = max(self._node_disk.snapshot_index, index)
        return self._disk.save_snapshot(index, term, configuration, content)

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `Storage.read_snapshot`."""
        content = self._content(meta)
        for start in range(0, len(content), READ_BYTES):
            yield content[start : start + READ_BYTES]
        if zlib.crc32(content) != meta.checksum:
            raise CorruptStorage(f"the snapshot of entries up to {meta.index} is damaged")

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """See `Storage.read_chunk`."""
        return self._content(meta)[offset : offset + bytes_max]

    def _content(self, meta: SnapshotMeta) -> bytes:
        content = self._disk.read_snapshot(meta)
        if content is None:
            raise SnapshotGone(f"the snapshot of entries up to {meta.index} is not stored any more")
        return content

    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """See `Storage.receive_chunk`."""
        if not self._is_writable():
            return offset
        return self._disk.receive(SnapshotChunk("", meta, offset, data))

    def install_snapshot(self, meta: SnapshotMeta) -> None:
        """See `Storage.install_snapshot`."""
        if self._is_writable():
            is_old = meta.index < self._disk.base_index
            self._refuse(is_old, f"snapshot {meta.index} would move the log back")
            self._disk.install(meta)
            self._node_disk.snapshot_index = max(self._node_disk.snapshot_index, meta.index)
            self._recording.count("snapshot_installed")

    def close(self) -> None:
        """See `Storage.close`."""
        self._is_open = False
