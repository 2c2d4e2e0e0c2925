"""One slice of the event loop for all tasks of a kind."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter, thread_time

import trio

from trioraft.tasks.slices import PRESSED_SLICE_S, Slices, Turn

TASKS = 40
SLICE_S = 0.002


def work(for_s: float) -> None:
    end_s = perf_counter() + for_s
    while perf_counter() < end_s:
        pass


async def test_g4_others_have_their_turn_between_two_slices_however_many_share_them() -> None:
    """Forty tasks with a hundred pieces of work each: in no pass is more done than a slice, and
    what comes over it by the last piece of each task."""
    slices = Slices(SLICE_S, SLICE_S / 10)
    done = 0
    at_each_turn: list[int] = []

    async def busy() -> None:
        nonlocal done
        turn = Turn(slices)
        turn.begin()
        for _ in range(100):
            if turn.is_over():
                await turn.next()
            work(SLICE_S / 10)
            done += 1
        turn.end()

    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(busy)
        while done < TASKS * 100:
            at_each_turn.append(done)
            await trio.lowlevel.checkpoint()
    steps = [after - before for before, after in pairwise(at_each_turn)]
    assert max(steps) <= 10 + TASKS  # and not 40 slices of ten
    assert len(steps) >= 50


async def test_g4_who_asks_little_does_not_wait_behind_those_who_flood() -> None:
    """One piece of work now and then, beside forty tasks that never stop: it waits for a pass or
    two, and not for its chance among forty."""
    slices = Slices(SLICE_S, SLICE_S / 10)
    passes = 0
    waited: list[int] = []

    async def flood() -> None:
        turn = Turn(slices)
        turn.begin()
        while len(waited) < 12:
            if turn.is_over():
                await turn.next()
            work(SLICE_S / 10)
        turn.end()

    async def ask_now_and_then() -> None:
        turn = Turn(slices)
        for _ in range(12):
            await trio.sleep(0.05)
            before = passes
            turn.begin()
            if turn.is_over():
                await turn.next()
            work(SLICE_S / 100)
            turn.end()
            waited.append(passes - before)

    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(flood)
        nursery.start_soon(ask_now_and_then)
        while len(waited) < 12:
            passes += 1
            await trio.lowlevel.checkpoint()
    assert max(waited) <= 4, waited


async def test_waiting_for_the_next_slice_can_be_cancelled() -> None:
    turn = Turn(Slices(0.0))
    with trio.CancelScope() as scope:
        scope.cancel()
        turn.begin()
        work(0.001)
        await turn.next()
    assert scope.cancelled_caught
    turn.begin()
    await turn.next()  # and others go on
    assert turn.is_over()


async def test_g4_a_slice_is_shorter_while_something_waits_that_takes_many_passes() -> None:
    pressed = True
    slices = Slices(10.0, 10.0, is_pressed=lambda: pressed)
    for pressed in (True, False):
        await slices.wait(0.0)  # a slice begins
        assert slices.is_over(2 * PRESSED_SLICE_S) is pressed


async def test_g4_pieces_longer_than_a_slice_are_paid_for_by_slices_that_follow() -> None:
    """Twenty tasks whose every piece takes as long as five slices: most passes have none of
    them. (Trio runs what is ready in any order, so that two passes may look like one.)"""
    slices = Slices(SLICE_S, SLICE_S / 10)
    begun = ended = 0

    async def heavy() -> None:
        nonlocal begun, ended
        turn = Turn(slices)
        turn.begin()
        for _ in range(3):
            if turn.is_over():
                await turn.next()
            begun += 1
            until_s = thread_time() + 5 * SLICE_S  # others may take the core away meanwhile
            while thread_time() < until_s:
                pass
        turn.end()
        ended += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(heavy)
        in_a_pass: list[int] = []
        while ended < 20:
            before = begun
            await trio.lowlevel.checkpoint()
            in_a_pass.append(begun - before)
    later = in_a_pass[1:]  # all twenty begin in the first: nothing was spent
    assert max(later) <= 2, later
    assert len(later) >= 3 * sum(later), later
