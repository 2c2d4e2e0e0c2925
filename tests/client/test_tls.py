"""TLS to the client port: who gets in, who does not, and what each is told."""

from __future__ import annotations

import ssl

import pytest
import trio
import trustme

from tests.client.service_support import LOOPBACK, Appends, serving
from tests.client.support import ends
from tests.support import open_single
from trioraft import Client, ConfigError, DeadlineExceeded, TlsContexts, open_service
from trioraft.core.types import Address
from trioraft.machines.sessions import SessionMachine
from trioraft.testing.cluster import open_cluster


def server_context(authority: trustme.CA, name: str, *, asks: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: trustme.CA, *, shows: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if shows:
        authority.issue_cert("somebody").configure_cert(context)
    return context


async def test_a_certificate_of_the_host_or_of_the_node_will_do() -> None:
    authority = trustme.CA()
    context = client_context(authority)
    async with (
        serving(ssl_context=server_context(authority, "127.0.0.1")) as (_, service),
        Client([service.address], ssl_context=context) as client,
    ):
        assert await ends(client.call(b"x")) == 1
        async with client.watch_status() as news:
            assert await ends(anext(news))
    contexts = TlsContexts(server_context(authority, "0"), context)
    async with (
        serving(ssl_context=contexts) as (_, service),
        Client({"0": service.address}, ssl_context=context) as client,
    ):
        assert await ends(client.call(b"x")) == 1


async def test_a_wrong_name_a_stranger_and_plain_tcp_are_refused() -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = server_context(authority, "0")
    async with serving(ssl_context=context) as (_, service):
        wrong_name = Client({"1": service.address}, ssl_context=client_context(authority))
        distrusting = Client({"0": service.address}, ssl_context=client_context(other))
        nameless = Client(
            {"0": service.address}, ssl_context=client_context(authority, shows=False)
        )
        plain = Client([service.address])
        for client, reason in (
            (wrong_name, "certificate not accepted: Hostname mismatch"),
            (distrusting, "certificate not accepted"),
            (nameless, "127.0.0.1"),
            (plain, "127.0.0.1"),
        ):
            async with client:
                with pytest.raises(DeadlineExceeded, match=reason):
                    await client.call(b"x", timeout_s=0.6)


async def test_a_context_that_lets_everyone_in_is_refused() -> None:
    authority = trustme.CA()
    open_door = server_context(authority, "0", asks=False)
    async with open_single() as node:
        with pytest.raises(ConfigError, match="CERT_REQUIRED"):
            async with open_service(node, Appends(), LOOPBACK, ssl_context=open_door):
                pass
        with pytest.raises(ConfigError, match="PROTOCOL_TLS_SERVER"):
            async with open_service(
                node, Appends(), LOOPBACK, ssl_context=client_context(authority)
            ):
                pass
    nameless = client_context(authority, shows=False)
    async with (
        serving(ssl_context=open_door, insecure=True) as (_, service),
        Client({"0": service.address}, ssl_context=nameless) as client,
    ):
        assert await ends(client.call(b"x")) == 1


async def test_one_address_is_enough_where_certificates_bear_ids() -> None:
    """What servers announce is held to the id that it was announced for."""
    authority = trustme.CA()

    async def serve(node_id: str, *, task_status: trio.TaskStatus[Address]) -> None:
        node, machine = cluster.nodes[node_id], cluster.machines[node_id]
        context = server_context(authority, node_id)
        async with open_service(node, machine, LOOPBACK, ssl_context=context) as service:
            task_status.started(service.address)
            await trio.sleep_forever()

    async with (
        open_cluster(3, machine=lambda: SessionMachine(Appends())) as cluster,
        trio.open_nursery() as nursery,
    ):
        leader, _ = await cluster.check_single_leader()
        addresses = {each: await nursery.start(serve, each) for each in cluster.ids}
        follower = next(each for each in cluster.ids if each != leader)
        given = {follower: addresses[follower]}
        async with Client(given, ssl_context=client_context(authority)) as client:
            assert await ends(client.call(b"x")) == 1
            assert (await ends(client.status(leader))).node_id == leader
            found = await ends(client.statuses())
            assert set(found) == set(addresses.values())
        nursery.cancel_scope.cancel()
