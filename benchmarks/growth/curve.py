"""python -m benchmarks.growth.curve KEY ROUND SECONDS COUNT…: one curve, in a process of its own.

Rules of this file: it is started by `benchmarks.growth`, not by hand. Each point is one line of
JSON as soon as it is measured. Nothing of another curve is in its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import msgspec
import trio

from .cases import Point
from .rigs import RIGS, Cost, Rig, cost, members, rss_bytes
from .served import SERVED, Served

ALIVE_S: Final = 10.0


def say(point: Point) -> None:
    """One line."""
    sys.stdout.buffer.write(msgspec.json.encode(attrs.asdict(point)) + b"\n")
    sys.stdout.buffer.flush()


async def run(key: str, number: int, seconds: float, counts: Sequence[int]) -> None:
    """Measure, and say now and then that it goes on: to grow may take minutes."""

    async def say_that_it_goes_on() -> None:
        while True:
            await trio.sleep(ALIVE_S)
            sys.stdout.buffer.write(b"null\n")
            sys.stdout.buffer.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_that_it_goes_on)
        await measure(key, number, seconds, counts)
        nursery.cancel_scope.cancel()


async def measure(key: str, number: int, seconds: float, counts: Sequence[int]) -> None:
    """Measure each count, from few to many, and say what it costs."""
    if key == "members":
        for count in counts:
            async with members(count) as rig:
                took = await cost(rig.propose, seconds)
            say(Point(key, number, count, took.cpu_us, took.p50_ms, 0, 0))
    elif key in SERVED:
        async with SERVED[key]() as served:
            await served.cost(seconds / 4)  # warm
            await _grow(key, number, counts, served, lambda: served.cost(seconds), served.rss_bytes)
    else:
        async with RIGS[key]() as rig:
            await cost(rig.propose, seconds / 4)
            await _grow(key, number, counts, rig, lambda: cost(rig.propose, seconds), rss_bytes)


async def _grow(
    key: str,
    number: int,
    counts: Sequence[int],
    what: Rig | Served,
    measured: Callable[[], Awaitable[Cost]],
    resident: Callable[[], int],
) -> None:
    there = 0
    for count in counts:
        before_bytes = resident()
        await what.grow(count)
        grown_bytes = resident() - before_bytes
        took = await measured()
        say(Point(key, number, count, took.cpu_us, took.p50_ms, count - there, grown_bytes))
        there = count


if __name__ == "__main__":
    trio.run(run, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), [*map(int, sys.argv[4:])])
