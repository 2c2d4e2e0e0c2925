"""What a snapshot's file looks like: a header that describes it, then the content.

Rules of this file:

* The header has its own CRC-32, and the content another, which stands in the header's meta.
* The header's length depends on the configuration only: a snapshot that is being written gets
  room for it first, and the header itself when size and checksum are known.
* The same format serves a snapshot that is being received: its header is complete from the start.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import attrs
import msgspec

from ..core.errors import CorruptStorage, StorageError
from ..core.types import SnapshotMeta

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
    except msgspec.DecodeError as error:
        raise CorruptStorage(f"{name}: the header cannot be decoded: {error}") from error
    return SnapshotHeader(description, total)
