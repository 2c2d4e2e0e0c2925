"""Loading: from the database to the log in memory, believing nothing.

Rules of this file:

* Everything is read through a connection that cannot write: a failed opening changes nothing,
  not even by moving SQLite's write-ahead log into the database.
* The structure (SQLite's own check, the schema, the settings), the identity, every CRC and the
  continuity of every record are checked before anything is believed (hazard V7).
"""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar, final
from urllib.parse import quote

import attrs
import msgspec

from ..core.errors import CorruptStorage, StorageError
from ..core.types import Entry, HardState, LogIndex, NodeId, Term
from .directory import KEEP_AND_REJOIN
from .health import describe
from .records import PAGE_BYTES, Row, damaged, from_row

FORMAT_VERSION = 1
"""Rises when an older trioraft could not read what a newer one wrote."""

SCHEMA = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, crc INTEGER, payload BLOB)",
    "records": "CREATE TABLE records (number INTEGER PRIMARY KEY, first_index INTEGER, "
    "last_index INTEGER, crc INTEGER, payload BLOB)",
}

_SELECT = (
    "SELECT number, first_index, last_index, crc, payload FROM records WHERE number >= ? "
    "ORDER BY number"
)

NOTICES = "notices"
"""The key under which a tool leaves what it did; few databases have it."""

T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Whose storage this is; written once."""

    cluster_id: str
    node_id: NodeId


class Base(msgspec.Struct, frozen=True, array_like=True):
    """Where the log begins."""

    index: LogIndex = 0
    term: Term = 0
    first_record: int = 1
    """Records before this one are compacted away, or about to be."""


@final
class RecordEnds:
    """Up to which index each record's surviving entries go: never decreasing.

    It finds the record that holds an entry, and the records that compaction may remove, without
    looking into the database; 8 bytes a record.
    """

    def __init__(self, first_record: int = 1) -> None:
        self.first_record = first_record
        self._ends = array("q")

    @property
    def last_record(self) -> int:
        """The number of the newest record."""
        return self.first_record + len(self._ends) - 1

    def add(self, first_index: LogIndex | None, last_index: LogIndex) -> None:
        """One more record, which cuts what it replaces."""
        ends = self._ends
        if first_index is not None and ends and ends[-1] >= first_index:
            position = len(ends) - 1
            while position >= 0 and ends[position] >= first_index:
                ends[position] = first_index - 1
                position -= 1
        ends.append(last_index)

    def holder(self, index: LogIndex) -> int:
        """The number of the record that holds the entry at `index`, which must be in the log."""
        return self.first_record + bisect_left(self._ends, index)

    def first_needed(self, base_index: LogIndex) -> int:
        """The first record that is still needed after compaction; the newest always is."""
        return min(self.first_record + bisect_right(self._ends, base_index), self.last_record)

    def forget_before(self, record: int) -> None:
        """The records before this one are gone."""
        del self._ends[: record - self.first_record]
        self.first_record = record


@attrs.frozen
class LoadedLog:
    """What the database holds."""

    hard_state: HardState
    base: Base
    entries: list[Entry]
    ends: RecordEnds
    notices: tuple[str, ...] = ()
    """What a tool did to this log, for the next node that opens it to say."""

    @property
    def last_index(self) -> LogIndex:
        """Index of the last entry."""
        return self.base.index + len(self.entries)

    def term_at(self, index: LogIndex) -> Term:
        """Term of an entry between the base and the end."""
        offset = index - self.base.index - 1
        return self.base.term if offset < 0 else self.entries[offset].term


def load(database: Path, identity: Identity) -> LoadedLog:
    """Read and check everything.

    Raises:
        StorageError: another node's or cluster's, of a newer format, or it cannot be read.
        CorruptStorage: it is not what was written.
    """
    with _reading(database) as connection:
        _check_settings(connection, database)
        _check_owner(connection, database, identity)
        findings = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if findings != ["ok"]:
            raise CorruptStorage(
                f"{database} is damaged: {'; '.join(map(str, findings))}. {KEEP_AND_REJOIN}"
            )
        base = read_meta(connection, database, "base", Base)
        notices = read_meta(connection, database, NOTICES, tuple[str, ...], missing=())
        # Closed at once: an unfinished statement would keep the connection and its files open.
        with closing(connection.execute(_SELECT, (base.first_record,))) as rows:
            return attrs.evolve(_replay(rows, database, base), notices=notices)


def read_owner(database: Path) -> Identity:
    """Whose database it is, when that is not known beforehand.

    Raises:
        StorageError: it cannot be read.
        CorruptStorage: it does not say, or it is not what was written.
    """
    with _reading(database) as connection:
        return read_meta(connection, database, "identity", Identity)


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes no file. It takes no lock; the directory's is held."""
    uri = f"file:{quote(str(database.absolute()))}?mode=ro&vfs=unix-none"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            # With a heap index instead of a shared one there is no -shm file.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA trusted_schema=OFF")
            yield connection
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM):
            raise StorageError(f"{database} cannot be read: {describe(error)}") from error
        raise CorruptStorage(f"{database}: {describe(error)}. {KEEP_AND_REJOIN}") from error


def _check_settings(connection: sqlite3.Connection, database: Path) -> None:
    settings = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "auto_vacuum", "encoding")
    ]
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL").fetchall()
    if settings != [PAGE_BYTES, 0, "UTF-8"] or dict(rows) != SCHEMA or len(rows) != len(SCHEMA):
        raise CorruptStorage(
            f"{database} is not a database of trioraft, or its description is damaged: page size, "
            f"auto_vacuum, encoding {settings}, tables {[row[0] for row in rows]}. "
            f"{KEEP_AND_REJOIN}"
        )


def _check_owner(connection: sqlite3.Connection, database: Path, identity: Identity) -> None:
    version = read_meta(connection, database, "format", int)
    if version > FORMAT_VERSION:
        raise StorageError(
            f"{database} has format {version}, written by a newer trioraft; this one knows up to "
            f"format {FORMAT_VERSION}. Upgrade; nothing was changed"
        )
    owner = read_meta(connection, database, "identity", Identity)
    if owner != identity:
        raise StorageError(
            f"{database} belongs to node {owner.node_id!r} of cluster {owner.cluster_id!r}, not to "
            f"node {identity.node_id!r} of cluster {identity.cluster_id!r}: give each node a "
            "directory of its own; nothing was changed"
        )


def _meta_crc(key: str, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(key.encode()))


def meta_row(key: str, value: object) -> tuple[str, int, bytes]:
    """The row of the meta table for a value."""
    payload = msgspec.msgpack.encode(value)
    return key, _meta_crc(key, payload), payload


def read_meta(
    connection: sqlite3.Connection,
    database: Path,
    key: str,
    kind: type[T],
    *,
    missing: T | None = None,
) -> T:
    """A value of the meta table.

    Args:
        connection: of the database.
        database: its file, for the message.
        key: which value.
        kind: its type.
        missing: what it is if there is none; None: there must be one.

    Raises:
        CorruptStorage: it is missing, or not what was written.
    """
    rows: list[Any] = connection.execute(
        "SELECT crc, payload FROM meta WHERE key = ?", (key,)
    ).fetchall()
    if not rows and missing is not None:
        return missing
    if len(rows) == 1:
        crc, payload = rows[0]
        if isinstance(payload, bytes) and crc == _meta_crc(key, payload):
            try:
                return msgspec.msgpack.decode(payload, type=kind)
            except msgspec.DecodeError:
                pass  # the same error as a wrong checksum, below
    raise CorruptStorage(
        f"{database}: the meta record {key!r} is missing or not what was written. {KEEP_AND_REJOIN}"
    )


def _replay(rows: Iterable[Row], database: Path, base: Base) -> LoadedLog:
    """Run through the records in order; each cuts what it replaces (hazard D3)."""
    file = str(database)
    ends = RecordEnds(base.first_record)
    entries: list[Entry] = []
    hard_state: HardState | None = None
    expected = base.first_record
    last_index = base_index = base.index
    for row in rows:
        if row[0] != expected:
            raise damaged(file, row, last_index, f"comes where number {expected} should be")
        expected += 1
        record = from_row(row, file, last_index)
        hard_state = record.hard_state
        first_index = record.first_index
        if first_index is not None:
            if first_index > last_index + 1:
                raise damaged(file, row, last_index, "leaves a gap")
            if first_index == last_index + 1 > base_index:
                entries.extend(record.entries)
            else:
                del entries[max(0, first_index - 1 - base_index) :]
                entries.extend(e for e in record.entries if e.index > base_index)
        last_index = row[2]
        ends.add(first_index, last_index)
    if hard_state is None:
        raise CorruptStorage(
            f"{file}: there is no record from number {base.first_record} on, so term and vote are "
            f"lost. {KEEP_AND_REJOIN}"
        )
    if last_index != base_index + len(entries):
        raise CorruptStorage(
            f"{file}: the log begins after entry {base_index} and ends at {last_index}, but has "
            f"{len(entries)} entries. {KEEP_AND_REJOIN}"
        )
    return LoadedLog(hard_state, base, entries, ends)
