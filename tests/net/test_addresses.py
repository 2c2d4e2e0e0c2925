"""Which hosts are this machine: one table, and every port that goes by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.client.service_support import Appends
from tests.support import open_single
from trioraft.cli.serve.settings import SettingsReader, gather
from trioraft.client.client import Client
from trioraft.core.errors import ConfigError
from trioraft.net.addresses import host_port, is_loopback, is_wildcard, numeric_host
from trioraft.service.port import open_service
from trioraft.transport.tcp import TcpTransport

IS_THIS_MACHINE = {
    "127.0.0.1": True,
    "127.0.0.2": True,
    "127.255.255.254": True,
    "::1": True,
    "0:0:0:0:0:0:0:1": True,
    "::ffff:127.0.0.1": True,
    "::ffff:7f00:1": True,
    "localhost": True,
    "LOCALHOST": True,
    "127.1": False,  # to most resolvers the same as 127.0.0.1; not to all
    "127.0.1": False,
    "0x7f000001": False,
    "0x7f.0.0.1": False,
    "2130706433": False,
    "0177.0.0.1": False,
    "127.0.0.01": False,
    "0": False,
    "0x0": False,
    "0.0.0.0": False,
    "::": False,
    "::ffff:0.0.0.0": False,
    "::ffff:10.0.0.1": False,
    "::127.0.0.1": False,
    "::2": False,
    "10.0.0.1": False,
    "128.0.0.1": False,
    "126.255.255.255": False,
    "localhost.": False,
    "localhost.localdomain": False,
    "127.0.0.1.example": False,
    "node-1.example": False,
    "127": False,
    "127.0.0.256": False,
    "127.0.0.1.1": False,
    "127.0.0.1/8": False,
    "١٢٧.0.0.1": False,
}
WILDCARDS = {"0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0", "0", "0x0", "0.0", "00000"}

Port = Callable[[str], Awaitable[None]]


async def peers_listen(host: str) -> None:
    TcpTransport("0", (host, 4000), {})


async def peers_dial(host: str) -> None:
    TcpTransport("0", ("127.0.0.1", 0), {"1": (host, 4000)})


async def peers_advertise(host: str) -> None:
    TcpTransport("0", ("127.0.0.1", 0), {}, advertise=(host, 4000))


async def clients_dial(host: str) -> None:
    Client([(host, 4000)])


async def clients_are_told(host: str) -> None:
    client = Client([("127.0.0.1", 1)])
    client._servers._learn("1", (host, 4000))
    if (host, 4000) not in client.addresses:
        raise ConfigError("not taken")


async def clients_connect(host: str) -> None:
    async with open_single() as node:
        try:
            async with open_service(node, Appends(), (host, 0)):
                pass
        except OSError:
            pass  # allowed, and not there on this machine


async def served_from_the_command_line(host: str) -> None:
    for name in ("listen", "client-listen"):
        given: dict[str, Any] = {"id": "0", "data": "data", "client-listen": "127.0.0.1:8000"}
        given |= {"listen": "127.0.0.1:7000", "peer": ["1=127.0.0.1:7001"]}
        problems: list[str] = []
        given_now = given | {name: host_port((host, 7002))}
        SettingsReader(gather(given_now, {}, problems), problems).settings()
        if problems:
            raise ConfigError(problems[0])


PORTS: list[Port] = [
    peers_listen,
    peers_dial,
    peers_advertise,
    clients_dial,
    clients_are_told,
    clients_connect,
    served_from_the_command_line,
]


@pytest.mark.parametrize(("host", "is_here"), IS_THIS_MACHINE.items(), ids=IS_THIS_MACHINE)
def test_what_is_this_machine(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port.__name__)
@pytest.mark.parametrize(("host", "is_here"), IS_THIS_MACHINE.items(), ids=IS_THIS_MACHINE)
async def test_every_port_goes_by_the_same_rule(host: str, is_here: bool, port: Port) -> None:
    if is_here:
        await port(host)
    else:
        with pytest.raises(ConfigError):
            await port(host)


@pytest.mark.parametrize("host", sorted({*IS_THIS_MACHINE, *WILDCARDS}))
def test_what_means_all_interfaces(host: str) -> None:
    assert is_wildcard(host) is (host in WILDCARDS)


@pytest.mark.parametrize("host", ["localhost", "LocalHost"])
def test_localhost_is_dialed_as_it_is_judged(host: str) -> None:
    assert numeric_host(host) == "127.0.0.1"
