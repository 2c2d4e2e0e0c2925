"""LogDatabase: the log and the hard state in SQLite, written one transaction an append.

Rules of this file:

* An append is one INSERT in autocommit: one transaction, one fsync, and Python's global lock is
  given away once. (BEGIN, INSERT, COMMIT were measured up to 3 times slower beside a busy Trio
  thread.) `synchronous=FULL`: when it returns, it is durable.
* SQLite never copies the write-ahead log into the database by itself, because it would ignore a
  failing fsync there (hazard D5); it is done here, and errors count.
* Loading believes nothing: the structure (SQLite's own check, the schema, the settings), the
  owner, every CRC and the continuity of every record are checked (hazard V7), through a
  connection that cannot write, so that a failed opening changes nothing.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, final
from urllib.parse import quote

import attrs
import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import CorruptStorage, ResourceExhausted, StorageError
from ..core.types import Count, Entry, HardState, LogIndex, NodeId, Term
from . import formats
from .directory import (
    BEING_CREATED,
    CREATION_LEFTOVERS,
    KEEP_AND_REPLACE,
    create_private,
    sync_directory,
    sync_file,
)
from .health import DISK_TROUBLE, Health, describe, is_out_of_descriptors, out_of_descriptors
from .records import PAGE_BYTES, RECORD_BYTES_MAX, Row, StoredWrite, damaged, from_row, to_rows

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

MetaRow: TypeAlias = tuple[str, int, bytes]
"""Key, CRC-32 of key and payload, payload in msgpack."""

T = TypeVar("T")


class Owner(msgspec.Struct, frozen=True, array_like=True):
    """Whose storage this is; written once."""

    cluster_id: str
    node_id: NodeId


class StoredIdentity(msgspec.Struct, frozen=True, array_like=True):
    """What the node keeps of whose disk this is, opaque here. The row is there from the start, so
    that a lost one is noticed."""

    data: bytes | None = None


class Base(msgspec.Struct, frozen=True, array_like=True):
    """Where the log begins."""

    index: LogIndex = 0
    term: Term = 0
    first_record: Count = 1
    """Records before this one are compacted away, or about to be."""


@final
class RecordEnds:
    """Up to which index each record's surviving entries go: never decreasing.

    It finds the record that holds an entry, and the records that compaction may remove, without
    looking into the database; 8 bytes a record.
    """

    def __init__(self, first_record: int = 1) -> None:
        self.first_record: int = first_record
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
    identity: bytes | None = None
    """As it was stored last; None: never."""
    format: int = formats.OLDEST
    """What may be in it (`formats`)."""

    @property
    def last_index(self) -> LogIndex:
        """Index of the last entry."""
        return self.base.index + len(self.entries)

    def term_at(self, index: LogIndex) -> Term:
        """Term of an entry between the base and the end."""
        offset = index - self.base.index - 1
        return self.base.term if offset < 0 else self.entries[offset].term


def load(database: Path, owner: Owner) -> LoadedLog:
    """Read and check everything.

    Raises:
        StorageError: another node's or cluster's, of another format, or it cannot be read.
        CorruptStorage: it is not what was written.
    """
    with reading(database) as connection:
        check_settings(connection, database, SCHEMA)
        number = _check_format(connection, database)
        check_owner(connection, database, owner)
        check_structure(connection, database)
        base = read_meta(connection, database, "base", Base)
        notices = read_meta(connection, database, NOTICES, tuple[str, ...], missing=())
        identity = read_meta(connection, database, "identity", StoredIdentity)
        # Closed at once: an unfinished statement would keep the connection and its files open.
        with closing(connection.execute(_SELECT, (base.first_record,))) as rows:
            return attrs.evolve(
                replay(rows, database, base),
                notices=notices,
                identity=identity.data,
                format=number,
            )


def read_owner(database: Path, schema: Mapping[str, str] = SCHEMA) -> Owner:
    """Whose database it is, when that is not known beforehand.

    Args:
        database: its file.
        schema: of what kind it is; by default, the log of one node.

    Raises:
        StorageError: it is of another kind or format, or cannot be read.
        CorruptStorage: it does not say, or it is not what was written.
    """
    with reading(database) as connection:
        check_settings(connection, database, schema)
        if schema is SCHEMA:
            _check_format(connection, database)
        return read_meta(connection, database, "owner", Owner)


def is_shared(connection: sqlite3.Connection) -> bool:
    """Whether a database holds the logs of many groups."""
    query = "SELECT count(*) FROM sqlite_schema WHERE name = 'groups'"
    return bool(connection.execute(query).fetchone()[0])


def read_identity(database: Path) -> bytes | None:
    """What it keeps of whose disk it is, without reading the log.

    Raises:
        As `read_owner`.
    """
    with reading(database) as connection:
        _check_format(connection, database)
        return read_meta(connection, database, "identity", StoredIdentity).data


@contextmanager
def reading(database: Path, *, has_no_wal: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection that changes no file. It takes no lock; the directory's is held.

    Args:
        database: the main file.
        has_no_wal: there is nothing in a write-ahead log: then it can be read where not even an
            empty one could be made.
    """
    immutable = "&immutable=1" if has_no_wal else ""
    uri = f"file:{quote(str(database.absolute()))}?mode=ro&vfs=unix-none{immutable}"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            # With a heap index instead of a shared one there is no -shm file.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA trusted_schema=OFF")
            yield connection
    except sqlite3.Error as error:
        if is_out_of_descriptors(error):
            raise out_of_descriptors("reading the log", database, error) from error
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM):
            raise StorageError(f"{database} cannot be read: {describe(error)}") from error
        raise CorruptStorage(f"{database}: {describe(error)}. {KEEP_AND_REPLACE}") from error
    except UnicodeError as error:  # SQLite quotes what is damaged, and that is no text any more
        raise CorruptStorage(f"{database} is damaged: {error}. {KEEP_AND_REPLACE}") from error


def check_settings(
    connection: sqlite3.Connection, database: Path, schema: Mapping[str, str]
) -> None:
    """Check that a database has these tables, and the settings of all of ours.

    Raises:
        StorageError: it is a database of ours, of another kind.
        CorruptStorage: it is damaged, or not ours.
    """
    settings = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "auto_vacuum", "encoding")
    ]
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL").fetchall()
    tables = dict(rows)
    if "meta" in tables and ("groups" in tables) != ("groups" in schema):
        here = "the logs of many groups: open it with SharedLog"
        if "groups" in schema:
            here = "the log of one node: open it with SQLiteStorage"
        raise StorageError(f"{database} holds {here}. Nothing was changed")
    if settings != [PAGE_BYTES, 0, "UTF-8"] or tables != schema or len(rows) != len(schema):
        raise CorruptStorage(
            f"{database} is not a database of trioraft, or its description is damaged: page size, "
            f"auto_vacuum, encoding {settings}, tables {[row[0] for row in rows]}. "
            f"{KEEP_AND_REPLACE}"
        )


def check_structure(connection: sqlite3.Connection, database: Path) -> None:
    """Have SQLite check its own structure.

    Raises:
        CorruptStorage: it is damaged.
    """
    findings = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if findings != ["ok"]:
        raise CorruptStorage(
            f"{database} is damaged: {'; '.join(map(str, findings))}. {KEEP_AND_REPLACE}"
        )


def _check_format(connection: sqlite3.Connection, database: Path) -> int:
    number = read_meta(connection, database, "format", int)
    formats.check(database, number)
    return number


def check_owner(connection: sqlite3.Connection, database: Path, owner: Owner) -> None:
    """Check whose database it is.

    Raises:
        StorageError: it is somebody else's.
    """
    found = read_meta(connection, database, "owner", Owner)
    if found != owner:
        raise StorageError(
            f"{database} belongs to node {found.node_id!r} of cluster {found.cluster_id!r}, not to "
            f"node {owner.node_id!r} of cluster {owner.cluster_id!r}: give each node a "
            "directory of its own; nothing was changed"
        )


def meta_crc(key: str, payload: bytes) -> int:
    """CRC-32 of a row of the meta table."""
    return zlib.crc32(payload, zlib.crc32(key.encode()))


def meta_row(key: str, value: object) -> MetaRow:
    """The row of the meta table for a value."""
    payload = msgspec.msgpack.encode(value)
    return key, meta_crc(key, payload), payload


def _identity_rows(identity: bytes | None) -> list[MetaRow]:
    return [] if identity is None else [meta_row("identity", StoredIdentity(identity))]


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
        if isinstance(payload, bytes) and crc == meta_crc(key, payload):
            try:
                return msgspec.msgpack.decode(payload, type=kind)
            except UNREADABLE:
                pass  # the same error as a wrong checksum, below
    raise CorruptStorage(
        f"{database}: the meta record {key!r} is missing or not what was written. "
        f"{KEEP_AND_REPLACE}"
    )


def replay(rows: Iterable[Row], database: Path, base: Base) -> LoadedLog:
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
            f"lost. {KEEP_AND_REPLACE}"
        )
    if last_index != base_index + len(entries):
        raise CorruptStorage(
            f"{file}: the log begins after entry {base_index} and ends at {last_index}, but has "
            f"{len(entries)} entries. {KEEP_AND_REPLACE}"
        )
    return LoadedLog(hard_state, base, entries, ends)


WAL_BYTES_MAX = 4 * 1024 * 1024
"""How long the write-ahead log grows before it is copied into the database. Copying 4 MiB takes
about 8 ms, once in a thousand appends of one entry; 16 MiB take 25 ms and save nothing."""

SWEEP_RECORDS_MAX = 2048
"""Compacted records removed at a time, about 5 ms, …"""

SWEEP_BYTES_MAX = 8 * 1024 * 1024
"""… and the bytes in them, about 5 ms too."""

_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?)"
_SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"

# The window sum keeps the walk over records inside SQLite: each row that Python fetches would
# give away the global lock and fight for it.
_SWEEP = """
DELETE FROM records WHERE number <= (
    SELECT max(number) FROM (
        SELECT number, sum(bytes) OVER (ORDER BY number) - bytes AS before FROM (
            SELECT number, length(payload) AS bytes FROM records WHERE number < :first
            ORDER BY number LIMIT :records_max
        )
    ) WHERE before < :bytes_max
)
"""


@attrs.frozen
class Beginning:
    """What a new node's database begins with; by default, with nothing."""

    base: Base = attrs.field(factory=Base)
    hard_state: HardState = attrs.field(factory=HardState)
    identity: bytes | None = None
    notices: tuple[str, ...] = ()
    format: int = formats.OLDEST


def create_database(path: Path, owner: Owner, beginning: Beginning | None = None) -> None:
    """Create the database of a new node, atomically: it is complete, or not there.

    Args:
        path: of the database.
        owner: whose it is.
        beginning: what it begins with, if a snapshot stands for it.

    Raises:
        OSError, sqlite3.Error: it is not there.
    """
    begins = Beginning() if beginning is None else beginning
    with being_created(path, SCHEMA) as connection:
        for key, value in (
            ("format", begins.format),
            ("owner", owner),
            ("identity", StoredIdentity(begins.identity)),
            ("base", begins.base),
            *([(NOTICES, begins.notices)] if begins.notices else []),
        ):
            connection.execute(_SET_META, meta_row(key, value))
        # The hard state is never missing: a record that says "new" is there from the start.
        first = StoredWrite(1, begins.hard_state, None, ())
        connection.executemany(_INSERT, to_rows(first, begins.base.index))


@contextmanager
def being_created(path: Path, schema: Mapping[str, str]) -> Iterator[sqlite3.Connection]:
    """A connection within one transaction to a new database, which is there, durably, when this
    ends without an error.

    Args:
        path: of the database.
        schema: its tables, by name.

    Raises:
        OSError, sqlite3.Error: it is not there.
    """
    draft = path.with_name(BEING_CREATED)
    for leftover in CREATION_LEFTOVERS:
        path.with_name(leftover).unlink(missing_ok=True)
    os.close(create_private(draft))  # SQLite gives its other files the mode of this one
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN")
        for statement in schema.values():
            connection.execute(statement)
        yield connection
        connection.execute("COMMIT")
    descriptor = os.open(draft, os.O_RDWR)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)
    os.rename(draft, path)
    sync_directory(path.parent)


def open_for_writing(
    path: Path, bytes_max: int | None, *, statements_max: int = 128
) -> sqlite3.Connection:
    """Lock a database that was checked, and open it.

    Args:
        path: of the database.
        bytes_max: how long it may become, in bytes; None: as long as the disk lets it.
        statements_max: how many statements stay prepared.

    Raises:
        StorageError: another program has it open.
        OSError, sqlite3.Error: it cannot be written.
    """
    connection = sqlite3.connect(
        path,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=statements_max,
    )
    try:
        _set_up(connection, path, bytes_max)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, path: Path, bytes_max: int | None) -> None:
    execute = connection.execute
    try:
        execute("PRAGMA locking_mode=EXCLUSIVE")
        execute("PRAGMA journal_mode=WAL")
        for setting in (
            "synchronous=FULL",
            "fullfsync=ON",
            "checkpoint_fullfsync=ON",
            "wal_autocheckpoint=0",
            "secure_delete=OFF",
            "trusted_schema=OFF",
            "cache_size=-8192",
            "temp_store=MEMORY",  # so that nothing is ever opened after this (hazard G5)
        ):
            execute(f"PRAGMA {setting}")
        if bytes_max is not None:
            execute(f"PRAGMA max_page_count={max(1, bytes_max // PAGE_BYTES)}")
        execute("BEGIN IMMEDIATE")  # takes the lock, which then stays
        execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise StorageError(
                f"another program has {path} open: {describe(error)}. Close it there"
            ) from error
        raise


def abandon(connection: sqlite3.Connection) -> None:
    """Never close it, not even when Python ends: SQLite would copy the write-ahead log into the
    database and remove it by its name, and that file is somebody else's by now."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


@final
class LogDatabase:
    """An open database. One call at a time; the calls may come from different threads."""

    def __init__(
        self, path: Path, loaded: LoadedLog, health: Health, *, bytes_max: int | None
    ) -> None:
        """Lock and open the database whose content was loaded.

        Raises:
            StorageError: another program has it open, or it cannot be written.
        """
        self.last_index: LogIndex = loaded.last_index
        self.base: Base = loaded.base
        self._path = path
        self._health = health
        self._hard_state = loaded.hard_state
        self._ends = loaded.ends
        self._notices = loaded.notices
        self._format = loaded.format
        self._wal_bytes = 0
        self._is_swept = False
        with health.watching("opening the database"):
            connection = open_for_writing(path, bytes_max)
        self._connection = connection
        self._length_max = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)

    # -- the hot path ----------------------------------------------------------------------

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
        *,
        notices: tuple[str, ...] | None = None,
    ) -> None:
        """See `Storage.append`.

        Args:
            hard_state: as there.
            entries: as there.
            replace_from: as there.
            identity: as there.
            notices: what the next opening shall say, in the same transaction; None: as before.
        """
        if self.is_checkpoint_due:
            self._checkpoint()
        record = StoredWrite(
            self._ends.last_record + 1,
            self._hard_state if hard_state is None else hard_state,
            replace_from,
            tuple(entries),
        )
        rows = list(to_rows(record, self.last_index))
        metas = [] if notices is None else [meta_row(NOTICES, notices)]
        metas += _identity_rows(identity)
        connection = self._connection
        needed = self._format if self._format == formats.NEWEST else formats.needed_for(entries)
        try:
            metas += self._migrated_to(needed)
            if not metas and len(rows) == 1 and len(rows[0][4]) <= RECORD_BYTES_MAX:
                connection.execute(_INSERT, rows[0])
            else:
                self._append_many(connection, rows, metas)
        except DISK_TROUBLE as error:
            if connection.in_transaction:
                self._roll_back(connection)
            trouble = self._health.error("appending to the log", error)
            if isinstance(trouble, ResourceExhausted):
                self._checkpoint()  # what room there is in the write-ahead log can be used again
            raise trouble from error
        except StorageError:
            raise  # nothing was begun
        except BaseException as broken:
            self._health.broken_off("appending to the log", broken)
            raise
        self._hard_state = record.hard_state
        self._format = max(self._format, needed)
        if notices is not None:
            self._notices = notices
        self._took(rows)

    def _migrated_to(self, needed: int) -> list[MetaRow]:
        """The row by which the database has a later format from the transaction on in which it is
        written; of the one before, there is a copy by then. Empty: nothing is needed."""
        if needed <= self._format:
            return []
        formats.keep_copy(self._connection, self._path, self._format)
        return [meta_row("format", needed)]

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the next `append` first copies the write-ahead log into the database."""
        return self._wal_bytes > WAL_BYTES_MAX

    def _append_many(
        self,
        connection: sqlite3.Connection,
        rows: Sequence[Row],
        metas: Sequence[MetaRow],
    ) -> None:
        """Several rows, or one of unusual length, or rows of meta too, in one transaction."""
        longest = max(len(row[4]) for row in rows)
        if longest > self._length_max - PAGE_BYTES:
            raise StorageError(
                f"an entry takes {longest} bytes, more than SQLite stores in one "
                f"({self._length_max}). Nothing is stored; lower Limits.command_bytes_max"
            )
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, rows)
        connection.executemany(_SET_META, metas)
        connection.execute("COMMIT")

    def _took(self, rows: Sequence[Row]) -> None:
        for _, first_index, last_index, _, payload in rows:
            self._ends.add(first_index, last_index)
            self.last_index = last_index
            self._wal_bytes += len(payload) + 2 * PAGE_BYTES

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._health.error("rolling back", error) from error

    def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database, so that it starts over."""
        try:
            if not self._is_swept:
                self._sweep()
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except DISK_TROUBLE as error:
            trouble = self._health.error("copying the write-ahead log into the database", error)
            if not isinstance(trouble, ResourceExhausted):
                raise trouble from error
            # The write that brought us here is durable; the log just stays longer for now.
        self._wal_bytes = 0

    @property
    def notices(self) -> tuple[str, ...]:
        """What a tool did, and no node has said yet."""
        return self._notices

    # -- compaction and snapshots ----------------------------------------------------------

    def compact(
        self,
        base_index: LogIndex,
        base_term: Term,
        identity: bytes | None = None,
        needed: int = formats.OLDEST,
    ) -> None:
        """Move the base, and remove some of the records that stand before it. The snapshot that
        stands for them may need a later format."""
        first_record = self._ends.first_needed(base_index)
        base = Base(base_index, base_term, first_record)
        self._rebase(base, (), identity, needed, "compacting the log")

    def start_over(
        self,
        base_index: LogIndex,
        base_term: Term,
        identity: bytes | None = None,
        needed: int = formats.OLDEST,
    ) -> None:
        """Empty the log; it goes on after a base that it never held. As `compact`."""
        first_record = self._ends.last_record + 1
        rows = list(to_rows(StoredWrite(first_record, self._hard_state, None, ()), base_index))
        base = Base(base_index, base_term, first_record)
        self._rebase(base, rows, identity, needed, "starting the log over")

    def _rebase(
        self, base: Base, rows: Sequence[Row], identity: bytes | None, needed: int, doing: str
    ) -> None:
        connection = self._connection
        try:
            metas = [meta_row("base", base), *_identity_rows(identity), *self._migrated_to(needed)]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            connection.executemany(_SET_META, metas)
            connection.execute("COMMIT")
        except DISK_TROUBLE as error:
            if connection.in_transaction:
                self._roll_back(connection)
            raise self._health.error(doing, error) from error
        except StorageError:
            raise  # nothing was begun
        except BaseException as broken:
            self._health.broken_off(doing, broken)
            raise
        self._format = max(self._format, needed)
        self._took(rows)
        self._based_on(base)
        self._checkpoint()

    def _based_on(self, base: Base) -> None:
        self.base = base
        self._ends.forget_before(base.first_record)
        self._is_swept = False

    def _sweep(self) -> None:
        """Remove a slice of the compacted records; the rest goes at later checkpoints."""
        cursor = self._connection.execute(
            _SWEEP,
            {
                "first": self.base.first_record,
                "records_max": SWEEP_RECORDS_MAX,
                "bytes_max": SWEEP_BYTES_MAX,
            },
        )
        self._is_swept = cursor.rowcount == 0

    def term_at(self, index: LogIndex) -> Term | None:
        """Term of the entry at `index`; None if it is not in the log.

        Raises:
            CorruptStorage: its record is not what was written.
        """
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last_index:
            return None
        number = self._ends.holder(index)
        with self._health.watching("reading the log"):
            row: Row | None = self._connection.execute(
                "SELECT number, first_index, last_index, crc, payload FROM records "
                "WHERE number = ?",
                (number,),
            ).fetchone()
        if row is None:
            raise CorruptStorage(f"{self._path}: record {number} is gone. {KEEP_AND_REPLACE}")
        record = from_row(row, str(self._path), index)
        return record.entries[index - record.entries[0].index].term

    # -- life ------------------------------------------------------------------------------

    def write_probe(self) -> bool:
        """Write a record that changes nothing: proof that writing works, and from now on there
        is something in the write-ahead log. False if there is no room."""
        try:
            self.append(None, (), None)
        except ResourceExhausted:
            return False
        return True

    def close(self) -> None:
        """Copy the write-ahead log into the database, and let go."""
        with self._health.watching("closing the database"):
            self._connection.close()

    def abandon(self) -> None:
        """Never close it; see `abandon`."""
        abandon(self._connection)
