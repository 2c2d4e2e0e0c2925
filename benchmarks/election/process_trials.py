"""Trials with a process for each node: TCP, SQLite, and signals.

Rules of this file:

* A trial ends with a proposal that has succeeded, not with a leader that might take one.
* `kill`: the clock starts before the signal is sent, and ends when a client that proposes as soon
  as there is a new leader has its first result.
* `transfer`: from the call of `transfer_leadership` to the first result at the new leader; tasks
  propose on the old one all the while.
* `rolling`: SIGTERM, restart, next node as soon as all have caught up. The time is the longest
  between two calls that succeeded, as clients outside of the nodes' processes see it.
* Moments are of `time.monotonic()`.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import trio

from trioraft.tasks.background import running_beside

from . import pipe
from .callers import Callers
from .cases import Case, Setup, Trial
from .processes import ProcessCluster, process_cluster

LOAD_TASKS: Final = 8
"""Tasks that propose, one command after the other, in the leader's process during `transfer`."""

Note: TypeAlias = Callable[[Trial], None]


async def measure(setup: Setup, trials: int, note: Note, where: Path | None = None) -> None:
    """Run trials of a case that needs processes; see `cases.measure`."""
    phases = random.Random(f"{setup.name}/phase")
    with tempfile.TemporaryDirectory(prefix="trioraft-election-", dir=where) as directory:
        async with process_cluster(_node_setup(setup, directory)) as cluster:
            if setup.case is Case.KILL:
                for _ in range(trials):
                    note(await _kill(cluster, phases, setup))
            elif setup.case is Case.TRANSFER:
                for node in cluster.nodes.values():
                    node.order(pipe.Load(LOAD_TASKS))
                for _ in range(trials):
                    note(await _transfer(cluster, phases, setup))
            else:
                callers = Callers(cluster)
                await cluster.settle()
                async with running_beside(callers.run, stop=callers.stop, name="callers"):
                    for _ in range(trials):
                        note(await _restart_all(cluster, callers))


def _node_setup(setup: Setup, directory: str) -> pipe.NodeSetup:
    timing = setup.timing
    return pipe.NodeSetup(
        node_id="",
        voters=tuple(str(number) for number in range(setup.nodes)),
        directory=directory,
        seed=setup.name,
        election_timeout_s=timing.election_timeout_s,
        heartbeat_interval_s=timing.heartbeat_interval_s,
        fast_failover=timing.fast_failover,
        is_watched=setup.case is Case.KILL,
    )


async def _settled(cluster: ProcessCluster, phases: random.Random, setup: Setup) -> pipe.Led:
    """All is well, and has been for a heartbeat interval and a random part of another."""
    interval_s = setup.timing.heartbeat_interval_s
    leader = await cluster.settle()
    await trio.sleep(interval_s + phases.uniform(0.0, interval_s))  # it waits for nothing
    return await cluster.leader_after(leader.term - 1)


async def _kill(cluster: ProcessCluster, phases: random.Random, setup: Setup) -> Trial:
    for node_id, node in cluster.nodes.items():
        if node.is_to_end:  # the last trial's; not at its end, since it may have been the last
            await cluster.restart(node_id)
    leader = await _settled(cluster, phases, setup)
    trips = await cluster.nodes[leader.node_id].ask(pipe.Look(), pipe.RoundTrips)
    began_s = time.monotonic()
    cluster.processes.kill(leader.node_id)
    new = await cluster.leader_after(leader.term)
    if new.done_s < began_s:  # it was deposed before: on a busy machine that happens
        return await _kill(cluster, phases, setup)
    when = pipe.When(began_s, new.done_s)
    dues_s = [
        (await node.ask(when, pipe.Due)).at_s
        for node_id, node in cluster.nodes.items()
        if node_id != leader.node_id
    ]
    return Trial(new.done_s - began_s, min(dues_s) - began_s, new.term - leader.term, trips.took_s)


async def _transfer(cluster: ProcessCluster, phases: random.Random, setup: Setup) -> Trial:
    leader = await _settled(cluster, phases, setup)
    await _counts(cluster)
    handed = await cluster.nodes[leader.node_id].ask(pipe.HandOver(), pipe.HandedOver)
    new = await cluster.leader_after(leader.term)
    if new.done_s < handed.called_s:  # it was deposed before
        return await _transfer(cluster, phases, setup)
    counts = await _counts(cluster)
    return Trial(
        new.done_s - handed.called_s,
        None,
        new.term - leader.term,
        calls=sum(count.done + count.failed for count in counts),
        failed_calls=sum(count.failed for count in counts),
    )


async def _counts(cluster: ProcessCluster) -> list[pipe.Counted]:
    return [await node.ask(pipe.Count(), pipe.Counted) for node in cluster.nodes.values()]


async def _restart_all(cluster: ProcessCluster, callers: Callers) -> Trial:
    before = await cluster.settle()
    callers.forget()
    for node_id in cluster.ids:
        await cluster.processes.terminate(node_id)
        await cluster.restart(node_id)
        after = await cluster.settle()
    gaps_s = [later - earlier for earlier, later in pairwise(callers.done_s)]
    return Trial(
        max(gaps_s),
        None,
        after.term - before.term,
        calls=len(callers.done_s) + callers.failed,
        failed_calls=callers.failed,
    )
