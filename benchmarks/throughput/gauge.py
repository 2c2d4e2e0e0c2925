"""What a process takes: CPU time, memory, and where the time goes if that is asked for.

Rules of this file:

* CPU time is that of all threads of this process, as the system counts it.
* Python's garbage collector is left alone unless something else is asked for.
* Nothing runs beside what is measured, but a profiler if there is to be one; then the figures are
  not those of the product any more.
"""

from __future__ import annotations

import cProfile
import gc
import os
import resource
import sys
import time
from pathlib import Path
from typing import Final, final

from .cases import Collector
from .pipe import Usage

_PROC_STATUS: Final = Path("/proc/self/status")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def peak_rss_mb() -> float:
    """The most memory that was ever resident in this process, in 10⁶ bytes."""
    try:
        # Not getrusage where there is a choice: its peak begins with the parent's.
        for line in _PROC_STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass  # not Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def rss_mb() -> float:
    """Memory resident now, in 10⁶ bytes; the peak where the system does not say."""
    try:
        return (
            int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * _PAGE_BYTES / 1e6
        )
    except OSError:
        return peak_rss_mb()


def set_collector(collector: Collector) -> None:
    """Do about garbage collection what was asked for; call it once the node is open."""
    if collector is Collector.FREEZE:
        gc.collect()
        gc.freeze()
    elif collector is Collector.OFF:
        gc.disable()


@final
class Gauge:
    """Measures this process between `begin` and `end`."""

    def __init__(self) -> None:
        self._file: str | None = None
        self._profiler: cProfile.Profile | None = None
        self._cpu_s = 0.0

    def begin(self, profile: str | None) -> None:
        """The interval begins.

        Args:
            profile: file for a profile of this thread in that interval; None: no profile.
        """
        self._cpu_s = time.process_time()
        if profile is not None:
            self._file = profile
            self._profiler = cProfile.Profile()
            self._profiler.enable()

    def end(self) -> Usage:
        """It is over: what it took."""
        if self._profiler is not None and self._file is not None:
            self._profiler.disable()
            self._profiler.dump_stats(self._file)
            self._profiler = None
        return Usage(cpu_s=time.process_time() - self._cpu_s, rss_mb=peak_rss_mb())
