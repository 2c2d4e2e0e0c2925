"""SharedDatabase: the logs of many groups in one SQLite database, one transaction for all who wait.

Rules of this file:

* Whoever has the turn writes for all who wait: one INSERT, one transaction, one fsync. Each write
  is in it as a whole; if it fails, it has failed for all of them. What can be refused without the
  disk is refused before it joins.
* Records of all groups stand in the order in which they were written: what many groups write at a
  time lies on few pages. (In a place for each group, 48 writes were 48 pages.) Each names the
  record of its group before it, and a group is read along these names, from its newest record
  back: a group that nobody has open costs one number.
* What says whose a record is has a checksum of its own. So a record whose content is damaged costs
  its group, and no other; where it is not known whose it was, nothing is opened.
* Compacted records are removed by passes over the table, a slice at a time, once there are more of
  them than of others: each page is written again a few times in its life, and not whenever any of
  the groups compacts.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import attrs
import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import CorruptStorage, DiskFull, ResourceExhausted, StorageError
from ..core.types import Count, LogIndex
from .directory import KEEP_AND_REPLACE, Directory
from .health import DISK_TROUBLE, Health
from .log_database import (
    SWEEP_BYTES_MAX,
    SWEEP_RECORDS_MAX,
    WAL_BYTES_MAX,
    Base,
    Owner,
    abandon,
    being_created,
    check_owner,
    check_settings,
    check_structure,
    meta_crc,
    meta_row,
    open_for_writing,
    read_meta,
    reading,
)
from .records import PAGE_BYTES, Row

SCHEMA: Final = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, crc INTEGER, payload BLOB)",
    "groups": "CREATE TABLE groups (id INTEGER PRIMARY KEY, crc INTEGER, payload BLOB)",
    "records": "CREATE TABLE records (number INTEGER PRIMARY KEY, group_id INTEGER, "
    "sequence INTEGER, previous INTEGER, first_index INTEGER, last_index INTEGER, "
    "link_crc INTEGER, crc INTEGER, payload BLOB)",
}

FORMAT: Final = 1
"""Of a database of many groups; a count of its own."""

TRANSACTION_BYTES_MAX: Final = 8 * 1024 * 1024
"""What would be beyond this many bytes is written next, and what is more by itself goes alone:
nobody waits long for others' bytes."""

INSERT_ROWS_MAX: Final = 256
"""So many rows go with one statement: for each statement Python's global lock is given away."""

COLUMNS: Final = 9
"""Of the table of records."""

_ROW: Final = f"({', '.join('?' * COLUMNS)})"

SWEEP_EVERY: Final = SWEEP_RECORDS_MAX // 2
"""After so many new records a slice of a pass is due, …"""

SWEEP_EVERY_BYTES: Final = SWEEP_BYTES_MAX // 2
"""… or after so many bytes in them: it goes twice as fast as the table grows, in either measure."""

SWEEP_DEAD_MIN: Final = 2 * SWEEP_RECORDS_MAX
SWEEP_DEAD_BYTES_MIN: Final = 4 * SWEEP_BYTES_MAX
"""A pass for fewer records is not worth it, unless there are more bytes in them."""

READ_RECORDS_MAX: Final = 512
"""Records of a group that are read at a time; the others' writes go between."""

FORGOTTEN: Final = 2**62
"""No record of a group comes so late: all of a forgotten group's are to be removed."""

ANY_TEXT: Final = partial(str, encoding="utf-8", errors="replace")
"""A payload that damage has made a text is one group's trouble, and no failure of the disk."""

_OPENINGS: Final = "openings"
_LAST_GROUP: Final = "last group"
"""The highest number that a group has had whose row is gone; few databases have it."""
_LINK: Final = struct.Struct("<7q")
_SET_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"
_SET_GROUP: Final = "INSERT OR REPLACE INTO groups VALUES (?, ?, ?)"
_SET_FIRST: Final = "INSERT OR REPLACE INTO temp.firsts VALUES (?, ?)"

GROUP_ROWS_SQL: Final = (
    "SELECT sequence, first_index, last_index, crc, payload FROM records "
    "WHERE group_id = ? AND sequence >= ? ORDER BY number"
)
"""All records of a group, where there is no link to go by yet; it reads the whole table."""

_SLICE: Final = """
SELECT max(number) FROM (
    SELECT number, sum(bytes) OVER (ORDER BY number) - bytes AS before FROM (
        SELECT number, length(payload) AS bytes FROM records WHERE number >= :begin
        ORDER BY number LIMIT :records_max
    )
) WHERE before < :bytes_max
"""

_SWEEP: Final = """
DELETE FROM records WHERE number BETWEEN ? AND ?
AND sequence < (SELECT first FROM temp.firsts WHERE id = group_id)
"""

_BACK: Final = """
WITH RECURSIVE chain(number, left) AS (
    VALUES (:newest, :records_max)
    UNION ALL
    SELECT records.previous, chain.left - 1 FROM chain JOIN records USING (number)
    WHERE records.sequence > :first AND chain.left > 1
)
SELECT number, previous, sequence, first_index, last_index, crc, payload
FROM chain JOIN records USING (number)
"""

REPLACE_GROUP: Final = (
    "Nothing was changed, and the other groups go on. Do not restore it from an older copy, which "
    "has forgotten what it acknowledged: SharedLog.forget(group), start the group with the empty "
    "storage, and give the new disk its vote (Node.replace). Look after the disk"
)
"""What to do about one damaged group."""

FullRow: TypeAlias = tuple[int, int, int, int, int | None, int, int, int, bytes]
"""As the table of records has it."""


class StoredGroup(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a group beside its records. Fields are only ever appended, with a default."""

    id: Count
    name: str
    owner: Owner
    base: Base
    identity: bytes | None = None
    is_forgotten: bool = False
    """Its records are to be removed; the number stays taken."""
    notices: tuple[str, ...] = ()
    """What a tool did to its log, for the next node that opens it to say."""


@attrs.define
class GroupState:
    """What is known of a group, open or not."""

    id: int
    name: str
    first: int
    """Records of a lower sequence are compacted."""
    newest: int = 0
    """The number of its newest record."""
    records: int = 0
    """How many there are that are not compacted."""
    size_bytes: int = 0
    """What is in those; about, once some were compacted: nobody looks at each for that."""
    problem: str | None = None
    """Why it cannot be opened."""
    is_open: bool = False

    @property
    def is_new(self) -> bool:
        """Whether nothing of it is stored."""
        return self.newest == 0 and self.problem is None


@attrs.define
class LoadedGroups:
    """What a database holds, but for what is in the records."""

    groups: dict[str, GroupState] = attrs.field(factory=dict)
    forgotten: list[int] = attrs.field(factory=list)
    """Groups whose rows are there still."""
    left_behind: set[int] = attrs.field(factory=set)
    """Those of them of which there are records, too."""
    last_group: int = 0
    last_number: int = 0
    dead: int = 0
    """Compacted records that are there still."""
    dead_bytes: int = 0
    openings: int = 0


def link_checksum(
    number: int,
    group_id: int,
    sequence: int,
    previous: int,
    first_index: LogIndex | None,
    last_index: LogIndex,
    crc: int,
) -> int:
    """CRC-32 of what says whose a record is, and where it stands."""
    first = -1 if first_index is None else first_index
    return zlib.crc32(_LINK.pack(number, group_id, sequence, previous, first, last_index, crc))


def group_row(group: StoredGroup) -> tuple[int, int, bytes]:
    """The row of a group."""
    _, crc, payload = meta_row(_key_of(group.id), group)
    return group.id, crc, payload


def _key_of(number: object) -> str:
    return f"group {number}"


def group_of(row: tuple[Any, Any, Any], database: Path) -> StoredGroup:
    """The group in a row, checked.

    Raises:
        CorruptStorage: it is not what was written.
    """
    number, crc, payload = row  # after damage they may be of any type
    group: StoredGroup | None = None
    if isinstance(payload, bytes) and crc == meta_crc(_key_of(number), payload):
        with suppress(*UNREADABLE):  # the same error as a wrong checksum, below
            group = msgspec.msgpack.decode(payload, type=StoredGroup)
    if group is None or group.id != number:
        raise CorruptStorage(
            f"{database}: the row of group number {number} is not what was written, and so it is "
            f"not known which group that was. {KEEP_AND_REPLACE}"
        )
    return group


def create_shared(path: Path, owner: Owner) -> None:
    """Create a database without a group, atomically: it is complete, or not there.

    Raises:
        OSError, sqlite3.Error: it is not there.
    """
    with being_created(path, SCHEMA) as connection:
        for key, value in (("format", FORMAT), ("owner", owner), (_OPENINGS, 0)):
            connection.execute(_SET_META, meta_row(key, value))


def load_shared(database: Path, owner: Owner) -> LoadedGroups:
    """Read and check everything, but for what only the content of a record can say: that is
    checked when its group is opened.

    Raises:
        StorageError: another node's or cluster's, of another format, or it cannot be read.
        CorruptStorage: it is not what was written, and it is not one group alone.
    """
    with reading(database) as connection:
        check_settings(connection, database, SCHEMA)
        check_shared_format(connection, database)
        check_owner(connection, database, owner)
        check_structure(connection, database)
        loaded = LoadedGroups(
            openings=read_meta(connection, database, _OPENINGS, int),
            last_group=read_meta(connection, database, _LAST_GROUP, int, missing=0),
        )
        by_id: dict[int, GroupState] = {}
        for group in stored_groups(connection, database):
            loaded.last_group = max(loaded.last_group, group.id)
            first = FORGOTTEN if group.is_forgotten else group.base.first_record
            by_id[group.id] = state = GroupState(group.id, group.name, first)
            if group.is_forgotten:
                loaded.forgotten.append(group.id)
            elif loaded.groups.setdefault(group.name, state) is not state:
                raise CorruptStorage(
                    f"{database}: there are two groups {group.name!r}. {KEEP_AND_REPLACE}"
                )
        scan(connection, database, by_id, loaded)
    return loaded


def check_shared_format(connection: sqlite3.Connection, database: Path) -> int:
    """Check that this release reads it.

    Raises:
        StorageError: it does not.
    """
    number = read_meta(connection, database, "format", int)
    if number != FORMAT:
        raise StorageError(
            f"{database} holds many groups in format {number}, written by a newer trioraft; this "
            f"one knows format {FORMAT}. Start the newer one again. Nothing was changed"
        )
    return number


def _raised(damage: CorruptStorage) -> None:
    raise damage


def stored_groups(
    connection: sqlite3.Connection,
    database: Path,
    on_damage: Callable[[CorruptStorage], None] = _raised,
) -> Iterator[StoredGroup]:
    """All groups, forgotten ones too, by their numbers.

    Args:
        connection: of the database.
        database: its file.
        on_damage: told of a row that is not what was written, which is left out then.

    Raises:
        CorruptStorage: at the first such row, unless somebody is told.
    """
    for row in connection.execute("SELECT id, crc, payload FROM groups ORDER BY id").fetchall():
        try:
            yield group_of(row, database)
        except CorruptStorage as damage:
            on_damage(damage)


def scan(
    connection: sqlite3.Connection,
    database: Path,
    by_id: dict[int, GroupState],
    loaded: LoadedGroups,
    on_damage: Callable[[CorruptStorage], None] = _raised,
) -> None:
    """Go once through the records of all groups, in the order in which they were written.

    Args:
        connection: of the database.
        database: its file.
        by_id: the groups, forgotten ones too.
        loaded: where it is noted what is found.
        on_damage: told of a record of which it is not known whose it is, which is left out then.

    Raises:
        CorruptStorage: at the first such record, unless somebody is told.
    """
    connection.text_factory = ANY_TEXT
    with closing(connection.execute("SELECT * FROM records ORDER BY number")) as rows:
        _scan(rows, database, by_id, loaded, on_damage)
    for state in loaded.groups.values():
        if state.problem is None and not state.records:
            state.problem = "has no record, so term and vote are lost"


def _scan(
    rows: Iterable[FullRow],
    database: Path,
    by_id: dict[int, GroupState],
    loaded: LoadedGroups,
    on_damage: Callable[[CorruptStorage], None],
) -> None:
    for row in rows:
        number, group_id, sequence, previous, first_index, last_index, link_crc, crc, payload = row
        try:
            link = link_checksum(number, group_id, sequence, previous, first_index, last_index, crc)
        except struct.error:  # after damage a column may be of any type
            link = None
        state = by_id.get(group_id)
        if link is None or link != link_crc or state is None:
            damage = CorruptStorage(
                f"{database}: what says whose record {number} is was changed after it was written "
                f"(group number {group_id}, entries {first_index} to {last_index} by its columns), "
                f"by a failing disk or by hand. {KEEP_AND_REPLACE}"
            )
            on_damage(damage)
            continue
        loaded.last_number = number
        size_bytes = len(payload) if isinstance(payload, bytes) else 0
        if sequence < state.first:
            loaded.dead += 1
            loaded.dead_bytes += size_bytes
            if state.first == FORGOTTEN:
                loaded.left_behind.add(group_id)
            continue
        expected = state.first + state.records
        is_next = sequence == expected and (not state.records or previous == state.newest)
        if not is_next and state.problem is None:
            state.problem = (
                f"misses a record: number {sequence} of it comes where {expected} should be"
            )
        elif state.problem is None and not _is_as_written(payload, crc):
            state.problem = (
                f"has a record, number {sequence} of it (entries {first_index} to {last_index}), "
                "that does not match its CRC-32: it was changed after it was written, by a "
                "failing disk or by hand"
            )
        state.newest = number
        state.records += 1
        state.size_bytes += size_bytes


def _is_as_written(payload: object, crc: int) -> bool:
    """Of a payload that after damage may be of any type."""
    return isinstance(payload, bytes) and zlib.crc32(payload) == crc


@cache
def _insert_sql(rows: int) -> str:
    return "INSERT INTO records VALUES " + ", ".join([_ROW] * rows)  # noqa: S608 - marks only


@attrs.define
class Job:
    """One group's part of a transaction."""

    state: GroupState
    rows: Sequence[Row] = ()
    """Sequence, first_index, last index, CRC-32, payload."""
    group: StoredGroup | None = None
    """What is to be kept of the group from now on; None: as before."""
    took: Callable[[], None] = attrs.field(default=lambda: None)
    """Called once it is durable, before anybody else has the turn."""
    is_done: bool = False
    error: BaseException | None = None

    @property
    def size_bytes(self) -> int:
        """What it writes, about."""
        return sum(len(row[4]) for row in self.rows) + 512


@final
class SharedDatabase:
    """An open database of many groups, for any number of threads."""

    def __init__(
        self, directory: Directory, loaded: LoadedGroups, health: Health, *, bytes_max: int | None
    ) -> None:
        """Lock and open the database whose content was loaded.

        Raises:
            StorageError: another program has it open, or it cannot be written.
        """
        self.groups: dict[str, GroupState] = loaded.groups
        self.health: Health = health
        self.transactions: int = 0
        """How many were made."""
        self._directory = directory
        self._path = directory.database
        self._guard = threading.Lock()  # of who waits; held for moments
        self._turn = threading.Lock()  # of everything else; held while the disk is written to
        self._waiting: list[Job] = []
        self._together = threading.local()
        self._last_group = loaded.last_group
        self._last_number = loaded.last_number
        self._dead, self._dead_bytes = loaded.dead, loaded.dead_bytes
        states = loaded.groups.values()
        self._live = sum(state.records for state in states)
        self._live_bytes = sum(state.size_bytes for state in states)
        self._openings = loaded.openings
        self._unswept = self._unswept_bytes = 0
        self._sweeps_from: int | None = None  # while a pass is on its way
        self._sweeps_to = 0
        self._gone: set[int] = set()  # forgotten groups that have no folder any more
        self._going: frozenset[int] = frozenset()  # those whose last records this pass removes
        self._wal_bytes = 0
        self._is_noted = False
        with health.watching("opening the database"):
            self._connection = open_for_writing(
                self._path, bytes_max, statements_max=2 * INSERT_ROWS_MAX
            )
            self._connection.text_factory = ANY_TEXT
            limit_of = self._connection.getlimit
            self._length_max = limit_of(sqlite3.SQLITE_LIMIT_LENGTH)
            variables_max = limit_of(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
            self._rows_max = min(INSERT_ROWS_MAX, variables_max // COLUMNS)
            self._connection.execute("CREATE TEMP TABLE firsts (id INTEGER PRIMARY KEY, first)")
            firsts = [(state.id, state.first) for state in loaded.groups.values()]
            firsts += [(forgotten, FORGOTTEN) for forgotten in loaded.forgotten]
            self._connection.executemany(_SET_FIRST, firsts)

    # -- writing ---------------------------------------------------------------------------

    def new_group(self) -> int:
        """A number that no group has had."""
        with self._guard:
            self._last_group += 1
            return self._last_group

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Refuse what SQLite would not store.

        Raises:
            StorageError: nothing is stored.
        """
        longest = max((len(row[4]) for row in rows), default=0)
        if longest > self._length_max - PAGE_BYTES:
            raise StorageError(
                f"an entry takes {longest} bytes, more than SQLite stores in one "
                f"({self._length_max}). Nothing is stored; lower Limits.command_bytes_max"
            )

    def write(self, job: Job) -> None:
        """Have this written, with whatever others write meanwhile; durable when it returns, or,
        within `write_together`, when that does.

        Raises:
            DiskFull: nothing of the transaction is stored; it may be tried again.
            StorageError: it is not known what of it is stored.
        """
        together: list[Job] | None = getattr(self._together, "jobs", None)
        if together is not None:
            together.append(job)
            return
        self._write([job])
        if job.error is not None:
            raise job.error

    def write_together(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        """Make these calls, each of which appends to another group, in this thread, and write all
        of it in one transaction.

        Returns:
            What became of each: None, or what it raised or would have raised.
        """
        outcomes: list[BaseException | None] = []
        jobs: list[Job | None] = []
        for call in calls:
            own: list[Job] = []
            self._together.jobs = own
            try:
                call()
            except Exception as error:  # noqa: BLE001 - it is told to whoever made the call
                outcomes.append(error)
            else:
                outcomes.append(None)
            finally:
                del self._together.jobs
            jobs.append(own[0] if own else None)
        self._write([job for job in jobs if job is not None])
        return [
            outcome if job is None or outcome is not None else job.error
            for outcome, job in zip(outcomes, jobs, strict=True)
        ]

    def _write(self, jobs: Sequence[Job]) -> None:
        with self._guard:
            self._waiting += jobs
        with self._turn:
            while not all(job.is_done for job in jobs):
                self._write_some()

    def _write_some(self) -> None:
        """Write what waits, as much as goes into one transaction."""
        with self._guard:
            waiting = self._waiting
            taken, size_bytes = 1, waiting[0].size_bytes
            while taken < len(waiting):
                size_bytes += waiting[taken].size_bytes
                if size_bytes > TRANSACTION_BYTES_MAX:
                    break
                taken += 1
            jobs, self._waiting = waiting[:taken], waiting[taken:]
        self._try(jobs)
        if len(jobs) > 1 and isinstance(jobs[0].error, DiskFull):
            for job in jobs:  # what is too much for the disk holds up nobody else
                self._try([job])
        if self._is_sweep_due:
            self._sweep_slice()

    def _try(self, jobs: Sequence[Job]) -> None:
        """Write these in one transaction, or tell each of them why not."""
        error: StorageError | None = None
        try:
            self._commit(jobs)
        except StorageError as failed:
            error = failed
        except BaseException as broken:
            # Out of memory, or Ctrl-C. A transaction may be open still: what others wrote next
            # would be in it, and be acknowledged without ever being committed.
            error = self.health.broken_off("appending to the log", broken)
            raise
        finally:
            for job in jobs:
                job.is_done = True
                # One object for each: each is raised in a thread of its own.
                job.error = None if error is None else _copy_of(error)

    def _commit(self, jobs: Sequence[Job]) -> None:
        self.health.check()
        self._directory.check_before_write()
        if self._wal_bytes > WAL_BYTES_MAX:
            self._checkpoint()
        rows = self._rows(jobs)
        groups = [job.group for job in jobs if job.group is not None]
        try:
            self._insert(rows, groups)
        except DISK_TROUBLE as error:
            trouble = self._failed(error)
            if not isinstance(trouble, DiskFull):
                raise trouble from error
            self._make_room()
            try:
                self._insert(rows, groups)
            except DISK_TROUBLE as again:
                raise self._failed(again) from again
        self.transactions += 1
        self._note()
        self._directory.check()
        self._took(jobs, rows)

    def _insert(self, rows: Sequence[FullRow], groups: Sequence[StoredGroup]) -> None:
        """One transaction. A single statement is one, and gives Python's global lock away once."""
        connection = self._connection
        if not groups and len(rows) <= self._rows_max:
            self._insert_rows(rows)
            return
        connection.execute("BEGIN IMMEDIATE")
        for start in range(0, len(rows), self._rows_max):
            self._insert_rows(rows[start : start + self._rows_max])
        connection.executemany(_SET_GROUP, [group_row(group) for group in groups])
        connection.executemany(_SET_FIRST, [(group.id, first_of(group)) for group in groups])
        connection.execute("COMMIT")

    def _insert_rows(self, rows: Sequence[FullRow]) -> None:
        values = [value for row in rows for value in row]
        self._connection.execute(_insert_sql(len(rows)), values)

    def _rows(self, jobs: Sequence[Job]) -> list[FullRow]:
        """The rows of all jobs, with their numbers. No group has two jobs at a time."""
        rows: list[FullRow] = []
        number = self._last_number
        for job in jobs:
            previous, group_id = job.state.newest, job.state.id
            for sequence, first_index, last_index, crc, payload in job.rows:
                number += 1
                link = (number, group_id, sequence, previous, first_index, last_index)
                rows.append((*link, link_checksum(*link, crc), crc, payload))
                previous = number
        return rows

    def _took(self, jobs: Sequence[Job], rows: Sequence[FullRow]) -> None:
        number = self._last_number
        for job in jobs:
            number += len(job.rows)
            state = job.state
            if job.rows:
                added_bytes = sum(len(row[4]) for row in job.rows)
                state.newest = number
                state.records += len(job.rows)
                state.size_bytes += added_bytes
                self._live += len(job.rows)
                self._live_bytes += added_bytes
            if job.group is not None and first_of(job.group) > state.first:
                self._compacted(state, first_of(job.group))
            job.took()
        self._last_number = number
        payload_bytes = sum(len(row[8]) for row in rows)
        self._unswept += len(rows)
        self._unswept_bytes += payload_bytes
        pages = 2 + sum(job.group is not None for job in jobs)
        self._wal_bytes += payload_bytes + 96 * len(rows) + pages * PAGE_BYTES

    def _compacted(self, state: GroupState, first: int) -> None:
        """All records of a group before this one are to be removed."""
        gone = min(state.records, first - state.first)
        gone_bytes = state.size_bytes * gone // state.records if gone else 0
        state.first = first
        state.records -= gone
        state.size_bytes -= gone_bytes
        self._live -= gone
        self._live_bytes -= gone_bytes
        self._dead += gone
        self._dead_bytes += gone_bytes

    def _failed(self, error: sqlite3.Error | OSError | OverflowError) -> StorageError:
        connection = self._connection
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error as again:
                return self.health.error("rolling back", again)
        return self.health.error("appending to the log", error)

    def _note(self) -> None:
        """Write down, once, that the next one to open it will miss the write-ahead log if it is
        gone. Something must be in there before, or it would be missed without reason."""
        if self._is_noted:
            return
        try:
            self._directory.note("open")
        except ResourceExhausted:
            return  # then the next write tries again
        self._is_noted = True

    def write_probe(self) -> None:
        """Write what changes nothing: proof that writing works, and from now on there is something
        in the write-ahead log. Without room the first write does that."""
        try:
            with self.health.watching("writing to the database"):
                self._connection.execute(_SET_META, meta_row(_OPENINGS, self._openings + 1))
        except ResourceExhausted:
            return
        self._wal_bytes += 2 * PAGE_BYTES
        self._note()

    # -- room ------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        """Copy the write-ahead log into the database, so that it starts over."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except DISK_TROUBLE as error:
            trouble = self.health.error("copying the write-ahead log into the database", error)
            if not isinstance(trouble, ResourceExhausted):
                raise trouble from error
            # The writes that brought us here are durable; the log just stays longer for now.
        self._wal_bytes = 0

    @property
    def _is_sweep_due(self) -> bool:
        has_grown = self._unswept >= SWEEP_EVERY or self._unswept_bytes >= SWEEP_EVERY_BYTES
        if not has_grown or self.health.has_failed:
            return False
        is_mostly_dead = self._dead > max(self._live, SWEEP_DEAD_MIN) or (
            self._dead_bytes > max(self._live_bytes, SWEEP_DEAD_BYTES_MIN)
        )
        if self._sweeps_from is None and is_mostly_dead:
            self._begin_pass()
        if self._sweeps_from is None:
            self._unswept = self._unswept_bytes = 0
        return self._sweeps_from is not None

    def _begin_pass(self) -> None:
        # It ends where the table does now: it would never catch up with what is written meanwhile.
        self._sweeps_from, self._sweeps_to = 0, self._last_number
        self._going = frozenset(self._gone)

    def _sweep_slice(self) -> None:
        """Go on with a pass: remove what is compacted in the next slice of the table. Trouble with
        the disk is for those who write next."""
        begin = self._sweeps_from or 0
        limits = {
            "begin": begin,
            "records_max": SWEEP_RECORDS_MAX,
            "bytes_max": SWEEP_BYTES_MAX,
        }
        self._unswept = self._unswept_bytes = 0
        try:
            (end,) = self._connection.execute(_SLICE, limits).fetchone()
            if end is None:
                self._sweeps_from = None
                return
            removed = self._connection.execute(_SWEEP, (begin, end)).rowcount
        except DISK_TROUBLE as error:
            self.health.error("removing compacted records", error)
            self._sweeps_from = None
            return
        self._sweeps_from = end + 1 if end < self._sweeps_to else None
        if removed:
            self._dead_bytes -= self._dead_bytes * removed // self._dead
        self._dead -= removed
        self._wal_bytes += removed * 96 + 4 * PAGE_BYTES
        if self._sweeps_from is None:
            self._remove_groups(self._going)

    def forget_folder_of(self, group_id: int) -> None:
        """Of a forgotten group nothing is left but records: its row goes after those."""
        with self._turn:
            self._gone.add(group_id)

    def remove_groups(self, group_ids: Collection[int]) -> None:
        """Remove the rows of forgotten groups that have neither folder nor records. Trouble with
        the disk is for those who write next."""
        with self._turn:
            self._remove_groups(group_ids)

    def _remove_groups(self, group_ids: Collection[int]) -> None:
        if not group_ids or self.health.has_failed:
            return
        connection, rows = self._connection, [(group_id,) for group_id in group_ids]
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM groups WHERE id = ?", rows)
            connection.executemany("DELETE FROM temp.firsts WHERE id = ?", rows)
            # No number is ever given to two groups.
            connection.execute(_SET_META, meta_row(_LAST_GROUP, self._last_group))
            connection.execute("COMMIT")
        except DISK_TROUBLE as error:
            self._failed(error)
            return
        except BaseException as broken:
            self.health.broken_off("removing the rows of forgotten groups", broken)
            raise
        self._gone.difference_update(group_ids)
        self._wal_bytes += (2 + len(rows)) * PAGE_BYTES

    def _make_room(self) -> None:
        """The disk is full: what is compacted goes now, and the write-ahead log is used again."""
        self._checkpoint()
        if self._dead:
            self._begin_pass()
        while self._sweeps_from is not None and not self.health.has_failed:
            self._sweep_slice()

    # -- reading ---------------------------------------------------------------------------

    def stored_group(self, state: GroupState) -> StoredGroup:
        """What is kept of a group.

        Raises:
            CorruptStorage: it is not what was written.
        """
        with self._turn, self.health.watching("reading a group"):
            row = self._connection.execute(
                "SELECT id, crc, payload FROM groups WHERE id = ?", (state.id,)
            ).fetchone()
        if row is None:
            raise CorruptStorage(
                f"{self._path}: the row of group {state.name!r} is gone. {KEEP_AND_REPLACE}"
            )
        return group_of(row, self._path)

    def records_of(self, state: GroupState) -> tuple[list[Row], array[int]]:
        """A group's records, the oldest first, and their numbers.

        Raises:
            CorruptStorage: one is missing.
        """
        rows: list[Row] = []
        numbers = array("q")
        newest = state.newest
        while len(rows) < state.records:
            limits = {"newest": newest, "first": state.first, "records_max": READ_RECORDS_MAX}
            with self._turn, self.health.watching("reading the log of a group"):
                found = self._connection.execute(_BACK, limits).fetchall()
            if not found:
                break
            found.sort(key=lambda row: row[0], reverse=True)
            rows += [row[2:] for row in found]
            numbers.extend(row[0] for row in found)
            newest = found[-1][1]
        if len(rows) != state.records:
            raise CorruptStorage(
                f"{self._path}: group {state.name!r} has {len(rows)} records where "
                f"{state.records} were. {REPLACE_GROUP}"
            )
        rows.reverse()
        numbers.reverse()
        return rows, numbers

    def record(self, number: int) -> Row | None:
        """One record, by its number."""
        with self._turn, self.health.watching("reading the log"):
            row: Row | None = self._connection.execute(
                "SELECT sequence, first_index, last_index, crc, payload FROM records "
                "WHERE number = ?",
                (number,),
            ).fetchone()
        return row

    # -- life ------------------------------------------------------------------------------

    def check(self) -> None:
        """Look whether the files are in the directory; see `Directory.check`."""
        with self._turn:
            self._directory.check()

    def wait(self) -> None:
        """Wait until what is being written is written; nothing is begun once `health` refuses."""
        with self._turn:
            pass

    def close(self) -> None:
        """Copy the write-ahead log into the database, and let go."""
        with self._turn, self.health.watching("closing the database"):
            self._connection.close()

    def abandon(self) -> None:
        """Never close it; see `abandon`."""
        abandon(self._connection)


def _copy_of(error: StorageError) -> StorageError:
    copy = type(error)(*error.args)
    copy.__cause__ = error
    return copy


def first_of(group: StoredGroup) -> int:
    """The sequence of the first record that is not compacted."""
    return FORGOTTEN if group.is_forgotten else group.base.first_record
