"""What `benchmarks.election` measures: how long a cluster is without a leader, case by case.

Rules of this file:

* The clock starts with the cause (all timers run; the leader is cut off; it is stopped) and ends
  when a task that waits for a leader knows of one.
* The theoretical best of a trial is the least of what the followers' timers had left when the
  clock started, plus one round trip. The timers' rest is the trial's own, as it was drawn; the
  round trip is what heartbeats and their answers took in the same trials. A trial cannot be
  faster: someone must lose patience, and must be answered once.
* Where fast failover's hint applies (`stop`), what a timer has left is what the hint left of it.
* The leader is lost at a moment that is random within its heartbeat interval.
"""

from __future__ import annotations

import enum
import random
import statistics
from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs
import trio

from trioraft import NodeId, Timing

from .election_cluster import WatchedCluster, watched_cluster


class Case(enum.Enum):
    """How the cluster comes to be without a leader."""

    BOOTSTRAP = "bootstrap"
    """All nodes have just been opened; there never was a leader."""
    DISCONNECT = "disconnect"
    """The leader is cut off silently: every connection stays open, nothing arrives."""
    STOP = "stop"
    """The leader's node is stopped on purpose: its connections close."""


@attrs.frozen
class Trial:
    """One election."""

    took_s: float
    """From the cause to a task that knows of the (new) leader."""
    timers_s: float
    """The least that the followers' timers had left at the cause."""
    terms: int
    """Terms that were begun; more than one means that votes were split."""
    round_trips_s: tuple[float, ...]
    """Heartbeats to their answers, while there was a leader."""


@attrs.frozen
class Setup:
    """What one run of trials is about."""

    case: Case
    nodes: int
    timing: Timing
    seed: int

    @property
    def name(self) -> str:
        """The seed of all its chance, and how it is called."""
        return f"{self.seed}/{self.case.value}/{self.nodes}"


Note: TypeAlias = Callable[[Trial], None]


async def measure(setup: Setup, trials: int, note: Note) -> None:
    """Run trials, one after the other.

    Args:
        setup: the case, the number of nodes, the timing, the seed.
        trials: how many.
        note: called after each, with its result; may take its time, nothing is measured then.

    Raises:
        NoElectionError: an election took absurdly long.

    Cancelling it closes the cluster; what was noted stands.
    """
    if setup.case is Case.BOOTSTRAP:
        for number in range(trials):
            note(await _bootstrap(setup, number))
        return
    phases = random.Random(f"{setup.name}/phase")
    async with watched_cluster(setup.nodes, setup.timing, setup.name) as cluster:
        for _ in range(trials):
            note(await _lose_leader(setup.case, cluster, phases))


async def _bootstrap(setup: Setup, number: int) -> Trial:
    async with watched_cluster(setup.nodes, setup.timing, f"{setup.name}/{number}") as cluster:
        began_s = trio.current_time()
        ended_s = await cluster.wait_for_leader()
        terms = cluster.term()
        timers_s = _least_left(cluster, cluster.ids, began_s, ended_s)
        await cluster.settle(2 * setup.timing.heartbeat_interval_s)
        return Trial(ended_s - began_s, timers_s, terms, _round_trips(cluster))


async def _lose_leader(case: Case, cluster: WatchedCluster, phases: random.Random) -> Trial:
    interval_s = cluster.timing.heartbeat_interval_s
    leader_id = await cluster.settle(interval_s + phases.uniform(0.0, interval_s))
    round_trips_s = _round_trips(cluster)
    term = cluster.term()
    began_s = trio.current_time()
    if case is Case.STOP:
        cluster.kill(leader_id)
    else:
        cluster.cuts.disconnect(leader_id)
    ended_s = await cluster.wait_for_leader(other_than=leader_id)
    terms = cluster.term() - term
    followers = [node_id for node_id in cluster.ids if node_id != leader_id]
    timers_s = _least_left(cluster, followers, began_s, ended_s)
    if case is Case.STOP:
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


def round_trip_s(trials: Iterable[Trial]) -> float:
    """What one round trip takes: the median over all heartbeats of these trials; 0 if none."""
    every = [trip_s for trial in trials for trip_s in trial.round_trips_s]
    return statistics.median(every) if every else 0.0


def expected_best_s(setup: Setup) -> float:
    """What the timers' rest should be on average, from the way in which they are drawn.

    The least of k timers, each uniform over a range, is one (k + 1)th into it, on average; a
    leader is lost half a heartbeat interval after it was heard, on average.
    """
    low, high = setup.timing.election_timeout_s
    if setup.case is Case.BOOTSTRAP:
        return low + (high - low) / (setup.nodes + 1)
    followers = setup.nodes - 1
    if setup.case is Case.STOP and setup.timing.fast_failover:
        return setup.timing.fast_failover_spread_s / (followers + 1)
    return low + (high - low) / (followers + 1) - setup.timing.heartbeat_interval_s / 2
