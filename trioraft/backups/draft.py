"""Draft: a file that gets its name when it is complete and durable, and not before.

Whoever is killed leaves what is called `NAME.part`, which the next backup to the same name takes
over. Two at a time are refused where the system can tell.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final, Self, final

from ..core.errors import ConfigError

try:
    import fcntl
except ImportError:  # a system that has no such locks: then two of the same name are not noticed
    fcntl = None  # type: ignore[assignment] # looked at before each use

SUFFIX: Final = ".part"
FILE_MODE: Final = 0o600
"""All keys and values are in it."""
SYNC_EVERY_BYTES: Final = 1024 * 1024
"""How much is written before it is pushed to the disk: so a full one is noticed soon, and nobody
else's writes wait behind a gigabyte."""


@final
class Draft:
    """Use it as `with Draft(path) as draft:`; without `finish` nothing is left.

    Args:
        path: the name it shall have; a file that is there is replaced then, at once. Of a link,
            it is the file that it names.

    Raises:
        ConfigError: something else is there than a file, or another backup is being written to it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise ConfigError(f"{path} is a directory: give the file that the backup shall be")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is no file: give the file that the backup shall be")
        path = Path(os.path.realpath(path))
        self.path = path
        self.part: Path = path.with_name(path.name + SUFFIX)
        self._unsynced_bytes = 0
        self._file: BinaryIO | None = self._opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Leave nothing of it, unless it is finished. Idempotent."""
        if self._file is not None:
            self.part.unlink(missing_ok=True)  # before the lock goes: the next one may have it then
            self._close()

    def write(self, data: bytes) -> int:
        """Add to it.

        Raises:
            OSError: the disk is full, or failed.
        """
        file = self._open_file()
        written = file.write(data)
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= SYNC_EVERY_BYTES:
            self._sync(file)
        return written

    def finish(self) -> None:
        """It is complete: make it durable, and give it its name.

        Raises:
            OSError: it has not got it.
        """
        self._sync(self._open_file())
        os.replace(self.part, self.path)
        self._close()
        _sync_directory(self.path.parent)

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._unsynced_bytes = 0

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise ConfigError(f"{self.path} is finished: nothing can be added to it")
        return self._file

    def _opened(self) -> BinaryIO:
        while True:
            descriptor = os.open(
                self.part, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), FILE_MODE
            )
            try:
                self._lock(descriptor)
                if self._is_named(descriptor):
                    os.ftruncate(descriptor, 0)
                    return os.fdopen(descriptor, "wb")
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # who had it has just finished or left: begin a new one

    def _lock(self, descriptor: int) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another backup is being written to {self.path}: wait for it, or give another name"
            ) from None

    def _is_named(self, descriptor: int) -> bool:
        try:
            found, own = os.stat(self.part), os.fstat(descriptor)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def is_abandoned(part: Path) -> bool:
    """Whether nobody writes to what a draft has left, as far as the system can tell."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(part, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _sync_directory(path: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
