"""Records: how appends stand in the database, one row each, and how each row proves itself.

Rules of this file:

* One append is one record, and one row: its entries, the index they replace from, and the whole
  hard state. A single INSERT is therefore atomic, and a truncation costs nothing extra: replayed
  in order, a record cuts what it replaces. (A row for each entry was measured 6 to 10 times
  slower at 1000 entries, and it takes Python's global lock once a row.)
* Records are numbered without a gap, and only a prefix is ever removed: a lost record is noticed,
  and what was truncated never comes back (hazard D3).
* The CRC-32 covers everything, the number included. What was not written is `CorruptStorage`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import CorruptStorage
from ..core.types import Entry, HardState, LogIndex
from .directory import KEEP_AND_REPLACE

PAGE_BYTES = 8192
"""The database's page. Measured: 4096 copies more pages, 32768 writes more for one entry."""

RECORD_BYTES_MAX = 64 * 1024 * 1024
"""Appends whose entries take more are several records, in one transaction (hazard D6)."""

_CRC_SLICE_BYTES = 5 * 1024
"""zlib gives Python's global lock away for anything longer, and to get it back from a busy
thread takes 5 ms; a slice takes 2 µs."""


class StoredWrite(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one append wrote. Fields are only ever appended, with a default."""

    number: int
    hard_state: HardState
    first_index: LogIndex | None
    """The entries replace everything from here on; None: the log stays as it is."""
    entries: tuple[Entry, ...]


Row: TypeAlias = tuple[int, int | None, int, int, bytes]
"""Number, first_index, last index of the log after it, CRC-32, Record in msgpack."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredWrite)


def checksum(data: bytes) -> int:
    """CRC-32, without giving the global lock away half way."""
    if len(data) <= _CRC_SLICE_BYTES:
        return zlib.crc32(data)
    view = memoryview(data)
    crc = 0
    for start in range(0, len(data), _CRC_SLICE_BYTES):
        crc = zlib.crc32(view[start : start + _CRC_SLICE_BYTES], crc)
    return crc


def to_rows(record: StoredWrite, last_index: LogIndex) -> Iterator[Row]:
    """The row for a record; more than one if it is too long for one.

    Args:
        record: what is appended; further rows take the numbers after its own.
        last_index: of the log before it.
    """
    number = record.number
    waiting = [record]
    while waiting:
        part = waiting.pop()
        if part.number != number:
            part = msgspec.structs.replace(part, number=number)
        payload = _encoder.encode(part)
        entries = part.entries
        if len(payload) > RECORD_BYTES_MAX and len(entries) > 1:
            half = len(entries) // 2
            rest = StoredWrite(0, part.hard_state, entries[half].index, entries[half:])
            waiting += [rest, msgspec.structs.replace(part, entries=entries[:half])]
            continue
        if part.first_index is not None:
            last_index = part.first_index + len(entries) - 1
        yield number, part.first_index, last_index, checksum(payload), payload
        number += 1


def from_row(row: Row, file: str, previous_index: LogIndex) -> StoredWrite:
    """The record in a row, checked.

    Args:
        row: as it was read.
        file: named in errors.
        previous_index: last index of the log before it, for errors.

    Raises:
        CorruptStorage: it is not what was written.
    """
    number, first_index, last_index, crc, payload = row
    # The columns may be of any type after damage, whatever the annotation says.
    if isinstance(payload, bytes) and zlib.crc32(payload) == crc:
        try:
            record = _decoder.decode(payload)
        except UNREADABLE as error:
            raise damaged(file, row, previous_index, f"cannot be decoded: {error}") from error
        entries = record.entries
        if record.first_index != first_index or record.number != number:
            fits = False
        elif entries:
            fits = last_index == entries[-1].index == entries[0].index + len(entries) - 1
            fits = fits and entries[0].index == first_index
        else:
            fits = last_index == (previous_index if first_index is None else first_index - 1)
        if fits:
            return record
        raise damaged(file, row, previous_index, "says something else than its columns")
    raise damaged(file, row, previous_index, "does not match its CRC-32")


def damaged(file: str, row: Row, previous_index: LogIndex, what: str) -> CorruptStorage:
    """The error for a record that is not what was written."""
    first_index, last_index = row[1], row[2]
    return CorruptStorage(
        f"{file}: record {row[0]} (entries {first_index} to {last_index} by its columns; the "
        f"record before it ends at {previous_index}) {what}: it was changed after it was "
        f"written, by a failing disk or by hand. {KEEP_AND_REPLACE}"
    )
