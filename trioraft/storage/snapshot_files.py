"""SnapshotFiles: the finished snapshots of one storage, a file each: a header, then the content.

Rules of this file:

* A snapshot appears under its name only when it is complete and durable: temporary name, fsync,
  rename, fsync of the directory. What has a temporary name was never promised.
* Content goes through in chunks, and every chunk through a CRC-32.
* The log's thread and the snapshots' thread both come here: the table of snapshots is guarded by
  a lock, and nothing slow happens under it. A file that is removed while someone reads it lives
  on until it is closed.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, final

import attrs
import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import CorruptStorage, DescriptorsExhausted, StorageError
from ..core.types import Configuration, LogIndex, SnapshotMeta, Term
from . import refusals
from .directory import BRING_BACK, Folder, create_private, sync_file
from .health import Health

FORMAT_VERSION = 1
_MAGIC = b"trioraft snapsh\n"
_FIXED = struct.Struct(">16sHIII")
"""Magic, format version, header bytes in all, description bytes, CRC-32 of the description."""
_DESCRIPTION_BYTES_MAX = 16 * 1024 * 1024


class Description(msgspec.Struct, frozen=True, array_like=True):
    """Whose snapshot it is, and what it stands for."""

    cluster_id: str
    meta: SnapshotMeta


@attrs.frozen
class SnapshotHeader:
    """A header that was read."""

    description: Description
    header_bytes: int
    """Where the content begins."""


def header_bytes(description: Description) -> int:
    """The length of the header, whatever size and checksum turn out to be."""
    longest = msgspec.structs.replace(description.meta, size_bytes=2**63 - 1, checksum=2**32 - 1)
    return _FIXED.size + len(
        msgspec.msgpack.encode(msgspec.structs.replace(description, meta=longest))
    )


def encode_header(description: Description) -> bytes:
    """The whole header."""
    body = msgspec.msgpack.encode(description)
    total = header_bytes(description)
    fixed = _FIXED.pack(_MAGIC, FORMAT_VERSION, total, len(body), zlib.crc32(body))
    return (fixed + body).ljust(total, b"\0")


def read_header(file: BinaryIO, name: str) -> SnapshotHeader:
    """Read a header from the beginning of a file, and leave the file at the content.

    Raises:
        CorruptStorage: there is none, or it is damaged.
        StorageError: a newer trioraft wrote it.
    """
    fixed = file.read(_FIXED.size)
    if len(fixed) < _FIXED.size or not fixed.startswith(_MAGIC):
        raise CorruptStorage(f"{name} is not a snapshot of trioraft: it begins with {fixed!r}")
    _, version, total, length, crc = _FIXED.unpack(fixed)
    if version > FORMAT_VERSION:
        raise StorageError(
            f"{name} has snapshot format {version}, written by a newer trioraft; this one knows up "
            f"to format {FORMAT_VERSION}. Upgrade; nothing was changed"
        )
    if not length <= total - _FIXED.size <= _DESCRIPTION_BYTES_MAX:
        raise CorruptStorage(f"{name}: the header is damaged (length {length} of {total})")
    body = file.read(total - _FIXED.size)[:length]
    if len(body) < length or zlib.crc32(body) != crc:
        raise CorruptStorage(f"{name}: the header does not match its CRC-32, or it was cut")
    try:
        description = msgspec.msgpack.decode(body, type=Description)
    except UNREADABLE as error:
        raise CorruptStorage(f"{name}: the header cannot be decoded: {error}") from error
    return SnapshotHeader(description, total)


KEPT = 2
"""How many snapshots are kept."""

CHUNK_BYTES = 256 * 1024
"""How much is read at a time."""

SYNC_EVERY_BYTES = 1024 * 1024
"""How much is written before it is pushed to the disk: the log's own writes queue behind so much.
(Measured with 1 GiB: a tail of 100 ms for commits with 8 MiB, on a disk that many share.)"""

PREFIX = "snapshot-"
SUFFIX = ".raft"
TEMPORARY_SUFFIX = ".tmp"


def file_name(meta: SnapshotMeta) -> str:
    """Sorts by index."""
    return f"{PREFIX}{meta.index:020d}-{meta.term:020d}{SUFFIX}"


def is_snapshot(name: str) -> bool:
    """Whether a file of this name is a finished snapshot."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def content_chunks(file: BinaryIO, meta: SnapshotMeta, name: str) -> Iterator[bytes]:
    """The content of a file that stands behind its header, checked at the end.

    Raises:
        CorruptStorage: at the end, if it is not what was written.
    """
    left = meta.size_bytes
    crc = 0
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise CorruptStorage(
                f"{name} was cut: {left} of {meta.size_bytes} bytes of content are missing"
            )
        left -= len(chunk)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if crc != meta.checksum or file.read(1):
        raise CorruptStorage(
            f"{name} (entries up to {meta.index}) is not what was written: its CRC-32 is "
            f"{crc:08x} and should be {meta.checksum:08x}, or something follows it"
        )


@final
class SnapshotFiles:
    """What is there, by meta; and how to write and read it."""

    def __init__(self, held: Folder, cluster_id: str, health: Health) -> None:
        self._held = held
        self.directory: Path = held.path
        self._cluster_id = cluster_id
        self._health = health
        self._guard = threading.Lock()
        self._known: dict[str, SnapshotMeta] = {}  # by file name

    # -- opening ---------------------------------------------------------------------------

    def find(self) -> tuple[list[SnapshotMeta], list[str]]:
        """Look at what is there, without changing anything.

        Returns:
            The snapshots whose headers are right, newest first, the first of them read from
            end to end; and what is wrong with those that were passed over.

        Raises:
            StorageError: one is of a newer format, or a file cannot be read.
        """
        problems: list[str] = []
        usable: list[SnapshotMeta] = []
        with self._health.watching(f"looking into {self.directory}"):
            names = sorted(filter(is_snapshot, self._held.names()), reverse=True)
        for name in names:
            try:
                meta = self._checked(self.directory / name, whole=not usable)
            except CorruptStorage as error:
                problems.append(str(error))
                continue
            usable.append(meta)
            self._known[name] = meta
        return usable, problems

    def _checked(self, path: Path, *, whole: bool) -> SnapshotMeta:
        with self._health.watching(f"reading {path}"), path.open("rb") as file:
            header = read_header(file, str(path))
            meta = header.description.meta
            if header.description.cluster_id != self._cluster_id or file_name(meta) != path.name:
                raise CorruptStorage(
                    f"{path} holds a snapshot of entries up to {meta.index} of cluster "
                    f"{header.description.cluster_id!r}: it does not belong here"
                )
            if whole:
                for _ in content_chunks(file, meta, str(path)):
                    pass
        return meta

    def remove_leftovers(self) -> None:
        """Remove what was being written when the last holder died."""
        for name in self._held.names():
            if name.startswith(PREFIX) and name.endswith(TEMPORARY_SUFFIX):
                (self.directory / name).unlink(missing_ok=True)

    # -- writing ---------------------------------------------------------------------------

    def write(
        self,
        index: LogIndex,
        term: Term,
        configuration: Configuration,
        chunks: Iterable[bytes],
    ) -> SnapshotMeta:
        meta = SnapshotMeta(index, term, configuration, 0, 0)
        temporary = self.directory / f"{file_name(meta)}{TEMPORARY_SUFFIX}"
        try:
            with self._health.watching(f"writing {temporary}"):
                self._held.make()
                file = os.fdopen(create_private(temporary), "wb")
            try:
                meta = self._fill(file, meta, chunks)
            finally:
                with suppress(OSError):  # what cannot be written now failed before, at the sync
                    file.close()
            self.adopt(temporary, meta)
        except BaseException:
            with suppress(OSError):  # then it is removed at the next opening
                temporary.unlink(missing_ok=True)
            raise
        return meta

    def _fill(self, file: BinaryIO, meta: SnapshotMeta, chunks: Iterable[bytes]) -> SnapshotMeta:
        size_bytes = crc = unsynced_bytes = 0
        doing = f"writing the snapshot of entries up to {meta.index}"
        description = Description(self._cluster_id, meta)
        with self._health.watching(doing):
            file.write(bytes(header_bytes(description)))
        for chunk in chunks:  # the caller's code: what it raises is not the disk's trouble
            with self._health.watching(doing):
                file.write(chunk)
                crc = zlib.crc32(chunk, crc)
                size_bytes += len(chunk)
                unsynced_bytes += len(chunk)
                if unsynced_bytes >= SYNC_EVERY_BYTES:
                    file.flush()
                    sync_file(file.fileno())
                    unsynced_bytes = 0
        meta = msgspec.structs.replace(meta, size_bytes=size_bytes, checksum=crc)
        with self._health.watching(doing):
            file.seek(0)
            file.write(encode_header(msgspec.structs.replace(description, meta=meta)))
            file.flush()
            sync_file(file.fileno())
        return meta

    def adopt(self, path: Path, meta: SnapshotMeta) -> None:
        """Give a complete, durable file its name; then remove what is too old."""
        with self.adopting(path, meta):
            pass

    @contextmanager
    def adopting(self, path: Path, meta: SnapshotMeta) -> Iterator[None]:
        """As `adopt`, after what is done within; what it takes is opened before that.

        Raises:
            DescriptorsExhausted: before anything was done within.
            StorageError: the disk failed. What is done within has errors of its own.
        """
        name = file_name(meta)
        self._health.check()
        with self._health.watching(f"renaming {path}"), self._held.syncing():
            yield
            with self._guard:
                os.rename(path, self.directory / name)
                self._known[name] = meta
        self.prune()

    def prune(self) -> None:
        """Remove all but the newest; damaged ones too, once there are enough newer ones.
        Without a descriptor to look with, that waits for the next time."""
        with self._guard:
            newest = sorted(self._known)[-KEPT:]
            if len(newest) < KEPT:
                return
            self._known = {name: self._known[name] for name in newest}
        with (
            suppress(DescriptorsExhausted),
            self._health.watching("removing old snapshots"),
        ):
            for name in filter(is_snapshot, self._held.names()):
                if name < newest[0]:
                    (self.directory / name).unlink(missing_ok=True)

    # -- reading ---------------------------------------------------------------------------

    def newest_index(self) -> LogIndex:
        """How far the snapshots reach; 0 without any."""
        with self._guard:
            return max((meta.index for meta in self._known.values()), default=0)

    def check_newest(self) -> None:
        """The log may forget what the newest snapshot stands for only as long as that is there.

        Raises:
            StorageError: its file was removed or moved; final.
        """
        with self._guard:
            newest = max(self._known, default=None)
        if newest is not None and not (self.directory / newest).exists():
            raise self._lost(self.directory / newest)

    def _lost(self, path: Path) -> StorageError:
        return self._health.fail(
            f"{path} is gone: it was removed or moved while this node had it. {BRING_BACK}"
        )

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        chunks = self._read(self._path(meta), meta)
        next(chunks)  # open it now: nobody has begun to restore anything if that cannot be done
        return chunks

    def _read(self, path: Path, meta: SnapshotMeta) -> Iterator[bytes]:
        """Nothing once it is open; then the content."""
        with self._opened(path, meta) as file:
            yield b""
            chunks = content_chunks(file, meta, str(path))
            while True:
                with self._health.watching(f"reading {path}"):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        path = self._path(meta)
        refusals.check_offset(offset)
        with self._opened(path, meta) as file, self._health.watching(f"reading {path}"):
            wanted = max(0, min(bytes_max, meta.size_bytes - offset))
            file.seek(offset, os.SEEK_CUR)
            data = file.read(wanted)
        if len(data) != wanted:
            raise CorruptStorage(
                f"{path} was cut: {wanted} bytes are wanted at {offset}, {len(data)} are there"
            )
        return data

    def _path(self, meta: SnapshotMeta) -> Path:
        if not self._is_known(meta):
            raise refusals.gone(meta)
        return self.directory / file_name(meta)

    def _is_known(self, meta: SnapshotMeta) -> bool:
        with self._guard:
            return self._known.get(file_name(meta)) == meta

    def _opened(self, path: Path, meta: SnapshotMeta) -> BinaryIO:
        """The file, at its content."""
        self._health.check()
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            if self._is_known(meta):  # nobody here removed it
                raise self._lost(path) from error
            raise refusals.gone(meta) from error
        except OSError as error:
            raise self._health.error(f"opening {path}", error) from error
        with ExitStack() as undo:
            undo.callback(file.close)
            with self._health.watching(f"reading {path}"):
                found = read_header(file, str(path)).description.meta
            if found != meta:
                raise refusals.gone(meta)
            undo.pop_all()
        return file
