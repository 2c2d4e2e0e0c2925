"""A node in an asyncio program: as a guest of the event loop (`start_guest_run`), or in a thread of
its own. What each costs, and what a handler that blocks the loop does to each.

    python -m benchmarks.embedding

Decision 60 rests on this. The guest exists here only.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

import trio

from trioraft import MemoryNetwork, MemoryStorage, Node, Role, Status, aio, open_node, sync
from trioraft.testing import CommandLog
from trioraft.transport.tcp import TcpTransport

SECONDS: Final = 2.0
CALLERS: Final = 64
BLOCKED_S: Final = 1.0
ROUNDS: Final = 5
NAMES: Final = ("a", "b", "c")


class Proposes(Protocol):
    """A node, wherever it is."""

    def propose(self, data: bytes) -> Awaitable[Any]: ...

    def wait(self, predicate: Callable[[Status], bool]) -> Awaitable[Status]: ...


class Guest:
    """A node in a guest run, for its host."""

    def __init__(self, node: Node, calls: trio.Nursery) -> None:
        self._node, self._calls = node, calls

    async def propose(self, data: bytes) -> Any:
        return await self._call(partial(self._node.propose, data))

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        status: Status = await self._call(partial(self._node.wait, predicate))
        return status

    async def _call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        outcome = asyncio.get_running_loop().create_future()

        async def run() -> None:
            outcome.set_result(await function())

        self._calls.start_soon(run)
        return await outcome


@asynccontextmanager
async def guest(**arguments: Any) -> Any:
    """A node in a guest run on this loop."""
    loop = asyncio.get_running_loop()
    ready, over = loop.create_future(), loop.create_future()
    scope = trio.CancelScope()

    async def main() -> None:
        async with trio.open_nursery() as calls:
            with scope:
                async with open_node(**arguments) as node:
                    ready.set_result(Guest(node, calls))
                    await trio.sleep_forever()
            calls.cancel_scope.cancel()

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=over.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    yield await ready
    scope.cancel()
    (await over).unwrap()


def alone() -> dict[str, Any]:
    """Arguments of a node that is the only voter."""
    transport = MemoryNetwork(random.Random(0)).transport("a")
    return {
        "node_id": "a",
        "voters": ["a"],
        "machine": CommandLog(),
        "storage": MemoryStorage(),
        "transport": transport,
    }


def leads(status: Status) -> bool:
    """Whether a node leads."""
    return status.role is Role.LEADER


async def cost(name: str, node: Proposes, gather: Callable[[Any, int], Awaitable[None]]) -> None:
    """One caller, then many."""
    await node.wait(leads)
    times: list[float] = []

    async def one_after_the_other(until_s: float) -> None:
        while (began_s := time.perf_counter()) < until_s:
            await node.propose(b"x")
            times.append(time.perf_counter() - began_s)

    await one_after_the_other(time.perf_counter() + SECONDS)
    median_us, late_us = (1e6 * statistics.quantiles(times, n=100)[at] for at in (49, 98))
    times.clear()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await gather(partial(one_after_the_other, began_s + SECONDS), CALLERS)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    print(
        f"{name:16} one caller: median {median_us:.0f} µs, 99 % {late_us:.0f} µs; "
        f"{CALLERS} callers: {len(times) / took_s:.0f}/s, {1e6 * cpu_s / len(times):.0f} µs of CPU"
    )


async def gather_asyncio(function: Callable[[], Awaitable[None]], count: int) -> None:
    await asyncio.gather(*(function() for _ in range(count)))


async def gather_trio(function: Callable[[], Awaitable[None]], count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(function)


def busy(duration_s: float) -> None:
    """What a handler does that computes: the GIL is never given up by itself."""
    until_s = time.monotonic() + duration_s
    while time.monotonic() < until_s:
        sum(range(1000))


async def blocked(
    name: str,
    opening: Callable[..., AbstractAsyncContextManager[Any]],
    block: Callable[[float], object],
) -> None:
    """How often a leader is deposed when its program's event loop stands still."""
    deposed = 0
    for _ in range(ROUNDS):
        transports = {each: TcpTransport(each, ("127.0.0.1", 0), {}) for each in NAMES}
        addresses = {each: transport.bind() for each, transport in transports.items()}
        for transport in transports.values():
            for each, address in addresses.items():
                transport.add_peer(each, address)
        arguments = {
            each: alone() | {"node_id": each, "voters": NAMES, "transport": transports[each]}
            for each in NAMES
        }
        others: list[AbstractContextManager[sync.BlockingNode]]
        others = [sync.open_node(**arguments[each]) for each in ("b", "c")]
        nodes = [await asyncio.to_thread(other.__enter__) for other in others]
        try:
            async with opening(**arguments["a"]) as node:
                status = await node.wait(lambda status: status.leader_id is not None)
                for peer in nodes:
                    if peer.id == status.leader_id:
                        await asyncio.to_thread(peer.transfer_leadership, "a")
                led = await node.wait(leads)
                block(BLOCKED_S)
                now = await asyncio.to_thread(nodes[0].wait, lambda s: s.leader_id is not None)
                deposed += now.term != led.term
        finally:
            for other in others:
                await asyncio.to_thread(other.__exit__, None, None, None)
    print(f"{name:16} {block.__name__} for {BLOCKED_S:g} s: {deposed} of {ROUNDS} leaders deposed")


async def measure(loop: str) -> None:
    """All of it, on one event loop of asyncio's."""
    for kind, opening in (("thread", aio.open_node), ("guest", guest)):
        async with opening(**alone()) as node:
            await cost(f"{loop} {kind}", node, gather_asyncio)
    for kind, opening in (("thread", aio.open_node), ("guest", guest)):
        for block in (time.sleep, busy):
            await blocked(f"{loop} {kind}", opening, block)


async def trio_itself() -> None:
    """The same under Trio."""
    async with open_node(**alone()) as node:
        await cost("trio", node, gather_trio)


def main() -> None:
    """Measure, and print."""
    trio.run(trio_itself)
    asyncio.run(measure("asyncio"))
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed")
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure("uvloop"))


if __name__ == "__main__":
    main()
