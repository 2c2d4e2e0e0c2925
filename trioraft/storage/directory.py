"""Directory: whose it is, who holds it, and how its files become durable.

Rules of this file:

* A directory belongs to one storage object at a time; the kernel lets go of the lock when its
  process dies, however it dies.
* A directory that is not ours is left as it is: nothing is created in it.
* The lock file also notes whether its last holder closed the storage. If not, SQLite's
  write-ahead log must still be there; without it, acknowledged writes would be gone in silence.
* The note has always the same length: rewriting it needs no room.
* Whoever writes looks afterwards whether the files are still those in this directory, and before
  whether anybody has cut them: SQLite would write on behind the hole (hazard D7).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol, final

import attrs
import msgspec

from ..core.errors import CorruptStorage, StorageError
from .health import SCRATCH, Health, describe, is_out_of_descriptors, out_of_descriptors

try:
    import fcntl
except ImportError:
    raise ImportError(
        "SQLiteStorage locks its directory as POSIX systems do (fcntl), and this system does not: "
        "use MemoryStorage, or a storage of your own (trioraft.protocols.Storage)",
        name="fcntl",
    ) from None

DATABASE = "log.sqlite3"
WRITE_AHEAD_LOG = "log.sqlite3-wal"
LOCK = "trioraft.lock"
BEING_CREATED = "log.sqlite3.new"

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
"""What is in the log is nobody else's business."""
ROOM_AHEAD_BYTES_MAX = 1024 * 1024
"""Zeros that are written ahead at a time, at most: about a millisecond."""

_NOTE_BYTES = 256
CREATION_LEFTOVERS = (
    BEING_CREATED,
    *(f"{BEING_CREATED}-{suffix}" for suffix in ("journal", "wal", "shm")),
)
"""What a creation that was interrupted may leave: SQLite has files beside the database."""
_NOT_FOREIGN = frozenset({LOCK, *CREATION_LEFTOVERS, SCRATCH, "lost+found"})
"""What may lie in a directory that is still new: creation was interrupted, or it is a volume."""

KEEP_AND_REPLACE = (
    "Nothing was changed. Do not restore it from an older copy, which has forgotten what it "
    "acknowledged. Set the directory aside, start the node with an empty one, and give the new "
    "disk its vote: trioraft admin replace ID, once the node runs. The others send it the log; if "
    "no majority is left without it, see docs/lost-quorum.md"
)
"""What to do about a damaged log."""

BRING_BACK = (
    "What was written since may be lost at the next start, so nothing more is acknowledged and no "
    "file is touched. Find out what removes, moves or unmounts it; bring back what was there, all "
    "files of one moment, and start the node again. If that cannot be had, its disk is lost: start "
    "the node with an empty directory, then call trioraft admin replace ID"
)
"""What to do when files were taken away from under an open storage."""


class LockNote(msgspec.Struct, frozen=True):
    """What the lock file says."""

    state: Literal["open", "closed"]
    pid: int
    host: str


def sync_file(descriptor: int) -> None:
    """Make a file's content and size durable.

    Raises:
        OSError: it is not durable, and never call this again for it (hazard D5).
    """
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive
    if full_sync is not None:
        fcntl.fcntl(descriptor, full_sync)
    else:
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: created, renamed, removed. As long as a storage is
    open, `Directory.sync` does that without opening anything."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: Path) -> int:
    """Create a file, or empty it, that its owner alone may read and write, whatever the umask.

    Returns:
        A descriptor for reading and writing.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        _make_private(descriptor, FILE_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_private(path: Path) -> None:
    """Create a directory that its owner alone may use, whatever the umask; its parents, if they
    are missing too, as anybody makes them. One that somebody made meanwhile is left as it is.

    Raises:
        OSError: it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        _make_private(path, DIRECTORY_MODE)


def _make_private(descriptor: int | Path, mode: int) -> None:
    """Of what was made just now: a umask may have taken away the owner's own rights. File systems
    without modes keep theirs."""
    if stat.S_IMODE(os.stat(descriptor).st_mode) != mode:
        with suppress(OSError):
            os.chmod(descriptor, mode)


def wider_mode(path: Path) -> int | None:
    """The mode of a directory that others than its owner may look into, or write to; None if nobody
    else may."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    return mode if mode & (stat.S_IRWXG | stat.S_IRWXO) else None


def is_named(path: Path, descriptor: int) -> bool:
    """Whether this name still stands for the file that is open."""
    try:
        return _file_of(os.stat(path)) == _file_of(os.fstat(descriptor))
    except FileNotFoundError:
        return False


@attrs.define
class _HeldFile:
    """One that is open, and has to stay where and what it is."""

    path: str
    file: tuple[int, int]
    """Device and inode."""
    size_bytes: int
    """It never shrinks as long as the storage is open."""


@attrs.frozen
class DirectoryState:
    """What a directory said when it was taken."""

    is_new: bool
    """There is no database yet."""
    was_left_open: bool
    """The last holder did not close it: it was killed, or the machine went down."""


class Folder(Protocol):
    """Where the files of one node's snapshots lie: its storage's directory, or a part of one."""

    path: Path

    def make(self) -> None:
        """Create it, durably, if it is not there yet.

        Raises:
            OSError: it is not there.
        """

    def names(self) -> list[str]:
        """What is in it; nothing where it is not there yet.

        Raises:
            OSError: it cannot be looked at.
        """

    def syncing(self) -> AbstractContextManager[None]:
        """What is created, renamed or removed within is durable after it.

        Raises:
            OSError: before anything was done within; or after it, and then it is not known.
        """


@final
class Directory:
    """The files of one storage, held by a lock."""

    def __init__(self, path: Path, health: Health) -> None:
        self.path: Path = path
        self.database: Path = path / DATABASE
        self.write_ahead_log: Path = path / WRITE_AHEAD_LOG
        self._health = health
        self._lock: int | None = None
        self._itself: int | None = None  # open, so that its names become durable without opening it
        self._locked_by = 0  # the process that did
        self._files: tuple[_HeldFile, ...] = ()  # the one that is written to comes last
        self._ahead_bytes = 0  # how long zeros have made it
        self.is_lost: bool = False
        """What stands under the names of this directory is not what is open."""

    def acquire(self) -> DirectoryState:
        """Create the directory if it is missing, and lock it.

        Raises:
            StorageError: it is in use, is not a directory, cannot be written, or holds
                something else.
            CorruptStorage: it was a storage, but its database is gone.
        """
        try:
            self._make()
            self._refuse_foreign()
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            if is_out_of_descriptors(error):
                raise out_of_descriptors("opening the storage", self.path, error) from error
            raise StorageError(
                f"{self.path} cannot be used as a storage: {describe(error)}. Give a directory "
                "that this process may create or write"
            ) from error
        try:
            self._lock_or_refuse(descriptor)
            if not os.fstat(descriptor).st_size:  # it was made just now
                _make_private(descriptor, FILE_MODE)
            with self._health.watching("opening the storage"):
                state = self._state(_read_note(descriptor))
                self._itself = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except BaseException:
            os.close(descriptor)
            raise
        self._lock, self._locked_by = descriptor, os.getpid()
        return state

    def sync(self) -> None:
        """Make the names in it durable: created, renamed, removed.

        Raises:
            OSError: it is not known whether they are.
            StorageError: it is not open.
        """
        if self._itself is None:
            raise StorageError(
                f"the directory {self.path} is not held by this storage: open it first"
            )
        os.fsync(self._itself)

    def make(self) -> None:
        """It is there as long as it is held."""

    def names(self) -> list[str]:
        """What is in it.

        Raises:
            OSError: it cannot be looked at.
        """
        return os.listdir(self.path)

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """What is created, renamed or removed within is durable after it; see `sync`."""
        yield
        self.sync()

    def note(self, state: Literal["open", "closed"]) -> None:
        """Write down, durably, what the next one to open this directory must know."""
        if self._lock is None:
            raise StorageError(
                f"the directory {self.path} is not locked by this storage: open it first"
            )
        note = LockNote(state, os.getpid(), socket.gethostname()[:64])
        with self._health.watching("writing the lock file"):
            os.pwrite(self._lock, msgspec.json.encode(note).ljust(_NOTE_BYTES - 1) + b"\n", 0)
            sync_file(self._lock)

    def hold(self) -> None:
        """The database is open: from now on these very files have to be here.

        Raises:
            StorageError: they are not.
        """
        with self._health.watching("looking at the database"):
            found = [(str(path), os.stat(path)) for path in (self.database, self.write_ahead_log)]
            self._files = tuple(_HeldFile(path, _file_of(s), s.st_size) for path, s in found)

    def check(self) -> None:
        """Refuse to go on with files that were removed, moved, replaced, cut or unmounted: writes
        to them succeed, and are gone at the next start (hazard D7). Two system calls, 1 to 2 % of a
        durable write; names are what the next start will look for, so names are looked at.

        Raises:
            StorageError: what is written is not in this directory any more; final.
        """
        for held in self._files:
            self._check(held)

    def check_before_write(self) -> None:
        """As `check`, of the file that is written to: once that has been written behind the place
        where it was cut, it does not look cut any more.

        Raises:
            StorageError: it was taken away or cut; final.
        """
        self._check(self._files[-1])

    def make_room_ahead(self, bytes_max: int) -> None:
        """Where the file that is written to has become longer since, write zeros behind it: then it
        need not become longer with each write. A file system writes down such a change in a journal
        of its own, for which all that sync wait together; 1 % of the appends took 10 ms, and
        without it 0.4 ms. SQLite ends its recovery at zeros as at an older frame. They become
        durable with the next write, and nothing is missed if they do not.

        Args:
            bytes_max: so long at most.
        """
        held = self._files[-1]
        size_bytes = held.size_bytes
        if size_bytes == self._ahead_bytes or size_bytes >= bytes_max:
            return
        more_bytes = min(size_bytes, ROOM_AHEAD_BYTES_MAX, bytes_max - size_bytes)
        with suppress(OSError):  # there is no room, or no descriptor: then there is none ahead
            descriptor = os.open(held.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                if _file_of(os.fstat(descriptor)) == held.file:
                    os.pwrite(descriptor, bytes(more_bytes), size_bytes)
                    held.size_bytes = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        self._ahead_bytes = held.size_bytes

    def _check(self, held: _HeldFile) -> None:
        try:
            found = os.stat(held.path)
        except OSError as error:
            what = "is gone" if isinstance(error, FileNotFoundError) else describe(error)
            raise self._lost(held, what) from error
        if _file_of(found) != held.file:
            raise self._lost(held, "is another file now")
        if found.st_size < held.size_bytes:
            raise self._lost(held, f"has {found.st_size} bytes, and had {held.size_bytes}")
        held.size_bytes = found.st_size

    def _lost(self, held: _HeldFile, what: str) -> StorageError:
        self.is_lost = True
        return self._health.fail(
            f"{held.path} {what}: it was removed, moved, replaced or cut while this node had it "
            f"open. {BRING_BACK}"
        )

    def release(self) -> None:
        """Unlock. Idempotent."""
        descriptor, self._lock = self._lock, None
        itself, self._itself = self._itself, None
        if itself is not None:
            os.close(itself)
        if descriptor is None:
            return
        if os.getpid() == self._locked_by:
            # A child that was forked a moment ago may hold the same lock still; closing would leave
            # it until that child has run (hazard D8).
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def _make(self) -> None:
        if self.path.exists():
            return
        first_made = self.path
        while not first_made.parent.exists():
            first_made = first_made.parent
        make_private(self.path)
        made = self.path
        while made != first_made.parent:
            made = made.parent
            sync_directory(made)

    def _refuse_foreign(self) -> None:
        names = set(os.listdir(self.path))
        if DATABASE in names or LOCK in names or names <= _NOT_FOREIGN:
            return
        some = ", ".join(sorted(names)[:5])
        raise StorageError(
            f"{self.path} is not empty and holds no {DATABASE} (there is: {some}): it is not a "
            "storage of trioraft. Give an empty or a new directory; nothing was changed here"
        )

    def _lock_or_refuse(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                f"the storage in {self.path} is in use by {describe_holder(descriptor)}. Stop or "
                "close that one first, or give each node a directory of its own"
            ) from None
        if not is_named(self.path / LOCK, descriptor):
            raise StorageError(
                f"{self.path / LOCK} was removed in this very moment: find out by whom, and open "
                "the storage again"
            )

    def _state(self, note: LockNote | None) -> DirectoryState:
        """Look again, now that nobody else can change anything."""
        names = set(os.listdir(self.path))
        if DATABASE in names:
            return DirectoryState(False, note is not None and note.state == "open")
        if note is not None:
            raise CorruptStorage(
                f"{self.database} is gone: the lock file beside it says that there was a storage. "
                f"Bring the file back. {KEEP_AND_REPLACE}"
            )
        self._refuse_foreign_beside_lock(names)
        return DirectoryState(True, False)

    def _refuse_foreign_beside_lock(self, names: set[str]) -> None:
        if not names <= _NOT_FOREIGN:
            some = ", ".join(sorted(names - _NOT_FOREIGN)[:5])
            raise CorruptStorage(
                f"{self.database} is gone, but there is still: {some}. Bring the database back, or "
                "give an empty directory; if trioraft restore was interrupted here, empty it and "
                f"restore again. {KEEP_AND_REPLACE}"
            )


def _file_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def lock_for_reading(descriptor: int) -> bool:
    """Keep others from opening the directory whose lock file this is, without writing to it; False:
    somebody has it open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def describe_holder(descriptor: int) -> str:
    """Who has the directory, as far as its lock file says."""
    note = _read_note(descriptor)
    if note is None or note.state != "open":
        return "someone who is just opening it"
    if note.pid == os.getpid():
        return f"this very process ({note.pid})"
    return f"process {note.pid} on {note.host}"


def _read_note(descriptor: int) -> LockNote | None:
    """The note in a lock file, or None if it was never written whole."""
    try:
        return msgspec.json.decode(os.pread(descriptor, _NOTE_BYTES, 0), type=LockNote)
    except msgspec.DecodeError:
        return None
