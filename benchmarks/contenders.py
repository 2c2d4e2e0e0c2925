"""What a hand-over of a lock costs, by how many wait for it.

    python -m benchmarks.contenders
    python -m benchmarks.contenders --contenders 10 100 1000 --hand-overs 2000

Three nodes in this process, in memory: the CPU time is that of all nodes and contenders together.
In "clients", contenders share ten clients over the loopback instead of standing on the nodes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from trioraft import Client, MemoryNetwork, MemoryStorage, Node, open_node, open_service
from trioraft.coordination.lock import LockHandle
from trioraft.structures import Lock

NAMES = ("a", "b", "c")
CLIENTS = 10


@attrs.frozen
class Measured:
    """What hand-overs cost with so many contenders."""

    where: str
    contenders: int
    per_s: float
    cpu_us: float
    entries: float

    def __str__(self) -> str:
        return (
            f"| {self.where} | {self.contenders:,} | {self.per_s:,.0f} | {self.cpu_us:,.0f} | "
            f"{self.entries:.2f} |"
        )


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[list[Node], list[Lock]]]:
    """Nodes, and the lock on each."""
    network = MemoryNetwork(random.Random(0))
    async with AsyncExitStack() as stack:
        nodes, locks = [], []
        for name in NAMES:
            lock = Lock()
            opening = open_node(
                name,
                voters=NAMES,
                machine=lock,
                storage=MemoryStorage(),
                transport=network.transport(name),
            )
            nodes.append(await stack.enter_async_context(opening))
            lock.attach(nodes[-1])
            locks.append(lock)
        for node in nodes:
            await node.wait(lambda status: status.leader_id is not None)
        yield nodes, locks


async def hand_over(locks: list[Lock] | list[LockHandle], contenders: int, turns_max: int) -> float:
    """So many contend for so many turns; returns when the first half was over."""
    turns, half_s = 0, 0.0

    async def again(lock: Lock | LockHandle, name: str) -> None:
        nonlocal turns, half_s
        while True:
            async with lock.hold(name, lease_s=60):
                turns += 1
                if turns == turns_max // 2:
                    half_s = time.process_time()
                if turns == turns_max:
                    nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number in range(contenders):
            nursery.start_soon(again, locks[number % len(locks)], f"{number}")
    return half_s


async def measure(where: str, contenders: int, hand_overs: int) -> Measured:
    """One row."""
    async with AsyncExitStack() as stack:
        nodes, locks = await stack.enter_async_context(cluster())
        places: list[Lock] | list[LockHandle] = locks
        if where == "clients":
            # The only port that there is: a follower's would have nowhere to send clients.
            leader = NAMES.index(nodes[0].status.leader_id or NAMES[0])
            port = open_service(nodes[leader], locks[leader], ("127.0.0.1", 0))
            service = await stack.enter_async_context(port)
            clients = [
                await stack.enter_async_context(Client([service.address])) for _ in range(CLIENTS)
            ]
            places = [Lock.through(client) for client in clients]
        await hand_over(places, len(places), 2 * len(places))  # sessions are open from here on
        index, begun_s = nodes[0].status.last_index, time.perf_counter()
        turns = contenders + 2 * hand_overs
        half_s = await hand_over(places, contenders, turns)
        cpu_s = time.process_time() - half_s
        per_s = turns / (time.perf_counter() - begun_s)
        entries = (nodes[0].status.last_index - index) / turns
        return Measured(where, contenders, per_s, cpu_s / (turns - turns // 2) * 1e6, entries)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contenders", type=int, nargs="+", default=[2, 10, 100, 300])
    parser.add_argument("--hand-overs", type=int, default=1000)
    options = parser.parse_args()
    print("| contenders | how many | hand-overs/s | CPU µs each | log entries each |")
    print("|---|---|---|---|---|")
    for where in ("nodes", "clients"):
        for contenders in options.contenders:
            print(trio.run(measure, where, contenders, options.hand_overs), flush=True)


if __name__ == "__main__":
    main()
