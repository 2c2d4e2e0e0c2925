"""How each thing is made to grow at a server, and what a put costs meanwhile.

Rules of this file:

* The server is `trioraft serve`, alone, with its defaults; it, what grows, and who puts are three
  processes, so that CPU and memory are the server's.
* What has grown hears nothing while a put is measured, unless hearing of it is the subject: who
  watches a server's status is told of every put.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import anyio
import attrs
import trio

from trioraft import Client, NodeId
from trioraft.client.connection import BREAKAGES
from trioraft.kv import ERROR_TYPES, KvClient
from trioraft.kv.commands import Changes, encode
from trioraft.rpc.protocol import Failure, Ping, Result, Watch, decode_answer, frame

from .. import procfs
from ..peers.pipe import ClientSetup
from ..processes import NodeProcess, ProcessError, ServerProcesses, open_nodes, shown
from ..throughput import pipe
from ..throughput.cases import Call, Mode
from .rigs import Cost

TIMEOUT_S: Final = 60.0
AT_ONCE: Final = 16
"""Connections that are opened at the same time."""
CALLER: Final = "caller"
SETTLE_S: Final = 0.2


@attrs.frozen
class Served:
    """A server with something that grows at it."""

    grow: Callable[[int], Awaitable[None]]
    pid: int
    caller: NodeProcess

    async def cost(self, seconds: float) -> Cost:
        """Have the other process put for so long, one after the other."""
        order = pipe.Load(Mode.TASKS, 1, seconds / 4, seconds, 1, call=Call.PUT)
        await self.caller.ask(order, pipe.Began)
        began_s = procfs.cpu_s(self.pid)
        loaded = await self.caller.answer(pipe.Loaded)
        cpu_s = procfs.cpu_s(self.pid) - began_s
        return Cost(cpu_s / loaded.ops * 1e6, loaded.p50_ms)

    def rss_bytes(self) -> int:
        """What is resident in the server."""
        return procfs.rss_bytes(self.pid)


Add: TypeAlias = Callable[[int], Awaitable[None]]
"""Makes one more, of this number; it is there when that returns."""
Adder: TypeAlias = Callable[[AsyncExitStack, ServerProcesses], Awaitable[Add]]


@asynccontextmanager
async def _served(adder: Adder, at_once: int = AT_ONCE) -> AsyncIterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="growth-") as directory,
        ServerProcesses(Path(directory), 1, ["--log-level", "warning"]) as servers,
    ):
        servers.start()
        setup = ClientSetup(tuple(map(shown, servers.addresses)))

        def setup_of(node_id: NodeId, *, port: int) -> ClientSetup:
            del node_id, port
            return setup

        async with (
            open_nodes(
                "benchmarks.peers.client", (CALLER,), setup_of, pipe.decode_answer
            ) as processes,
            AsyncExitStack() as stack,
        ):
            await processes.open(pipe.Opened)
            add, there = await adder(stack, servers), 0

            async def grow(to: int) -> None:
                nonlocal there
                room = trio.CapacityLimiter(at_once)

                async def one(number: int) -> None:
                    async with room:
                        await add(number)

                async with trio.open_nursery() as nursery:
                    for number in range(there, to):
                        nursery.start_soon(one, number)
                there = to
                await trio.sleep(SETTLE_S)  # whoever was told has read it

            pid = servers.servers[servers.ids[0]].pid
            yield Served(grow, pid, processes.nodes[CALLER])
            processes.nodes[CALLER].is_to_end = True


def _client(servers: ServerProcesses) -> Client:
    return Client(servers.addresses, error_types=ERROR_TYPES, timeout_s=TIMEOUT_S)


async def _reading(stack: AsyncExitStack) -> trio.Nursery:
    """Where tasks read what comes; they end before the connections that they read from."""
    nursery = await stack.enter_async_context(trio.open_nursery())
    stack.callback(nursery.cancel_scope.cancel)
    return nursery


async def _on_one_connection(stack: AsyncExitStack, servers: ServerProcesses) -> Add:
    client = await stack.enter_async_context(_client(servers))
    await KvClient(client).put(b"first", b"")
    nursery = await _reading(stack)
    # By hand, without the windows of a client's: what the server has of one alone.
    reached = await client._dialer.dial(servers.addresses[0], "")
    stack.push_async_callback(anyio.aclose_forcefully, reached.stream)

    pongs, has_taken = trio.open_memory_channel[int](1)

    async def read() -> None:
        with suppress(*BREAKAGES):
            while True:
                reached.deframer.feed(await reached.stream.receive())
                while (payload := reached.deframer.next_payload()) is not None:
                    match decode_answer(payload):
                        case Result(number):
                            await pongs.send(number)
                        case Failure() as failure:
                            raise ProcessError(f"the server refuses one: {failure}")

    nursery.start_soon(read)

    async def add(number: int) -> None:
        wanted = Watch(2 * number + 1, encode(Changes(1, b"others/%d/" % number)))
        await reached.stream.send(frame(wanted) + frame(Ping(2 * number + 2)))
        await has_taken.receive()

    return add


async def _subscriptions(stack: AsyncExitStack, servers: ServerProcesses) -> Add:
    client = await stack.enter_async_context(_client(servers))
    kv = KvClient(client)
    await kv.put(b"first", b"")
    nursery = await _reading(stack)

    async def watch(number: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with kv.watch(b"others/%d/" % number, from_index=1) as changes:
            task_status.started()
            async for _ in changes:
                pass

    async def add(number: int) -> None:
        await nursery.start(watch, number)

    return add


async def _status_watches(stack: AsyncExitStack, servers: ServerProcesses) -> Add:
    client = await stack.enter_async_context(_client(servers))
    nursery = await _reading(stack)

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        async with client.watch_status() as news:
            await anext(news)
            task_status.started()
            async for _ in news:
                pass

    async def add(_number: int) -> None:
        await nursery.start(watch)

    return add


async def _connections(stack: AsyncExitStack, servers: ServerProcesses) -> Add:
    nursery = await _reading(stack)

    async def connect(*, task_status: trio.TaskStatus[None]) -> None:
        async with _client(servers) as client:
            await KvClient(client).get(b"first")
            task_status.started()
            await trio.sleep_forever()

    async def add(_number: int) -> None:
        await nursery.start(connect)

    return add


SERVED: Final[dict[str, Callable[[], AbstractAsyncContextManager[Served]]]] = {
    "subscriptions/one": partial(_served, _on_one_connection, at_once=1),
    "subscriptions": partial(_served, _subscriptions),
    "status": partial(_served, _status_watches),
    "connections": partial(_served, _connections),
}
