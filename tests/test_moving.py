"""Members that move: what the log says of where they are, and who has to be there first."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
import trio

from tests.support import open_single
from tests.transport.support import LOOPBACK, free_port
from trioraft import (
    ConfigError,
    MemoryStorage,
    Node,
    NodeDead,
    NotLeader,
    Role,
    TcpTransport,
    Unreachable,
)
from trioraft.core.types import Address, NodeId
from trioraft.testing import open_cluster
from trioraft.testing.cluster import Cluster

PATIENCE_S = 10.0
IDS = ("0", "1", "2")


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
        with pytest.raises(ConfigError, match=r"the address"):
            await node.move("0", where, force=True)
        with pytest.raises(ConfigError, match=r"the address"):
            await node.add_learner("1", where)
        with pytest.raises(ConfigError, match=r"the address"):
            await node.change_voters(["0", "1"], addresses={"1": where})
        assert node.status.configuration_index <= 1


class Nodes:
    """Three nodes over TCP, each told where the others were first."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.storages = {node_id: MemoryStorage() for node_id in IDS}
        self.first: dict[NodeId, Address] = dict.fromkeys(IDS, LOOPBACK)
        self.nodes: dict[NodeId, Node] = {}
        self.scopes: dict[NodeId, trio.CancelScope] = {}

    async def start(self, node_id: NodeId, listen: Address = LOOPBACK) -> None:
        """Open one, at a port of the system's choice if none is given."""
        self.nodes[node_id], self.scopes[node_id] = await self.nursery.start(
            self._run, node_id, listen
        )

    async def _run(
        self,
        node_id: NodeId,
        listen: Address,
        *,
        task_status: trio.TaskStatus[tuple[Node, trio.CancelScope]],
    ) -> None:
        transport = TcpTransport(node_id, listen, self.first)
        with trio.CancelScope() as scope:
            async with open_single(
                node_id,
                IDS,
                transport=transport,
                storage=self.storages[node_id],
                rng=random.Random(f"{node_id}/{transport.bind()}"),
            ) as node:
                task_status.started((node, scope))
                await trio.sleep_forever()

    async def move(self, *ids: NodeId) -> None:
        """Close these, and open them at other ports."""
        for node_id in ids:
            self.scopes[node_id].cancel()
            with suppress(NodeDead):
                await self.nodes[node_id].wait(lambda status: status.role is Role.DEAD)
        for node_id in ids:
            await self.start(node_id)

    async def until_linked(self, *ids: NodeId) -> None:
        """Wait until these reach each other."""
        with trio.fail_after(PATIENCE_S):
            for node_id in ids:
                others = [other for other in ids if other != node_id]
                await self.nodes[node_id].wait(
                    lambda status, others=others: all(status.links.get(each) for each in others)  # type: ignore[misc] # mypy cannot infer it
                )


async def test_two_that_have_moved_find_each_other_by_a_third_that_has_seen_both() -> None:
    """Neither can tell the other where it is, and the log has the old addresses of both."""
    async with trio.open_nursery() as nursery:
        nodes = Nodes(nursery)
        ports = [free_port() for _ in IDS]
        nodes.first = {node_id: ("127.0.0.1", ports[int(node_id)]) for node_id in IDS}
        for node_id in IDS:
            await nodes.start(node_id, nodes.first[node_id])
        await nodes.until_linked(*IDS)
        await nodes.move("0", "1")
        await nodes.until_linked(*IDS)
        nodes.scopes["2"].cancel()  # and go on without it
        with trio.fail_after(PATIENCE_S):
            await nodes.nodes["0"].wait(lambda status: status.leader_id in ("0", "1"))
            leader = nodes.nodes["0"].status.leader_id
            assert leader is not None
            await nodes.nodes[leader].propose(b"one")
        nursery.cancel_scope.cancel()
