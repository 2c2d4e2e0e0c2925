"""Clients of three nodes while leaders come and go: everything is applied once."""

from __future__ import annotations

import pytest
import trio

from tests.client.service_support import LOOPBACK, Appends, raw_client
from tests.client.support import ends
from trioraft import Client, ServerStatus, Service, open_service
from trioraft.core.types import Address, NodeId
from trioraft.machines.sessions import SessionMachine
from trioraft.rpc.protocol import Failure, Propose
from trioraft.testing.cluster import Cluster, open_cluster


async def serve(
    cluster: Cluster, node_id: NodeId, *, task_status: trio.TaskStatus[Service]
) -> None:
    """The client port of one node of the cluster, until cancelled."""
    node, machine = cluster.nodes[node_id], cluster.machines[node_id]
    async with open_service(node, machine, LOOPBACK) as service:
        task_status.started(service)
        await trio.sleep_forever()


def sessions() -> SessionMachine:
    return SessionMachine(Appends())


def client_port(status: ServerStatus) -> Address:
    """Where this server takes clients, by its own words."""
    return status.client_addresses[status.node_id]


@pytest.mark.parametrize("fault", ["crash", "disconnect", "transfer"])
async def test_every_append_is_there_once_whatever_befalls_the_leader(fault: str) -> None:
    appended: list[bytes] = []

    async def append(client: Client, name: str) -> None:
        for number in range(40):
            data = f"{name}/{number}".encode()
            await ends(client.call(data))
            appended.append(data)

    async with open_cluster(3, machine=sessions) as cluster, trio.open_nursery() as services:
        leader, _ = await cluster.check_single_leader()
        addresses = [
            (await services.start(serve, cluster, node_id)).address for node_id in cluster.ids
        ]
        async with Client(addresses) as client:
            async with trio.open_nursery() as nursery:
                for name in "abcd":
                    nursery.start_soon(append, client, name)
                await trio.sleep(0.03)
                if fault == "crash":
                    await cluster.crash(leader)
                elif fault == "disconnect":
                    cluster.disconnect(leader)
                else:
                    await client.transfer_leadership()
            assert len(appended) == 160
            status = await ends(client.status())
            if fault != "transfer":
                assert status.node_id != leader
            survivor = cluster.machines[status.node_id].machine
            assert sorted(survivor.items) == sorted(appended)
        services.cancel_scope.cancel()


async def test_any_node_answers_a_question_after_what_it_follows() -> None:
    async with open_cluster(3, machine=sessions) as cluster, trio.open_nursery() as services:
        await cluster.check_single_leader()
        ports = [await services.start(serve, cluster, node_id) for node_id in cluster.ids]
        for port in ports:
            for node_id, other in zip(cluster.ids, ports, strict=True):
                port.set_client_address(node_id, other.address)
        async with Client([ports[0].address]) as client:  # one of them is enough
            for number in range(1, 5):
                await ends(client.call(b"x"))
                for node_id in cluster.ids:
                    assert len(await ends(client.query(b"all", at=node_id))) == number
            status = await client.status()
            follower = next(service for service in ports if service.address != client_port(status))
            async with raw_client(follower.address) as raw:
                await raw.send(Propose(1, b"x"))
                answer = await ends(raw.answer())
                assert isinstance(answer, Failure)
                assert answer.kind == "not-leader"
                assert answer.leader_id == status.node_id
                assert answer.leader_address == client_port(status)
            statuses = await client.statuses()
            roles = sorted(getattr(status, "role", "") for status in statuses.values())
            assert roles == ["Follower", "Follower", "Leader"]
        services.cancel_scope.cancel()
