"""One address is enough: what servers say of each other, names that lead to several, and servers
that have moved."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client.service_support import LOOPBACK, Appends
from tests.client.support import (
    FakeNetwork,
    FakeServer,
    address_of,
    ends,
    open_client,
    open_network,
)
from tests.net.test_resolving import Names
from trioraft import BlockingClient, Client, ConfigError, DeadlineExceeded, NodeId, Service
from trioraft.client import servers as servers_module
from trioraft.core.types import Address
from trioraft.machines.sessions import SessionMachine
from trioraft.net.resolving import Resolver, ServiceRecord
from trioraft.rpc.errors import ServerLost
from trioraft.rpc.protocol import ServerStatus
from trioraft.service.port import open_service
from trioraft.testing.cluster import Cluster, open_cluster


def three(leader: int = 1) -> list[FakeServer]:
    """Servers of which one leads, and which know nothing of each other."""
    return [
        FakeServer(str(number), "Leader" if number == leader else "Follower") for number in range(3)
    ]


def resolver_of(known: dict[str, list[str]], *records: ServiceRecord) -> tuple[Resolver, Names]:
    async def services(_: str) -> list[ServiceRecord]:
        await trio.lowlevel.checkpoint()
        return list(records)

    names = Names(known)
    return Resolver(names.getaddrinfo, services), names


# -- what nodes tell each other ------------------------------------------------------------


def sessions() -> SessionMachine:
    return SessionMachine(Appends())


async def serve(
    cluster: Cluster,
    node_id: NodeId,
    options: dict[str, Any],
    *,
    task_status: trio.TaskStatus[tuple[Service, trio.CancelScope]],
) -> None:
    """The client port of one node, until its scope is cancelled."""
    node, machine = cluster.nodes[node_id], cluster.machines[node_id]
    with trio.CancelScope() as scope:
        async with open_service(node, machine, LOOPBACK, **options) as service:
            task_status.started((service, scope))
            await trio.sleep_forever()


@asynccontextmanager
async def open_services(
    **options: Any,
) -> AsyncIterator[tuple[Cluster, dict[NodeId, Service], trio.Nursery]]:
    """Three nodes, each with a port that is told of no other."""
    async with open_cluster(3, machine=sessions) as cluster, trio.open_nursery() as nursery:
        await cluster.check_single_leader()
        services = {
            node_id: (await nursery.start(serve, cluster, node_id, options))[0]
            for node_id in cluster.ids
        }
        yield cluster, services, nursery
        nursery.cancel_scope.cancel()


async def all_know(cluster: Cluster, addresses: dict[NodeId, Address]) -> None:
    """Wait until each node knows where clients reach the others."""
    with trio.fail_after(5.0):
        for node_id, node in cluster.nodes.items():
            others = {peer: at for peer, at in addresses.items() if peer != node_id}
            await node.wait(lambda status, others=others: status.client_addresses == others)  # type: ignore[misc] # mypy cannot infer it


async def test_nodes_tell_each_other_where_they_take_clients() -> None:
    async with open_services() as (cluster, services, _):
        addresses = {node_id: service.address for node_id, service in services.items()}
        await all_know(cluster, addresses)
        leader, _ = await cluster.check_single_leader()
        for node_id in cluster.ids:
            async with Client([addresses[node_id]]) as client:
                await ends(client.call(node_id.encode()))
                assert (await ends(client.status(leader))).node_id == leader
                found = await ends(client.statuses())
                assert set(found) == set(addresses.values())
                assert all(
                    isinstance(status, ServerStatus) and status.client_addresses == addresses
                    for status in found.values()
                )


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_one_follower_is_enough_for_a_thread(backend: Any) -> None:
    async with open_services() as (cluster, services, _):
        await all_know(cluster, {node_id: each.address for node_id, each in services.items()})
        leader, _ = await cluster.check_single_leader()
        follower = next(node_id for node_id in cluster.ids if node_id != leader)

        def work() -> str:
            with BlockingClient([services[follower].address], backend=backend) as client:
                client.call(b"one")
                return client.status().node_id

        assert await trio.to_thread.run_sync(work) == leader


async def test_a_port_that_moves_is_told_anew_and_what_the_operator_says_comes_after() -> None:
    stale: Address = ("127.0.0.1", 9)
    async with open_cluster(3, machine=sessions) as cluster, trio.open_nursery() as nursery:
        leader, _ = await cluster.check_single_leader()
        options = {"client_addresses": {leader: stale}}
        opened = {
            node_id: await nursery.start(
                serve, cluster, node_id, {} if node_id == leader else options
            )
            for node_id in cluster.ids
        }
        addresses = {node_id: service.address for node_id, (service, _) in opened.items()}
        await all_know(cluster, addresses)
        follower = next(node_id for node_id in cluster.ids if node_id != leader)
        async with Client([addresses[follower]]) as client:
            await ends(client.call(b"one"))
            opened[leader][1].cancel()
            service, _ = await nursery.start(serve, cluster, leader, {})
            addresses[leader] = service.address
            await all_know(cluster, addresses)
            await ends(client.call(b"two"))
            told = await ends(client.status(follower))
            assert told.client_addresses == addresses
            assert told.other_client_addresses == {leader: (stale,)}
        nursery.cancel_scope.cancel()


async def test_a_node_that_is_away_is_told_of_where_it_was_last() -> None:
    async with open_services() as (cluster, services, _):
        addresses = {node_id: service.address for node_id, service in services.items()}
        await all_know(cluster, addresses)
        leader, _ = await cluster.check_single_leader()
        gone = next(node_id for node_id in cluster.ids if node_id != leader)
        await cluster.crash(gone)
        assert cluster.nodes[leader].status.client_addresses[gone] == addresses[gone]
        await cluster.nodes[leader].remove(gone)
        assert gone not in cluster.nodes[leader].status.client_addresses


# -- what servers announce -----------------------------------------------------------------


async def test_a_server_that_moved_is_found_at_its_new_address_by_its_id(
    autojump_clock: MockClock,
) -> None:
    old, other, new = FakeServer("1"), FakeServer("0", "Leader"), FakeServer("1")
    moved: Address = ("127.0.0.1", 5001)
    async with open_network(old, other) as (client, network):
        assert (await ends(client.status("1"))).node_id == "1"
        old.is_down = True
        old.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        network.servers[moved] = new
        other.client_addresses = {"1": moved}
        assert (await ends(client.status("1"))).node_id == "1"
        async with client.watch_status("1"):  # over a connection of its own
            pass
    assert len(new.hellos) == 2


async def test_whoever_is_at_the_address_of_another_is_not_taken_for_it(
    autojump_clock: MockClock,
) -> None:
    """Two servers have changed places, as containers do."""
    zero, one = FakeServer("0", "Leader"), FakeServer("1")
    async with open_network(zero, one) as (client, network):
        await ends(client.status("1"))
        for server in (zero, one):
            server.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        network.servers = {address_of(zero): one, address_of(one): zero}
        for server in (zero, one):
            server.client_addresses = {"1": address_of(zero), "0": address_of(one)}
        assert (await ends(client.status("1"))).node_id == "1"
        assert (await ends(client.status("0"))).node_id == "0"
        with pytest.raises(ServerLost, match="nobody knows where server '7'"):
            await ends(client.status("7"))


async def test_of_a_server_that_moves_on_and_on_only_the_newest_addresses_are_kept(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("0", "Leader")
    async with open_client(server) as client:
        for number in range(300):
            server.client_addresses = {"1": ("127.0.0.1", 6000 + number)}
            await ends(client.status(address_of(server)))
        expected = [("127.0.0.1", 6299 - number) for number in range(4)]
    assert client.addresses[:1] == [address_of(server)]
    assert sorted(client.addresses[1:]) == sorted(expected)
    assert len(expected) == servers_module.ANNOUNCED_OF_ONE_MAX


async def test_where_else_a_server_may_be_is_tried_too(autojump_clock: MockClock) -> None:
    """An announced address may lead nowhere from here, and the operator's lead there."""
    follower, leader = FakeServer("0"), FakeServer("1", "Leader")
    follower.client_addresses = {"1": ("127.0.0.1", 9)}
    follower.other_client_addresses = {"1": (address_of(leader),)}
    async with open_client(follower, leader, given=(follower,)) as client:
        assert await ends(client.call(b"one")) == b"one"
        known = await ends(client.statuses())
        assert list(known) == [address_of(follower), address_of(leader)]  # and not where it is not


# -- names ---------------------------------------------------------------------------------

NAME: Address = ("trioraft.example", 8000)


def at(number: int) -> Address:
    return (f"10.0.0.{number}", 8000)


def hosts(*numbers: int) -> dict[str, list[str]]:
    """What the name leads to."""
    return {NAME[0]: [at(number)[0] for number in numbers]}


@asynccontextmanager
async def open_named(
    places: dict[int, FakeServer],
    resolver: Resolver,
    given: Sequence[Address] | dict[NodeId, Address] = (NAME,),
    **options: Any,
) -> AsyncIterator[tuple[Client, FakeNetwork]]:
    """A client that is told a name, of servers at 10.0.0.*."""
    async with trio.open_nursery() as nursery:
        network = FakeNetwork({at(number): each for number, each in places.items()}, nursery)
        options = {"rng": random.Random(0), "timeout_s": 30.0, **options}
        async with Client(given, connect=network.connect, resolver=resolver, **options) as client:
            yield client, network
        nursery.cancel_scope.cancel()


async def test_all_addresses_of_a_name_are_asked_who_leads(autojump_clock: MockClock) -> None:
    """As of a headless service: the first that answers does not lead and knows of no other, and
    one is a machine that swallows what is sent to it."""
    follower, silent, leader = three(leader=2)
    silent.is_unreachable = True
    resolver, _ = resolver_of(hosts(1, 2, 3))
    async with open_named({1: follower, 2: silent, 3: leader}, resolver) as (client, _):
        with trio.fail_after(0.5):
            assert await client.call(b"one") == b"one"
        found = await ends(client.statuses(timeout_s=0.5))
        assert list(found) == [at(1), at(3)]  # and no complaint about one of many


async def test_a_name_is_looked_up_again_when_nobody_is_there_any_more(
    autojump_clock: MockClock,
) -> None:
    old, new = FakeServer("0", "Leader"), FakeServer("0", "Leader")
    resolver, names = resolver_of(hosts(1))
    async with open_named({1: old, 2: new}, resolver) as (client, network):
        assert await client.call(b"one") == b"one"
        assert client.addresses == [NAME]
        del network.servers[at(1)]
        old.hang_up()
        names.hosts = hosts(2)
        with trio.fail_after(5.0):
            assert await client.call(b"two") == b"two"
        assert at(1) not in client._servers._servers  # nobody goes there again


async def test_a_name_that_is_not_known_yet_is_looked_up_until_it_is(
    autojump_clock: MockClock,
) -> None:
    leader = FakeServer("0", "Leader")
    resolver, names = resolver_of({})
    async with open_named({1: leader}, resolver) as (client, _):
        with pytest.raises(DeadlineExceeded, match=r"trioraft.example:8000: .*not known"):
            await client.call(b"one", timeout_s=3.0)
        with pytest.raises(ServerLost, match=r"trioraft.example:8000: .*not known"):
            await client.status(NAME)
        assert 2 <= len(names.asked) <= 10
        names.hosts = hosts(1)
        assert await client.call(b"one") == b"one"
        assert (await client.status(NAME)).node_id == "0"


async def test_a_name_server_that_hangs_holds_up_no_other_address(
    autojump_clock: MockClock,
) -> None:
    leader = FakeServer("0", "Leader")
    resolver, names = resolver_of({})
    names.hangs = True
    async with open_named({1: leader}, resolver, [NAME, at(1)]) as (client, _):
        with trio.fail_after(0.5):
            assert await client.call(b"one") == b"one"
            assert (await client.status(at(1))).node_id == "0"


async def test_two_names_of_one_server_share_a_connection(autojump_clock: MockClock) -> None:
    leader = FakeServer("0", "Leader")
    resolver, _ = resolver_of({NAME[0]: ["10.0.0.1", "10.0.0.2"]})
    async with open_named({1: leader, 2: leader}, resolver) as (client, _):
        for _ in range(3):
            assert await client.call(b"one") == b"one"
        assert len({id(each.connection) for each in client._servers._servers.values()}) == 1
        assert len(await ends(client.statuses())) == 1


async def test_the_certificate_must_bear_the_name_and_not_what_it_leads_to(
    autojump_clock: MockClock,
) -> None:
    resolver, _ = resolver_of(hosts(1, 2))
    servers = {1: FakeServer("0", "Leader"), 2: FakeServer("1")}
    async with open_named(servers, resolver) as (client, network):
        await client.call(b"one")
    assert {name for _, name in network.names} == {"trioraft.example"}
    async with open_named(servers, resolver, {"0": NAME}) as (client, network):
        await client.call(b"one")
    assert {name for _, name in network.names} == {"0"}


async def test_srv_records_are_seeds(autojump_clock: MockClock) -> None:
    resolver, _ = resolver_of(
        {"a.example": ["10.0.0.1"], "b.example": ["10.0.0.2"]},
        ServiceRecord("a.example", 8000),
        ServiceRecord("b.example", 8000),
    )
    servers = {1: FakeServer("0"), 2: FakeServer("1", "Leader")}
    async with open_named(servers, resolver, [("srv+_t._tcp.example", 0)]) as (client, network):
        assert await client.call(b"one") == b"one"
        assert set(await ends(client.statuses())) == {at(1), at(2)}
    assert set(network.names) == {(at(1), "a.example"), (at(2), "b.example")}


@pytest.mark.parametrize(
    ("address", "match"),
    [
        (("srv+_t._tcp.example", 7), "SRV records have the port"),
        (("srv+", 0), "SRV records have the port"),
        (("db.example", 0), "port 0"),
        (("[::1]", 7), "without the brackets"),
    ],
)
def test_what_is_no_seed_is_said(address: Address, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Client([address], insecure=True)


async def test_a_name_leads_nowhere_else_over_plain_tcp(autojump_clock: MockClock) -> None:
    """Over plain TCP a client stays on this machine, whatever a name server says of a name that a
    server announces."""
    with pytest.raises(ConfigError, match="another machine"):
        Client([NAME])
    assert Client([("localhost", 8000), ("::1", 8000)]).addresses == [
        ("localhost", 8000),
        ("::1", 8000),
    ]


@pytest.mark.parametrize(
    "address", [("127.0.0.1", 2**63), ("127.0.0.1", -1), ("::1", 0), ("\x1b[2J", 7), ("", 7)]
)
async def test_what_a_server_announces_that_is_no_address_is_ignored(
    address: Address, autojump_clock: MockClock
) -> None:
    leader = FakeServer("0", "Leader", client_addresses={"1": address})
    leader.other_client_addresses = {"2": (address,) * 100}
    async with open_network(leader, insecure=True) as (client, network):
        assert await ends(client.call(b"one")) == b"one"
        assert await ends(client.statuses()) == {address_of(leader): leader.status()}
        with pytest.raises(ServerLost, match="nobody knows"):
            await ends(client.status("1"))
    assert {where for where, _ in network.names} == {address_of(leader)}
