"""Small writes are made in the node's own thread where the disk is measured to be quick."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import pytest

from tests.support import open_single
from trioraft import Role, SQLiteStorage, Status
from trioraft.core.ready import Write
from trioraft.core.types import Entry, HardState, LogIndex
from trioraft.node import inline_writes
from trioraft.node.inline_writes import FEW, SMALL_BYTES, TRIED_MAX, TRIED_MIN, InlineWrites

QUICK, LONG = 0.0002, 0.015
WRITE = Write(None, (), 1, size_bytes=100)


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


@final
class Clock:
    """What `time.perf_counter` says in `inline_writes`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(inline_writes, "time", clock)
    monkeypatch.setattr(inline_writes, "LOOKED_AT", 10**9)  # but where that is the subject
    return clock


@final
class Judged:
    """A storage whose writes take what the test says."""

    def __init__(self, clock: Clock, *, is_allowed: bool = True) -> None:
        self.append_is_short = True
        self.judge = InlineWrites(self, is_allowed=is_allowed)  # type: ignore[arg-type] # all that it looks at
        self._clock = clock

    def writes(self, times: int, took_s: float, late_s: float = 0.0002) -> int:
        """How many of them were inline; those that were not are heard of so late."""
        inline = 0
        for _ in range(times):
            is_inline = self.judge.may(WRITE)
            inline += is_inline
            begun_s = self._clock.now_s
            self._clock.now_s += took_s
            self.judge.took(WRITE, begun_s)
            if not is_inline:
                self._clock.now_s += late_s
                self.judge.came_back(begun_s)
        return inline


def test_a_disk_is_seen_to_be_quick_first(clock: Clock) -> None:
    disk = Judged(clock)
    assert disk.writes(TRIED_MIN, QUICK) == 0
    assert disk.writes(100, QUICK) == 100


def test_one_that_is_not_quick_is_left_to_the_thread(clock: Clock) -> None:
    disk = Judged(clock)
    for _ in range(100):
        disk.writes(TRIED_MIN - 1, QUICK)
        assert disk.writes(1, 0.003) == 0
    assert not disk.judge.may(WRITE)


def test_one_that_becomes_slow_costs_one_long_write_and_ever_fewer(clock: Clock) -> None:
    disk = Judged(clock)
    inline = [disk.writes(10_000, LONG) for _ in range(3)]
    assert inline == [0, 0, 0]  # slow from the beginning
    disk.writes(TRIED_MIN, QUICK)
    asked, slow = TRIED_MIN, 0
    while asked < TRIED_MAX:
        assert disk.writes(1, LONG) == 1
        slow += 1
        asked *= 2
        assert disk.writes(asked, QUICK) == 0
        assert disk.judge.may(WRITE)
    assert slow == 8
    disk.writes(1, LONG)
    assert disk.writes(TRIED_MAX, QUICK) == 0  # no more than that


def test_what_is_a_little_slow_now_and_then_is_borne(clock: Clock) -> None:
    disk = Judged(clock)
    disk.writes(TRIED_MIN, QUICK)
    for _ in range(50):
        assert disk.writes(1, 0.006) == 1
        assert disk.writes(60, QUICK) == 60
    assert disk.writes(3, 0.006) == 3  # but not several in a row
    assert disk.writes(1, QUICK) == 0


def test_a_loop_that_hears_late_does_not_write(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Judged(clock)
    assert disk.writes(10 * TRIED_MIN, QUICK, late_s=0.001) == 0
    assert disk.writes(100, QUICK) > 80  # it has time again
    monkeypatch.setattr(inline_writes, "LOOKED_AT", 16)
    assert disk.writes(16 * 16, QUICK) == 15 * 16  # it is looked at now and then
    assert disk.writes(16 * 16, QUICK, late_s=0.005) < 16
    assert disk.writes(100, QUICK, late_s=0.005) == 0


def test_it_is_forgiven(clock: Clock) -> None:
    disk = Judged(clock)
    disk.writes(TRIED_MIN, QUICK)
    disk.writes(1, LONG)
    disk.writes(2 * TRIED_MIN * inline_writes.FORGIVEN, QUICK)
    assert disk.writes(1, LONG) == 1
    assert disk.writes(2 * TRIED_MIN, QUICK) == 0  # not four times: it was well for long
    assert disk.writes(1, QUICK) == 1


def test_only_what_is_short_by_nature(clock: Clock) -> None:
    disk = Judged(clock)
    disk.writes(TRIED_MIN, QUICK)
    assert disk.judge.may(WRITE)
    few = tuple(Entry(index, 1) for index in range(1, FEW + 1))
    assert disk.judge.may(Write(None, few, 1))
    assert not disk.judge.may(Write(None, (*few, Entry(FEW + 1, 1)), 1))
    assert not disk.judge.may(Write(None, (), 1, size_bytes=SMALL_BYTES + 1))
    disk.append_is_short = False
    assert not disk.judge.may(WRITE)
    simulated = Judged(clock, is_allowed=False)
    assert simulated.writes(1000, QUICK) == 0


@final
class Watched:
    """A `SQLiteStorage` that notes in which threads it appends, and may be slow."""

    def __init__(self, inner: SQLiteStorage) -> None:
        self.inner = inner
        self.threads: list[bool] = []
        """Whether each append was in the main thread."""
        self.takes_s = 0.0

    @property
    def append_is_short(self) -> bool:
        return self.inner.append_is_short

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        self.threads.append(threading.current_thread() is threading.main_thread())
        time.sleep(self.takes_s)
        self.inner.append(hard_state, entries, replace_from, identity)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_a_node_writes_inline_and_goes_back_to_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_writes, "QUICK_S", 10.0)  # the machine of this test may be busy
    monkeypatch.setattr(inline_writes, "NEAR_S", 10.0)
    monkeypatch.setattr(inline_writes, "LOOKED_AT", 10**9)
    storage = Watched(SQLiteStorage(tmp_path, writes_inline=True))
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        for _ in range(2 * TRIED_MIN):
            await node.propose(b"a command")
        assert storage.threads[0] is False
        assert storage.threads[-TRIED_MIN // 2 :] == [True] * (TRIED_MIN // 2)
        monkeypatch.setattr(inline_writes, "QUICK_S", 0.02)
        storage.takes_s = 0.04
        await node.propose(b"a slow one")
        storage.takes_s = 0.0
        storage.threads.clear()
        for _ in range(TRIED_MIN):
            await node.propose(b"another")
        assert storage.threads == [False] * len(storage.threads)


async def test_the_write_ahead_log_is_never_copied_inline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_writes, "QUICK_S", 10.0)
    monkeypatch.setattr(inline_writes, "NEAR_S", 10.0)
    monkeypatch.setattr(inline_writes, "LOOKED_AT", 10**9)
    copied: list[bool] = []
    storage = Watched(SQLiteStorage(tmp_path, writes_inline=True))
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        log = storage.inner._opened.log  # type: ignore[union-attr] # it is open
        checkpoint = log._checkpoint

        def noted() -> None:
            copied.append(threading.current_thread() is threading.main_thread())
            checkpoint()

        log._checkpoint = noted  # type: ignore[method-assign] # what is watched
        for _ in range(600):
            await node.propose(bytes(1000))
    assert len(copied) >= 2
    assert not any(copied)
    assert storage.threads.count(True) > 400
