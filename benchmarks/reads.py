"""How fast are linearizable reads? `python -m benchmarks.reads --tasks 10000 --seconds 5`

Three nodes in one process, over TCP on the loopback, logs in memory: barriers on the leader and on
a follower, by one task and by many at once; and for comparison commands by as many.

Rules of this file: every task awaits its barrier before it asks for the next; a barrier counts when
it has returned. All five measurements are of one run, so that they can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from trioraft import Node
from trioraft.testing import open_cluster

from .stats import percentile

MANY: Final = 10_000
SECONDS: Final = 3.0


@attrs.frozen
class Result:
    """One measurement."""

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
    what: str, call: Callable[[], Awaitable[object]], *, tasks: int, seconds: float
) -> Result:
    """Let so many tasks call again and again for so long."""
    took_s: list[float] = []

    async def caller(until_s: float) -> None:
        while time.perf_counter() < until_s:
            began_s = time.perf_counter()
            await call()
            took_s.append(time.perf_counter() - began_s)

    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(caller, began_s + seconds)
    passed_s = time.perf_counter() - began_s
    return Result(
        what,
        tasks,
        len(took_s) / passed_s,
        percentile(took_s, 50) * 1000,
        percentile(took_s, 99) * 1000,
    )


async def run(tasks: int, seconds: float, report: Callable[[Result], None]) -> None:
    """All measurements, one after the other."""
    async with open_cluster(3, network="tcp") as cluster:
        leader_id, _ = await cluster.check_single_leader()
        leader = cluster.nodes[leader_id]
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        await leader.propose(b"first")
        for what, call in _calls(leader, follower):
            for count in (1, tasks):
                report(await measure(what, call, tasks=count, seconds=seconds))


def _calls(leader: Node, follower: Node) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    return [
        ("barrier on the leader", leader.read_barrier),
        ("barrier on a follower", follower.read_barrier),
        ("command", lambda: leader.propose(b"x" * 100)),
    ]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reads", description=__doc__)
    parser.add_argument("--tasks", type=int, default=MANY, help="tasks at once (10000)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each figure (3)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    options = parser.parse_args()
    if options.tasks < 1 or not options.seconds > 0:
        parser.error(f"--tasks {options.tasks} --seconds {options.seconds:g}: give positive ones")

    def report(result: Result) -> None:
        print(json.dumps(attrs.asdict(result)) if options.json else result, flush=True)

    try:
        trio.run(run, options.tasks, options.seconds, report)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
