"""Names on their way to addresses, by a resolver that is told what to say, and by a name server of
the test's own on the loopback."""

from __future__ import annotations

import asyncio
import builtins
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio

from trioraft.core.errors import ConfigError
from trioraft.core.types import Address
from trioraft.net.resolving import FOUND_MAX, ResolvedAddress, Resolver, ServiceRecord, records_by

PATIENCE_S = 5.0


@attrs.define(eq=False)
class Names:
    """What the system knows; may be changed at any time."""

    hosts: dict[str, list[str]] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    hangs: bool = False

    async def getaddrinfo(self, host: str, port: int, *, type: Any) -> list[tuple[Any, ...]]:
        """As `socket.getaddrinfo`."""
        assert type is socket.SOCK_STREAM
        self.asked.append(host)
        if self.hangs:
            await trio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        if host not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, type, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, type, 6, "", (each, port))
            for each in self.hosts[host]
        ]


def addresses(found: Sequence[ResolvedAddress]) -> list[Address]:
    return [each.address for each in found]


# -- hosts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo", "localhost"])
async def test_an_address_written_out_needs_nobody(host: str) -> None:
    names = Names()
    (found,) = await Resolver(names.getaddrinfo).find((host, 7))
    assert found.address == ("127.0.0.1" if host == "localhost" else host, 7)
    assert found.host == host
    assert names.asked == []


async def test_all_addresses_of_a_name_are_found_families_by_turns() -> None:
    """The system's first family leads; within one the order does not depend on who is asked."""
    names = Names({"db.example": ["::2", "10.0.0.3", "10.0.0.1", "::2", "10.0.0.2"]})
    resolver = Resolver(names.getaddrinfo)
    found = await resolver.find(("db.example", 7))
    expected = [("::2", 7), ("10.0.0.1", 7), ("10.0.0.2", 7), ("10.0.0.3", 7)]
    assert addresses(found) == expected
    assert {each.host for each in found} == {"db.example"}
    names.hosts["db.example"].reverse()
    assert addresses(await resolver.find(("db.example", 7)))[:2] == [("10.0.0.1", 7), ("::2", 7)]


async def test_a_name_is_asked_for_again_each_time() -> None:
    names = Names({"db.example": ["10.0.0.1"]})
    resolver = Resolver(names.getaddrinfo)
    await resolver.find(("db.example", 7))
    names.hosts["db.example"] = ["10.0.0.2"]
    assert addresses(await resolver.find(("db.example", 7))) == [("10.0.0.2", 7)]


async def test_while_the_name_server_fails_its_last_answer_is_used() -> None:
    names = Names({"db.example": ["10.0.0.1"]})
    resolver = Resolver(names.getaddrinfo)
    before = await resolver.find(("db.example", 7))
    del names.hosts["db.example"]
    assert await resolver.find(("db.example", 7)) == before
    with pytest.raises(socket.gaierror, match="not known"):
        await resolver.find(("other.example", 7))


async def test_after_a_name_server_that_hung_its_last_answer_is_used_every_other_time(
    autojump_clock: object,
) -> None:
    names = Names({"db.example": ["10.0.0.1"]})
    resolver = Resolver(names.getaddrinfo)
    before = await resolver.find(("db.example", 7))
    names.hangs = True
    with trio.move_on_after(1) as scope:
        await resolver.find(("db.example", 7))
    assert scope.cancelled_caught
    assert await resolver.find(("db.example", 7)) == before
    names.hangs, names.hosts["db.example"] = False, ["10.0.0.2"]
    assert addresses(await resolver.find(("db.example", 7))) == [("10.0.0.2", 7)]


async def test_no_more_than_so_many_addresses_are_taken() -> None:
    many = [f"10.0.{number // 256}.{number % 256}" for number in range(1000)]
    found = await Resolver(Names({"db.example": many}).getaddrinfo).find(("db.example", 7))
    assert len(found) == FOUND_MAX


# -- services ------------------------------------------------------------------------------

SEED = ("srv+_trioraft._tcp.example.org", 0)


def resolver_of(names: Names, *records: ServiceRecord) -> Resolver:
    async def services(name: str) -> list[ServiceRecord]:
        assert name == "_trioraft._tcp.example.org"
        await anyio.lowlevel.checkpoint()
        return list(records)

    return Resolver(names.getaddrinfo, services, random.Random(1))


async def test_a_service_is_its_hosts_and_their_ports() -> None:
    names = Names({"a.example": ["10.0.0.1", "::1"], "b.example": ["10.0.0.2"]})
    later, first = ServiceRecord("b.example", 8, 20), ServiceRecord("a.example", 7, 10)
    found = await resolver_of(names, later, first).find(SEED)
    assert addresses(found) == [("10.0.0.1", 7), ("::1", 7), ("10.0.0.2", 8)]
    assert [each.host for each in found] == ["a.example", "a.example", "b.example"]


async def test_a_host_of_a_service_that_is_not_known_hides_no_other() -> None:
    names = Names({"b.example": ["10.0.0.2"]})
    gone, there = ServiceRecord("a.example", 7), ServiceRecord("b.example", 8)
    assert addresses(await resolver_of(names, gone, there).find(SEED)) == [("10.0.0.2", 8)]
    with pytest.raises(OSError, match="not known"):
        await resolver_of(names, gone).find(SEED)
    with pytest.raises(OSError, match="has no SRV records"):
        await resolver_of(names).find(SEED)


async def test_heavier_records_come_first_more_often() -> None:
    names = Names()
    heavy, light = ServiceRecord("10.0.0.1", 7, 0, 90), ServiceRecord("10.0.0.2", 7, 0, 10)
    resolver = resolver_of(names, light, heavy)
    firsts = [addresses(await resolver.find(SEED))[0] for _ in range(200)]
    assert 150 < firsts.count(("10.0.0.1", 7)) < 200


def test_without_dnspython_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without_it(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "dns":
            raise ImportError(name)
        return importing(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without_it)
    resolver = Resolver(Names().getaddrinfo)
    resolver.check(("db.example", 7))
    with pytest.raises(ConfigError, match=r"pip install 'trioraft\[dns\]'"):
        resolver.check(SEED)


# -- a name server -------------------------------------------------------------------------

RECORDS = {
    "_trioraft._tcp.example.org.": [
        "10 60 7001 a.example.org.",
        "10 40 7002 127.0.0.1.",
        "20 0 7003 b.example.org.",
    ],
    "_nothing._tcp.example.org.": ["0 0 0 ."],
}


async def answer_questions(sock: trio.socket.SocketType) -> None:
    """A name server that knows the SRV records above, for ever."""
    while True:
        question, where = await sock.recvfrom(4096)
        query = dns.message.from_wire(question)
        reply = dns.message.make_response(query)
        name = query.question[0].name.to_text()
        if name in RECORDS:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *RECORDS[name]))
        else:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        await sock.sendto(reply.to_wire(), where)


@asynccontextmanager
async def name_server() -> AsyncIterator[int]:
    """Its port."""
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_questions, sock)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


def asking(port: int) -> Any:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], port, PATIENCE_S
    return partial(records_by, resolver)


async def test_records_of_a_name_server_are_read_by_dnspython() -> None:
    async with name_server() as port:
        services = asking(port)
        names = Names({"a.example.org": ["10.0.0.1"], "b.example.org": ["::2"]})
        found = await Resolver(names.getaddrinfo, services).find(SEED)
        assert set(addresses(found)[:2]) == {("10.0.0.1", 7001), ("127.0.0.1", 7002)}
        assert addresses(found)[2] == ("::2", 7003)
        with pytest.raises(OSError, match="does not exist"):
            await services("_other._tcp.example.org")
        with pytest.raises(OSError, match="has no SRV records"):
            await Resolver(names.getaddrinfo, services).find(("srv+_nothing._tcp.example.org", 0))


async def test_they_are_read_in_asyncio_as_well_after_trio_in_one_process() -> None:
    """dnspython remembers the event loop that it met first."""
    async with name_server() as port:
        services = asking(port)
        assert len(await services("_trioraft._tcp.example.org")) == 3
        of_asyncio = await trio.to_thread.run_sync(
            asyncio.run, services("_trioraft._tcp.example.org")
        )
    assert len(of_asyncio) == 3
