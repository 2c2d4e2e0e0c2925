"""A leader whose answers take longer than its timing was made for says so, and what to choose."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trioraft import Node, Timing
from trioraft.core.events import TimingTooShort
from trioraft.testing.cluster import open_cluster


async def told_by(node: Node, told: list[TimingTooShort]) -> None:
    async with node.events() as stream:
        async for event in stream:
            if isinstance(event, TimingTooShort):
                told.append(event)


async def told_in(seconds: float, delay_s: float, timing: Timing) -> list[TimingTooShort]:
    told: list[TimingTooShort] = []
    async with (
        open_cluster(3, seed=0, timing=timing, delay_s=(delay_s, delay_s)) as cluster,
        trio.open_nursery() as nursery,
    ):
        for node in cluster.nodes.values():
            nursery.start_soon(told_by, node, told)
        await cluster.check_single_leader()
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return told


async def test_a_leader_says_that_its_line_is_too_long_for_its_timing(
    autojump_clock: MockClock,
) -> None:
    told = await told_in(30.0, 0.2, Timing())
    assert told
    assert told[-1].round_trip_s == pytest.approx(0.4, rel=0.1)
    assert len(told) <= 2, "not at each heartbeat"


@pytest.mark.parametrize("round_trip_s", [0.01, 0.4])
async def test_where_the_timing_suits_the_line_nothing_is_said(
    autojump_clock: MockClock, round_trip_s: float
) -> None:
    assert await told_in(30.0, round_trip_s / 2, Timing.for_round_trip(round_trip_s)) == []
