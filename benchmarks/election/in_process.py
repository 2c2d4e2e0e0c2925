"""Trials with all nodes in this process: a leader is found missing, another one is known.

Rules of this file:

* A trial starts with its cause and ends when a task that waits for a leader knows of one.
* The leader is lost at a moment that is random within its heartbeat interval.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import trio

from trioraft import NodeId

from .cases import Case, Setup, Trial
from .watch import NoElectionError
from .watched_cluster import WatchedCluster, watched_cluster

Note: TypeAlias = Callable[[Trial], None]

OPENINGS_MAX: Final = 20
"""How often a cluster is opened for one trial until no node has campaigned by then."""


async def measure(setup: Setup, trials: int, note: Note) -> None:
    """Run trials of a case that needs no processes; see `measuring.measure`."""
    if setup.case is Case.BOOTSTRAP:
        for number in range(trials):
            note(await _bootstrap(setup, number))
        return
    phases = random.Random(f"{setup.name}/phase")
    async with watched_cluster(setup.nodes, setup.timing, setup.name) as cluster:
        for _ in range(trials):
            note(await _lose_leader(setup.case, cluster, phases))


async def _bootstrap(setup: Setup, number: int) -> Trial:
    for _ in range(OPENINGS_MAX):
        async with watched_cluster(setup.nodes, setup.timing, f"{setup.name}/{number}") as cluster:
            began_s = trio.current_time()
            left_s = _least_left(cluster, cluster.ids, began_s, began_s)
            if left_s <= 0 or cluster.is_campaigning():
                continue  # on a busy machine the first has lost patience before the last is open
            ended_s = await cluster.wait_for_leader()
            terms = cluster.term()
            timers_s = _least_left(cluster, cluster.ids, began_s, ended_s)
            await cluster.settle(2 * setup.timing.heartbeat_interval_s)
            return Trial(ended_s - began_s, timers_s, terms, _round_trips(cluster))
    raise NoElectionError("the nodes take longer to open than an election timeout")


async def _lose_leader(case: Case, cluster: WatchedCluster, phases: random.Random) -> Trial:
    interval_s = cluster.timing.heartbeat_interval_s
    leader_id = await cluster.settle(interval_s + phases.uniform(0.0, interval_s))
    round_trips_s = _round_trips(cluster)
    term = cluster.term()
    began_s = trio.current_time()
    if case is Case.CRASH:
        cluster.kill(leader_id)
    else:
        cluster.cuts.disconnect(leader_id)
    ended_s = await cluster.wait_for_leader(other_than=leader_id)
    terms = cluster.term() - term
    followers = [node_id for node_id in cluster.ids if node_id != leader_id]
    timers_s = _least_left(cluster, followers, began_s, ended_s)
    if case is Case.CRASH:
        await cluster.restart(leader_id)
    else:
        cluster.cuts.reconnect(leader_id)
    return Trial(ended_s - began_s, timers_s, terms, round_trips_s)


def _least_left(
    cluster: WatchedCluster, followers: Iterable[NodeId], began_s: float, ended_s: float
) -> float:
    dues = [cluster.watches[node_id].due_s(began_s, ended_s) for node_id in followers]
    return min(dues) - began_s


def _round_trips(cluster: WatchedCluster) -> tuple[float, ...]:
    return tuple(
        round_trip_s for watch in cluster.watches.values() for round_trip_s in watch.round_trips_s
    )
