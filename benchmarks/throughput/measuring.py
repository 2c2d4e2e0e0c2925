"""How one line of each table is measured, on a cluster of its own.

Rules of this file:

* Every measurement has fresh processes and an empty directory: nothing is left over from another.
* CPU time is that of all three processes in the measured interval, the leader's load included.
* The machine's load average is noted beside each figure: other work on it makes it worthless.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import trio

from trioraft import NodeId

from ..processes import Listener, NodeProcess, NodeProcesses, ProcessError, open_nodes
from .cases import NODES, Case, Collector, Storage, System
from .pipe import (
    Applied,
    AwaitApplied,
    Began,
    Begin,
    End,
    Fill,
    Filled,
    Load,
    Loaded,
    Mark,
    Opened,
    Setup,
    Usage,
    decode_answer,
)

OPS_MIN: Final = 100
"""Commands below which a case is not ended, however long it takes: PySyncObj needs 0.1 s for
one."""
WARM_UP_S: Final = 1.0
"""The longest warm-up."""
SLACK_S: Final = 300.0
"""How much longer than it should a load may take."""
FILL_WINDOW: Final = 1000
"""Commands on their way while a log is filled."""
FILL_MARKS: Final = 20
"""Parts of the way that are measured on their own."""
PROFILED_PATIENCE: Final = 10
"""How many times the default election timeouts a profiled cluster has: a leader that is profiled
takes several times as long for everything, and would be deposed for it."""


@attrs.frozen
class Settings:
    """What is the same for all measurements of a run."""

    seconds: float
    """How long each case is measured."""
    directory: Path
    """Where durable storages are put."""
    collector: Collector = Collector.DEFAULT
    programs: Mapping[System, Path] = attrs.field(factory=dict)
    """What was built of systems that are not written in Python."""
    profile: Path | None = None
    profiles_follower: bool = False

    @property
    def warm_up_s(self) -> float:
        """Before the measured interval."""
        return min(WARM_UP_S, self.seconds / 3)


@attrs.frozen
class Result:
    """One line of the table."""

    case: Case
    ops: int
    elapsed_s: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_op: float
    """Of all three processes."""
    rss_mb: float
    """The leader's peak."""
    load_average: float
    p999_ms: float = 0.0
    failed: int = 0
    terms: int = 0
    """How many terms higher the leader's was at the end."""

    @property
    def ops_per_s(self) -> float:
        """Commands whose results arrived, a second."""
        return self.ops / self.elapsed_s

    def row(self) -> dict[str, Any]:
        """The row in the JSON file."""
        return {
            "system": self.case.system.value,
            "storage": self.case.storage.value,
            "mode": self.case.mode.value,
            "concurrency": self.case.concurrency,
            "ops_per_s": round(self.ops_per_s, 1),
            "p50_ms": round(self.p50_ms, 4),
            "p99_ms": round(self.p99_ms, 4),
            "p999_ms": round(self.p999_ms, 4),
            "cpu_us_per_op": round(self.cpu_us_per_op, 2),
            "rss_mb": round(self.rss_mb, 1),
            "ops": self.ops,
            "seconds": round(self.elapsed_s, 3),
            "load_average": round(self.load_average, 2),
            "failed": self.failed,
            "terms": self.terms,
        }


async def measure(case: Case, settings: Settings) -> Result:
    """Measure one case.

    Raises:
        ProcessError: a node failed, or ended.
        OSError: there is no room for the storages.
    """
    profile = None if settings.profile is None else str(settings.profile)
    load = Load(
        case.mode,
        case.concurrency,
        settings.warm_up_s,
        settings.seconds,
        OPS_MIN,
        profile=None if settings.profiles_follower else profile,
        command_bytes=case.command_bytes,
        goes_on=case.is_big,
    )
    begin = Begin(profile=profile if settings.profiles_follower else None)
    with _directory(settings) as directory:
        setup = _setup(case.system, case.storage, directory, settings)
        async with open_cluster(setup, settings.programs) as cluster:
            leader, followers = await _elect(cluster)
            with trio.move_on_after(settings.seconds + SLACK_S):
                return await _under_load(case, load, begin, leader, followers)
    raise ProcessError(f"{case}: no result after {settings.seconds + SLACK_S:g} s")


async def _under_load(
    case: Case, load: Load, begin: Begin, leader: NodeProcess, followers: list[NodeProcess]
) -> Result:
    await leader.ask(load, Began)
    load_average = os.getloadavg()[0]
    for number, follower in enumerate(followers):
        follower.order(begin if number == 0 else Begin())
    loaded = await leader.answer(Loaded)
    cpu_s = loaded.usage.cpu_s
    if not loaded.ops and not load.goes_on:
        raise ProcessError(f"{case}: no command was done in {loaded.elapsed_s:.1f} s")
    for follower in followers:
        cpu_s += (await follower.ask(End(), Usage)).cpu_s
    return Result(
        case,
        loaded.ops,
        loaded.elapsed_s,
        loaded.p50_ms,
        loaded.p99_ms,
        cpu_s / max(1, loaded.ops) * 1e6,
        loaded.usage.rss_mb,
        load_average,
        loaded.p999_ms,
        loaded.failed,
        loaded.terms,
    )


@attrs.frozen
class Endurance:
    """A log that grows, and what commands cost on the way."""

    storage: Storage
    marks: tuple[Mark, ...]

    @property
    def entries(self) -> int:
        """How long it grew."""
        return self.marks[-1].ops

    @property
    def speeds(self) -> list[float]:
        """Commands a second in each part of the way."""
        return [
            (after.ops - before.ops) / (after.elapsed_s - before.elapsed_s)
            for before, after in zip(self.marks, self.marks[1:], strict=False)
        ]

    def mean_speed(self, first: int, last: int) -> float:
        """Commands a second from one mark to another."""
        before, after = self.marks[first], self.marks[last]
        return (after.ops - before.ops) / (after.elapsed_s - before.elapsed_s)

    def cpu_us(self, first: int, last: int) -> float:
        """CPU time of the leader for a command from one mark to another, in microseconds: it says
        more than speed does on a machine that has other things to do."""
        before, after = self.marks[first], self.marks[last]
        return (after.cpu_s - before.cpu_s) / (after.ops - before.ops) * 1e6

    @property
    def first_million(self) -> int:
        """The mark at which a million commands, or the first part, were done."""
        done = (at for at, mark in enumerate(self.marks) if mark.ops >= min(MILLION, self.entries))
        return max(1, next(done))

    def row(self) -> dict[str, Any]:
        """The row in the JSON file."""
        part = max(1, (len(self.marks) - 1) // 5)
        first = self.mean_speed(0, part)
        last = self.mean_speed(-1 - part, -1)
        million = min(self.first_million, len(self.marks) - 2)
        # A run that was looked at twice only is told as a whole, both times.
        until, since = (million, million) if million > 0 else (-1, 0)
        return {
            "system": System.TRIORAFT.value,
            "storage": self.storage.value,
            "entries": self.entries,
            "first_fifth_ops_per_s": round(first, 1),
            "last_fifth_ops_per_s": round(last, 1),
            "change_percent": round((last / first - 1) * 100, 1),
            "first_fifth_cpu_us": round(self.cpu_us(0, part), 2),
            "last_fifth_cpu_us": round(self.cpu_us(-1 - part, -1), 2),
            "first_million": self._part(0, until),
            "after_first_million": self._part(since, -1),
            "rss_mb_max": round(max(mark.rss_mb for mark in self.marks), 1),
            "rss_mb_end": round(self.marks[-1].rss_mb, 1),
            "ops_per_s": [round(speed, 1) for speed in self.speeds],
            "rss_mb": [round(mark.rss_mb, 1) for mark in self.marks],
        }

    def _part(self, first: int, last: int) -> dict[str, float]:
        return {
            "ops_per_s": round(self.mean_speed(first, last), 1),
            "cpu_us": round(self.cpu_us(first, last), 2),
            "rss_mb_end": round(self.marks[last].rss_mb, 1),
        }


MILLION: Final = 1_000_000


async def endure(storage: Storage, entries: int, settings: Settings) -> Endurance:
    """Fill a log, with default limits: snapshots are taken on the way.

    Raises:
        ProcessError: a node failed, or ended.
    """
    with _directory(settings) as directory:
        setup = _setup(System.TRIORAFT, storage, directory, settings)
        async with open_cluster(setup, settings.programs) as cluster:
            leader, _ = await _elect(cluster)
            return Endurance(storage, (await _fill(leader, entries)).marks)


@attrs.frozen
class Restart:
    """How a follower came back."""

    entries: int
    with_snapshots: bool
    open_s: float
    """Until its log was loaded and it could be reached."""
    applied_s: float
    """Until its state machine stood where it had stood, and it was in the cluster again."""
    rss_mb: float

    def row(self) -> dict[str, Any]:
        """The row in the JSON file."""
        return {
            "system": System.TRIORAFT.value,
            "storage": Storage.SQLITE.value,
            "entries": self.entries,
            "snapshots": self.with_snapshots,
            "open_s": round(self.open_s, 3),
            "applied_s": round(self.applied_s, 3),
            "rss_mb": round(self.rss_mb, 1),
        }


async def restart(entries: int, settings: Settings, *, with_snapshots: bool) -> Restart:
    """Fill the logs of a cluster with SQLite storages, kill a follower, and start it again.

    Args:
        entries: length of the log.
        settings: of the run.
        with_snapshots: False: nobody takes any, so that all of the log has to be read and
            applied.

    Raises:
        ProcessError: a node failed, or ended.
    """
    with _directory(settings) as directory:
        setup = _setup(
            System.TRIORAFT, Storage.SQLITE, directory, settings, snapshots=with_snapshots
        )
        async with open_cluster(setup, settings.programs) as cluster:
            leader, followers = await _elect(cluster)
            filled = await _fill(leader, entries)
            await followers[0].ask(AwaitApplied(filled.last_index), Applied)
            again = followers[0].node_id
            cluster.kill(again)
            opened = await cluster.restart(again, Opened)
            applied = await cluster.nodes[again].ask(AwaitApplied(filled.last_index), Applied)
    return Restart(entries, with_snapshots, opened.open_s, applied.since_opening_s, applied.rss_mb)


async def _fill(leader: NodeProcess, entries: int) -> Filled:
    with trio.move_on_after(SLACK_S):
        return await leader.ask(Fill(entries, FILL_WINDOW, FILL_MARKS), Filled)
    raise ProcessError(f"{entries} commands were not taken within {SLACK_S:g} s")


def open_cluster(
    setup: Setup, programs: Mapping[System, Path], listener: Listener | None = None
) -> AbstractAsyncContextManager[NodeProcesses]:
    """Start the processes of one cluster; see `open_nodes`."""
    ids = tuple(str(number) for number in range(NODES))

    def setup_of(node_id: NodeId, *, port: int) -> Setup:
        return msgspec.structs.replace(setup, node_id=node_id, voters=ids, port=port)

    built = programs.get(setup.system)
    program = "benchmarks.throughput.node" if built is None else [str(built)]
    return open_nodes(program, ids, setup_of, decode_answer, listener)


async def _elect(cluster: NodeProcesses) -> tuple[NodeProcess, list[NodeProcess]]:
    """Let the nodes find each other and elect; returns the leader and the others. Whoever wins
    leads, and the load goes there: nothing is rigged."""
    opened = await cluster.open(Opened)
    said = Counter(answer.leader_id for answer in opened.values())
    # Not all need to have heard the last election; who leads will know.
    leader = cluster.nodes[said.most_common(1)[0][0]]
    return leader, [node for node in cluster.nodes.values() if node is not leader]


def _setup(
    system: System,
    storage: Storage,
    directory: str,
    settings: Settings,
    *,
    snapshots: bool = True,
) -> Setup:
    return Setup(
        system,
        storage,
        node_id="",
        voters=(),
        directory=directory,
        collector=settings.collector,
        snapshots=snapshots,
        patience=1 if settings.profile is None else PROFILED_PATIENCE,
    )


@contextmanager
def _directory(settings: Settings) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="throughput-", dir=settings.directory) as directory:
        yield directory
