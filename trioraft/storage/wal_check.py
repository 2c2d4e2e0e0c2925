"""Whether the files of the database are whole, before SQLite looks at them.

Rules of this file:

* Nothing here writes, and nothing here is needed after a clean close.
* SQLite ends its recovery of the write-ahead log at the first frame that is not right, and says
  nothing. After a crash that is right for the last transaction, which was being written. But if
  a *later* transaction is there, the bad one had been durable, and acknowledged: cutting it off
  would lose entries and votes in silence. Here that is `CorruptStorage`.
* A database file that was cut short is noticed here: SQLite would miss only what it reads.

The format is described in SQLite's "Database File Format", sections 1.3 and 4.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path

import attrs

from ..core.errors import CorruptStorage
from .directory import KEEP_AND_REPLACE
from .records import PAGE_BYTES

_DATABASE_HEADER_BYTES = 100
_DATABASE_MAGIC = b"SQLite format 3\0"
_SETTINGS = struct.pack(">H6B", PAGE_BYTES, 2, 2, 0, 64, 32, 32)
"""Page size, written and read with a write-ahead log, no reserved bytes, three constants."""
_WAL_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_WAL_MAGIC = 0x377F0682
"""The lowest bit says whether checksums are of big-endian words."""
_MASK = 0xFFFFFFFF


@attrs.frozen
class WholeFrames:
    """What a write-ahead log holds in complete, committed transactions."""

    has_frames: bool = False
    """There is at least one frame, complete or not, of this round or an older one. The file is
    written from its beginning again after it was copied into the database; a crash right then
    leaves no complete transaction, and loses none."""
    pages: frozenset[int] = frozenset()
    """The database pages that are in it."""
    database_pages: int | None = None
    """How long the last of the transactions left the database, in pages."""


def check_database_files(database: Path, write_ahead_log: Path, *, was_left_open: bool) -> None:
    """Refuse files that were cut or damaged where SQLite would not say so.

    Args:
        database: the main file.
        write_ahead_log: the file beside it; it may be missing.
        was_left_open: the last holder died. Then it left a write-ahead log.

    Raises:
        CorruptStorage: names the file, and what is wrong.
        OSError: a file cannot be read.
    """
    frames = _read_write_ahead_log(write_ahead_log)
    if was_left_open and not frames.has_frames:
        raise CorruptStorage(
            f"{write_ahead_log} is missing or cut, but the storage was not closed when it was last "
            f"used, so the newest writes are in that file. Bring it back. {KEEP_AND_REPLACE}"
        )
    size_bytes = database.stat().st_size
    with database.open("rb") as file:
        header = file.read(_DATABASE_HEADER_BYTES)
    if len(header) < _DATABASE_HEADER_BYTES:
        raise CorruptStorage(
            f"{database} is {size_bytes} bytes long: it was cut. {KEEP_AND_REPLACE}"
        )
    if 1 in frames.pages and frames.database_pages is not None:
        # A crash while page 1 was being copied from the write-ahead log is no damage.
        page_count = frames.database_pages
    else:
        page_count = _page_count(database, header)
    here = size_bytes // PAGE_BYTES
    # Counted, not listed: a damaged header may claim billions of pages.
    missing = page_count - here - sum(here < page <= page_count for page in frames.pages)
    if missing > 0:
        raise CorruptStorage(
            f"{database} is {size_bytes} bytes long and should be {page_count * PAGE_BYTES}: it "
            f"was cut ({missing} pages are missing). {KEEP_AND_REPLACE}"
        )


def _page_count(database: Path, header: bytes) -> int:
    if not header.startswith(_DATABASE_MAGIC):
        raise CorruptStorage(
            f"{database} is not an SQLite database: it begins with {header[:16]!r}. "
            f"{KEEP_AND_REPLACE}"
        )
    if header[16:24] != _SETTINGS:
        raise CorruptStorage(
            f"{database}: the header is damaged, or another program made this database: page size "
            f"and format are {header[16:24].hex()} instead of {_SETTINGS.hex()}. {KEEP_AND_REPLACE}"
        )
    changes, count = struct.unpack_from(">2I", header, 24)
    valid_for = struct.unpack_from(">I", header, 92)[0]
    if changes != valid_for:
        raise CorruptStorage(
            f"{database}: the header contradicts itself (change counter {changes}, and "
            f"{valid_for} where it is repeated). {KEEP_AND_REPLACE}"
        )
    return int(count)


def _read_write_ahead_log(path: Path) -> WholeFrames:
    """The transactions that SQLite will recover; CorruptStorage if it would miss one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return WholeFrames()
    if len(content) <= _WAL_HEADER.size + _FRAME_HEADER.size:
        return WholeFrames()  # no frame: it had just been created
    magic, _, page_bytes, _, salt_1, salt_2, sum_0, sum_1 = _WAL_HEADER.unpack_from(content)
    swap = (magic & 1 == 1) != (sys.byteorder == "big")
    sums = _checksum(content[:24], (0, 0), swap)
    if magic & ~1 != _WAL_MAGIC or sums != (sum_0, sum_1):
        raise CorruptStorage(
            f"{path}: the header is damaged, so SQLite would ignore the newest writes. "
            f"{KEEP_AND_REPLACE}"
        )
    frame_bytes = _FRAME_HEADER.size + page_bytes
    whole = True
    pages: set[int] = set()
    unfinished: set[int] = set()
    database_pages: int | None = None
    first_bad = 0
    lost_commit = False
    for start in range(_WAL_HEADER.size, len(content) - frame_bytes + 1, frame_bytes):
        page, commits, *salts_and_sums = _FRAME_HEADER.unpack_from(content, start)
        is_of_this_round = salts_and_sums[:2] == [salt_1, salt_2]
        # Neither salt of an older round fits, so one that fits is a trace of a damaged frame.
        has_a_trace = salts_and_sums[0] == salt_1 or salts_and_sums[1] == salt_2
        if whole:
            sums = _checksum(content[start : start + 8], sums, swap)
            body = start + _FRAME_HEADER.size
            sums = _checksum(content[body : body + page_bytes], sums, swap)
            whole = is_of_this_round and sums == tuple(salts_and_sums[2:])
            first_bad = start
        if whole:
            unfinished.add(page)
            if commits:
                pages |= unfinished
                unfinished.clear()
                database_pages = commits
        elif has_a_trace:
            if lost_commit:
                raise CorruptStorage(
                    f"{path}: the frame at byte {first_bad} is damaged, and transactions that "
                    "were committed after it are still there: SQLite would cut off all of them. "
                    f"{KEEP_AND_REPLACE}"
                )
            lost_commit = bool(commits)
    return WholeFrames(True, frozenset(pages), database_pages)


def _checksum(data: bytes, sums: tuple[int, int], swap: bool) -> tuple[int, int]:
    """SQLite's running checksum over 32-bit words, two at a time."""
    words = array("I", data)
    if swap:
        words.byteswap()
    first, second = sums
    pairs = iter(words)
    for even, odd in zip(pairs, pairs, strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
