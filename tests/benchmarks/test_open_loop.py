"""benchmarks.open_loop: calls at their moments, whatever has become of earlier ones.

Rules of this file: the kernel's timer is the subject, so time is real; nothing fails because it
passed slowly.
"""

from __future__ import annotations

import time

import pytest
import trio

from benchmarks.open_loop import Schedule, keep_time


def test_calls_are_due_at_even_distances_and_count_after_the_warm_up() -> None:
    schedule = Schedule(per_s=4, warm_up_s=0.5, seconds=1.0)
    assert list(schedule.dues_s()) == [0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert [schedule.counts(due_s) for due_s in schedule.dues_s()] == [False] * 2 + [True] * 4


async def test_a_system_that_stops_is_charged_with_every_call_that_was_due_meanwhile() -> None:
    made, all_made = 0, trio.Event()

    async def call() -> None:
        nonlocal made
        made += 1
        if made == 10:
            all_made.set()
        await all_made.wait()  # nothing is answered before the last call was made

    began = 0

    def begin() -> None:
        nonlocal began
        began = made

    took_s = await keep_time(call, Schedule(200, 0.01, 0.04), begin)
    assert made == 10, "no call waited for one before it"
    assert began <= 2, "the measured interval begins with the first call that counts"
    assert len(took_s) == 8, "those of the warm-up do not count, all others do"
    for late, one_s in enumerate(sorted(took_s, reverse=True)):
        assert one_s >= (7 - late) / 200 - 1e-6, "it counts from when the call was due"


def stand_still() -> None:
    """The whole process, not one task."""
    time.sleep(0.05)


async def test_a_caller_that_comes_late_makes_all_calls_that_were_due() -> None:
    made_s = []

    async def call() -> None:
        made_s.append(time.perf_counter())
        if len(made_s) == 1:
            stand_still()
        await trio.lowlevel.checkpoint()

    took_s = await keep_time(call, Schedule(100, 0.0, 0.1), lambda: None)
    assert len(took_s) == len(made_s) == 10
    assert sum(one_s > 0.005 for one_s in took_s) >= 4, "each is late, by as much as it came late"


async def test_failures_that_are_expected_are_counted_and_others_are_not_hidden() -> None:
    failed = 0

    async def call() -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("planted")

    def note() -> None:
        nonlocal failed
        failed += 1

    schedule = Schedule(1000, 0.0, 0.005)
    assert list(await keep_time(call, schedule, lambda: None, note, OSError)) == []
    assert failed == 5
    with pytest.raises(ExceptionGroup) as caught:
        await keep_time(call, schedule, lambda: None)
    assert caught.group_contains(OSError, match="planted")
