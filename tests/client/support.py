"""What the client tests share: servers that do as a test says, on a network of streams.

Rules of this file: no sockets and no time of its own; a server answers what its handler returns.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import attrs
import msgspec
import trio
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from trioraft import Client
from trioraft.core.types import Address, Configuration
from trioraft.machines.sessions import (
    CloseSession,
    OpenSession,
    PlainCommand,
    SessionCommand,
    decode_envelope,
)
from trioraft.net.framing import Deframer
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL,
    Answer,
    ClientHello,
    Failure,
    GetStatus,
    GoingAway,
    Ping,
    Propose,
    Request,
    Result,
    ServerStatus,
    Take,
    Welcome,
    decode_hello,
    decode_request,
    encode_value,
    frame,
)

PATIENCE_S = 10.0
"""Only reached by a test that fails."""


class MemoryByteStream(ByteStream):
    """One end of a byte stream in memory."""

    def __init__(
        self, send: MemoryObjectSendStream[bytes], receive: MemoryObjectReceiveStream[bytes]
    ) -> None:
        self._send = send
        self._receive = receive
        self.is_closed = False

    async def send(self, item: bytes) -> None:
        await self._send.send(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._receive.receive()

    async def send_eof(self) -> None:
        await self._send.aclose()

    async def aclose(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        self.is_closed = True
        self._send.close()
        self._receive.close()


def stream_pair() -> tuple[MemoryByteStream, MemoryByteStream]:
    """Two ends."""
    one_send, two_receive = anyio.create_memory_object_stream[bytes](64)
    two_send, one_receive = anyio.create_memory_object_stream[bytes](64)
    return MemoryByteStream(one_send, one_receive), MemoryByteStream(two_send, two_receive)


class Hang(Exception):  # noqa: N818 - an instruction of a test, not an error
    """Raised by a handler: no answer, ever."""


class HangUp(Exception):  # noqa: N818 - as above
    """Raised by a handler: close the connection instead of an answer."""


Handler = Callable[["FakeServer", Request], Answer]


def result(request: Any, value: Any = None) -> Result:
    """The answer that it is done."""
    return Result(request.id, encode_value(value))


def failure(request: Any, kind: str, message: str = "no", **fields: Any) -> Failure:
    """The answer that it failed."""
    return Failure(request.id, kind, message, **fields)


@attrs.define(eq=False)
class FakeServer:
    """A server that does as its handler says."""

    node_id: str
    role: str = "Follower"
    term: int = 1
    handler: Handler | None = None
    """Answers proposals and whatever has no answer of its own; None: sessions of an echo."""
    is_down: bool = False
    thawed: trio.Event | None = None
    """There while it is frozen: the connections stand, and it does nothing."""
    is_unreachable: bool = False
    """What is sent to connect to it is lost."""
    round_trip_s: float = 0.0
    """How long all that it says is on its way, in seconds."""
    welcome: Welcome | None = None
    client_addresses: dict[str, Address] = attrs.field(factory=dict)
    other_client_addresses: dict[str, tuple[Address, ...]] = attrs.field(factory=dict)
    requests: list[Request] = attrs.field(factory=list)
    hellos: list[ClientHello] = attrs.field(factory=list)
    streams: list[MemoryByteStream] = attrs.field(factory=list)
    forgotten: list[MemoryByteStream] = attrs.field(factory=list)
    """Nothing goes over these any more, either way."""
    requests_max: int = 1024
    pinged: trio.Event = attrs.field(factory=trio.Event)
    later: trio.Nursery | None = None
    """Sends what is on its way for a while."""

    @property
    def commands(self) -> list[Any]:
        """The envelopes that were proposed here."""
        return [decode_envelope(r.data) for r in self.requests if isinstance(r, Propose)]

    def session_commands(self) -> list[SessionCommand]:
        return [command for command in self.commands if isinstance(command, SessionCommand)]

    def hang_up(self) -> None:
        """Close every connection."""
        for stream in self.streams:
            stream.close_now()
        self.streams.clear()

    def freeze(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.thawed = trio.Event()

    def thaw(self) -> None:
        """It goes on: what has come for it meanwhile is there."""
        if self.thawed is not None:
            self.thawed.set()
            self.thawed = None

    def forget_connections(self) -> None:
        """As a firewall does that lost its table, or a host that was away and is back."""
        self.forgotten += self.streams
        self.streams.clear()

    async def tell(self, answer: Answer = GoingAway()) -> None:  # noqa: B008 - it is frozen
        """Say something unasked."""
        for stream in self.streams:
            await stream.send(frame(answer))

    async def serve(self, stream: MemoryByteStream) -> None:
        deframer = Deframer(2**24)
        try:
            while (payload := deframer.next_payload()) is None:
                deframer.feed(await stream.receive())
            self.hellos.append(decode_hello(payload))
            if self.thawed is not None:
                await self.thawed.wait()
            await self._say(stream, frame(self.welcome or self._welcome()))
            while True:
                while (payload := deframer.next_payload()) is not None:
                    await self._answer(stream, decode_request(payload))
                deframer.feed(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, HangUp):
            pass
        finally:
            stream.close_now()

    def answer(self, request: Request) -> Answer:
        """What a healthy server says."""
        if isinstance(request, Ping):
            return result(request)
        if isinstance(request, GetStatus):
            return result(request, self.status())
        if isinstance(request, Take):
            raise Hang  # it has no answer
        if self.handler is not None:
            return self.handler(self, request)
        return echo(self, request)

    def status(self) -> ServerStatus:
        return ServerStatus(
            node_id=self.node_id,
            cluster_id="trioraft",
            role=self.role,
            term=self.term,
            leader_id=None,
            last_index=0,
            commit_index=0,
            applied_index=0,
            configuration=Configuration(("0",)),
            configuration_index=0,
            progress={},
            last_role_change="started",
            client_addresses=self.client_addresses,
            other_client_addresses=self.other_client_addresses,
        )

    def _welcome(self) -> Welcome:
        return Welcome(
            MAGIC,
            PROTOCOL[1],
            node_id=self.node_id,
            requests_max=self.requests_max,
        )

    async def _answer(self, stream: MemoryByteStream, request: Request) -> None:
        if self.thawed is not None:
            await self.thawed.wait()
        if stream in self.forgotten:
            return
        self.requests.append(request)
        if isinstance(request, Ping):
            self.pinged.set()
        try:
            answer = self.answer(request)
        except Hang:
            return
        await self._say(stream, frame(answer))

    async def _say(self, stream: MemoryByteStream, data: bytes) -> None:
        if self.round_trip_s and self.later is not None:
            self.later.start_soon(self._send_later, stream, data)
        else:
            await stream.send(data)

    async def _send_later(self, stream: MemoryByteStream, data: bytes) -> None:
        await trio.sleep(self.round_trip_s)
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await stream.send(data)


def echo(server: FakeServer, request: Request) -> Answer:
    """A machine with sessions whose results are its commands."""
    if not isinstance(request, Propose):
        return failure(request, "config", "the fake server does not know this")
    if server.role != "Leader":
        return failure(request, "not-leader")
    match decode_envelope(request.data):
        case OpenSession():
            return result(request, 1)
        case SessionCommand(data=data) | PlainCommand(data=data):
            return result(request, data)
        case CloseSession():
            return result(request)
    raise AssertionError("no such envelope")


class FakeNetwork:
    """Servers at addresses, reached by `connect`."""

    def __init__(self, servers: Mapping[Address, FakeServer], nursery: trio.Nursery) -> None:
        self.servers = dict(servers)
        self.names: list[tuple[Address, str]] = []
        self.connecting = 0
        self.made: list[MemoryByteStream] = []
        """The clients' ends of all connections."""
        self._nursery = nursery

    async def connect(self, address: Address, server_name: str) -> ByteStream:
        await trio.lowlevel.checkpoint()
        self.names.append((address, server_name))
        server = self.servers.get(address)
        if server is None or server.is_down:
            raise ConnectionRefusedError(111, "Connection refused")
        if server.is_unreachable:
            self.connecting += 1
            try:
                await trio.sleep_forever()
            finally:
                self.connecting -= 1
        mine, theirs = stream_pair()
        self.made.append(mine)
        server.later = self._nursery
        server.streams.append(theirs)
        self._nursery.start_soon(server.serve, theirs)
        return mine


def address_of(server: FakeServer) -> Address:
    return ("127.0.0.1", 4000 + int(server.node_id))


@asynccontextmanager
async def open_client(
    *servers: FakeServer, given: tuple[FakeServer, ...] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A client of these servers; `given` says of which it is told."""
    async with open_network(*servers, given=given, **options) as (client, _):
        yield client


@asynccontextmanager
async def open_network(
    *servers: FakeServer, given: tuple[FakeServer, ...] | None = None, **options: Any
) -> AsyncIterator[tuple[Client, FakeNetwork]]:
    """The same, and the network that it uses."""
    async with trio.open_nursery() as nursery:
        network = FakeNetwork({address_of(server): server for server in servers}, nursery)
        addresses = [address_of(server) for server in (servers if given is None else given)]
        options.setdefault("rng", random.Random(0))
        async with Client(addresses, connect=network.connect, **options) as client:
            yield client, network
        nursery.cancel_scope.cancel()


async def ends(awaitable: Awaitable[Any]) -> Any:
    """Await something that must not hang."""
    with trio.fail_after(PATIENCE_S):
        return await awaitable


def decoded(answer: Result, value_type: Any = Any) -> Any:
    return msgspec.msgpack.decode(answer.value, type=value_type)
