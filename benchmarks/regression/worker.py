"""Measures cases with the trioraft of one tree, as it is told: started by `benchmarks.regression`.

Rules of this file:

* It is run as a file of the working tree, and imports nothing but the trioraft that its only
  argument says: the tree before may know nothing of this benchmark.
* It asks for nothing but public names, and for what has been where it is for long; what that tree
  has not got is answered as missing.
* An order is a line, `CASE SECONDS`; the answer is one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

NODES: Final = 3
COMMAND: Final = bytes(100)


class Counting:
    """The least that a state machine can do."""

    def apply(self, index: int, _data: bytes) -> int:
        """Nothing is kept."""
        return index

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Nothing."""
        b"".join(chunks)


@asynccontextmanager
async def cluster(directory: str | None) -> AsyncIterator[Any]:
    """The leader of three nodes in this process, over TCP; on disks if there is a directory."""
    from trioraft import MemoryStorage, SQLiteStorage, TcpTransport, open_node

    names = [f"{number}" for number in range(NODES)]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: sock.getsockname()[:2] for name, sock in zip(names, sockets, strict=True)}
    for sock in sockets:
        sock.close()
    async with AsyncExitStack() as stack:
        nodes = []
        for name in names:
            peers = {other: address for other, address in ports.items() if other != name}
            storage = MemoryStorage() if directory is None else SQLiteStorage(f"{directory}/{name}")
            opening = open_node(
                name,
                voters=names,
                machine=Counting(),
                storage=storage,
                transport=TcpTransport(name, ports[name], peers),
            )
            nodes.append(await stack.enter_async_context(opening))
        known = await nodes[0].wait(lambda status: status.leader_id is not None)
        leader = next(node for node in nodes if node.id == known.leader_id)
        await leader.wait(lambda status: status.leader_id == leader.id)
        yield leader


async def repeated(call: Callable[[], Awaitable[object]], callers: int, seconds: float) -> Any:
    """So many callers, for so long, the first part of which does not count."""
    ops, some = 0, trio.Event()

    async def caller() -> None:
        nonlocal ops
        while True:
            await call()
            ops += 1
            some.set()

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(caller)
        await trio.sleep(seconds / 4)
        some = trio.Event()
        ops, cpu_s, began_s = 0, time.process_time(), time.perf_counter()
        await trio.sleep(seconds)
        await some.wait()
        took = (time.process_time() - cpu_s, time.perf_counter() - began_s, ops)
        nursery.cancel_scope.cancel()
    return took


async def _propose(callers: int, seconds: float, *, is_durable: bool) -> Any:
    with tempfile.TemporaryDirectory(prefix="regression-", dir=".") as directory:
        async with cluster(directory if is_durable else None) as leader:
            return await repeated(lambda: leader.propose(COMMAND), callers, seconds)


async def _service(what: str, callers: int, seconds: float) -> Any:
    from trioraft import Client, MemoryNetwork, MemoryStorage, open_node, open_service
    from trioraft.kv import ERROR_TYPES, KvClient
    from trioraft.kv.machine import KvMachine
    from trioraft.machines.sessions import SessionMachine

    machine = SessionMachine(KvMachine(), error_types=KvMachine.error_types)
    network = MemoryNetwork(random.Random(0))
    numbers = itertools.count()
    async with (
        open_node(
            "0",
            voters=["0"],
            machine=machine,
            storage=MemoryStorage(),
            transport=network.transport("0"),
        ) as node,
        open_service(node, machine, ("127.0.0.1", 0)) as service,
        Client([service.address], error_types=ERROR_TYPES) as client,
    ):
        kv = KvClient(client)
        await kv.put(b"bench/0", COMMAND)

        def call() -> Awaitable[object]:
            key = b"bench/%d" % (next(numbers) % 1000)
            return kv.get(key) if what == "get" else kv.put(key, COMMAND)

        return await repeated(call, callers, seconds)


def spun(call: Callable[[], object], seconds: float) -> Any:
    """Call again and again, for so long, the first time of which does not count."""
    call()
    ops, cpu_s, began_s = 0, time.process_time(), time.perf_counter()
    while not ops or time.perf_counter() - began_s < seconds:
        call()
        ops += 1
    return time.process_time() - cpu_s, time.perf_counter() - began_s, ops


def _sim(seconds: float) -> Any:
    from trioraft.sim.simulation import run_seed

    seeds = itertools.cycle(range(3))  # the same for both, and the same share of each
    return spun(lambda: [run_seed(next(seeds)) for _ in range(3)], seconds)


def _codec(seconds: float) -> Any:
    import msgspec

    from trioraft.core.messages import AppendEntries
    from trioraft.core.types import Entry
    from trioraft.transport.codec import decode_message

    entries = tuple(Entry(index, 1, COMMAND) for index in range(1, 65))
    message = AppendEntries("0", "1", 1, 0, 0, entries, 0)
    encode = msgspec.msgpack.Encoder().encode
    return spun(lambda: decode_message(encode(message)), seconds)


def _apply(seconds: float) -> Any:
    from trioraft.kv.commands import Put, encode
    from trioraft.kv.machine import KvMachine

    machine, indices = KvMachine(), itertools.count(1)
    commands = [encode(Put(b"bench/%d" % number, COMMAND)) for number in range(1000)]

    def call() -> None:
        for command in commands:
            machine.apply(next(indices), command)

    return spun(call, seconds)


def measured(case: str, seconds: float) -> Any:
    """CPU time, time, and operations of one case."""
    kind, *rest = case.split("/")
    if kind == "propose":
        callers, storage = rest

        async def propose() -> Any:
            return await _propose(int(callers), seconds, is_durable=storage == "durable")

        return trio.run(propose)
    if kind == "service":
        what, callers = rest
        return trio.run(_service, what, int(callers), seconds)
    return {"sim": _sim, "codec": _codec, "apply": _apply}[kind](seconds)


def main() -> None:
    """Do what is ordered until there are no more orders."""
    tree = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(tree))  # before whatever is installed
    import trioraft

    if not Path(trioraft.__file__).resolve().is_relative_to(tree):
        raise SystemExit(f"trioraft comes from {trioraft.__file__}, and not from {tree}")
    for line in sys.stdin:
        case, seconds = line.split()
        try:
            cpu_s, wall_s, ops = measured(case, float(seconds))
            answer = {"cpu_us": cpu_s / ops * 1e6, "wall_us": wall_s / ops * 1e6}
        except (ImportError, AttributeError, TypeError) as error:
            answer = {"missing": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
