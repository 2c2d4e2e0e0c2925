"""Tests under Trio (pytest-trio): the nodes run in the test's own event loop, in virtual time."""

import pytest
from votes import AlreadyVoted, Votes

import trioraft.testing

pytestmark = [pytest.mark.trio, pytest.mark.raft_cluster(nodes=3, machine=Votes)]


async def test_a_vote_survives_its_leader(raft_cluster: trioraft.testing.Cluster) -> None:
    leader, _ = await raft_cluster.check_single_leader()
    votes = raft_cluster.machines[leader]
    votes.attach(raft_cluster.nodes[leader])
    assert await votes.vote("ann", "tea") == 1
    with pytest.raises(AlreadyVoted):
        await votes.vote("ann", "coffee")

    await raft_cluster.crash(leader)
    successor, _ = await raft_cluster.check_single_leader()  # seconds, of which none is waited for
    there = raft_cluster.machines[successor]
    there.attach(raft_cluster.nodes[successor])
    assert await there.result() == {"tea": 1}


async def test_a_minority_decides_nothing(raft_cluster: trioraft.testing.Cluster) -> None:
    leader, _ = await raft_cluster.check_single_leader()
    raft_cluster.disconnect(leader)
    await raft_cluster.wait(
        lambda: raft_cluster.nodes[leader].status.role is not trioraft.Role.LEADER,
        "the leader that nobody hears to step down",
    )
    raft_cluster.heal()
    await raft_cluster.check_single_leader()
