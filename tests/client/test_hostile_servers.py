"""Servers that are there and are of no use: a call and a subscription end all the same."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.client.support import (
    PATIENCE_S,
    FakeServer,
    MemoryByteStream,
    address_of,
    echo,
    ends,
    failure,
    open_client,
)
from trioraft import Client, CommandFailed, DeadlineExceeded, ServerLost
from trioraft.client.watches import SUBSCRIPTION_SILENCE_S
from trioraft.rpc.protocol import (
    Answer,
    GoingAway,
    Item,
    Propose,
    Query,
    Request,
    Watch,
    encode_value,
)

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    async def each(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await serve(stream)

    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, host="127.0.0.1")
        listeners = await nursery.start(listen, each, 0)
        yield listeners[0].socket.getsockname()[:2]
        nursery.cancel_scope.cancel()


async def accepts_and_says_nothing(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def says_garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.receive_some()


async def hangs_up(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def drips(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"\0")
        await trio.sleep(0.01)


@pytest.mark.parametrize("serve", [accepts_and_says_nothing, says_garbage, hangs_up, drips])
async def test_a_call_ends_in_time_whatever_answers_there(serve: Serve) -> None:
    async with (
        listening(serve) as useless,
        Client([useless, ("127.0.0.1", 1)]) as client,
    ):
        begun = trio.current_time()
        with trio.fail_after(PATIENCE_S), pytest.raises(DeadlineExceeded, match="nothing was"):
            await client.call(b"x", timeout_s=0.15)
        with trio.fail_after(PATIENCE_S), pytest.raises(DeadlineExceeded):
            await client.query(b"x", timeout_s=0.05, consistency="stale")
        assert trio.current_time() - begun < 2


async def test_a_call_ends_in_time_if_no_resolver_knows_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_args: object, **_kwargs: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("anyio.getaddrinfo", never)
    monkeypatch.setattr("anyio._core._sockets.getaddrinfo", never)
    async with Client([("nowhere.invalid", 1)], insecure=True) as client:
        with trio.fail_after(PATIENCE_S), pytest.raises(DeadlineExceeded):
            await client.call(b"x", timeout_s=0.1)


async def test_two_servers_that_name_each_other_are_not_asked_without_end(
    autojump_clock: MockClock,
) -> None:
    one, two = FakeServer("0", "Leader"), FakeServer("1", "Leader")

    def names(other: str) -> Callable[[FakeServer, Request], Answer]:
        def handler(server: FakeServer, request: Request) -> Answer:
            return failure(request, "not-leader", leader_id=other)

        return handler

    one.handler, two.handler = names("1"), names("0")
    async with open_client(one, two) as client:
        with pytest.raises(DeadlineExceeded, match="nothing was applied"):
            await ends(client.call(b"x", timeout_s=5.0))
    asked = sum(isinstance(r, Propose) for r in (*one.requests, *two.requests))
    assert 10 < asked < 60


async def test_a_query_that_takes_long_to_answer_is_given_longer(
    autojump_clock: MockClock,
) -> None:
    """Or a large answer over a slow line would be asked for again until the deadline."""

    class Slow(FakeServer):
        async def _answer(self, stream: MemoryByteStream, request: Request) -> None:
            if isinstance(request, Query):
                await trio.sleep(3)
            await super()._answer(stream, request)

    server = Slow("0", "Leader")
    server.handler = lambda server, request: failure(request, "command", "as told", type_name="X")
    async with open_client(server, silence_s=60) as client:
        with pytest.raises(CommandFailed, match="as told"):
            await ends(client.query(b"x", timeout_s=9.9))


def watched(*, freezes: bool) -> FakeServer:
    server = FakeServer("0", "Leader")

    def handler(server: FakeServer, request: Request) -> Answer:
        if isinstance(request, Watch):
            if freezes:
                server.freeze()
            return Item(request.id, encode_value(b"first"))
        return echo(server, request)

    server.handler = handler
    return server


async def test_a_subscription_notices_that_its_server_is_paused(autojump_clock: MockClock) -> None:
    server = watched(freezes=True)
    async with open_client(server) as client, client.watch(b"", at=address_of(server)) as items:
        assert await anext(items) == b"first"
        with trio.fail_after(3 * SUBSCRIPTION_SILENCE_S), pytest.raises(ServerLost, match="silent"):
            await anext(items)
        with pytest.raises(ServerLost):
            await ends(anext(items))


async def test_a_subscription_with_nothing_to_tell_goes_on(autojump_clock: MockClock) -> None:
    server = watched(freezes=False)
    async with open_client(server) as client, client.watch(b"", at=address_of(server)) as items:
        assert await anext(items) == b"first"
        with trio.move_on_after(10 * SUBSCRIPTION_SILENCE_S) as waiting:
            await anext(items)
        assert waiting.cancelled_caught
        await server.tell(Item(1, encode_value(b"second")))
        assert await ends(anext(items)) == b"second"


async def test_what_an_idle_connection_did_not_take_is_asked_again_without_a_doubt(
    autojump_clock: MockClock,
) -> None:
    """Also a command that may not be sent twice: the request and the farewell crossed."""

    def goes_once(server: FakeServer, request: Request) -> Answer:
        proposals = [each for each in server.requests if isinstance(each, Propose)]
        if len(proposals) == 1:
            return GoingAway("there are 1024 connections, and it was idle longest")
        return echo(server, request)

    leader = FakeServer("0", "Leader", handler=goes_once)
    async with open_client(leader) as client:
        assert await ends(client.call(b"x", exactly_once=False)) is not None
    assert len(leader.hellos) == 2
