"""The parent: starts the nodes, kills them, and checks what is left."""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.processes import (
    Listener,
    NodeProcess,
    NodeProcesses,
    ProcessError,
    open_nodes,
    patience,
)
from benchmarks.processes.pipe import Bound
from tests.kill_nine.node import (
    Acknowledged,
    Commands,
    Dump,
    Opened,
    Propose,
    Proposed,
    Quiet,
    Setup,
    decode_answer,
)

IDS: Final = ("0", "1", "2")
LAST: Final = "the end"


class Trial(Listener):
    """Everything that any process of a cluster acknowledged."""

    def __init__(self, directory: Path, *, is_shared: bool = False) -> None:
        self.acknowledged: list[str] = []
        self.has_begun = False
        """Whether all have been open."""
        self._directory, self._is_shared = directory, is_shared
        self._started = 0
        self._progress = trio.lowlevel.ParkingLot()

    def setup_of(self, node_id: str, *, port: int) -> Setup:
        """Of a node that is started, or started again."""
        self._started += 1
        name = f"{node_id}#{self._started}"
        directory = str(self._directory / node_id)
        return Setup(node_id, IDS, directory, name, port, self._is_shared)

    def heard(self, _node: NodeProcess, answer: Any) -> bool:
        """Note what is acknowledged; that a node is back, nobody waits for."""
        if isinstance(answer, Acknowledged):
            self.acknowledged.append(answer.text)
            self._progress.unpark_all()
            return True
        return self.has_begun and isinstance(answer, Bound | Opened)

    def ended(self, node: NodeProcess) -> None:
        """A node that is killed has nothing to complain of."""
        if complaints := node.complaints():
            raise ProcessError(f"node {node.node_id} complained:\n{complaints}")

    async def wait_for_acknowledgements(self, count: int) -> None:
        """Let the cluster get some work done, so that a kill hits it in the middle."""
        wanted = len(self.acknowledged) + count
        with patience("two of three nodes to acknowledge something"):
            while len(self.acknowledged) < wanted:
                await self._progress.park()


async def has_leader(cluster: NodeProcesses) -> bool:
    """Whether any node could have the last command committed."""
    for node in cluster.nodes.values():
        if (await node.ask(Propose(LAST), Proposed)).is_done:
            return True
    return False


async def finish(cluster: NodeProcesses) -> dict[str, list[str]]:
    """Have one last command committed; return each node's commands."""
    nodes = cluster.nodes
    for node in nodes.values():
        node.order(Quiet())
    logs: dict[str, list[str]] = {}
    with patience("a leader in the end, and all nodes to agree"):
        while not await has_leader(cluster):  # noqa: ASYNC110 - none tells a client of the next
            await trio.sleep(0.05)
        while set(logs) != set(nodes):
            for node_id, node in nodes.items():
                commands = (await node.ask(Dump(), Commands)).texts
                if LAST in commands[-3:]:
                    logs[node_id] = [command for command in commands if command != LAST]
            await trio.sleep(0.05)
    return logs


def check(acknowledged: list[str], logs: dict[str, list[str]]) -> None:
    """Every acknowledged command is there, once, and all nodes agree."""
    first = logs[IDS[0]]
    for node_id, log in logs.items():
        if log != first:
            at = next(
                (i for i, (a, b) in enumerate(zip(log, first, strict=False)) if a != b),
                min(len(log), len(first)),
            )
            raise AssertionError(f"nodes {IDS[0]} and {node_id} differ from command {at} on")
    if len(set(first)) != len(first):
        twice = sorted({command for command in first if first.count(command) > 1})
        raise AssertionError(f"applied twice: {twice[:5]}")
    missing = set(acknowledged) - set(first)
    if missing:
        raise AssertionError(f"{len(missing)} acknowledged and lost: {sorted(missing)[:5]}")
    place = {command: index for index, command in enumerate(first)}
    by_client: dict[str, int] = {}
    for command in acknowledged:
        client = command.partition("/")[0]
        if place[command] < by_client.get(client, -1):
            raise AssertionError(f"{command} stands before an earlier command of its client")
        by_client[client] = place[command]


async def kill_at_random(
    rounds: int, rng: random.Random, trial: Trial, *, progress: bool
) -> dict[str, list[str]]:
    """Kill nodes, one after the other, and start them again; return each node's commands."""
    async with open_nodes(
        "tests.kill_nine.node", IDS, trial.setup_of, decode_answer, trial
    ) as cluster:
        await cluster.open(Opened)
        trial.has_begun = True
        for number in range(rounds):
            await trial.wait_for_acknowledgements(rng.randrange(1, 400))
            victim = rng.choice(IDS)
            cluster.kill(victim)
            await trio.sleep(rng.choice((0.0, 0.0, 0.2)))
            await cluster.start_again(victim)
            if progress:
                print(f"\r{number + 1}/{rounds} killed", end="", flush=True)
        return await finish(cluster)


def run(
    rounds: int, seed: int, *, directory: Path, progress: bool = False, is_shared: bool = False
) -> tuple[int, int]:
    """Kill nodes at random; returns how many commands were acknowledged, and how many applied."""
    trial = Trial(directory, is_shared=is_shared)

    async def killing() -> dict[str, list[str]]:
        return await kill_at_random(rounds, random.Random(seed), trial, progress=progress)

    logs = trio.run(killing)
    check(trial.acknowledged, logs)
    if len(trial.acknowledged) < rounds:
        raise AssertionError(f"only {len(trial.acknowledged)} were acknowledged: no test")
    return len(trial.acknowledged), len(logs[IDS[0]])


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_nine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", action="store_true", help="each on a log that groups share")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="kill-nine-", dir=".") as directory:
        acknowledged, applied = run(
            options.rounds,
            options.seed,
            directory=Path(directory),
            progress=True,
            is_shared=options.shared,
        )
    print(f"\n{acknowledged} acknowledged, {applied} applied: none lost, none twice, one order")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
