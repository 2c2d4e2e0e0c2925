"""What other processes take, as the system counts it.

Rules of this file: Linux's /proc is read, and nothing else; where there is none, all is 0.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
IS_AVAILABLE: Final = (PROC / "self/stat").exists()
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, in seconds: all its threads, and not its children.

    Raises:
        OSError: there is no such process.
    """
    if not IS_AVAILABLE:
        return 0.0
    text = (PROC / f"{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()  # its name stands before, and may hold anything
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """What of its memory is resident now.

    Raises:
        OSError: there is no such process.
    """
    if not IS_AVAILABLE:
        return 0
    text = (PROC / f"{pid}/statm").read_text(encoding="utf-8")
    return int(text.split()[1]) * _PAGE_BYTES
