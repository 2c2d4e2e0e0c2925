"""Staying available: what must not cost an election, and what must be over in no time."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from trioraft import Limits, MemoryStorage, Role, Timing
from trioraft.core import reasons
from trioraft.core.errors import ConfigError
from trioraft.core.events import MessageSent
from trioraft.core.messages import AppendEntries
from trioraft.testing import open_cluster
from trioraft.testing.cluster import Cluster
from trioraft.testing.faulty_storage import FaultyStorage


def follower_of(cluster: Cluster, leader: str) -> str:
    """Any node that does not lead."""
    return next(node_id for node_id in cluster.ids if node_id != leader)


@pytest.mark.parametrize("size", [2, 3, 5])
async def test_a_connection_that_breaks_a_thousand_times_moves_no_term(
    size: int, autojump_clock: MockClock
) -> None:
    """Fast failover is a hint: whoever still hears the leader refuses."""
    rng = random.Random(size)
    async with open_cluster(size, seed=size) as cluster:
        leader, term = await cluster.check_single_leader()
        follower = follower_of(cluster, leader)
        for _ in range(1000):
            cluster.drop_connection(leader, follower)
            await trio.sleep(rng.uniform(0.0, 0.03))
        assert {node.status.term for node in cluster.nodes.values()} == {term}
        assert await cluster.check_single_leader() == (leader, term)


async def test_a_node_that_was_away_for_an_hour_moves_no_term(autojump_clock: MockClock) -> None:
    # A heartbeat a second: an hour of them, instead of seventy thousand.
    timing = Timing(election_timeout_s=(5.0, 10.0), heartbeat_interval_s=1.0)
    async with open_cluster(3, timing=timing) as cluster:
        leader, term = await cluster.check_single_leader()
        away = follower_of(cluster, leader)
        cluster.disconnect(away)
        await trio.sleep(3600)
        cluster.reconnect(away)
        await cluster.propose(b"together again")
        await cluster.check_committed(b"together again")
        assert {node.status.term for node in cluster.nodes.values()} == {term}


async def test_a_leader_whose_disk_hangs_is_replaced_within_two_election_timeouts() -> None:
    """Hazard L7, in real time: the disk is the subject."""
    disks: dict[str, FaultyStorage] = {}

    def storage(node_id: str) -> FaultyStorage:
        return disks.setdefault(node_id, FaultyStorage(MemoryStorage(), blocking=True))

    async with open_cluster(3, storage=storage) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"before")
        old = cluster.nodes[leader]
        with disks[leader].held():
            began_s = trio.current_time()
            old.submit(b"never durable there")
            others = [node for node in cluster.nodes.values() if node is not old]
            await cluster.wait(
                lambda: any(node.status.role is Role.LEADER for node in others), "another leader"
            )
            took_s = trio.current_time() - began_s
            assert old.status.role is Role.FOLLOWER
            await cluster.propose(b"after")
        await cluster.check_committed(b"after")
        assert took_s < 2 * cluster.timing.election_timeout_s[1]


async def test_the_reason_is_in_the_status(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        target = follower_of(cluster, leader)
        await cluster.nodes[leader].transfer_leadership(target)
        assert cluster.nodes[leader].status.last_role_change == reasons.TransferTo(target)
        cluster.disconnect(target)
        await cluster.nodes[target].wait(lambda status: status.role is not Role.LEADER)
        reason = cluster.nodes[target].status.last_role_change
        assert isinstance(reason, reasons.QuorumLost)
        assert str(reason).startswith("quorum lost for ")


async def test_ten_thousand_barriers_share_rounds(autojump_clock: MockClock) -> None:
    async with open_cluster(3, limits=Limits(event_stream_max=100_000)) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        await node.read_barrier()
        async with node.events() as stream:
            async with trio.open_nursery() as nursery:
                for _ in range(10_000):
                    nursery.start_soon(node.read_barrier)
            node.kill()
            sent = [event async for event in stream if isinstance(event, MessageSent)]
        rounds = {event.message.round for event in sent if isinstance(event.message, AppendEntries)}
        assert len(rounds) <= 3


async def test_a_barrier_with_a_lease_must_be_allowed(autojump_clock: MockClock) -> None:
    timing = Timing(fast_failover=False, lease_clock_drift_max=0.1)
    async with open_cluster(3, timing=timing) as cluster:
        leader, _ = await cluster.check_single_leader()
        await trio.sleep(2 * timing.heartbeat_interval_s)  # a round, and the answers to it
        began_s = trio.current_time()
        assert await cluster.nodes[leader].read_barrier(lease=True) >= 1
        assert trio.current_time() == began_s  # nobody was asked
    async with open_cluster(1) as cluster:
        with pytest.raises(ConfigError, match="lease_clock_drift_max"):
            await cluster.nodes["0"].read_barrier(lease=True)


async def test_a_barrier_can_be_given_up_while_there_is_no_leader(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        cluster.disconnect(leader)
        await cluster.nodes[leader].wait(lambda status: status.leader_id is None)
        for _ in range(20):
            with trio.move_on_after(0.1) as scope:
                await cluster.nodes[leader].read_barrier()
            assert scope.cancelled_caught
        cluster.heal()
        with trio.fail_after(5.0):
            await cluster.nodes[leader].read_barrier()


async def test_a_cancelled_body_hands_over_before_it_goes(autojump_clock: MockClock) -> None:
    """As SIGTERM does in most programs: the leader is replaced in milliseconds."""
    async with open_cluster(3, timing=Timing(fast_failover=False)) as cluster:
        leader, term = await cluster.check_single_leader()
        began_s = trio.current_time()
        await cluster.cancel(leader)
        assert (await cluster.check_single_leader())[1] == term + 1
        assert trio.current_time() - began_s < cluster.timing.election_timeout_s[0]
