"""What stands in a backup file, and how it proves itself, front to back and in one pass.

Rules of this file:

* Magic, format number and head come first, then the content of a snapshot in blocks, then an end.
  Nothing follows. A file without its end is a half one, whatever else is right about it.
* Each block bears the CRC-32 of all content up to its own end: what is lost, added, changed or in
  another order is noticed at that block, and its offset is told.
* The head says beforehand what the content must amount to, as the server knew it from its disk: so
  nothing on the way is trusted, and a length is compared with a bound before it is allocated.
* Fields are only ever appended, with a default; what an old reader would misread needs another
  format number.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, Final, Protocol, final

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import RaftError
from ..core.types import Count, LogIndex, NodeId, SnapshotMeta, Term

MAGIC: Final = b"trioraft backup\n"
FORMAT_VERSION: Final = 1
BLOCK_BYTES_MAX: Final = 1024 * 1024
"""Longest block that is read; those that are written have a quarter of it at most."""
_HEAD_BYTES_MAX: Final = 1024 * 1024
_FIXED: Final = struct.Struct(">16sHII")
"""Magic, format version, bytes of the head, CRC-32 of the head."""
_BLOCK: Final = struct.Struct(">II")
"""Bytes of the block, CRC-32 of all content up to its end. Of the end: 0, and that of its body."""
_LENGTH: Final = struct.Struct(">I")
_END_BYTES_MAX: Final = 4096


class UnusableBackup(RaftError):  # noqa: N818 - what is wrong with it
    """A file is no backup, or half of one, or damaged, or written by a newer release.

    Fault: of whatever cut or changed it; the caller's, if it is something else.
    Remedy: take another backup; `trioraft restore FILE --verify` says of each whether it is whole.
    """


Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class EndedHistory(msgspec.Struct, frozen=True, array_like=True):
    """A history that the one in the backup was recovered or restored from, and where it ended."""

    uuid: str
    index: LogIndex
    term: Term


class BackupHead(msgspec.Struct, frozen=True, array_like=True):
    """What a backup is of."""

    cluster_id: str
    node_id: NodeId
    """Of the server that it was taken from."""
    uuid: str | None
    """The history that the state belongs to."""
    snapshot: SnapshotMeta
    """Index and term of the last entry in it, the members then, and what the content amounts to."""
    term: Term
    """The latest that the server knew."""
    taken_s: Seconds
    """When, by the server's clock, in seconds since the epoch: what was acknowledged before is in
    it, unless `is_stale`."""
    machine: str
    """Of which kind the state machine is; see `member.state_machine.kind_of`."""
    is_stale: bool = False
    """Whether the server had not asked a majority what is committed."""
    ancestors: tuple[EndedHistory, ...] = ()
    written_by: str = ""
    """The release."""


class _End(msgspec.Struct, frozen=True, array_like=True):
    size_bytes: Count
    checksum: Count
    blocks: Count


_encode = msgspec.msgpack.Encoder().encode
_heads = msgspec.msgpack.Decoder(BackupHead)
_ends = msgspec.msgpack.Decoder(_End)


def encode_head(head: BackupHead) -> bytes:
    """As it stands in a message."""
    return _encode(head)


def decode_head(data: bytes) -> BackupHead:
    """What `encode_head` made.

    Raises:
        UnusableBackup: it is none.
    """
    try:
        return _heads.decode(data)
    except UNREADABLE as error:
        raise UnusableBackup(f"the head of the backup cannot be read: {error}") from error


class BackupSink(Protocol):
    """Where a backup is written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of these bytes, as a binary file does; what it returns is not looked at."""


class BackupSource(Protocol):
    """Where a backup is read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, as a binary file does; none at the end."""


@final
class BackupWriter:
    """Writes a backup: the head at once, then its content, and at last its end.

    Args:
        sink: where to.
        head: what it is of.
    """

    def __init__(self, sink: BackupSink, head: BackupHead) -> None:
        self._sink = sink
        self._meta = head.snapshot
        self._blocks = 0
        self._crc = 0
        self.content_bytes: int = 0
        """Bytes of content so far."""
        body = _encode(head)
        sink.write(_FIXED.pack(MAGIC, FORMAT_VERSION, len(body), zlib.crc32(body)) + body)

    def add(self, chunk: bytes) -> None:
        """The next piece of the content; an empty one is left out.

        Raises:
            UnusableBackup: it is more than the head says.
        """
        if self.content_bytes + len(chunk) > self._meta.size_bytes:
            raise self._other(self.content_bytes + len(chunk))
        for start in range(0, len(chunk), BLOCK_BYTES_MAX):
            block = chunk[start : start + BLOCK_BYTES_MAX]
            self._crc = zlib.crc32(block, self._crc)
            self._sink.write(_BLOCK.pack(len(block), self._crc))
            self._sink.write(block)
            self._blocks += 1
            self.content_bytes += len(block)

    def end(self) -> None:
        """All of the content is there.

        Raises:
            UnusableBackup: it is not what the head says; the file stays a half one.
        """
        if (self.content_bytes, self._crc) != (self._meta.size_bytes, self._meta.checksum):
            raise self._other(self.content_bytes)
        body = _encode(_End(self.content_bytes, self._crc, self._blocks))
        self._sink.write(_BLOCK.pack(0, zlib.crc32(body)) + _LENGTH.pack(len(body)) + body)

    def _other(self, came_bytes: int) -> UnusableBackup:
        return UnusableBackup(
            f"what came is not the backup that was announced: {came_bytes} of "
            f"{self._meta.size_bytes} bytes, CRC-32 {self._crc:08x} instead of "
            f"{self._meta.checksum:08x}. It is not whole; take another one"
        )


@final
class BackupReader:
    """Reads a backup, and believes nothing of it.

    Args:
        source: read from its present position, forward only: a pipe will do.
        name: in errors.

    Raises:
        UnusableBackup: it has no head that can be read.
    """

    def __init__(self, source: BackupSource, name: str) -> None:
        self._source = source
        self._name = name
        self.offset: int = 0
        """Bytes of the file that were read."""
        self.content_bytes: int = 0
        """Of them, of the content."""
        self.is_whole: bool = False
        """All of it was read, and is right."""
        self.format_version: int = FORMAT_VERSION
        self.head: BackupHead = self._read_head()
        """What it is of."""

    def chunks(self) -> Iterator[bytes]:
        """The content, each piece checked before it is handed out; whoever uses it must reach the
        end, which says that it is all.

        Raises:
            UnusableBackup: it is cut or damaged, or something follows it; at the offset that it
                tells.
        """
        meta, crc, blocks = self.head.snapshot, 0, 0
        while True:
            begins_at = self.offset
            length, told = _BLOCK.unpack(self._exactly(_BLOCK.size, "a block"))
            if length == 0:
                break
            if length > BLOCK_BYTES_MAX or self.content_bytes + length > meta.size_bytes:
                raise self._damaged(begins_at, f"a block of {length} bytes is too long")
            block = self._exactly(length, "a block")
            crc = zlib.crc32(block, crc)
            if crc != told:
                raise self._damaged(
                    begins_at, f"its CRC-32 is {crc:08x} and should be {told:08x} there"
                )
            self.content_bytes += length
            blocks += 1
            yield block
        self._check_end(begins_at, told, _End(self.content_bytes, crc, blocks))
        self.is_whole = True

    def _check_end(self, begins_at: int, told: int, read: _End) -> None:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, "its end"))
        if length > _END_BYTES_MAX:
            raise self._damaged(begins_at, "its end is damaged")
        body = self._exactly(length, "its end")
        try:
            end = _ends.decode(body)
        except UNREADABLE as error:
            raise self._damaged(begins_at, f"its end cannot be read: {error}") from error
        meta = self.head.snapshot
        is_announced = (read.size_bytes, read.checksum) == (meta.size_bytes, meta.checksum)
        if zlib.crc32(body) != told or end != read or not is_announced:
            raise self._damaged(
                begins_at,
                f"it ends after {read.size_bytes} bytes of content with CRC-32 "
                f"{read.checksum:08x}, and its head says {meta.size_bytes} bytes with "
                f"{meta.checksum:08x}",
            )
        if self._source.read(1):
            raise self._damaged(self.offset, "something follows its end")

    def _read_head(self) -> BackupHead:
        fixed = self._up_to(_FIXED.size)
        if not fixed:
            raise UnusableBackup(f"{self._name} is empty: it is no backup")
        if not fixed.startswith(MAGIC[: len(fixed)]):
            raise UnusableBackup(
                f"{self._name} is no backup of trioraft: it begins with {fixed[:16]!r}"
            )
        if len(fixed) < _FIXED.size:
            raise self._cut(len(fixed), "its head")
        self.offset = len(fixed)
        _, version, length, told = _FIXED.unpack(fixed)
        if version > FORMAT_VERSION:
            raise UnusableBackup(
                f"{self._name} has backup format {version}, written by a newer trioraft; this one "
                f"reads up to format {FORMAT_VERSION}. Upgrade, and restore it then"
            )
        if length > _HEAD_BYTES_MAX or version < 1:
            raise self._damaged(0, f"its head cannot be: format {version}, {length} bytes")
        self.format_version = version
        body = self._exactly(length, "its head")
        if zlib.crc32(body) != told:
            raise self._damaged(0, "its head does not match its CRC-32")
        return decode_head(body)

    def _exactly(self, size_bytes: int, what: str) -> bytes:
        data = self._up_to(size_bytes)
        self.offset += len(data)
        if len(data) < size_bytes:
            raise self._cut(self.offset, what)
        return data

    def _up_to(self, size_bytes: int) -> bytes:
        """So many bytes, or all that there are: a pipe gives what it has."""
        data = self._source.read(size_bytes)
        while 0 < len(data) < size_bytes:
            more = self._source.read(size_bytes - len(data))
            if not more:
                break
            data += more
        return data

    def _cut(self, offset: int, what: str) -> UnusableBackup:
        return UnusableBackup(
            f"{self._name} is half a backup: it was cut after {offset} bytes, within {what}. It "
            "cannot be restored; take the one before, or another one"
        )

    def _damaged(self, offset: int, what: str) -> UnusableBackup:
        return UnusableBackup(
            f"{self._name} is damaged at byte {offset}: {what}. It was changed after it was "
            "written; it cannot be restored, take another one"
        )
