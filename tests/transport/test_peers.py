"""Whose word counts about addresses: the operator's, the configuration's, the node's own."""

from __future__ import annotations

import pytest

from trioraft.core.errors import ConfigError
from trioraft.core.types import Address
from trioraft.net.addresses import AddressRules
from trioraft.transport.base import AddressUnusable, LinkDown
from trioraft.transport.peers import PeerTable
from trioraft.transport.tcp import TcpTransport

from .support import LOOPBACK, free_port, heartbeat, running

HERE = ("127.0.0.1", 4001)
THERE = ("127.0.0.1", 4002)


# -- the table -----------------------------------------------------------------------------------


def test_the_operators_address_wins_whenever_it_is_given() -> None:
    table = PeerTable()
    table.configure("1", THERE)
    assert table.member_address("1") == THERE
    table.give("1", HERE)
    assert table.member_address("1") == HERE
    table.configure("1", THERE)
    assert table.member_address("1") == HERE
    assert table.members == ("1",)


def test_who_left_has_no_address_until_it_is_a_member_again() -> None:
    table = PeerTable()
    table.give("1", HERE)
    table.configure("2", THERE)
    assert table.dismiss("1")
    assert table.dismiss("2")
    assert not table.dismiss("1")  # it had left already
    assert not table.dismiss("9")
    assert table.members == ()
    assert table.member_address("1") is table.member_address("2") is None
    assert table.given_address("1") == HERE  # for whoever takes it in again
    table.configure("1", THERE)
    assert table.member_address("1") == HERE
    table.configure("2", None)  # a member, but nothing is known of where
    assert table.member_address("2") is None


# -- what can be an address ----------------------------------------------------------------------


STRANGE_HOSTS = ["", " ", "a b", "a\0b", "\x1b[2J", "x" * 254]


@pytest.mark.parametrize("host", STRANGE_HOSTS, ids=ascii)
def test_hosts_that_no_resolver_should_see(host: str) -> None:
    with pytest.raises(ConfigError, match="give") as error:
        AddressRules(has_tls=False, insecure=True).check("it", (host, 4000), port_min=1)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


async def test_a_name_that_cannot_be_resolved_costs_its_link_only() -> None:
    transport = TcpTransport("0", LOOPBACK, {}, insecure=True)
    async with running(transport) as owner:
        transport.set_peer("1", ("y" * 100 + "ü.example", 4000))  # no label is that long
        assert "cannot connect to" in await owner.until_down("1")


# -- our own -------------------------------------------------------------------------------------


def own(listen: Address, advertise: Address | None = None) -> TcpTransport:
    return TcpTransport("0", listen, {}, insecure=True, advertise=advertise)


async def test_others_are_told_the_listening_address_unless_another_is_advertised() -> None:
    assert own(("127.0.0.1", 5000)).address_of("0") == ("127.0.0.1", 5000)
    assert own(("0.0.0.0", 5000), ("node-0.example", 80)).address_of("0") == ("node-0.example", 80)
    assert own(("0.0.0.0", 5000), ("node-0.example", 0)).address_of("0") == ("node-0.example", 5000)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_interfaces_are_no_address_to_dial(host: str) -> None:
    assert own((host, 5000)).address_of("0") is None
    with pytest.raises(ConfigError, match=r"advertise is .* which nobody can dial"):
        own(("127.0.0.1", 5000), (host, 5000))


async def test_a_port_that_the_system_chooses_is_told_once_it_is_known() -> None:
    transport = own(LOOPBACK, ("localhost", 0))
    assert transport.address_of("0") is None
    port = transport.bind()[1]
    assert transport.address_of("0") == ("localhost", port)
    transport.close()


# -- the configuration's -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (("10.1.2.3", 4000), "there is no ssl_context"),
        (("127.0.0.1", 0), "has the port 0: give one of 1..65535"),
        (("127.0.0.1", 99999), "has the port 99999"),
        (("", 4000), "has the host ''"),
    ],
)
async def test_what_the_configuration_says_wrong_is_told_and_left_out(
    address: Address, reason: str
) -> None:
    transport = TcpTransport("0", LOOPBACK, {})
    transport.set_peer("1", address)  # before it runs; what an older life of the node had
    async with running(transport) as owner:
        await owner.until(lambda r: bool(r.all(AddressUnusable)))
        transport.set_peer("1", address)  # no news
        transport.set_peer("2", address)
        told_within_the_call = len(owner.all(AddressUnusable))
        await owner.until(lambda r: len(r.all(AddressUnusable)) == 2)
        assert told_within_the_call == 1  # the owner called us: it is told from a task of ours
        first, second = owner.all(AddressUnusable)
        assert (first.peer, second.peer) == ("1", "2")
        assert first.reason.startswith("the address of node '1' in the configuration ")
        assert reason in first.reason
        assert transport.address_of("1") is None
        transport.send(heartbeat("0", "1"))


async def test_a_wrong_entry_takes_the_place_of_a_right_one_but_not_of_the_operators() -> None:
    transport = TcpTransport("0", LOOPBACK, {"2": HERE})
    async with running(transport) as owner:
        for peer in ("1", "2"):
            transport.set_peer(peer, THERE)
            transport.set_peer(peer, ("10.1.2.3", 4000))
        await owner.until(lambda r: bool(r.all(AddressUnusable)))
        assert transport.address_of("1") is None
        assert transport.address_of("2") == HERE
        assert [event.peer for event in owner.all(AddressUnusable)] == ["1"]


async def test_the_operators_address_is_dialed_whatever_the_configuration_says() -> None:
    one = TcpTransport("1", LOOPBACK, {})
    zero = TcpTransport("0", LOOPBACK, {"1": one.bind()})
    zero.set_peer("1", ("127.0.0.1", free_port()))
    async with running(one), running(zero) as owner:
        await owner.until_up("1")
        zero.set_peer("1", ("127.0.0.1", free_port()))
        zero.send(heartbeat("0", "1"))
        assert owner.all(LinkDown) == []
        assert zero.address_of("1") == one.address


async def test_a_member_that_is_taken_in_again_is_where_the_operator_said() -> None:
    one = TcpTransport("1", LOOPBACK, {})
    zero = TcpTransport("0", LOOPBACK, {"1": one.bind()})
    async with running(one), running(zero) as owner:
        await owner.until_up("1")
        zero.set_peer("1", None)
        assert zero.address_of("1") == one.address
        zero.set_peer("1", THERE)
        await owner.until_up("1", times=2)


async def test_a_node_is_no_peer_of_itself() -> None:
    transport = TcpTransport("0", LOOPBACK, {})
    async with running(transport) as owner:
        transport.set_peer("0", ("10.1.2.3", 0))
        transport.set_peer("0", None)
        transport.add_peer("0", ("10.1.2.3", 0))
        assert owner.all(AddressUnusable) == []
        assert transport.address_of("0") == transport.address
