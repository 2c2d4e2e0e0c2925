"""SQLiteStorage: a directory on a disk, with the log in SQLite and snapshots in files beside it.

Rules of this file:

* Opening checks everything that was written; what is damaged is `CorruptStorage`, and a failed
  opening changes nothing in the directory.
* What it does between `open` and `close` stands in `on_disk`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import final

import attrs

from ..core.errors import ConfigError, ResourceExhausted, StorageError
from ..core.types import (
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
)
from .directory import Directory, DirectoryState
from .forks import tell_when_forked
from .health import DISK_TROUBLE, Health
from .log_database import (
    WAL_BYTES_MAX,
    LoadedLog,
    LogDatabase,
    Owner,
    create_database,
    load,
)
from .on_disk import OnDisk, Opened, match_snapshot, recovered_of
from .received_snapshot import ReceivedSnapshot
from .records import PAGE_BYTES
from .snapshot_files import SnapshotFiles
from .wal_check import check_database_files

LOG_BYTES_MIN = 16 * PAGE_BYTES
"""An empty database takes some pages."""


@attrs.define
class _Opened(Opened):
    """What there is between `open` and `close`."""

    log: LogDatabase
    directory: Directory = attrs.field(kw_only=True)
    is_noted: bool = attrs.field(default=False, kw_only=True)
    """The next one to open it will miss the write-ahead log if it is gone."""

    def note(self) -> None:
        """Write that down, once. Something must be in the write-ahead log before, or it would be
        missed without reason.

        Raises:
            StorageError: the disk failed.
        """
        if self.is_noted:
            return
        with suppress(ResourceExhausted):  # then the next write tries again
            self.directory.note("open")
            self.is_noted = True

    def check(self) -> None:
        self.directory.check()

    def before_append(self) -> None:
        self.directory.check_before_write()

    def after_append(self) -> None:
        self.note()
        self.directory.check()
        self.directory.make_room_ahead(WAL_BYTES_MAX)


@final
class SQLiteStorage(OnDisk):
    """A storage in a directory of its own.

    ```python
    storage = SQLiteStorage("raft-0")  # one directory for each node
    async with open_node(
        "0", voters=["0"], machine=machine, storage=storage, transport=transport
    ) as node:
        print(node.status)
    ```

    The directory needs a file system with working fsync and flock: a local one. Nothing in it is
    touched before `open`.

    Args:
        directory: created when it is missing; must be empty the first time.
        log_bytes_max: bound on the log's database file, in bytes; `append` raises `DiskFull`
            beyond it, until compaction makes room. None: as much as the disk has. SQLite's
            write-ahead log (about 4 MiB) and the snapshots come on top.
        writes_inline: let the node make small writes in its own thread while few wait, this disk
            is measured to be quick, and the event loop is not late. Otherwise a disk that hangs
            never holds up more than its own thread.

    Raises:
        ConfigError: the bound is too small.

    All methods are as `Storage` has them.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        log_bytes_max: int | None = None,
        writes_inline: bool = False,
    ) -> None:
        if log_bytes_max is not None and log_bytes_max < LOG_BYTES_MIN:
            raise ConfigError(
                f"log_bytes_max is {log_bytes_max}: give at least {LOG_BYTES_MIN} bytes, or None"
            )
        self._path = Path(directory).absolute()
        self._log_bytes_max = log_bytes_max
        self._writes_inline = writes_inline
        self._opened: _Opened | None = None
        self._why_not_open = "is not open: open it first"
        self._notices: tuple[str, ...] = ()

    @property
    def append_is_short(self) -> bool:
        """Whether the next `append` is one small transaction: it is a longer one where the
        write-ahead log has grown so far that it is copied into the database before."""
        opened = self._opened
        if not self._writes_inline or opened is None:
            return False
        return opened.is_noted and not opened.log.is_checkpoint_due

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def notices(self) -> tuple[str, ...]:
        """What is worth a line in a log about the last opening: a damaged snapshot that an older
        one replaces (the disk may be failing), and what `trioraft recover` did before it."""
        return self._notices

    # -- life ------------------------------------------------------------------------------

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """Lock the directory, check all that it holds and return it; see `Storage.open`.

        Raises:
            StorageError: in use by someone else, not a storage, another node's or cluster's, of a
                another format, or the disk failed. Nothing was changed.
            CorruptStorage: it holds something else than what was written. Nothing was changed.
        """
        if self._opened is not None:
            raise StorageError(
                f"the storage in {self._path} is in use by node {node_id!r}: give each node its own"
            )
        health = Health(self._path)
        owner = Owner(cluster_id, node_id)
        with ExitStack() as undo:
            directory = Directory(self._path, health)
            state = directory.acquire()
            undo.callback(directory.release)
            loaded = _load(directory, state, owner, health)
            snapshots = SnapshotFiles(directory, cluster_id, health)
            received = ReceivedSnapshot(directory, cluster_id, health)
            snapshot, is_to_be_named, problems = match_snapshot(loaded, snapshots, received)
            self._notices = (*loaded.notices, *problems)
            # Everything was checked; only from here on something is changed.
            log = LogDatabase(directory.database, loaded, health, bytes_max=self._log_bytes_max)
            undo.callback(log.close)
            # Closing removes the write-ahead log, so nobody may miss it; as in `close`.
            undo.callback(directory.note, "closed")
            opened = _Opened(health, snapshots, received, log, directory=directory)
            if log.write_probe():  # without room there is no note before the first write
                opened.note()
            directory.hold()
            with health.watching("removing leftovers"):
                snapshots.remove_leftovers()
            if is_to_be_named and snapshot is not None:
                snapshots.adopt(received.path, snapshot)
                received.was_adopted()
            undo.pop_all()
        self._opened = opened
        tell_when_forked(self)
        if state.is_new:
            return None
        return recovered_of(loaded, snapshot)

    def close(self) -> None:
        """Let go of the directory; see `Storage.close`.

        Raises:
            StorageError: the disk failed. It is closed all the same; what was appended stays.
        """
        opened, self._opened = self._opened, None
        if opened is None:
            return
        opened.health.end()
        if opened.directory.is_lost:
            _leave_alone(opened)
            return
        try:
            opened.received.let_go()
            # SQLite removes its write-ahead log now. The note goes first: a crash in between
            # leaves more than is needed, never less.
            opened.directory.note("closed")
        finally:
            try:
                opened.log.close()
            finally:
                opened.directory.release()

    def on_forked(self) -> None:
        """This is a child process; what is open is its parent's (hazard D8)."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        self._why_not_open = (
            f"was opened by process {os.getppid()}, and this is a fork of it, process "
            f"{os.getpid()}: only the one that opened it may use it. Fork before a storage is "
            "opened, or start another program; and give each node a directory of its own"
        )
        opened.health.fail(f"the storage in {self._path} {self._why_not_open}")
        opened.received.let_go()
        opened.log.abandon()
        opened.directory.release()

    def _use(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise StorageError(f"the storage in {self._path} {self._why_not_open}")
        opened.health.check()
        return opened

    # -- tools -----------------------------------------------------------------------------

    def append_with_notice(
        self,
        hard_state: HardState,
        entries: Sequence[Entry],
        replace_from: LogIndex,
        notice: str,
        identity: bytes | None = None,
    ) -> None:
        """For a tool that changes a stopped node's log: as `append`, and in the same transaction
        a sentence that is among the `notices` of the next opening, until a node writes.

        Args:
            hard_state: as for `append`, but never None.
            entries: as for `append`.
            replace_from: as for `append`, but never None.
            notice: the sentence.
            identity: as for `append`.

        Raises:
            As `append`.
        """
        notices = (*self._use().log.notices, notice)
        self._append(hard_state, entries, replace_from, identity, notices)


def _leave_alone(opened: _Opened) -> None:
    """Let go of files whose names are somebody else's, or nobody's: write no note, and keep SQLite
    from copying into a database, or removing a write-ahead log, that may not go together."""
    directory = opened.directory
    opened.received.let_go()
    try:
        if directory.database.exists() or directory.write_ahead_log.exists():
            opened.log.abandon()
        else:
            opened.log.close()
    finally:
        directory.release()


def _load(directory: Directory, state: DirectoryState, owner: Owner, health: Health) -> LoadedLog:
    """The log as it stands; created if the directory is new."""
    try:
        if state.is_new:
            create_database(directory.database, owner)
        check_database_files(
            directory.database,
            directory.write_ahead_log,
            was_left_open=state.was_left_open,
        )
    except DISK_TROUBLE as error:
        raise health.error("opening the storage", error) from error
    return load(directory.database, owner)
