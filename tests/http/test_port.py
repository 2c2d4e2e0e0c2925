"""The HTTP port: what it answers, beside which nodes, and what it refuses."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib import util

import pytest
import structlog
import trio
import trustme
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import trioraft.aio
import trioraft.http
import trioraft.sync
from tests.http.support import (
    HERE,
    PATIENCE_S,
    Endless,
    arguments,
    ask,
    ask_now,
    ask_until,
    open_leader,
)
from trioraft import ConfigError, ServerTls, WrongEventLoop
from trioraft.http import HttpLimits
from trioraft.http.port import PACKAGES
from trioraft.http.server import Server


async def test_a_node_that_leads_is_alive_and_ready() -> None:
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        assert port.url == f"http://127.0.0.1:{port.address[1]}"
        alive = await ask(port, "/livez")
        assert (alive.status, alive.text) == (200, "alive\n")
        assert alive.headers["cache-control"] == "no-store"
        ready = await ask_until(port, "/readyz?verbose", 200)
        assert ready.text == "ready\n[+] member\n[+] leader\n[+] caught-up\n[+] disk\n"
        assert (await ask(port, "/readyz", "HEAD")).text == ""
        assert (await ask(port, "/nothing")).status == 404
        assert (await ask(port, "/livez", "POST")).status == 405


async def test_a_dead_node_is_neither_and_says_why() -> None:
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        node.kill()
        alive = await ask_until(port, "/livez", 503)
        assert alive.text == "not alive: the node is Dead: killed\n"
        ready = await ask_until(port, "/readyz", 503)
        assert ready.text.startswith("not ready: the node is Dead: killed")


async def test_a_node_whose_loop_stands_still_is_not_ready_and_the_port_says_so() -> None:
    """It answers though the node cannot: it has a thread of its own."""
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        found = []
        thread = threading.Thread(target=lambda: found.append(ask_now(port, "/readyz")))
        await trio.sleep(0.3)  # so that it has to look anew
        thread.start()
        thread.join()  # in the loop's own thread: it stands still until the answer is there
    assert found[0].status == 503
    assert found[0].text.startswith("not ready: the node's event loop has not answered for ")


def test_beside_a_node_in_an_asyncio_program() -> None:
    async def main() -> None:
        async with (
            trioraft.aio.open_node("a", **arguments()) as node,
            trioraft.http.serve(node, listen=HERE) as port,
        ):
            loop = asyncio.get_running_loop()
            while True:
                answer = await loop.run_in_executor(None, ask_now, port, "/readyz")
                if answer.status == 200:
                    break
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    assert _threads() == []


def test_beside_a_node_in_a_program_of_threads() -> None:
    with trioraft.sync.open_node("a", **arguments()) as node:
        with trioraft.http.serve(node, listen=HERE) as port:
            assert ask_now(port, "/livez").status == 200
        with trioraft.http.serve(node, listen=HERE) as port:  # the one before is closed
            assert ask_now(port, "/livez").status == 200
    assert _threads() == []


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("trioraft")]


async def test_its_thread_ends_with_it() -> None:
    async with open_leader() as node:
        async with trioraft.http.serve(node, listen=HERE) as port:
            assert "trioraft http[a]" in _threads()
        assert _threads() == []
        with pytest.raises(ConnectionRefusedError):
            await ask(port, "/livez")


# -- what is refused -----------------------------------------------------------------------


async def test_wrong_ways_to_open_one_say_what_to_do() -> None:
    async with open_leader() as node:
        with pytest.raises(ConfigError, match="whoever reaches the port can read its status and"):
            trioraft.http.serve(node, listen=("0.0.0.0", 0))
        with pytest.raises(ConfigError, match="give one that open_node has made"):
            trioraft.http.serve("a", listen=HERE)  # type: ignore[arg-type] # that is the test
        with pytest.raises(ConfigError, match=r"HttpLimits.cpu_share is 0: give a positive"):
            HttpLimits(cpu_share=0)
        serving = trioraft.http.serve(node, listen=HERE)
        with pytest.raises(WrongEventLoop, match="of a Node: use `async with`"):
            serving.__enter__()
        async with serving as port:
            with pytest.raises(ConfigError, match="has an HTTP port already"):
                async with trioraft.http.serve(node, listen=HERE):
                    pass
            assert (await ask(port, "/livez")).status == 200
        with pytest.raises(ConfigError, match="was entered before"):
            await serving.__aenter__()
        with socket.socket() as taken:
            taken.bind(HERE)
            taken.listen()
            with pytest.raises(OSError, match="node 'a' cannot serve HTTP at "):
                async with trioraft.http.serve(node, listen=taken.getsockname()):
                    pass
        assert _threads() == []


async def test_without_its_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trioraft.http.port.find_spec", lambda name: None)
    async with open_leader() as node:
        with pytest.raises(ConfigError, match=r"pip install 'trioraft\[http\]'"):
            trioraft.http.serve(node, listen=HERE)
    assert all(util.find_spec(name) for name in PACKAGES)


async def test_over_tls_it_shows_its_certificate() -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=("0.0.0.0", 0), ssl_context=ServerTls(server)) as port,
    ):
        here = trioraft.http.HttpPort(("127.0.0.1", port.address[1]), is_tls=True)
        assert here.url.startswith("https://")
        assert (await ask(here, "/livez", tls=client)).status == 200
        plain = trioraft.http.HttpPort(here.address, is_tls=False)
        with pytest.raises(Exception, match=r"."):  # whatever its http.client makes of an alert
            await ask(plain, "/livez")
        assert (await ask(here, "/livez", tls=client)).status == 200


# -- routes of others ----------------------------------------------------------------------


async def _status(request: Request) -> Response:
    view = await request.app.state.reach.view()
    name = await request.app.state.reach.call(lambda node: node.id)
    return PlainTextResponse(f"{name} {view.figures.status.role.value}")


async def _broken(_: Request) -> Response:
    raise ValueError("a page of mine")


async def _echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _forever(_: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


async def _stream(_: Request) -> Response:
    return StreamingResponse(Endless(b"data: x\n\n", 0.01), media_type="text/event-stream")


async def _flood(_: Request) -> Response:
    return StreamingResponse(Endless(b"x" * 65536, 0))


ROUTES = [
    Route("/status", _status),
    Route("/broken", _broken),
    Route("/echo", _echo, methods=["POST"]),
    Route("/forever", _forever),
    Route("/stream", _stream),
    Route("/flood", _flood),
]


async def test_routes_of_others_find_the_way_to_the_node() -> None:
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES) as port,
    ):
        assert (await ask(port, "/status")).text == "a Leader"
        assert (await ask(port, "/livez")).text == "alive\n", "ours come first"


async def test_a_page_that_fails_is_told_and_nothing_else_fails() -> None:
    told: list[str] = []

    def note(_: object, __: str, event: structlog.types.EventDict) -> str:
        told.append(str(event["event"]))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[note])
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES, logger=logger) as port,
    ):
        assert (await ask(port, "/broken")).status == 500
        assert (await ask(port, "/livez")).status == 200
        await node.propose(b"x")
    assert told == ["HTTP: GET '/broken' failed: ValueError('a page of mine')"]


async def test_a_port_that_ends_of_itself_says_why_and_the_node_goes_on() -> None:
    """What is open beside it fails, say."""
    told = trio.Event()
    words: list[str] = []
    fails: list[Callable[[], None]] = []

    def note(_: object, __: str, event: structlog.types.EventDict) -> str:
        words.append(str(event["event"]))
        told.set()
        raise structlog.DropEvent

    @asynccontextmanager
    async def failing() -> AsyncIterator[None]:
        token, now = trio.lowlevel.current_trio_token(), trio.Event()
        fails.append(lambda: token.run_sync_soon(now.set))
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                await now.wait()
                raise ValueError("beside it")

            nursery.start_soon(fail)
            yield

    logger = structlog.wrap_logger(None, processors=[note])
    with trio.fail_after(PATIENCE_S):
        async with (
            open_leader() as node,
            trioraft.http.serve(node, listen=HERE, logger=logger, beside=failing),
        ):
            fails.pop()()
            await told.wait()
            await node.propose(b"x")
    (said,) = words
    assert said.startswith("HTTP: the port has ended, open another: ")
    assert "beside it" in said


async def test_a_page_that_does_not_begin_to_answer_is_given_up() -> None:
    limits = HttpLimits(answer_timeout_s=0.1)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES, limits=limits) as port,
    ):
        assert (await ask(port, "/forever")).status == 503


async def test_who_reads_nothing_does_not_hold_up_the_leaving() -> None:
    """An answer on its way is cancelled, not waited for."""
    with trio.fail_after(PATIENCE_S):
        async with open_leader() as node:
            async with trioraft.http.serve(node, listen=HERE, routes=ROUTES) as port:
                stream = await trio.open_tcp_stream(*port.address)
                await stream.send_all(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            await stream.aclose()


async def test_a_stream_goes_on_for_as_long_as_it_is_read() -> None:
    limits = HttpLimits(answer_timeout_s=0.2)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES, limits=limits) as port,
    ):
        async with await trio.open_tcp_stream(*port.address) as stream:
            await stream.send_all(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
            received = b""
            with trio.fail_after(PATIENCE_S):
                while received.count(b"data: x") < 40:  # twice as long as it may take to begin
                    received += await stream.receive_some()
        assert (await ask(port, "/livez")).status == 200


# -- bounds --------------------------------------------------------------------------------


async def _exchange(port: trioraft.http.HttpPort, *parts: bytes) -> bytes:
    """Send this, and read until the other side closes."""
    received = b""
    async with await trio.open_tcp_stream(*port.address) as stream:
        for part in parts:
            await stream.send_all(part)
        with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                received += data
    return received


async def test_requests_that_are_none_are_refused_in_its_own_words() -> None:
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES) as port,
    ):
        assert (await _exchange(port, b"\x16\x03\x01\x02\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        large = b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 20_000
        assert (await _exchange(port, large)).startswith(b"HTTP/1.1 431 ")
        body = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n" + b"x" * 70_000
        assert b"HTTP/1.1 413 " in await _exchange(port, body)
        small = b"POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n"
        assert (await _exchange(port, small + b"\r\nabc")).endswith(b"\r\n3")


async def test_who_sends_on_and_on_while_an_answer_goes_on_is_closed() -> None:
    """Or it would be kept for later, all of it."""
    sent_bytes = 0
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES) as port,
    ):
        async with await trio.open_tcp_stream(*port.address) as stream:
            await stream.send_all(b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n")
            with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
                while sent_bytes < 64 * 1024 * 1024:
                    await stream.send_all(b"x" * 65536)
                    sent_bytes += 65536
        assert sent_bytes < 64 * 1024 * 1024
        assert (await ask(port, "/livez")).status == 200


async def test_who_is_gone_before_it_is_served_is_no_news() -> None:
    """As the probes of some load balancers are."""
    told: list[str] = []

    def note(_: object, __: str, event: structlog.types.EventDict) -> str:
        told.append(str(event["event"]))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[note])
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, logger=logger) as port,
    ):
        for _ in range(20):
            with socket.create_connection(port.address) as probe:
                reset = struct.pack("ii", 1, 0)  # close by a reset
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        assert (await ask(port, "/livez")).status == 200
        await node.propose(b"x")
    assert told == []


async def test_several_requests_come_over_one_connection() -> None:
    async with open_leader() as node, trioraft.http.serve(node, listen=HERE) as port:
        request = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
        last = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        assert (await _exchange(port, request + request, last)).count(b"alive\n") == 3


async def test_who_is_slow_to_ask_is_closed() -> None:
    limits = HttpLimits(request_timeout_s=0.1, idle_timeout_s=0.1)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, limits=limits) as port,
    ):
        assert await _exchange(port) == b"", "says nothing"
        assert await _exchange(port, b"GET /livez HT") == b"", "and half of it"
        once = await _exchange(port, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        assert once.endswith(b"alive\n"), "and once only"


async def test_idle_connections_make_room_for_who_asks() -> None:
    limits = HttpLimits(connections_max=4, connections_of_host_max=4)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, limits=limits) as port,
    ):
        idle = [await trio.open_tcp_stream(*port.address) for _ in range(9)]
        assert (await ask(port, "/livez")).status == 200
        for stream in idle:
            await stream.aclose()


async def test_busy_connections_of_one_host_leave_room_for_another() -> None:
    """127.0.0.2 is another host to it."""
    limits = HttpLimits(connections_max=4, connections_of_host_max=3, answer_timeout_s=PATIENCE_S)
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, routes=ROUTES, limits=limits) as port,
    ):
        many = [await trio.open_tcp_stream(*port.address) for _ in range(6)]
        for stream in many:
            with suppress(trio.BrokenResourceError):  # it was one too many
                await stream.send_all(b"GET /forever HTTP/1.1\r\nhost: a\r\n\r\n")
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.settimeout(PATIENCE_S)
            await trio.to_thread.run_sync(other.connect, port.address)
            other.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            answer = await trio.to_thread.run_sync(other.recv, 1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        for stream in many:
            await stream.aclose()


async def test_what_goes_wrong_where_nothing_can_is_told_and_the_port_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the accepting itself, say: the node does not even notice."""
    told: list[str] = []

    def note(_: object, __: str, event: structlog.types.EventDict) -> str:
        told.append(str(event["event"]))
        raise structlog.DropEvent

    accept, broken = Server._accept_some, [True]

    def breaks_once(self: Server, listener: socket.socket, nursery: trio.Nursery) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("a bug")
        accept(self, listener, nursery)

    monkeypatch.setattr(Server, "_accept_some", breaks_once)
    logger = structlog.wrap_logger(None, processors=[note])
    async with (
        open_leader() as node,
        trioraft.http.serve(node, listen=HERE, logger=logger) as port,
    ):
        assert (await ask(port, "/livez")).status == 200
        await node.propose(b"x")
    assert told == ["HTTP: cannot accept: RuntimeError('a bug')"]
