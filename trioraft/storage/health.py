"""Health: what an error of the disk means, and that a storage which failed once stays failed.

Rules of this file:

* A full disk is `DiskFull`: the write was rolled back as a whole, and may be tried again. So is a
  quota that is used up. SQLite knows no quotas: it says SQLITE_IOERR_WRITE, and rolls back as for
  a full disk; whether there is room is then tried out. A failed fsync has a code of its own.
* So is a lack of descriptors, in this process or on the machine: `DescriptorsExhausted` (hazard
  G5). SQLite says SQLITE_CANTOPEN for it and for much else; whether files can be opened is then
  tried out, too.
* Every other failure of a read, write or fsync is final. An fsync that failed once tells nothing
  when it is called again, because the kernel may have dropped the pages (hazard D5): so nothing
  is retried, and everything after it is refused.
* So is what was broken off half-way, for want of memory or by Ctrl-C: a transaction may be open
  still, and the next write would be in it, and never be committed.
* A disk that became read-only is one that failed: the kernel does that after errors of its own.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, final

from ..core.errors import DescriptorsExhausted, DiskFull, StorageError

DiskTrouble: TypeAlias = OSError | sqlite3.Error | OverflowError
"""What the operating system or SQLite raises; OverflowError: a value that SQLite cannot hold."""

DISK_TROUBLE = (OSError, sqlite3.Error, OverflowError)

SCRATCH = "room.tmp"
"""The file with which it is tried out whether there is room; it lives for a moment."""

SCRATCH_BYTES = 16 * 1024
"""Two pages. A write of one page and its frame failed, so less than that is left."""

SQLITE_DESCRIPTORS = 4
"""As many files as SQLite opens at a time: database, journal or write-ahead log, the directory; and
one to spare."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_SQLITE_OPENS = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_GETTEMPPATH}
)
"""What SQLite says where it could not open a file; of the first there are several kinds."""


def is_disk_full(error: DiskTrouble) -> bool:
    """Whether this error says nothing but that there is no room."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def is_out_of_descriptors(error: DiskTrouble) -> bool:
    """Whether this error says nothing but that nothing can be opened now."""
    if isinstance(error, OSError):
        return error.errno in _NO_DESCRIPTORS
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    opens = code in _SQLITE_OPENS or code & 0xFF == sqlite3.SQLITE_CANTOPEN
    return opens and _too_few_can_be_opened()


def _too_few_can_be_opened() -> bool:
    """SQLite has closed again what it could open."""
    descriptors: list[int] = []
    try:
        while len(descriptors) < SQLITE_DESCRIPTORS:
            descriptors.append(os.open(os.sep, os.O_RDONLY))
    except OSError as error:
        return error.errno in _NO_DESCRIPTORS
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return False


def out_of_descriptors(doing: str, where: Path, error: DiskTrouble) -> DescriptorsExhausted:
    """The error for that."""
    return DescriptorsExhausted(
        f"no descriptors are left while {doing} ({where}): {describe(error)}. The disk has not "
        "failed, and nothing of it is stored; it may be tried again. Raise the number of files "
        "that this process may have open (ulimit -n, LimitNOFILE), or the machine's "
        "(fs.file-max), or let fewer clients connect"
    )


def _may_be_a_quota(error: DiskTrouble) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE


def describe(error: DiskTrouble) -> str:
    """The error in words, with its code."""
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error) or type(error).__name__


@final
class Health:
    """Whether a storage may still be used; shared by the threads that call it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._refusal: str | None = None

    def check(self) -> None:
        """Refuse everything after a failure.

        Raises:
            StorageError: something failed before, or the storage was closed.
        """
        if self._refusal is not None:
            raise StorageError(f"the storage in {self._directory} {self._refusal}")

    @property
    def has_failed(self) -> bool:
        """Whether everything is refused."""
        return self._refusal is not None

    def error(self, doing: str, error: DiskTrouble) -> StorageError:
        """The error to raise for this trouble; unless the disk is merely full, or descriptors are
        lacking, it is final."""
        if is_out_of_descriptors(error):
            return out_of_descriptors(doing, self._directory, error)
        try:
            is_full = is_disk_full(error) or (_may_be_a_quota(error) and self._has_no_room())
        except DescriptorsExhausted as exhausted:  # it was rolled back; the next time will tell
            return exhausted
        if is_full:
            return DiskFull(
                f"no room while {doing} in {self._directory}: {describe(error)}. Nothing of it is "
                "stored; make room, and try again"
            )
        failure = f"{doing}: {describe(error)}"
        if self._is_read_only():
            return self.fail(
                f"the file system of {self._directory} is read-only ({failure}). Kernels do that "
                "when a disk fails (see their log), and it is not retried: look after the disk, "
                "mount it for writing, and start the node again"
            )
        self._refusal = (
            f"failed earlier and is not used any more ({failure}). Close it, look after the disk, "
            "and open it anew"
        )
        return StorageError(
            f"the disk failed while {failure} (directory {self._directory}). What of this is "
            "stored is unknown, and it is not retried: look after the disk, and open it anew"
        )

    def fail(self, why: str) -> StorageError:
        """The error to raise for what is no error of a call, and final all the same."""
        self._refusal = f"failed earlier and is not used any more: {why}"
        return StorageError(why)

    def broken_off(self, doing: str, error: BaseException) -> StorageError:
        """The error to tell others when what was being written was left half-way, by want of memory
        or by Ctrl-C: it is final, since nobody knows what is in the transaction that is open."""
        return self.fail(
            f"{doing} was broken off ({type(error).__name__}); what of it is stored is unknown. "
            "Close it, and open it anew"
        )

    def _is_read_only(self) -> bool:
        try:
            return bool(os.statvfs(self._directory).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def _has_no_room(self) -> bool:
        """Try it out; False if anything else is wrong with the disk, too.

        Raises:
            DescriptorsExhausted: it cannot be tried out now.
        """
        path = self._directory / SCRATCH
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                path.unlink()  # whatever happens now, nothing stays
                written_bytes = 0
                while written_bytes < SCRATCH_BYTES:  # near the end a write takes only a part
                    rest = bytes(SCRATCH_BYTES - written_bytes)
                    written_bytes += os.pwrite(descriptor, rest, written_bytes)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if is_out_of_descriptors(error):
                doing = "trying out whether there is room"
                raise out_of_descriptors(doing, self._directory, error) from error
            return is_disk_full(error)
        return False

    @contextmanager
    def watching(self, doing: str) -> Iterator[None]:
        """Turn disk trouble within into the right error."""
        try:
            yield
        except DISK_TROUBLE as error:
            raise self.error(doing, error) from error

    def end(self) -> None:
        """The storage is closed: what another thread may still be writing stays unfinished."""
        self._refusal = "is closed: open it first"
