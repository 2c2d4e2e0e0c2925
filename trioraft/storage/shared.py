"""SharedLog: many groups in one directory, with one log and one fsync for all that they write.

Rules of this file:

* Towards its node, each group's storage is as one that has a directory of its own: it has its own
  owner, identity, term and vote, log and snapshots, is opened and closed by itself, and what is
  damaged in it is told by its own opening.
* The disk is everybody's: once a write or a sync has failed, all is refused until the directory is
  opened anew.
* A group that is not open has no descriptor and no thread, and of its log there is one number in
  memory.
* What is damaged beyond one group's own records is everybody's, too: the directory is not opened.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, final
from weakref import WeakSet

import attrs

from ..core.errors import ConfigError, StorageError
from ..core.types import NodeId, Recovered
from .base import Storage
from .directory import Directory, DirectoryState, make_private, sync_directory
from .forks import tell_when_forked
from .group_log import GroupLog
from .health import DISK_TROUBLE, Health
from .log_database import Base, Owner
from .on_disk import OnDisk, Opened, match_snapshot, recovered_of
from .received_snapshot import ReceivedSnapshot
from .records import PAGE_BYTES
from .shared_database import (
    GroupState,
    Job,
    LoadedGroups,
    SharedDatabase,
    StoredGroup,
    create_shared,
    load_shared,
)
from .snapshot_files import SnapshotFiles
from .wal_check import check_database_files

LOG_BYTES_MIN: Final = 32 * PAGE_BYTES
"""An empty database takes some pages."""

GROUPS: Final = "groups"
"""The folder with a folder for each group that has snapshots, named by the group's number."""


def folder_of(directory: Path, group_id: int) -> Path:
    """Where the snapshots of a group lie."""
    return directory / GROUPS / f"{group_id}"


def snapshots_of(cluster_id: str, group: str) -> str:
    """What a group's snapshot says of whose it is."""
    return f"{cluster_id}, group {group}"


@final
class GroupFolder:
    """The folder of a group's snapshots; it is not there before the first. Nothing in it is held
    open, so that what it takes is opened before anything is done."""

    def __init__(self, held: Directory, group_id: int) -> None:
        self.path: Path = folder_of(held.path, group_id)
        self._held = held
        self._is_durable = False

    def make(self) -> None:
        """See `Folder.make`."""
        if self._is_durable and self.path.is_dir():
            return
        above = self.path.parent
        make_private(above)
        # Also of what is there already: another group may have made it a moment ago, or a process
        # that was killed before it came to this.
        self._held.sync()
        make_private(self.path)
        sync_directory(above)
        self._is_durable = True

    def names(self) -> list[str]:
        """See `Folder.names`."""
        try:
            return os.listdir(self.path)
        except FileNotFoundError:
            return []

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """See `Folder.syncing`."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@attrs.define
class _OpenedGroup(Opened):
    """A group between `open` and `close`. What is to be done before and after an append, the
    database does, once for all whose appends go together."""

    database: SharedDatabase
    state: GroupState

    def note(self) -> None:
        pass

    def check(self) -> None:
        self.database.check()

    def before_append(self) -> None:
        pass

    def after_append(self) -> None:
        pass


@attrs.frozen
class _OpenedShared:
    """What there is between `open` and `close`."""

    directory: Directory
    health: Health
    database: SharedDatabase


@final
class SharedLog:
    """The storages of many groups, in a directory of this process's own.

    ```python
    storages = SharedLog("raft")  # one directory for each process
    storages.open(cluster_id="orders", node_id="0")
    storage = storages.storage_of("eu")
    async with open_node(
        "0", voters=["0"], machine=machine, storage=storage, transport=transport
    ) as node:
        print(node.status)
    storages.close()
    ```

    What the groups write at about the same time is one transaction and one fsync. The directory is
    as that of `SQLiteStorage`, and needs the same of its file system.

    Args:
        directory: created when it is missing; must be empty the first time.
        log_bytes_max: bound on the database file of all groups together, in bytes; `append`
            raises `DiskFull` beyond it, until compaction makes room. None: as much as the disk has.

    Raises:
        ConfigError: the bound is too small.

    All methods are as `GroupStorages` has them.
    """

    blocking = True

    def __init__(
        self, directory: str | os.PathLike[str], *, log_bytes_max: int | None = None
    ) -> None:
        if log_bytes_max is not None and log_bytes_max < LOG_BYTES_MIN:
            raise ConfigError(
                f"log_bytes_max is {log_bytes_max}: give at least {LOG_BYTES_MIN} bytes, or None"
            )
        self._path = Path(directory).absolute()
        self._log_bytes_max = log_bytes_max
        self._opened: _OpenedShared | None = None
        self._why_not_open = "is not open: open it first"
        self._notices: tuple[str, ...] = ()
        self._guard = threading.Lock()  # of who has which group
        self._open_groups: WeakSet[GroupStorage] = WeakSet()

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def notices(self) -> tuple[str, ...]:
        """What is worth a line in a log about the last opening: which groups are damaged, and
        cannot be opened."""
        return self._notices

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of all groups that have a log here, in order.

        Raises:
            StorageError: it is not open.
        """
        states = list(self._use().database.groups.values())
        return tuple(sorted(state.name for state in states if not state.is_new))

    @property
    def transactions(self) -> int:
        """How many transactions the groups' appends have been since it was opened: that many times
        the disk was waited for.

        Raises:
            StorageError: it is not open.
        """
        return self._use().database.transactions

    # -- life ------------------------------------------------------------------------------

    def open(self, *, cluster_id: str, node_id: NodeId) -> None:
        """Lock the directory, and check all that it holds; see `GroupStorages.open`.

        It takes about as long as reading the database once.

        Args:
            cluster_id: as there.
            node_id: as there.

        Raises:
            StorageError: in use by someone else, not such a directory, another process's or
                cluster's, of another format, or the disk failed. Nothing was changed.
            CorruptStorage: it holds something else than what was written, and it is not known
                that this is one group's alone. Nothing was changed.
        """
        if self._opened is not None:
            raise StorageError(
                f"the storage in {self._path} is in use by process {node_id!r}: give each its own"
            )
        health = Health(self._path)
        with ExitStack() as undo:
            directory = Directory(self._path, health)
            state = directory.acquire()
            undo.callback(directory.release)
            loaded = _load(directory, state, Owner(cluster_id, node_id), health)
            # Everything was checked; only from here on something is changed.
            database = SharedDatabase(directory, loaded, health, bytes_max=self._log_bytes_max)
            undo.callback(database.close)
            # Closing removes the write-ahead log, so nobody may miss it; as in `close`.
            undo.callback(directory.note, "closed")
            database.write_probe()
            directory.hold()
            with health.watching("removing the folders of forgotten groups"):
                for group_id in loaded.forgotten:
                    _remove(folder_of(self._path, group_id))
                    database.forget_folder_of(group_id)
            database.remove_groups(set(loaded.forgotten) - loaded.left_behind)
            undo.pop_all()
        self._notices = tuple(
            f"group {state.name!r} is damaged and cannot be opened: it {state.problem}"
            for state in loaded.groups.values()
            if state.problem is not None
        )
        self._opened = _OpenedShared(directory, health, database)
        tell_when_forked(self)

    def close(self) -> None:
        """Let go of the directory; see `GroupStorages.close`.

        Raises:
            StorageError: the disk failed. It is closed all the same; what was appended stays.
        """
        opened, self._opened = self._opened, None
        if opened is None:
            return
        opened.health.end()
        self._why_not_open = "is closed: open it first"
        directory, database = opened.directory, opened.database
        database.wait()  # or what is being written would note that it is open, after the last word
        with self._guard:  # others may be opening some
            groups = list(self._open_groups)
        _let_go(groups)
        try:
            if not directory.is_lost:
                # SQLite removes its write-ahead log now. The note goes first: a crash in between
                # leaves more than is needed, never less.
                directory.note("closed")
        finally:
            try:
                if directory.is_lost and (
                    directory.database.exists() or directory.write_ahead_log.exists()
                ):
                    database.abandon()  # these names are somebody else's by now
                else:
                    database.close()
            finally:
                directory.release()

    def on_forked(self) -> None:
        """This is a child process; what is open is its parent's (hazard D8)."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        self._why_not_open = (
            f"was opened by process {os.getppid()}, and this is a fork of it, process "
            f"{os.getpid()}: only the one that opened it may use it. Fork before a storage is "
            "opened, or start another program; and give each process a directory of its own"
        )
        opened.health.fail(f"the storage in {self._path} {self._why_not_open}")
        _let_go(list(self._open_groups))  # whoever held the guard is not here: nobody waits for it
        opened.database.abandon()
        opened.directory.release()

    def _use(self) -> _OpenedShared:
        opened = self._opened
        if opened is None:
            raise StorageError(f"the storage in {self._path} {self._why_not_open}")
        opened.health.check()
        return opened

    # -- groups ----------------------------------------------------------------------------

    def storage_of(self, group: str) -> Storage:
        """The storage of this group: an object over the same content, each time. See
        `GroupStorages.storage_of`.

        Raises:
            ConfigError: that cannot be a name.
        """
        if not 1 <= len(group) <= 64 or not group.isprintable():
            raise ConfigError(
                f"{group!r} cannot be the name of a group: give 1 to 64 printable characters"
            )
        return GroupStorage(self, group)

    def forget(self, group: str) -> None:
        """Remove a group with all that it has here, for ever: one that is not wanted any more, or
        one that is damaged, whose disk is then replaced. Where there is no such group, nothing is
        done.

        Args:
            group: its name; it must not be open.

        Raises:
            StorageError: it is open; or the disk failed.
            DiskFull: it is still there; it may be tried again.
        """
        opened = self._use()
        database = opened.database
        if group not in database.groups:
            return
        state = self._claim(database, group)
        try:
            stored = StoredGroup(state.id, "", Owner("", ""), Base(), None, True)
            database.write(Job(state, (), stored))
            del database.groups[group]
        finally:
            state.is_open = False
        with opened.health.watching("removing the folder of a forgotten group"):
            _remove(folder_of(self._path, state.id))
        database.forget_folder_of(state.id)

    def write_together(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        """Make these calls in this thread, each of which appends to another group's storage, and
        make all of it durable at once.

        Args:
            calls: each calls `append` of a storage that was handed out here, once.

        Returns:
            What became of each, in their order: None, or the error that its `append` would have
            raised.
        """
        opened = self._opened
        if opened is None:
            return [StorageError(f"the storage in {self._path} {self._why_not_open}")] * len(calls)
        return opened.database.write_together(calls)

    def _claim(self, database: SharedDatabase, group: str) -> GroupState:
        """Nobody else has this group from now on, until its `is_open` says so."""
        with self._guard:
            state = database.groups.get(group)
            if state is None:
                state = GroupState(database.new_group(), group, 1)
                database.groups[group] = state
            if state.is_open:
                raise StorageError(
                    f"group {group!r} of the storage in {self._path} is in use: close it first"
                )
            state.is_open = True
        return state

    def _open_group(
        self, storage: GroupStorage, name: str, owner: Owner
    ) -> tuple[_OpenedGroup, Recovered | None, tuple[str, ...]]:
        """What a group's storage has while it is open, what it holds, and what is to be said."""
        shared = self._use()
        database, health = shared.database, shared.health
        state = self._claim(database, name)
        recovered: Recovered | None = None
        problems: tuple[str, ...] = ()
        try:
            folder = GroupFolder(shared.directory, state.id)
            label = snapshots_of(owner.cluster_id, name)
            snapshots = SnapshotFiles(folder, label, health)
            received = ReceivedSnapshot(folder, label, health)
            if state.is_new:
                log = GroupLog(database, state, StoredGroup(state.id, name, owner, Base()))
                log.begin()
            else:
                log, loaded = GroupLog.load(database, state, owner, shared.directory.database)
                snapshot, is_to_be_named, problems = match_snapshot(loaded, snapshots, received)
                # Everything was checked; only from here on something is changed.
                with health.watching("removing leftovers"):
                    snapshots.remove_leftovers()
                if is_to_be_named and snapshot is not None:
                    snapshots.adopt(received.path, snapshot)
                    received.was_adopted()
                problems = (*loaded.notices, *problems)
                recovered = recovered_of(loaded, snapshot)
        except BaseException:
            state.is_open = False
            raise
        with self._guard:
            self._open_groups.add(storage)
        opened = _OpenedGroup(health, log, snapshots, received, database, state)
        return opened, recovered, problems


@final
class GroupStorage(OnDisk):
    """The storage of one group of a `SharedLog`. All methods are as `Storage` has them."""

    def __init__(self, shared: SharedLog, group: str) -> None:
        self._shared = shared
        self._group = group
        self._opened: _OpenedGroup | None = None
        self._notices: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The name of its group."""
        return self._group

    @property
    def directory(self) -> Path:
        """Where it is one of many."""
        return self._shared.directory

    @property
    def together(self) -> SharedLog:
        """Who makes appends of several at once; see `Storage`."""
        return self._shared

    @property
    def notices(self) -> tuple[str, ...]:
        """What is worth a line in a log about the last opening; see `SQLiteStorage.notices`."""
        return self._notices

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """Take the group, check all that it holds and return it; see `Storage.open`.

        Raises:
            StorageError: in use by someone else, or it belongs to another node or cluster; or the
                disk failed.
            CorruptStorage: it holds something else than what was written. Nothing was changed, and
                the other groups go on.
        """
        if self._opened is not None:
            raise StorageError(
                f"group {self._group!r} of the storage in {self._shared.directory} is in use by "
                f"node {node_id!r}: give each node its own"
            )
        self._opened, recovered, self._notices = self._shared._open_group(
            self, self._group, Owner(cluster_id, node_id)
        )
        return recovered

    def close(self) -> None:
        """Let go of the group; see `Storage.close`."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        opened.received.let_go()
        opened.state.is_open = False

    def let_go(self) -> None:
        """What it is part of is closed: so is the file that it may have open."""
        self.close()

    def _use(self) -> _OpenedGroup:
        opened = self._opened
        if opened is None:
            raise StorageError(
                f"group {self._group!r} of the storage in {self._shared.directory} is not open: "
                "open it first"
            )
        opened.health.check()
        return opened


def _let_go(groups: Iterable[GroupStorage]) -> None:
    for group in groups:
        group.let_go()


def _load(
    directory: Directory, state: DirectoryState, owner: Owner, health: Health
) -> LoadedGroups:
    """What there is; created if the directory is new."""
    try:
        if state.is_new:
            create_shared(directory.database, owner)
        check_database_files(
            directory.database,
            directory.write_ahead_log,
            was_left_open=state.was_left_open,
        )
    except DISK_TROUBLE as error:
        raise health.error("opening the storage", error) from error
    return load_shared(directory.database, owner)


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
