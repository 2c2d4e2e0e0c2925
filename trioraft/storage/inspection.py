"""A stopped node's directory, as it is: for people who want to know, and not for going on.

Rules of this file:

* Nothing is written: files are opened for reading, the lock is shared, and SQLite keeps the index
  of its write-ahead log in memory. So a copy, or a disk that can only be read, will do.
* What is damaged does not hide the rest: it is noted, with its place, and the reading goes on. What
  is shown of the log is what was written; entries that cannot be believed are left out.
* Records go by one at a time: a log takes as much memory as what is asked of it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

import attrs

from ..core.errors import BadMessage, CorruptStorage, EntryAltered, StorageError
from ..core.features import check_intact
from ..core.reconfiguration import CONFIGURATIONS, configuration_of
from ..core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    SnapshotMeta,
)
from . import formats
from .directory import DATABASE, LOCK, WRITE_AHEAD_LOG, describe_holder, lock_for_reading
from .health import describe
from .log_database import NOTICES, Base, Owner, StoredIdentity, is_shared, read_meta, reading
from .received_snapshot import RECEIVED
from .records import Row, from_row
from .shared import folder_of
from .shared_database import (
    GROUP_ROWS_SQL,
    GroupState,
    LoadedGroups,
    check_shared_format,
    first_of,
    scan,
    stored_groups,
)
from .snapshot_files import content_chunks, is_snapshot, read_header
from .wal_check import check_database_files

T = TypeVar("T")

ROWS_SQL: Final = (
    "SELECT number, first_index, last_index, crc, payload FROM records WHERE number >= ? "
    "ORDER BY number"
)
PROBLEMS_MAX: Final = 20
"""So many are told; the first is what matters."""


@attrs.frozen
class FoundSnapshot:
    """A file with a snapshot."""

    path: Path
    file_bytes: int
    meta: SnapshotMeta | None
    """None: its header is damaged."""
    is_received: bool = False
    """Another node sends it; it may not be whole yet."""


@attrs.frozen
class FoundGroup:
    """One of the groups that share a log."""

    name: str
    records: int
    """Appends that are stored, compacted ones left out."""


@attrs.define
class Inspection:
    """What a directory holds."""

    directory: Path
    format_version: int | None = None
    owner: Owner | None = None
    base: Base | None = None
    hard_state: HardState | None = None
    identity: bytes | None = None
    notices: tuple[str, ...] = ()
    records: int = 0
    """Appends that are stored, compacted ones left out."""
    last_index: LogIndex = 0
    last_term: int = 0
    snapshots: list[FoundSnapshot] = attrs.field(factory=list)
    """The newest first."""
    configurations: list[Configuration] = attrs.field(factory=list)
    """Of the newest snapshot that has its header, and in the log after it; the oldest first."""
    entries: list[Entry] = attrs.field(factory=list)
    """Those that were asked for."""
    groups: list[FoundGroup] | None = None
    """Where many groups share a log: all of them, by name. None: it is one node's."""
    group: str | None = None
    """Which of them all the rest is about; None: it is one node's, or nothing was asked for."""
    problems: list[str] = attrs.field(factory=list)
    """What is damaged, the first first; each says where."""

    def note(self, problem: str) -> None:
        """Something is damaged."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


@attrs.frozen
class Wanted:
    """Which entries are to be shown: the newest of these."""

    first_index: LogIndex = 1
    last_index: LogIndex = 2**62
    count_max: int = 20


def inspect_directory(
    path: Path,
    wanted: Wanted,
    *,
    verify: bool = False,
    read_content: Callable[[Iterable[bytes]], object] | None = None,
    group: str | None = None,
) -> Inspection:
    """Look into the directory of a node that does not run; changes nothing.

    Args:
        path: the directory.
        wanted: which entries to keep.
        verify: read all snapshots too, and have SQLite check its own structure.
        read_content: with `verify`: goes through a snapshot's content; a `ValueError` or a
            `RaftError` says that it cannot be what it says.
        group: of a log that many groups share, which one; None: only which there are.

    Raises:
        StorageError: a process has it open, there is no storage, or no such group, it is of another
            format, or it cannot be read.
    """
    with _held(path):
        found = Inspection(path)
        find = partial(_find_snapshots, found, verify=verify, read_content=read_content)
        find(path)
        _check_files(found)
        try:
            with reading(path / DATABASE, has_no_wal=_has_no_wal(path)) as connection:
                if is_shared(connection):
                    _read_shared(found, connection, wanted, group, find, verify=verify)
                elif group is not None:
                    raise StorageError(
                        f"{path} holds the log of one node, and no groups: leave --group out"
                    )
                else:
                    _read_database(found, connection, wanted, verify=verify)
        except CorruptStorage as error:
            found.note(str(error))
    return found


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Nobody opens it meanwhile; without a lock file, nobody can have it open."""
    if not path.is_dir() or not (path / DATABASE).exists():
        raise StorageError(
            f"there is no storage of trioraft in {path}: give the directory that the node was "
            "opened with"
        )
    try:
        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise StorageError(f"{path / LOCK} cannot be read: {error.strerror}") from error
    try:
        if not lock_for_reading(descriptor):
            raise StorageError(
                f"the storage in {path} is in use by {describe_holder(descriptor)}: its files "
                "change while they are read. Stop the node first, or look at it while it runs "
                "with trioraft admin status"
            )
        yield
    finally:
        os.close(descriptor)


def _has_no_wal(path: Path) -> bool:
    try:
        return (path / WRITE_AHEAD_LOG).stat().st_size == 0
    except FileNotFoundError:
        return True


# -- snapshots -------------------------------------------------------------------------------


def _find_snapshots(
    found: Inspection,
    directory: Path,
    *,
    verify: bool,
    read_content: Callable[[Iterable[bytes]], object] | None,
) -> None:
    names = sorted(filter(is_snapshot, os.listdir(directory)), reverse=True)
    if (directory / RECEIVED).exists():
        names.append(RECEIVED)
    for name in names:
        path = directory / name
        is_received = name == RECEIVED
        meta: SnapshotMeta | None = None
        try:
            with path.open("rb") as file:
                meta = read_header(file, str(path)).description.meta
                if verify and not is_received:
                    content = content_chunks(file, meta, str(path))
                    if read_content is not None:
                        read_content(content)
                    for _ in content:
                        pass
        except OSError as error:
            found.note(f"{path} cannot be read: {error.strerror}")
        except Exception as error:  # noqa: BLE001 - a decoder's, of what may be anybody's bytes
            if not is_received:
                found.note(f"{path}: {error}" if str(path) not in str(error) else str(error))
        size_bytes = path.stat().st_size
        found.snapshots.append(FoundSnapshot(path, size_bytes, meta, is_received))


# -- the database ----------------------------------------------------------------------------


def _check_files(found: Inspection) -> None:
    directory = found.directory
    try:
        check_database_files(directory / DATABASE, directory / WRITE_AHEAD_LOG, was_left_open=False)
    except CorruptStorage as error:
        found.note(str(error))
    except OSError as error:
        raise StorageError(f"{directory} cannot be read: {error.strerror}") from error


def _read_database(
    found: Inspection, connection: sqlite3.Connection, wanted: Wanted, *, verify: bool
) -> None:
    database = found.directory / DATABASE

    def meta(key: str, kind: type[T], missing: T | None = None) -> T | None:
        try:
            return read_meta(connection, database, key, kind, missing=missing)
        except CorruptStorage as error:
            found.note(str(error))
            return None

    found.format_version = meta("format", int)
    if found.format_version is not None:
        formats.check(database, found.format_version)
    found.owner = meta("owner", Owner)
    identity = meta("identity", StoredIdentity)
    found.identity = None if identity is None else identity.data
    found.notices = meta(NOTICES, tuple[str, ...], ()) or ()
    found.base = meta("base", Base)
    if verify:
        _verify(found, connection)
    base = found.base or Base()
    _read_log(found, partial(connection.execute, ROWS_SQL, (base.first_record,)), wanted)


def _read_shared(
    found: Inspection,
    connection: sqlite3.Connection,
    wanted: Wanted,
    group: str | None,
    find: Callable[[Path], None],
    *,
    verify: bool,
) -> None:
    """Which groups there are, and one of them."""
    database = found.directory / DATABASE
    found.format_version = check_shared_format(connection, database)
    found.owner = read_meta(connection, database, "owner", Owner)
    if verify:
        _verify(found, connection)

    def note(damage: CorruptStorage) -> None:
        found.note(str(damage))

    stored = {each.id: each for each in stored_groups(connection, database, note)}
    loaded = LoadedGroups()
    by_id: dict[int, GroupState] = {}
    for each in stored.values():
        by_id[each.id] = state = GroupState(each.id, each.name, first_of(each))
        if not each.is_forgotten:
            loaded.groups[each.name] = state
    scan(connection, database, by_id, loaded, note)
    states = sorted(loaded.groups.values(), key=attrgetter("name"))
    found.groups = [FoundGroup(state.name, state.records) for state in states]
    for state in states:
        if state.problem is not None:
            found.note(f"{database}: group {state.name!r} {state.problem}")
    if group is None:
        return
    if group not in loaded.groups:
        raise StorageError(f"there is no group {group!r} in {found.directory}")
    this = stored[loaded.groups[group].id]
    found.group, found.owner, found.base = group, this.owner, this.base
    found.identity, found.notices = this.identity, this.notices
    folder = folder_of(found.directory, this.id)
    if folder.is_dir():
        find(folder)
    bounds = (this.id, this.base.first_record)
    _read_log(found, partial(connection.execute, GROUP_ROWS_SQL, bounds), wanted)


def _verify(found: Inspection, connection: sqlite3.Connection) -> None:
    lines = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    if lines != ["ok"]:
        found.note(f"{found.directory / DATABASE} is damaged: {'; '.join(lines)}")


def _read_log(found: Inspection, query: Callable[[], sqlite3.Cursor], wanted: Wanted) -> None:
    base = found.base or Base()
    found.last_index, found.last_term = base.index, base.term
    log = _Log(found, wanted)
    _go_through(query, log)
    if not log.has_all:  # what was cut off later has pushed others out
        again = attrs.evolve(found, problems=[], records=0, last_index=base.index)
        log = _Log(again, log.window)
        _go_through(query, log)
    newest = next((s.meta for s in found.snapshots if s.meta and not s.is_received), None)
    found.configurations = log.configurations_since(newest)
    found.entries = log.entries


def _go_through(query: Callable[[], sqlite3.Cursor], log: _Log) -> None:
    try:
        with closing(query()) as rows:
            for row in rows:
                log.add(row)
    except sqlite3.Error as error:
        log.note_end(error)


class _Log:
    """Goes through the records: what is kept of the entries is the newest that are wanted."""

    def __init__(self, found: Inspection, wanted: Wanted) -> None:
        self._found = found
        self._wanted = wanted
        self._file = str(found.directory / DATABASE)
        self._kept: dict[LogIndex, Entry] = {}
        self._dropped_index: LogIndex = 0
        self._configurations: list[Configuration] = []
        self._base = found.base or Base()
        self._next_number = self._base.first_record

    def add(self, row: Row) -> None:
        """The next record."""
        found = self._found
        if row[0] != self._next_number:
            found.note(
                f"{self._file}: record {row[0]} comes where number {self._next_number} should be, "
                f"after entry {found.last_index}: some are missing"
            )
        self._next_number = row[0] + 1 if isinstance(row[0], int) else self._next_number + 1
        try:
            record = from_row(row, self._file, found.last_index)
        except CorruptStorage as error:
            found.note(str(error))
            if isinstance(row[2], int):
                found.last_index = row[2]
            return
        found.records += 1
        found.hard_state = record.hard_state
        if record.first_index is not None:
            self._cut(record.first_index)
        for entry in record.entries:
            self._take(entry)
        found.last_index = row[2]

    def _cut(self, first_index: LogIndex) -> None:
        """What stood there before was truncated."""
        for index in [index for index in self._kept if index >= first_index]:
            del self._kept[index]
        while self._configurations and self._configurations[-1].index >= first_index:
            self._configurations.pop()

    def _take(self, entry: Entry) -> None:
        found, wanted = self._found, self._wanted
        if entry.index <= self._base.index:
            return
        found.last_term = entry.term
        try:
            check_intact(entry)
            if entry.kind in CONFIGURATIONS:
                self._configurations.append(configuration_of(entry))
        except (BadMessage, EntryAltered) as error:
            found.note(f"{self._file}: {error}")
        if wanted.first_index <= entry.index <= wanted.last_index:
            self._kept[entry.index] = entry
            if len(self._kept) > wanted.count_max:
                dropped = min(self._kept)
                del self._kept[dropped]
                self._dropped_index = max(self._dropped_index, dropped)

    def note_end(self, error: sqlite3.Error) -> None:
        """There is more, which cannot be read."""
        self._found.note(
            f"{self._file} cannot be read beyond record {self._next_number - 1} (entry "
            f"{self._found.last_index}): {describe(error)}"
        )

    @property
    def window(self) -> Wanted:
        """Where the newest wanted entries are, now that it is known where the log ends."""
        wanted = self._wanted
        last_index = min(wanted.last_index, self._found.last_index)
        first_index = max(wanted.first_index, last_index - wanted.count_max + 1)
        return Wanted(first_index, last_index, wanted.count_max)

    @property
    def has_all(self) -> bool:
        """Whether nothing of the window was pushed out by what was cut off later."""
        return self._dropped_index < max(self.window.first_index, self._base.index + 1)

    @property
    def entries(self) -> list[Entry]:
        """Those of the window, the oldest first."""
        return [self._kept[index] for index in sorted(self._kept)]

    def configurations_since(self, snapshot: SnapshotMeta | None) -> list[Configuration]:
        """That of the snapshot, and those in the log after it."""
        if snapshot is None:
            return self._configurations
        later = (each for each in self._configurations if each.index > snapshot.index)
        return [snapshot.configuration, *later]
