"""A node with a client port, on a real socket of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tests.client.support import PATIENCE_S
from tests.support import open_single
from trioraft import Client, Node, Role, Service, Timing, open_service
from trioraft.core.types import Address
from trioraft.machines.sessions import SessionMachine
from trioraft.net.framing import Deframer
from trioraft.rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    Answer,
    ClientHello,
    decode_answer,
    frame,
)

LOOPBACK = ("127.0.0.1", 0)
QUICK = Timing(election_timeout_s=(0.01, 0.02), heartbeat_interval_s=0.005)
"""For a node on its own, which need not wait for anyone."""
HELLO = ClientHello(MAGIC, PROTOCOL_VERSION, "trioraft")


@attrs.define(eq=False)
class Appends:
    """A machine that appends to a list: the result is the list's length. It can be asked and
    watched, and raises if it is told to."""

    items: list[bytes] = attrs.field(factory=list)
    grown: trio.Event = attrs.field(factory=trio.Event)
    watchers: int = 0
    asked: int = 0
    """Questions answered."""
    told: int = 0
    """Items that watchers took."""

    def apply(self, index: int, data: bytes) -> int:
        if data == b"raise":
            raise KeyError("as told")
        self.items.append(data)
        self.grown.set()
        self.grown = trio.Event()
        return len(self.items)

    def query(self, data: bytes) -> Any:
        self.asked += 1
        if data == b"raise":
            raise KeyError("as told")
        if data == b"unsendable":
            return object()
        return bytes(int(data)) if data.isdigit() else list(self.items)

    @asynccontextmanager
    async def watch(self, data: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        if data == b"raise":
            raise KeyError("as told")
        self.watchers += 1
        try:
            yield _Items(self, int(data))
        finally:
            self.watchers -= 1

    def snapshot(self) -> bytes:
        return b"\n".join(self.items)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.items = b"".join(chunks).split(b"\n")


@attrs.define(eq=False)
class _Items:
    """Items from a position on; ends at the word "end"."""

    machine: Appends
    at: int

    def __aiter__(self) -> _Items:
        return self

    async def __anext__(self) -> bytes:
        while len(self.machine.items) <= self.at:
            await self.machine.grown.wait()
        item = self.machine.items[self.at]
        if item == b"end":
            raise StopAsyncIteration
        self.at += 1
        self.machine.told += 1
        return item


@asynccontextmanager
async def serving(
    machine: Any = None, *, node_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Node, Service]]:
    """A single node that leads, and its client port; with sessions around `Appends` by default."""
    machine = SessionMachine(Appends()) if machine is None else machine
    async with open_single(machine=machine, timing=QUICK, **(node_options or {})) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        async with open_service(node, machine, LOOPBACK, **options) as service:
            yield node, service


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the service does by itself, on real sockets; nothing else says when."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.002)


def client_of(service: Service, **options: Any) -> Client:
    return Client([service.address], **options)


@attrs.define(eq=False)
class RawClient:
    """A connection that does by hand what a client does, or what none should."""

    stream: trio.SocketStream
    deframer: Deframer = attrs.field(factory=lambda: Deframer(2**26))

    async def send(self, *messages: Any) -> None:
        await self.stream.send_all(b"".join(frame(message) for message in messages))

    async def payload(self) -> bytes | bytearray | None:
        """The next frame; None when the server closed."""
        while (payload := self.deframer.next_payload()) is None:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self.deframer.feed(data)
        return payload

    async def answer(self) -> Answer:
        payload = await self.payload()
        assert payload is not None, "the server closed the connection"
        return decode_answer(payload)

    async def is_closed(self) -> bool:
        """Wait until the server closes."""
        while await self.payload() is not None:
            pass
        return True


@asynccontextmanager
async def raw_client(address: Address, *, hello: bool = True) -> AsyncIterator[RawClient]:
    """A connection; it has shaken hands unless `hello` is False."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        client = RawClient(stream)
        if hello:
            await client.send(HELLO)
            await client.payload()
        yield client
