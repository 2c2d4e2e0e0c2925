"""Tests with anyio's plugin: each runs under asyncio and under Trio."""

import pytest

import trioraft.testing

pytestmark = pytest.mark.anyio


async def test_whoever_leads_is_replaced(
    raft_cluster: trioraft.testing.Cluster | trioraft.testing.AsyncCluster,
) -> None:
    leader, _ = await raft_cluster.check_single_leader()
    await raft_cluster.propose(b"hello")
    await raft_cluster.crash(leader)
    successor, _ = await raft_cluster.check_single_leader()
    assert successor != leader
    nodes, _ = await raft_cluster.check_committed(b"hello")
    assert nodes == 3  # the one that crashed had it, too
