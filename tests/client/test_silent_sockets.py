"""Silence on real sockets, where the kernel is part of it, and in real time."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

import anyio
import attrs
import pytest
import trio

from tests.client.support import FakeServer, ends
from tests.client.test_silence import depose, sent, three
from trioraft import BlockingClient, Client
from trioraft.core.types import Address

SILENCE_S = 2.0
"""Longer than the default: the machine may be busy."""
RECEIVED_BYTES = 2**16


@attrs.define(eq=False)
class Accepted:
    """A server's end of a connection, as a `FakeServer` uses one."""

    stream: trio.SocketStream
    pause_s: float = 0.0
    """Before each piece that is read."""
    piece_bytes: int = 2**16
    is_closed: bool = False

    async def send(self, item: bytes) -> None:
        try:
            await self.stream.send_all(item)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise anyio.BrokenResourceError from error

    async def receive(self) -> bytes:
        await trio.sleep(self.pause_s)
        try:
            data = await self.stream.receive_some(self.piece_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    def close_now(self) -> None:
        self.is_closed = True
        self.stream.socket.close()


@asynccontextmanager
async def listening(*servers: FakeServer, **reading: Any) -> AsyncIterator[list[Address]]:
    """Ports at which these servers answer; their kernel keeps little for them."""

    async def serve(server: FakeServer, stream: trio.SocketStream) -> None:
        accepted: Any = Accepted(stream, **reading)
        server.streams.append(accepted)
        await server.serve(accepted)

    addresses: list[Address] = []
    async with trio.open_nursery() as nursery:
        for server in servers:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            listener.socket.setsockopt(
                trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, RECEIVED_BYTES
            )
            addresses.append(listener.socket.getsockname()[:2])
            nursery.start_soon(trio.serve_listeners, partial(serve, server), [listener])
        yield addresses
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_a_blocking_client_leaves_a_silent_leader_within_one_silence(
    backend: Literal["trio", "asyncio"],
) -> None:
    servers = three()

    def befall() -> None:
        servers[0].freeze()
        depose(servers)

    def use(addresses: list[Address]) -> float:
        with BlockingClient(addresses, backend=backend, silence_s=SILENCE_S) as client:
            assert client.call(b"one") == b"one"
            trio.from_thread.run_sync(befall)
            begun_s = time.monotonic()
            assert client.call(b"two") == b"two"
            return time.monotonic() - begun_s

    async with listening(*servers) as addresses:
        took_s = await trio.to_thread.run_sync(use, addresses)
    assert SILENCE_S / 2 < took_s < SILENCE_S
    assert sent(servers[1]) == [b"two"]


@pytest.mark.skipif(sys.platform != "linux", reason="this kernel does not say what is on its way")
async def test_a_large_request_on_its_way_is_no_silence() -> None:
    """The server has nothing to answer before it has read all of it, and this takes several
    silences; our kernel took it at once."""
    server = FakeServer("0", "Leader")
    async with listening(server, pause_s=0.02, piece_bytes=30_000) as addresses:
        async with Client(addresses, silence_s=0.4) as client:
            await ends(client.call(b"one"))
            begun_s = trio.current_time()
            await ends(client.call(bytes(2_000_000), timeout_s=9.0))
            assert trio.current_time() - begun_s > 1.0
        assert len(server.hellos) == 1
    assert [len(data) for data in sent(server)[1:]] == [2_000_000]
