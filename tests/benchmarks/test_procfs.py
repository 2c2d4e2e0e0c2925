"""benchmarks.procfs: what processes take, as the system counts it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import procfs
from benchmarks.processes import Process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_time_and_memory_are_those_of_the_process_whatever_it_is_called(tmp_path: Path) -> None:
    began_s = procfs.cpu_s(os.getpid())
    until_s = time.process_time() + 0.05
    while time.process_time() < until_s:
        pass
    assert procfs.cpu_s(os.getpid()) - began_s >= 0.03  # it is counted in ticks
    assert procfs.rss_bytes(os.getpid()) > 10**7
    name = tmp_path / "a) b (c"
    name.symlink_to("/bin/cat")
    with Process([str(name)]) as process:
        assert procfs.cpu_s(process.pid) < 60
    with pytest.raises(OSError, match="No such"):
        procfs.cpu_s(process.pid)


def test_where_the_system_does_not_tell_all_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "IS_AVAILABLE", False)
    assert (procfs.cpu_s(os.getpid()), procfs.rss_bytes(os.getpid())) == (0, 0)
