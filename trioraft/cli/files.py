"""Small files that a user names, settings and certificates: whatever is really there, reading it
ends soon, with the content or with one error.

Rules of this file: no more is read than such a file may have, so that a device that never ends does
end; and nothing is waited for long, neither a FIFO that nobody writes nor a terminal.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import Final

SMALL_BYTES_MAX: Final = 1024 * 1024
PATIENCE_S: Final = 5.0
"""How long what comes through a pipe may take, in seconds."""


def read_small(path: Path, *, wants_file: bool = False) -> bytes:
    """All of a small file; a pipe that a shell made (`<(…)`) is one too.

    Args:
        path: of the file.
        wants_file: it is read again later, so that a pipe will not do.

    Raises:
        OSError: it cannot be read, does not come in time, or is too large; `strerror` says which.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        kind = os.fstat(descriptor).st_mode
        if wants_file and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise OSError(errno.EINVAL, "it is no file, but a device or a pipe")
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    content, give_up_s = bytearray(), time.monotonic() + PATIENCE_S
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, give_up_s - time.monotonic()) * 1000):
            raise OSError(errno.ETIMEDOUT, f"nothing came within {PATIENCE_S:g} s")
        some = os.read(descriptor, SMALL_BYTES_MAX + 1 - len(content))
        if not some:
            return bytes(content)
        content += some
        if len(content) > SMALL_BYTES_MAX:
            raise OSError(errno.EFBIG, f"it has more than {SMALL_BYTES_MAX} bytes")
