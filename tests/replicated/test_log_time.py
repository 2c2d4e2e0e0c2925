"""Log time: the same on every node, never back, no faster than anybody's clock."""

from __future__ import annotations

import msgspec
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.replicated.support import Board, open_objects
from tests.support import open_single
from trioraft.machines.log_clock import LogClock


def test_a_clock_that_was_never_started_reads_what_the_log_says() -> None:
    clock = LogClock()
    clock.advance(5.0)
    assert clock.reading_s(1000.0) == 5.0


def test_a_reading_counts_on_from_the_log() -> None:
    clock = LogClock()
    clock.advance(5.0)
    clock.start(1000.0)
    assert clock.reading_s(1002.0) == 7.0
    clock.advance(6.0)  # proposed here, a second ago
    assert clock.reading_s(1002.0) == 7.0


def test_whoever_follows_forgets_what_it_counted_itself() -> None:
    """Its own clock may be the faster one; nobody should see the sum of that for hours."""
    clock = LogClock()
    clock.start(1000.0)
    clock.advance(3.0)
    clock.adopt(1010.0)
    assert clock.reading_s(1011.0) == 4.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6), st.floats(0, 10)), max_size=30))
def test_it_never_goes_back(steps: list[tuple[bool, float, float]]) -> None:
    clock, now_s, latest_s = LogClock(), 1000.0, 0.0
    clock.start(now_s)
    for is_foreign, at_s, passed_s in steps:
        now_s += passed_s
        clock.advance(at_s if is_foreign else clock.reading_s(now_s))
        if is_foreign:
            clock.adopt(now_s)
        assert clock.log_time_s >= latest_s
        assert clock.reading_s(now_s) >= clock.log_time_s
        latest_s = clock.log_time_s


async def test_a_follower_adopts_what_the_log_says(autojump_clock: MockClock) -> None:
    board = Board()
    async with open_single("1", voters=("0", "1"), machine=board) as node:
        board.attach(node)
        await trio.sleep(100)
        assert board.log_now_s() == 100
        board.apply(1, msgspec.msgpack.encode([0, "add", 1, 3.0, [1, False]]))
        await trio.sleep(2)
        assert board.log_now_s() == 5


async def test_every_node_has_the_same_and_it_follows_real_time(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        first_s = await board.now()
        for _ in range(100):  # one after the other, with hardly a pause: time must not stand still
            await trio.sleep(0.001)
            last_s = await board.now()
        begun_s = trio.current_time()
        await trio.sleep(10)
        assert 10 <= await board.now() - last_s <= trio.current_time() - begun_s + 0.1
        assert last_s - first_s > 0.3
        last_s = board.log_time_s
        for node_id in boards.cluster.ids:
            await boards.at(node_id).wait(lambda board: board.log_time_s == last_s)


async def test_it_goes_on_with_the_next_leader_and_stands_still_without_one(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Board) as boards:
        board = await boards.leading()
        await board.add(1)
        await trio.sleep(5)
        before_s = await board.now()
        begun_s = trio.current_time()
        _, board = await boards.replaced_leader()
        assert before_s <= await board.now() <= before_s + (trio.current_time() - begun_s)
        log_s, real_s = board.log_time_s, trio.current_time()
        for node_id in boards.cluster.nodes:
            await boards.cluster.crash(node_id)
        await trio.sleep(1000)
        for node_id in boards.cluster.ids:
            await boards.cluster.restart(node_id)
        after_s = await (await boards.leading()).now()
        assert log_s <= after_s <= log_s + 10  # not 1000
        assert trio.current_time() - real_s > 1000
