"""Peers by name: all addresses that a name leads to, asked for again each time; and whether a node
is at an address at all."""

from __future__ import annotations

import pytest
import trio

from tests.net.test_resolving import Names
from trioraft.core.config import Limits
from trioraft.core.errors import ConfigError, Unreachable
from trioraft.core.types import Address
from trioraft.net.resolving import Resolver, ServiceRecord
from trioraft.transport import link as link_module
from trioraft.transport.base import LinkUp
from trioraft.transport.tcp import TcpTransport

from .support import LOOPBACK, PATIENCE_S, Recorder, free_port, open_sockets, running

EAGER = Limits(reconnect_backoff_s=(0.001, 0.005))
NAME = "node-1.example"


def named(names: Names, port: int) -> TcpTransport:
    """Node 0, which knows node 1 by name."""
    resolver = Resolver(names.getaddrinfo)
    return TcpTransport("0", LOOPBACK, {"1": (NAME, port)}, insecure=True, resolver=resolver)


async def until_up(owner: Recorder, peer: str = "1", times: int = 1) -> None:
    with trio.fail_after(PATIENCE_S):
        await owner.until_up(peer, times)


async def test_a_peer_is_found_at_whichever_address_of_its_name_it_is() -> None:
    one = TcpTransport("1", LOOPBACK, {})
    port = one.bind()[1]
    transport = named(Names({NAME: ["::1", "127.0.0.1", "::1"]}), port)
    async with running(one), running(transport, limits=EAGER) as owner:
        await until_up(owner)


async def test_an_address_of_a_name_that_swallows_everything_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dial = link_module.dial

    async def dial_test(address: Address) -> trio.SocketStream:
        if address[0] != "127.0.0.1":
            await trio.sleep_forever()
        return await dial(address)

    monkeypatch.setattr(link_module, "dial", dial_test)
    one = TcpTransport("1", LOOPBACK, {})
    transport = named(Names({NAME: ["10.0.0.1", "10.0.0.2", "127.0.0.1"]}), one.bind()[1])
    async with running(one), running(transport, limits=Limits(connect_timeout_s=60.0)) as owner:
        began_s = trio.current_time()
        await until_up(owner)
        assert trio.current_time() - began_s < 3.0  # two election timeouts, and a busy machine


async def test_a_name_that_leads_elsewhere_later_is_followed() -> None:
    first = TcpTransport("1", LOOPBACK, {})
    second = TcpTransport("1", ("::1", first.bind()[1]), {})
    names = Names({NAME: ["127.0.0.1"]})
    transport = named(names, first.bind()[1])
    async with running(transport, limits=EAGER) as owner:
        async with running(first):
            await until_up(owner)
        names.hosts[NAME] = ["::1"]
        async with running(second):
            await until_up(owner, times=2)
        assert len(owner.all(LinkUp)) == 2


async def test_srv_records_lead_to_a_peer_and_are_told_to_nobody() -> None:
    one = TcpTransport("1", LOOPBACK, {})
    host, port = one.bind()

    async def services(name: str) -> list[ServiceRecord]:
        assert name == "_node-1._tcp.example"
        await trio.lowlevel.checkpoint()
        return [ServiceRecord("gone.example", 1, 0), ServiceRecord(host, port, 10)]

    resolver = Resolver(Names().getaddrinfo, services)
    peers = {"1": ("srv+_node-1._tcp.example", 0)}
    transport = TcpTransport("0", LOOPBACK, peers, insecure=True, resolver=resolver)
    assert transport.address_of("1") is None  # the log is for all, also for those without dnspython
    async with running(one), running(transport, limits=EAGER) as owner:
        await until_up(owner)
        transport.set_peer("1", (host, port))
        assert transport.address_of("1") is None  # what was given comes first


# -- whether a node is there ---------------------------------------------------------------------


async def test_a_node_that_answers_is_reachable_and_nothing_is_left_of_the_question() -> None:
    one, two = TcpTransport("1", LOOPBACK, {}), TcpTransport("2", LOOPBACK, {})
    transport = named(Names({NAME: ["::1", "127.0.0.1"]}), one.bind()[1])
    async with running(one), running(two), running(transport) as owner:
        await until_up(owner)
        await transport.check_reachable("1", one.address)
        await transport.check_reachable("1", (NAME, one.address[1]))
        await transport.check_reachable("0", transport.address)  # it reaches itself
        sockets = open_sockets()
        await transport.check_reachable("2", two.address)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert open_sockets() == sockets
        assert transport.address_of("2") is None
        assert len(owner.all(LinkUp)) == 1


async def test_who_does_not_answer_is_not_reachable_and_it_is_said_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = TcpTransport("1", LOOPBACK, {})
    port = one.bind()[1]
    transport = TcpTransport("0", LOOPBACK, {})
    with pytest.raises(Unreachable, match="does not run"):
        await transport.check_reachable("1", one.address)
    async with running(one), running(transport):
        nobody = ("127.0.0.1", free_port())
        with pytest.raises(Unreachable, match=r"node '1' does not answer .*Connection refused"):
            await transport.check_reachable("1", nobody)
        with pytest.raises(Unreachable, match="is for node '2', this is node '1'"):
            await transport.check_reachable("2", ("127.0.0.1", port))
        with pytest.raises(Unreachable, match="is for node '0', this is node '1'"):
            await transport.check_reachable("0", ("127.0.0.1", port))
        with pytest.raises(ConfigError, match="vote"):
            await transport.check_reachable("1", ("10.0.0.1", 4000))
        monkeypatch.setattr(link_module, "ASK_S", 0.05)
        with trio.socket.socket() as silent:
            await silent.bind(LOOPBACK)
            silent.listen()
            with pytest.raises(Unreachable, match=r"no answer within 0.05 s"):
                await transport.check_reachable("1", silent.getsockname())
    insecure = TcpTransport("0", LOOPBACK, {}, insecure=True)
    async with running(insecure):
        with pytest.raises(ConfigError, match="nobody can dial"):
            await insecure.check_reachable("1", ("0.0.0.0", 4000))


# -- what others say -----------------------------------------------------------------------------


async def test_a_peer_is_looked_for_where_others_have_seen_it_after_all_else() -> None:
    one = TcpTransport("1", LOOPBACK, {})
    transport = TcpTransport("0", LOOPBACK, {"1": ("127.0.0.1", free_port())})
    async with running(one), running(transport, limits=EAGER) as owner:
        await owner.until_down("1")
        assert owner.all(LinkUp) == []
        unusable: list[Address] = [("10.0.0.1", 4000), ("", 0)]  # not over plain TCP, or not at all
        owner.told_of["1"] = [*unusable, one.address]
        await until_up(owner)


async def test_where_a_peer_says_that_it_is_the_owner_is_told() -> None:
    zero, one = TcpTransport("0", LOOPBACK, {}), TcpTransport("1", LOOPBACK, {})
    one.add_peer("0", zero.bind())
    async with running(zero) as owner, running(one):
        with trio.fail_after(PATIENCE_S):
            await owner.until(lambda r: "1" in r.seen_at)
        assert owner.seen_at == {"1": one.address}
