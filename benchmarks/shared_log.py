"""What does one log for many groups cost, and save? `python -m benchmarks.shared_log`

Groups of one voter each, in one process and on one disk: one group beside many with a shared log
and beside as many with directories of their own. A commit is a write that was synced, so what is
compared is the way to the disk; there is no network.

Rules of this file: all cases are of one run, in turns, and the median of each counts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import attrs
import trio

from trioraft import Entry, MemoryNetwork, Node, SharedLog, SQLiteStorage, open_node
from trioraft.core.types import HardState, LogIndex
from trioraft.protocols import Storage

GROUPS: Final = 48
CALLERS: Final = 64
SECONDS: Final = 2.0
ROUNDS: Final = 5
COMMAND: Final = bytes(100)


class Nothing:
    """A state machine that keeps nothing."""

    def apply(self, index: int, data: bytes) -> None:
        """Let it pass."""

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, chunks: object) -> None:
        """Nothing."""


class Counted:
    """A storage of its own directory, and how often it was synced."""

    def __init__(self, inner: Storage) -> None:
        self.appends: int = 0
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """See `Storage.append`."""
        self.appends += 1
        self._inner.append(hard_state, entries, replace_from, identity)


@attrs.frozen
class Case:
    """What is measured."""

    groups: int
    is_shared: bool
    callers: int
    """In each group."""

    def __str__(self) -> str:
        storage = "one SharedLog" if self.is_shared else f"{self.groups} × SQLiteStorage"
        return f"{self.groups:3} groups, {self.callers:3} callers each, {storage}"


@attrs.frozen
class Measured:
    """One round of one case."""

    commits_per_s: float
    syncs_per_s: float
    cpu_us: float
    """Of the whole process, for each commit, in microseconds."""


async def _open_groups(
    stack: AsyncExitStack, case: Case, directory: Path
) -> tuple[list[Node], Callable[[], int]]:
    storages: list[Storage]
    if case.is_shared:
        shared = SharedLog(directory)
        shared.open(cluster_id="benchmark", node_id="a")
        stack.callback(shared.close)
        storages = [shared.storage_of(f"{number}") for number in range(case.groups)]

        def syncs() -> int:
            return shared.transactions
    else:
        counted = [Counted(SQLiteStorage(directory / f"{n}")) for n in range(case.groups)]
        storages = list(counted)

        def syncs() -> int:
            return sum(each.appends for each in counted)

    nodes: list[Node] = []
    for storage in storages:
        node = await stack.enter_async_context(
            open_node(
                "a",
                voters=["a"],
                machine=Nothing(),
                storage=storage,
                transport=MemoryNetwork(random.Random(0)).transport("a"),
            )
        )
        nodes.append(node)
    for node in nodes:
        await node.wait(lambda status: status.leader_id == "a")
    return nodes, syncs


@asynccontextmanager
async def _callers(nodes: Sequence[Node], callers: int) -> AsyncIterator[list[int]]:
    """Each proposes, again and again; yields how many were committed by each."""
    done = [0] * (len(nodes) * callers)

    async def propose(node: Node, number: int) -> None:
        while True:
            await node.propose(COMMAND)
            done[number] += 1

    async with trio.open_nursery() as nursery:
        for number in range(len(done)):
            nursery.start_soon(propose, nodes[number % len(nodes)], number)
        yield done
        nursery.cancel_scope.cancel()


async def measure(case: Case, directory: Path, seconds: float) -> Measured:
    """One round.

    Args:
        case: what is measured.
        directory: a new one, on the disk that matters.
        seconds: for how long, in seconds; the first tenth of that is not counted.
    """
    async with AsyncExitStack() as stack:
        nodes, syncs = await _open_groups(stack, case, directory)
        async with _callers(nodes, case.callers) as done:
            await trio.sleep(seconds / 10)
            begun = (time.perf_counter(), time.process_time(), sum(done), syncs())
            await trio.sleep(seconds)
            ended = (time.perf_counter(), time.process_time(), sum(done), syncs())
    took_s, cpu_s, commits, synced = (b - a for a, b in zip(begun, ended, strict=True))
    return Measured(commits / took_s, synced / took_s, cpu_s / max(1, commits) * 1e6)


def run(cases: Sequence[Case], rounds: int, seconds: float, where: str) -> dict[Case, Measured]:
    """All rounds, and the medians of each case."""
    found: dict[Case, list[Measured]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="shared-log-", dir=where) as directory:
                found[case].append(trio.run(partial(measure, case, Path(directory), seconds)))
    return {
        case: Measured(
            median(each.commits_per_s for each in measured),
            median(each.syncs_per_s for each in measured),
            median(each.cpu_us for each in measured),
        )
        for case, measured in found.items()
    }


def cases_of(groups: int, callers: Sequence[int]) -> list[Case]:
    """One group beside many, in all ways."""
    return [
        case
        for count in callers
        for case in (
            Case(1, False, count),
            Case(1, True, count),
            Case(groups, True, count),
            Case(groups, False, count),
        )
    ]


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_log", description=__doc__)
    parser.add_argument("--groups", type=int, default=GROUPS)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, CALLERS])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dir", default=".", help="where: the disk matters")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args()
    cases = cases_of(options.groups, options.callers)
    found = run(cases, options.rounds, options.seconds, options.dir)
    for case, each in found.items():
        beside = found[Case(1, False, case.callers)].commits_per_s
        print(
            f"{case!s:60} {each.commits_per_s:9,.0f} commits/s {each.syncs_per_s:8,.0f} syncs/s "
            f"{each.cpu_us:7.1f} CPU us each  × {each.commits_per_s / beside:.2f}"
        )
    if options.json:
        rows = [{**attrs.asdict(case), **attrs.asdict(each)} for case, each in found.items()]
        Path(options.json).write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
