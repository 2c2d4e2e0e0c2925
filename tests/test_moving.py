"""Members that move: what the log says of where they are, and who has to be there first."""

from __future__ import annotations

import pytest
import trio

from tests.transport.support import free_port
from trioraft import ConfigError, NotLeader, Unreachable
from trioraft.core.types import Address, NodeId
from trioraft.testing import open_cluster
from trioraft.testing.cluster import Cluster

PATIENCE_S = 10.0


def configured(cluster: Cluster, node_id: NodeId) -> dict[NodeId, Address]:
    """Where the members are, as this node has it."""
    return cluster.nodes[node_id].status.configuration.addresses


def own_address(cluster: Cluster, node_id: NodeId) -> Address:
    address = cluster.nodes[node_id].address_of(node_id)
    assert address is not None
    return address


async def test_a_member_is_moved_only_to_where_it_answers() -> None:
    async with open_cluster(3, network="tcp") as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"one")
        node, before = cluster.nodes[leader], configured(cluster, leader)
        follower, other = (each for each in cluster.ids if each != leader)
        nobody = ("127.0.0.1", free_port())
        for member, wrong, why in (
            (follower, nobody, "Connection refused"),
            (follower, before[other], f"is for node '{follower}', this is node '{other}'"),
            (leader, nobody, "Connection refused"),
            (leader, before[other], f"is for node '{leader}', this is node '{other}'"),
        ):
            with trio.fail_after(PATIENCE_S), pytest.raises(Unreachable, match=why):
                await node.move(member, wrong)
        assert configured(cluster, leader) == before
        index = node.status.configuration_index
        for member in cluster.ids:  # the leader finds itself, too
            assert await node.move(member, before[member]) == index
        with pytest.raises(ConfigError, match="only a member moves"):
            await node.move("9", nobody)
        with pytest.raises(ConfigError, match="the address is"):
            await node.move(follower, ("", 0))
        with pytest.raises(NotLeader):
            await cluster.nodes[follower].move(leader, before[leader])


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_who_is_not_there_yet_is_moved_by_force_and_is_a_member_all_the_same(
    who: str,
) -> None:
    """The log says where it will be; meanwhile it is reached where it is."""
    async with open_cluster(3, network="tcp") as cluster:
        leader, _ = await cluster.check_single_leader()
        member = leader if who == "leader" else next(i for i in cluster.ids if i != leader)
        later = ("127.0.0.1", free_port())
        with trio.fail_after(PATIENCE_S):
            index = await cluster.nodes[leader].move(member, later, force=True)
        assert configured(cluster, leader)[member] == later
        await cluster.propose(b"one")
        count, _ = await cluster.check_committed(b"one")
        assert count == 3
        assert all(node.status.configuration_index == index for node in cluster.nodes.values())
        await cluster.crash(leader)  # and whoever leads then reaches it as well
        await cluster.restart(leader)
        await cluster.check_single_leader()
        await cluster.propose(b"two")
        last = max(node.status.commit_index for node in cluster.nodes.values())
        await cluster.wait(
            lambda: all(node.status.applied_index >= last for node in cluster.nodes.values()),
            "all to have it",
        )


async def test_a_learner_moves_as_a_voter_does() -> None:
    async with open_cluster(3, network="tcp") as cluster:
        leader, _ = await cluster.check_single_leader()
        address = await cluster.join("3")
        assert address is not None
        node = cluster.nodes[leader]
        with trio.fail_after(PATIENCE_S):
            await node.add_learner("3", ("127.0.0.1", free_port()))
            await node.move("3", address)
        assert configured(cluster, leader)["3"] == address == own_address(cluster, "3")
        assert node.status.configuration.learners == ("3",)
        await cluster.propose(b"one")
        await cluster.nodes["3"].wait(lambda s: s.applied_index >= node.status.commit_index)


async def test_where_nodes_have_no_addresses_nobody_is_asked() -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        there = ("127.0.0.1", 7)
        await cluster.nodes[leader].move("0", there)
        assert configured(cluster, leader)["0"] == there


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0", "[::1]", "a b", "x" * 254])
async def test_what_nobody_can_dial_never_gets_into_the_log(host: str) -> None:
    async with open_cluster(1) as cluster:
        await cluster.check_single_leader()
        node, where = cluster.nodes["0"], (host, 4000)
        for ask in (
            lambda: node.move("0", where, force=True),
            lambda: node.add_learner("1", where),
            lambda: node.change_voters(["0", "1"], addresses={"1": where}),
        ):
            with pytest.raises(ConfigError, match=r"the address"):
                await ask()
        assert node.status.configuration_index <= 1
