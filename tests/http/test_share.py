"""The share: who computes is held to it, and who waits is not. By clocks of the test's own."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trioraft.http import share
from trioraft.http.share import CpuShare

SHARE = 0.1
BURST_S = 0.25


@attrs.define
class Clocks:
    """In place of the module `time`."""

    cpu_s: float = 0.0
    now_s: float = 1000.0

    def thread_time(self) -> float:
        return self.cpu_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.now_s += pause_s

    def compute(self, for_s: float) -> None:
        self.cpu_s += for_s
        self.now_s += for_s


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(share, "time", clocks)
    return clocks


def test_who_computes_all_the_time_gets_its_share_and_the_burst(clocks: Clocks) -> None:
    held, step, task = CpuShare(SHARE, BURST_S), 0.001, Any
    begun_s = clocks.now_s
    for _ in range(2000):
        clocks.compute(step)
        held.after_task_step(task)  # type: ignore[arg-type] # it does not look at it
    took_s = clocks.now_s - begun_s
    assert clocks.cpu_s == pytest.approx(SHARE * took_s + BURST_S, abs=2 * step)
    assert held.paused_s == pytest.approx(took_s - clocks.cpu_s)


def test_who_waits_in_between_is_not_held(clocks: Clocks) -> None:
    held, task = CpuShare(SHARE, BURST_S), Any
    for _ in range(100):
        clocks.compute(0.02)
        held.after_task_step(task)  # type: ignore[arg-type] # it does not look at it
        clocks.now_s += 0.2
    assert held.paused_s == 0
