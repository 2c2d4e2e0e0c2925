"""LogDatabase: the log and the hard state in SQLite, written one transaction an append.

Rules of this file:

* An append is one INSERT in autocommit: one transaction, one fsync, and Python's global lock is
  given away once. (BEGIN, INSERT, COMMIT were measured up to 3 times slower beside a busy Trio
  thread.)
* `synchronous=FULL`: when an append returns, it is durable.
* SQLite never copies the write-ahead log into the database by itself, because it would ignore a
  failing fsync there (hazard D5); it is done here, and errors count.
* What compaction removes goes in slices, so that no append waits long for it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import final

from ..core.errors import CorruptStorage, DiskFull, StorageError
from ..core.types import Entry, HardState, LogIndex, Term
from .directory import BEING_CREATED, KEEP_AND_REJOIN, sync_directory, sync_file
from .health import DISK_TROUBLE, Health, describe
from .log_loading import (
    FORMAT_VERSION,
    NOTICES,
    SCHEMA,
    Base,
    Identity,
    LoadedLog,
    meta_row,
)
from .records import (
    PAGE_BYTES,
    RECORD_BYTES_MAX,
    Row,
    StoredWrite,
    from_row,
    to_rows,
)

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


def create_database(path: Path, identity: Identity) -> None:
    """Create the database of a new node, atomically: it is complete, or not there.

    Raises:
        OSError, sqlite3.Error: it is not there.
    """
    draft = path.with_name(BEING_CREATED)
    for leftover in (draft, draft.with_name(f"{BEING_CREATED}-journal")):
        leftover.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN")
        for statement in SCHEMA.values():
            connection.execute(statement)
        for key, value in (("format", FORMAT_VERSION), ("identity", identity), ("base", Base())):
            connection.execute(_SET_META, meta_row(key, value))
        # The hard state is never missing: a record that says "new" is there from the start.
        connection.executemany(_INSERT, to_rows(StoredWrite(1, HardState(), None, ()), 0))
        connection.execute("COMMIT")
    descriptor = os.open(draft, os.O_RDWR)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)
    os.rename(draft, path)
    sync_directory(path.parent)


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
        self.last_index = loaded.last_index
        self.base = loaded.base
        self._path = path
        self._health = health
        self._hard_state = loaded.hard_state
        self._ends = loaded.ends
        self._notices = loaded.notices
        self._wal_bytes = 0
        self._is_swept = False
        with health.watching("opening the database"):
            connection = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._set_up(connection, bytes_max)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        self._length_max = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)

    def _set_up(self, connection: sqlite3.Connection, bytes_max: int | None) -> None:
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
            ):
                execute(f"PRAGMA {setting}")
            if bytes_max is not None:
                execute(f"PRAGMA max_page_count={max(1, bytes_max // PAGE_BYTES)}")
            execute("BEGIN IMMEDIATE")  # takes the lock, which then stays
            execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise StorageError(
                    f"another program has {self._path} open: {describe(error)}. Close it there"
                ) from error
            raise

    # -- the hot path ----------------------------------------------------------------------

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        *,
        notices: tuple[str, ...] | None = None,
    ) -> None:
        """See `Storage.append`.

        Args:
            hard_state: as there.
            entries: as there.
            replace_from: as there.
            notices: what the next opening shall say, in the same transaction; None: as before.
        """
        record = StoredWrite(
            self._ends.last_record + 1,
            self._hard_state if hard_state is None else hard_state,
            replace_from,
            tuple(entries),
        )
        rows = list(to_rows(record, self.last_index))
        connection = self._connection
        try:
            if notices is None and len(rows) == 1 and len(rows[0][4]) <= RECORD_BYTES_MAX:
                connection.execute(_INSERT, rows[0])
            else:
                self._append_many(connection, rows, notices)
        except DISK_TROUBLE as error:
            if connection.in_transaction:
                self._roll_back(connection)
            trouble = self._health.error("appending to the log", error)
            if isinstance(trouble, DiskFull):
                self._checkpoint()  # what room there is in the write-ahead log can be used again
            raise trouble from error
        self._hard_state = record.hard_state
        if notices is not None:
            self._notices = notices
        self._took(rows)
        if self._wal_bytes > WAL_BYTES_MAX:
            self._checkpoint()

    def _append_many(
        self,
        connection: sqlite3.Connection,
        rows: Sequence[Row],
        notices: tuple[str, ...] | None,
    ) -> None:
        """Several rows, or one of unusual length, or notices too, in one transaction."""
        longest = max(len(row[4]) for row in rows)
        if longest > self._length_max - PAGE_BYTES:
            raise StorageError(
                f"an entry takes {longest} bytes, more than SQLite stores in one "
                f"({self._length_max}). Nothing is stored; lower Limits.command_bytes_max"
            )
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, rows)
        if notices is not None:
            connection.execute(_SET_META, meta_row(NOTICES, notices))
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
            if not isinstance(trouble, DiskFull):
                raise trouble from error
            # The write that brought us here is durable; the log just stays longer for now.
        self._wal_bytes = 0

    @property
    def notices(self) -> tuple[str, ...]:
        """What a tool did, and no node has said yet."""
        return self._notices

    # -- compaction and snapshots ----------------------------------------------------------

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """Move the base, and remove some of the records that stand before it."""
        first_record = self._ends.first_needed(base_index)
        base = Base(base_index, base_term, first_record)
        with self._health.watching("compacting the log"):
            self._connection.execute(_SET_META, meta_row("base", base))
        self._based_on(base)
        self._checkpoint()

    def start_over(self, base_index: LogIndex, base_term: Term) -> None:
        """Empty the log; it goes on after a base that it never held."""
        first_record = self._ends.last_record + 1
        base = Base(base_index, base_term, first_record)
        rows = list(to_rows(StoredWrite(first_record, self._hard_state, None, ()), base_index))
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, rows)
            connection.execute(_SET_META, meta_row("base", base))
            connection.execute("COMMIT")
        except DISK_TROUBLE as error:
            if connection.in_transaction:
                self._roll_back(connection)
            raise self._health.error("starting the log over", error) from error
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
            raise CorruptStorage(f"{self._path}: record {number} is gone. {KEEP_AND_REJOIN}")
        record = from_row(row, str(self._path), index)
        return record.entries[index - record.entries[0].index].term

    # -- life ------------------------------------------------------------------------------

    def make_a_mark(self) -> bool:
        """Write a record that changes nothing: proof that writing works, and from now on there
        is something in the write-ahead log. False if there is no room."""
        try:
            self.append(None, (), None)
        except DiskFull:
            return False
        return True

    def close(self) -> None:
        """Copy the write-ahead log into the database, and let go."""
        with self._health.watching("closing the database"):
            self._connection.close()
