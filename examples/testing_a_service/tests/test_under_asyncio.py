"""Tests under asyncio (pytest-asyncio): the nodes have a thread, as in the service itself."""

import asyncio

import pytest
from votes import Votes

import trioraft.testing
from trioraft import SessionMachine


def machine() -> SessionMachine:
    return SessionMachine(Votes())


pytestmark = [pytest.mark.asyncio, pytest.mark.raft_cluster(nodes=3, machine=machine)]


async def test_votes_from_many_tasks(raft_cluster: trioraft.testing.AsyncCluster) -> None:
    votes = Votes.through(await raft_cluster.leader())
    await asyncio.gather(*(votes.vote(f"voter {number}", "tea") for number in range(20)))
    assert await votes.result() == {"tea": 20}


async def test_a_vote_survives_its_leader(raft_cluster: trioraft.testing.AsyncCluster) -> None:
    leader = await raft_cluster.leader()
    await Votes.through(leader).vote("ann", "tea")
    await raft_cluster.crash(leader.id)
    assert await Votes.through(await raft_cluster.leader()).result() == {"tea": 1}


@pytest.mark.raft_cluster(network="tcp", storage="sqlite")
async def test_the_same_on_real_sockets_and_disks(
    raft_cluster: trioraft.testing.AsyncCluster,
) -> None:
    votes = Votes.through(await raft_cluster.leader())
    assert await votes.vote("ann", "tea") == 1
