"""What every transport owes a node, checked on each of them: memory, TCP and TLS."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import attrs
import pytest
import trio
import trio.testing
import trustme

from trioraft.core.config import Limits
from trioraft.core.types import NodeId
from trioraft.transport.base import ConnectionRejected, Listening, Transport
from trioraft.transport.memory import MemoryNetwork
from trioraft.transport.tcp import TcpTransport

from .support import PATIENCE_S, Recorder, heartbeat, open_sockets, replication, rounds, running
from .test_tls import contexts_for

MakeTransports: TypeAlias = Callable[..., dict[NodeId, Transport]]


def memory_transports(*ids: NodeId) -> dict[NodeId, Transport]:
    network = MemoryNetwork(random.Random(1), delay_s=(0.001, 0.001))
    return {node_id: network.transport(node_id) for node_id in ids}


def tcp_transports(*ids: NodeId, authority: trustme.CA | None = None) -> dict[NodeId, Transport]:
    transports = {
        node_id: TcpTransport(
            node_id,
            ("127.0.0.1", 0),
            {},
            ssl_context=None if authority is None else contexts_for(authority, node_id),
        )
        for node_id in ids
    }
    table = {node_id: transport.bind() for node_id, transport in transports.items()}
    for transport in transports.values():
        for peer, address in table.items():
            transport.set_peer(peer, address)
    return {**transports}


@pytest.fixture(params=["memory", "tcp", "tls"])
def make_transports(request: pytest.FixtureRequest) -> MakeTransports:
    if request.param == "memory":
        return memory_transports
    if request.param == "tcp":
        return tcp_transports
    authority = trustme.CA()
    return lambda *ids: tcp_transports(*ids, authority=authority)


@attrs.define
class ThreeNodes:
    """Three nodes, all linked with each other."""

    transports: dict[NodeId, Transport]
    owners: dict[NodeId, Recorder]


@asynccontextmanager
async def three_nodes(make: MakeTransports) -> AsyncIterator[ThreeNodes]:
    transports = make("0", "1", "2")
    owners = {node_id: Recorder() for node_id in transports}
    async with AsyncExitStack() as stack:
        for node_id, transport in transports.items():
            await stack.enter_async_context(running(transport, owners[node_id]))
        for node_id, owner in owners.items():
            await until_all_linked(transports, owner, node_id)
        yield ThreeNodes(transports, owners)


async def until_all_linked(
    transports: dict[NodeId, Transport], owner: Recorder, node_id: NodeId
) -> None:
    """Wait until messages pass; in memory they do from the first moment."""
    if isinstance(transports[node_id], TcpTransport):
        for peer in transports:
            if peer != node_id:
                await owner.until_up(peer)


async def test_messages_arrive_whole_and_in_order(make_transports: MakeTransports) -> None:
    async with three_nodes(make_transports) as nodes:
        for number in range(300):
            for peer in ("1", "2"):
                size = 100_000 if number % 100 == 50 else number
                nodes.transports["0"].send(replication("0", peer, size, number))
        for peer in ("1", "2"):
            await nodes.owners[peer].until(lambda r: len(r.messages) == 300)
            assert rounds(nodes.owners[peer].messages) == list(range(300))
            assert nodes.owners[peer].messages[7] == replication("0", peer, 7, 7)
        assert nodes.owners["0"].messages == []


async def test_each_direction_works(make_transports: MakeTransports) -> None:
    async with three_nodes(make_transports) as nodes:
        for sender in nodes.transports:
            for receiver in nodes.transports:
                nodes.transports[sender].send(heartbeat(sender, receiver))
        for receiver, owner in nodes.owners.items():
            await owner.until(lambda r: len(r.messages) == 2)
            senders = {message.sender for message in owner.messages}
            assert senders == set(nodes.transports) - {receiver}


async def test_a_message_under_a_false_name_reaches_nobody(make_transports: MakeTransports) -> None:
    async with three_nodes(make_transports) as nodes:
        nodes.transports["0"].send(heartbeat("2", "1"))
        event = await nodes.owners["1"].until_rejected("0")
        assert event.peer == "0"
        assert event.reason == "a message from '2' came over the connection of '0'"
        nodes.transports["2"].send(heartbeat("2", "1", 5))
        await nodes.owners["1"].until(lambda r: bool(r.messages))
        assert rounds(nodes.owners["1"].messages) == [5]


async def test_what_the_owner_refuses_costs_its_sender_only(
    make_transports: MakeTransports,
) -> None:
    async with three_nodes(make_transports) as nodes:
        nodes.owners["1"].refuses = lambda message: message.sender == "0"
        nodes.transports["0"].send(heartbeat("0", "1"))
        event = await nodes.owners["1"].until_rejected("0")
        assert (event.peer, event.reason) == ("0", "the owner does not like it")
        nodes.transports["2"].send(heartbeat("2", "1", 5))
        await nodes.owners["1"].until(lambda r: bool(r.messages))


async def test_sending_never_blocks_or_raises(make_transports: MakeTransports) -> None:
    transports = make_transports("0", "1")
    transports["0"].send(heartbeat("0", "1"))  # before it runs
    async with running(transports["0"]) as owner:
        for receiver in ("0", "1", "unknown"):
            for _ in range(10_000):  # the peer is not there
                transports["0"].send(heartbeat("0", receiver))
        assert owner.messages == []
    transports["0"].send(heartbeat("0", "1"))  # after it ran
    if isinstance(transports["1"], TcpTransport):
        transports["1"].close()


async def test_the_others_hear_of_a_nodes_end(make_transports: MakeTransports) -> None:
    transports = make_transports("0", "1", "2")
    async with running(transports["1"]) as one, running(transports["2"]) as two:
        async with running(transports["0"]) as zero:
            for owner, node_id in ((zero, "0"), (one, "1"), (two, "2")):
                await until_all_linked(transports, owner, node_id)
        await one.until(lambda r: "0" in r.lost)
        await two.until(lambda r: "0" in r.lost)
        assert "1" not in two.lost
        assert zero.lost == []  # its own end is no news to it


async def test_a_node_may_run_again(make_transports: MakeTransports) -> None:
    transports = make_transports("0", "1")
    async with running(transports["0"]) as zero:
        for number in range(1, 4):
            async with running(transports["1"]) as one:
                await until_all_linked(transports, one, "1")
                if isinstance(transports["0"], TcpTransport):
                    await zero.until_up("1", times=number)
                transports["0"].send(heartbeat("0", "1", number))
                transports["1"].send(heartbeat("1", "0", number))
                await one.until_rounds([number])
                await zero.until_count(number)


async def test_what_the_configuration_says_never_raises(make_transports: MakeTransports) -> None:
    transports = make_transports("0", "1")
    unusable = [("10.1.2.3", 70_000), ("", 1), ("a\0b", 1)]
    async with running(transports["0"]) as zero, running(transports["1"]) as one:
        await until_all_linked(transports, zero, "0")
        for address in (*unusable, None, None):
            for peer in ("0", "7", "not a name", ""):
                transports["0"].set_peer(peer, address)
        assert transports["0"].address_of("7") is None
        transports["0"].send(heartbeat("0", "1", 1))  # the others are not touched by it
        await one.until_rounds([1])


async def test_who_left_can_still_be_told_when_it_comes(make_transports: MakeTransports) -> None:
    transports = make_transports("0", "1")
    async with running(transports["0"]) as zero, running(transports["1"]) as one:
        await until_all_linked(transports, zero, "0")
        await until_all_linked(transports, one, "1")
        transports["0"].set_peer("1", None)
        if isinstance(transports["0"], TcpTransport):
            await zero.until_up("1", times=2)
        transports["0"].send(heartbeat("0", "1", 7))
        await one.until_rounds([7])


async def test_it_cannot_run_twice_at_once(make_transports: MakeTransports) -> None:
    transports = make_transports("0")
    async with running(transports["0"]):
        with trio.fail_after(PATIENCE_S), pytest.raises(trio.BusyResourceError):
            await transports["0"].run(Recorder(), cluster_id="x", limits=Limits())


async def test_other_clusters_stay_out(make_transports: MakeTransports) -> None:
    transports = make_transports("0", "1")
    async with (
        running(transports["0"], cluster_id="blue") as zero,
        running(transports["1"], cluster_id="green") as one,
    ):
        for owner, mine, other in ((zero, "blue", "green"), (one, "green", "blue")):
            reason = (await owner.until_rejected()).reason
            assert f"{mine!r}" in reason
            assert f"{other!r}" in reason
        transports["0"].send(heartbeat("0", "1"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert one.messages == []


async def test_cancelling_leaves_no_task_and_no_socket(make_transports: MakeTransports) -> None:
    sockets = open_sockets()
    async with trio.open_nursery() as nursery:
        async with three_nodes(make_transports) as nodes:
            for peer in ("1", "2"):
                nodes.transports["0"].send(replication("0", peer, 1_000_000))
            await nodes.owners["1"].until(lambda r: bool(r.messages))
        assert open_sockets() == sockets
        assert not nursery.child_tasks


async def test_events_bear_the_time_and_the_address(make_transports: MakeTransports) -> None:
    transports = make_transports("0")
    before_s = trio.current_time()
    async with running(transports["0"]) as owner:
        (event,) = owner.all(Listening)
        assert before_s <= event.at_s <= trio.current_time()
        assert event.address
        assert owner.all(ConnectionRejected) == []
        assert transports["0"].node_id == "0"
