"""One slice of the event loop for all tasks of a kind."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter

import trio

from trioraft.tasks.slices import Slices

TASKS = 40
SLICE_S = 0.002


def work(for_s: float) -> None:
    end_s = perf_counter() + for_s
    while perf_counter() < end_s:
        pass


async def test_g4_others_have_their_turn_between_two_slices_however_many_share_them() -> None:
    """Forty tasks with a hundred pieces of work each: in no pass is more done than a slice, and
    what comes over it by the last piece of each task."""
    slices = Slices(SLICE_S)
    done = 0
    at_each_turn: list[int] = []

    async def busy() -> None:
        nonlocal done
        began_s = perf_counter()
        for _ in range(100):
            work(SLICE_S / 10)
            done += 1
            if slices.is_over(began_s):
                began_s = await slices.next(began_s)
        slices.spend(began_s)

    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(busy)
        while done < TASKS * 100:
            at_each_turn.append(done)
            await trio.lowlevel.checkpoint()
    steps = [after - before for before, after in pairwise(at_each_turn)]
    assert max(steps) <= 10 + TASKS  # and not 40 slices of ten
    assert len(steps) >= 50


async def test_waiting_for_the_next_slice_can_be_cancelled() -> None:
    slices = Slices(0.0)
    with trio.CancelScope() as scope:
        scope.cancel()
        began_s = perf_counter()
        work(0.001)
        await slices.next(began_s)
    assert scope.cancelled_caught
    assert await slices.next(perf_counter()) > 0  # and others go on
