"""Tasks that make one call after the other, and what that gives.

Rules of this file: every task awaits its call before it makes the next; a call counts when it has
returned, and if it was made after the warm-up and returned before the end.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import attrs
import trio

from .stats import percentile


@attrs.frozen
class Measured:
    """What so many tasks got."""

    what: str
    tasks: int
    per_s: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return (
            f"{self.what:<22} {self.tasks:>6} tasks {self.per_s:>10,.0f}/s   "
            f"p50 {self.p50_ms:8.3f} ms   p99 {self.p99_ms:8.3f} ms"
        )


async def measure(
    what: str,
    call: Callable[[], Awaitable[object]],
    *,
    tasks: int,
    seconds: float,
    warm_up: float = 0.1,
) -> Measured:
    """Let so many tasks call again and again for so long.

    Args:
        what: how the call is named.
        call: made by each task.
        tasks: how many.
        seconds: the warm-up included; who is calling then comes to an end.
        warm_up: part of that time which does not count.
    """
    took_s: list[float] = []
    counts_from_s = time.perf_counter() + warm_up * seconds
    ends_at_s = counts_from_s + (1 - warm_up) * seconds

    async def caller() -> None:
        while True:
            began_s = time.perf_counter()
            await call()
            ended_s = time.perf_counter()
            if ended_s > ends_at_s and took_s:
                return
            if began_s >= counts_from_s:
                took_s.append(ended_s - began_s)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(caller)
    return Measured(
        what,
        tasks,
        len(took_s) / ((1 - warm_up) * seconds),
        percentile(took_s, 50) * 1000,
        percentile(took_s, 99) * 1000,
    )
