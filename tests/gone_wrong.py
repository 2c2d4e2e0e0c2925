"""What goes wrong in elections, made to happen: `pytest tests/gone_wrong.py` (docs/elections.md).

Rules of this file:

* Each story is a test, so that it is told as the good ones are: in virtual time, with a fixed
  seed, with `--raftlog FILE` for its log and `--raftviz DIR` for its page.
* A story checks that the harm is done. The leaked task is the exception: its test fails, as it
  should, because the leak check looks.
* What trioraft refuses is forced here, and only here, past the check. Do not copy that.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trioraft import ConfigError, Node, Timing
from trioraft.testing.cluster import Cluster, open_cluster

SLOW_HEARTBEAT_S = 3.0
TOO_SHORT_S = (0.005, 0.010)
"""Election timeouts of 5 to 10 ms …"""
ONE_WAY_S = (0.006, 0.009)
"""… and a network on which a question and its answer take 12 to 18 ms."""


def forced_timing(heartbeat_interval_s: float) -> Timing:
    """A Timing that its own check refuses."""
    timing = Timing()
    object.__setattr__(timing, "heartbeat_interval_s", heartbeat_interval_s)
    return timing


def highest_term(cluster: Cluster) -> int:
    """How many elections there were, at least."""
    return max(node.status.term for node in cluster.nodes.values())


# -- a heartbeat of 3 s ----------------------------------------------------------------------


def test_timing_refuses_a_heartbeat_of_3_s() -> None:
    """The mistake is found where it is made."""
    with pytest.raises(ConfigError, match="followers would depose every healthy leader"):
        Timing(heartbeat_interval_s=SLOW_HEARTBEAT_S)


async def test_heartbeat_of_3_s(autojump_clock: MockClock) -> None:
    """Every leader is healthy, and is deposed all the same."""
    async with open_cluster(3, timing=forced_timing(SLOW_HEARTBEAT_S), seed=0) as cluster:
        await trio.sleep(1.5)
        assert highest_term(cluster) >= 4


# -- timeouts below the round trip -----------------------------------------------------------


async def test_timeouts_below_the_round_trip(autojump_clock: MockClock) -> None:
    """Each election ends before its votes arrive: without widening, nobody ever leads."""
    timing = Timing(TOO_SHORT_S, heartbeat_interval_s=0.0025, widening_max=1, pre_vote=False)
    async with open_cluster(3, timing=timing, delay_s=ONE_WAY_S, seed=0) as cluster:
        await trio.sleep(0.08)
        cluster.check_no_leader()
        assert highest_term(cluster) >= 5


async def test_timeouts_below_the_round_trip_widened(autojump_clock: MockClock) -> None:
    """Candidates learn patience, as they do by default, and one wins. It stays as patient as its
    election has shown it has to be, and leads on."""
    timing = Timing(TOO_SHORT_S, heartbeat_interval_s=0.0025, pre_vote=False)
    async with open_cluster(3, timing=timing, delay_s=ONE_WAY_S, seed=0) as cluster:
        leader, term = await cluster.check_single_leader()
        await cluster.check_committed(await cluster.propose(b"a command"))
        assert await cluster.check_single_leader() == (leader, term)


async def test_timeouts_above_the_round_trip_mended(autojump_clock: MockClock) -> None:
    """The cure: the same network, and timeouts ten times the round trip."""
    async with open_cluster(3, delay_s=ONE_WAY_S, seed=0) as cluster:
        _, term = await cluster.check_single_leader()
        await trio.sleep(1.5)
        assert await cluster.check_single_leader() == ("0", term)


# -- a leaked task ---------------------------------------------------------------------------


async def report_status(node: Node) -> None:
    """Say who leads, ten times a second, for ever."""
    while True:
        await trio.sleep(0.1)
        print(node.status.leader_id)


async def test_leaked_task(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """The cluster ends; the task that watches it does not. This test fails."""
    async with open_cluster(3, seed=0) as cluster:
        leader, _ = await cluster.check_single_leader()
        nursery.start_soon(report_status, cluster.nodes[leader])
        await trio.sleep(0.15)


async def test_leaked_task_mended(autojump_clock: MockClock) -> None:
    """The task lives in a nursery inside the cluster's block, which ends it."""
    async with open_cluster(3, seed=0) as cluster, trio.open_nursery() as nursery:
        leader, _ = await cluster.check_single_leader()
        nursery.start_soon(report_status, cluster.nodes[leader])
        await trio.sleep(0.15)
        nursery.cancel_scope.cancel()
