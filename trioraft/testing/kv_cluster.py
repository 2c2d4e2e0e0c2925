"""A cluster that keeps keys and values, and clients of it, all in one process and in virtual time.

Rules of this file:

* Clients are real ones (`trioraft.Client`, with sessions), and so is what answers them; only the
  bytes between them go through memory.
* A node that crashes takes its clients' connections with it. `hold_answers` lets a client's answers
  lie on the wire: what it asked for is done, and it does not know.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, final

import anyio
import anyio.abc
import trio
from trio.testing import memory_stream_pair

from ..client.client import Client
from ..core.types import Address, NodeId
from ..kv import ERROR_TYPES, KvClient, KvMachine
from ..kv.commands import Get, Result, encode
from ..logs.loggers import TraceLogger
from ..machines.sessions import SessionMachine
from ..net.connection import Connection
from ..service.admission import admit
from ..service.context import ServiceContext, ServiceLimits
from ..service.conversation import Conversation
from .cluster import Cluster

Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Cluster]]
"""`open_cluster`, with what the teller has chosen."""

PORT = 1
"""Of every server: its host is its id."""
CALL_TIMEOUT_S = 60.0
"""Patience of the clients: a scenario with faults takes some elections."""


def new_machine() -> SessionMachine:
    """As `trioraft serve` has it."""
    return SessionMachine(KvMachine(), result_type=Result, error_types=ERROR_TYPES)


@final
class Wire(anyio.abc.ByteStream):
    """The client's end of a connection in memory."""

    def __init__(self, stream: Any, answers: Answers) -> None:
        self._stream = stream
        self._answers = answers

    async def send(self, item: bytes) -> None:
        """To the server."""
        try:
            await self._stream.send_all(item)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """From the server, unless it is held."""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        if not await self._answers.pass_on():
            raise anyio.EndOfStream
        return data

    async def send_eof(self) -> None:
        """Nothing more to say."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Hang up."""
        await self._stream.aclose()


@final
class Answers:
    """Whether what a server says arrives."""

    def __init__(self) -> None:
        self._is_held = False
        self._losses = 0
        self._released = trio.lowlevel.ParkingLot()

    async def pass_on(self) -> bool:
        """Wait until it may; returns whether it was not lost meanwhile."""
        losses = self._losses
        while self._is_held:
            await self._released.park()
        return losses == self._losses

    def hold(self) -> None:
        """Not for now."""
        self._is_held = True

    def lose(self) -> None:
        """What was held never arrives."""
        self._losses += 1
        self.release()

    def release(self) -> None:
        """What was held arrives, and what follows."""
        self._is_held = False
        self._released.unpark_all()


@final
class KvCluster:
    """A cluster, and how clients reach it."""

    def __init__(self, cluster: Cluster, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self._nursery = nursery
        self._scopes: dict[NodeId, set[trio.CancelScope]] = {node: set() for node in cluster.ids}
        self._answers = {node: Answers() for node in cluster.ids}
        self._clients = 0

    @asynccontextmanager
    async def client(self, *servers: NodeId) -> AsyncIterator[KvClient]:
        """A client that knows these servers, or all."""
        self._clients += 1
        async with Client(
            [(node_id, PORT) for node_id in servers or self.cluster.ids],
            cluster_id="test",
            timeout_s=CALL_TIMEOUT_S,
            error_types=ERROR_TYPES,
            rng=random.Random(f"{self.cluster.seed}/{self._clients}"),
            connect=self._connect,
        ) as client:
            yield KvClient(client)

    async def crash(self, node_id: NodeId) -> None:
        """Kill a node; its clients lose their connections, with what lay on the wire."""
        self._answers[node_id].lose()
        for scope in self._scopes[node_id]:
            scope.cancel()
        await self.cluster.crash(node_id)

    async def restart(self, node_id: NodeId) -> None:
        """Open it again."""
        await self.cluster.restart(node_id)

    def hold_answers(self, node_id: NodeId) -> None:
        """What this server says to clients lies on the wire."""
        self._answers[node_id].hold()

    def release_answers(self, node_id: NodeId) -> None:
        """It arrives."""
        self._answers[node_id].release()

    def value_at(self, node_id: NodeId, key: str) -> bytes | None:
        """What this node has applied."""
        machine: Any = self.cluster.machines[node_id]  # a SessionMachine around a KvMachine
        found = machine.machine.query(encode(Get(key.encode())))
        return found.value  # type: ignore[no-any-return] # a Found's

    async def _connect(self, address: Address, server_name: str) -> anyio.abc.ByteStream:
        node_id = address[0]
        if node_id not in self.cluster.nodes:
            raise ConnectionRefusedError(f"node {node_id} is down")
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._converse, node_id, theirs)
        await trio.lowlevel.checkpoint()
        return Wire(ours, self._answers[node_id])

    async def _converse(self, node_id: NodeId, stream: trio.abc.Stream) -> None:
        cluster = self.cluster
        node = cluster.nodes.get(node_id)
        if node is None:  # crashed while somebody connected
            await trio.aclose_forcefully(stream)
            return
        machine: SessionMachine = cluster.machines[node_id]
        context = ServiceContext(
            node=node,
            machine=machine.machine,
            cluster_id="test",
            limits=ServiceLimits(),
            tls=None,
            client_addresses={each: (each, PORT) for each in cluster.ids},
            has_sessions=True,
            log=TraceLogger(None, node_id),
        )
        scope = trio.CancelScope()
        self._scopes[node_id].add(scope)
        try:
            with scope:
                connection = Connection(stream, "a client", lambda: None)
                admitted = await admit(context, connection)
                if admitted is not None:
                    await Conversation(context, connection, admitted).run()
        finally:
            self._scopes[node_id].discard(scope)
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_kv(open_cluster: Open, size: int) -> AsyncIterator[KvCluster]:
    """Open a cluster through the teller's `open_cluster`, and what clients need beside it.

    A body that fails raises its own error, ungrouped.
    """
    async with open_cluster(size, machine=new_machine) as cluster:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            try:
                yield KvCluster(cluster, nursery)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
