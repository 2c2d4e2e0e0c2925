"""How fast are linearizable reads? `python -m benchmarks.reads --tasks 10000 --seconds 5`

Three nodes in one process, over TCP on the loopback, logs in memory: barriers on the leader and on
a follower, by one task and by many at once; and for comparison commands by as many.

Rules of this file: all measurements are of one run, so that they can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from trioraft import Node
from trioraft.testing import open_cluster

from .calls import Measured, measure

MANY: Final = 10_000
SECONDS: Final = 3.0


async def run(tasks: int, seconds: float, report: Callable[[Measured], None]) -> None:
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

    def report(result: Measured) -> None:
        print(json.dumps(attrs.asdict(result)) if options.json else result, flush=True)

    try:
        trio.run(run, options.tasks, options.seconds, report)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
