"""What the transport tests share: an owner that records, and a way to run a transport.

Rules of this file: a wait names its condition and is bounded; real time only where real sockets
are the subject.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio

from tests.support import introduction
from trioraft.core.config import Limits, Timing
from trioraft.core.errors import BadMessage
from trioraft.core.messages import SEEN_MAX, AppendEntries, Introduction, Message
from trioraft.core.types import (
    ID_BYTES_MAX,
    MEMBERS_MAX,
    NUMBER_MAX,
    Address,
    Entry,
    Incarnation,
    NodeId,
)
from trioraft.member.identity import NONCES_KEPT
from trioraft.net.addresses import HOST_CHARS_MAX
from trioraft.transport.base import ConnectionRejected, LinkDown, LinkUp, Transport, TransportEvent
from trioraft.transport.handshake import check_reply, encode_hello
from trioraft.transport.tcp import TcpTransport

CLUSTER = "test-cluster"
LOOPBACK = ("127.0.0.1", 0)
PATIENCE_S = 10.0
"""Only reached by a test that fails."""

NAMES = tuple(f"{number:02}" + "é" * (ID_BYTES_MAX // 2 - 1) for number in range(MEMBERS_MAX))
LONGEST = introduction(
    NAMES[1],
    NAMES[0],
    incarnation=NUMBER_MAX,
    voters=NAMES,
    record=dict.fromkeys(NAMES, NUMBER_MAX),
    uuid="f" * 32,
    formed=True,
    opening=(NUMBER_MAX, NUMBER_MAX),
    remembered=(NUMBER_MAX, NUMBER_MAX, NUMBER_MAX),
    wants_reply=True,
    nonces=(NUMBER_MAX,) * NONCES_KEPT,
    clients_at=("h" * HOST_CHARS_MAX, 65535),
    seen_at=dict.fromkeys(NAMES[:SEEN_MAX], ("h" * HOST_CHARS_MAX, 65535)),
)
"""As many first voters as there may be, with the longest names, opened often."""

EventType = TypeVar("EventType", bound=TransportEvent)


@attrs.define(eq=False)
class Recorder:
    """A node that does nothing but remember what its transport told it."""

    node_id: NodeId = "0"
    timing: Timing = attrs.Factory(Timing)
    messages: list[Message] = attrs.Factory(list)
    lost: list[NodeId] = attrs.Factory(list)
    events: list[TransportEvent] = attrs.Factory(list)
    introduced: list[Introduction] = attrs.Factory(list)
    origins: list[Introduction] = attrs.Factory(list)
    """Of each message, what its sender had said of itself."""
    named: dict[NodeId, Incarnation] = attrs.Factory(dict)
    """Which disks its configuration names."""
    seen_at: dict[NodeId, Address] = attrs.Factory(dict)
    told_of: dict[NodeId, list[Address]] = attrs.Factory(dict)
    """Where others have seen a peer."""
    refuses: Callable[[Message], bool] = lambda message: False
    _changed: trio.Event = attrs.Factory(trio.Event)

    def on_batch_end(self) -> None:
        pass

    def introduction(self, peer: NodeId) -> Introduction:
        return introduction(self.node_id, peer)

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        return self.named.get(peer)

    def on_introduction(self, said: Introduction) -> None:
        if self.refuses(said):
            raise BadMessage("the owner does not like it")
        self.introduced.append(said)

    def on_message(self, message: Message, origin: Introduction) -> None:
        if self.refuses(message):
            raise BadMessage("the owner does not like it")
        self.messages.append(message)
        self.origins.append(origin)
        self._note_change()

    def on_peer_lost(self, peer: NodeId) -> None:
        self.lost.append(peer)
        self._note_change()

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        self.seen_at[peer] = address

    def addresses_told_of(self, peer: NodeId) -> list[Address]:
        return self.told_of.get(peer, [])

    def on_transport_event(self, event: TransportEvent) -> None:
        self.events.append(event)
        self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def all(self, kind: type[EventType]) -> list[EventType]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[Recorder], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not condition(self):
                await self._changed.wait()

    async def until_rounds(self, numbers: list[int]) -> None:
        """Wait until exactly these messages have come, in this order."""
        await self.until(lambda r: rounds(r.messages) == numbers)

    async def until_count(self, messages: int) -> None:
        await self.until(lambda r: len(r.messages) == messages)

    async def until_lost(self, peer: NodeId, times: int) -> None:
        await self.until(lambda r: r.lost.count(peer) >= times)

    async def until_up(self, peer: NodeId, times: int = 1) -> None:
        await self.until(lambda r: len([e for e in r.all(LinkUp) if e.peer == peer]) >= times)

    async def until_down(self, peer: NodeId, times: int = 1) -> str:
        await self.until(lambda r: len([e for e in r.all(LinkDown) if e.peer == peer]) >= times)
        return [e for e in self.all(LinkDown) if e.peer == peer][times - 1].reason

    async def until_rejected(self, peer: NodeId | None = None) -> ConnectionRejected:
        """The first rejection; of this peer, if one is given: on a machine that is busy, a second
        attempt to connect may have been given up before it said who it was."""

        def found(recorder: Recorder) -> list[ConnectionRejected]:
            return [e for e in recorder.all(ConnectionRejected) if peer in (None, e.peer)]

        await self.until(lambda r: bool(found(r)))
        return found(self)[0]


@asynccontextmanager
async def running(
    transport: Transport,
    owner: Recorder | None = None,
    *,
    cluster_id: str = CLUSTER,
    limits: Limits | None = None,
) -> AsyncIterator[Recorder]:
    """Run a transport for the length of a block."""
    owner = Recorder() if owner is None else owner
    owner.node_id = transport.node_id
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await transport.run(
                owner, cluster_id=cluster_id, limits=limits or Limits(), task_status=task_status
            )

        await nursery.start(run)
        yield owner
        nursery.cancel_scope.cancel()


def hello_of(
    sender: NodeId = "1",
    receiver: NodeId = "0",
    *,
    cluster_id: str = CLUSTER,
    address: Address | None = None,
) -> bytes:
    """A dialer's first frame."""
    said = introduction(sender, receiver)
    return encode_hello(cluster_id=cluster_id, introduction=said, address=address)


def take_reply(payload: bytes | bytearray, sender: NodeId = "0", receiver: NodeId = "1") -> None:
    """Check that the listener has let this node in."""
    check_reply(payload, sender=sender, receiver=receiver)


def heartbeat(sender: NodeId, receiver: NodeId, number: int = 1) -> AppendEntries:
    """A message that can be told from others by its number."""
    return AppendEntries(sender, receiver, 1, 0, 0, (), 0, number)


def replication(sender: NodeId, receiver: NodeId, size_bytes: int, number: int = 1) -> Message:
    """A message of about this size."""
    return AppendEntries(sender, receiver, 1, 0, 0, (Entry(1, 1, bytes(size_bytes)),), 0, number)


def rounds(messages: list[Message]) -> list[int]:
    """The numbers of heartbeats and replications."""
    return [message.round for message in messages if isinstance(message, AppendEntries)]


def free_port() -> int:
    """A loopback port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def open_sockets() -> int:
    """How many socket descriptors this process has."""
    count = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{entry}").startswith("socket:")
        except OSError:
            continue  # the descriptor of the listing itself
    return count


def linked_pair() -> tuple[TcpTransport, TcpTransport]:
    transports = (
        TcpTransport("0", LOOPBACK, {}, rng=random.Random(1)),
        TcpTransport("1", LOOPBACK, {}, rng=random.Random(2)),
    )
    table = {transport.node_id: transport.bind() for transport in transports}
    for transport in transports:
        for peer, address in table.items():
            transport.set_peer(peer, address)
    return transports


@asynccontextmanager
async def connected(transport: TcpTransport) -> AsyncIterator[trio.SocketStream]:
    """Connect to a node without a word."""
    stream = await trio.open_tcp_stream(*transport.address)
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


class HangingResolver(trio.abc.HostnameResolver):
    """A resolver that never answers."""

    def __init__(self) -> None:
        self.asked = trio.Event()

    async def getaddrinfo(self, *args: object, **kwargs: object) -> Any:
        self.asked.set()
        await trio.sleep_forever()

    async def getnameinfo(self, *args: object, **kwargs: object) -> tuple[str, str]:
        raise AssertionError("nobody asked for a name")


def all_tasks() -> list[trio.lowlevel.Task]:
    found = []
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            found.append(task)
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found
