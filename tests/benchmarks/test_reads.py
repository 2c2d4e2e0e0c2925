"""The benchmark of reads measures what it says."""

from __future__ import annotations

from benchmarks.calls import Measured
from benchmarks.reads import run


async def test_every_figure_is_reported() -> None:
    results: list[Measured] = []
    await run(20, 0.05, results.append)
    assert [(result.what, result.tasks) for result in results] == [
        (what, tasks)
        for what in ("barrier on the leader", "barrier on a follower", "command")
        for tasks in (1, 20)
    ]
    assert all(result.per_s > 0 and 0 < result.p50_ms <= result.p99_ms for result in results)
