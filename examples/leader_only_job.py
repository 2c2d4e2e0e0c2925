"""A job that one of three nodes does, and another when that one is gone.

Run it: `python examples/leader_only_job.py`. Each node offers to do the job; the one that leads
does it, and stops at once when it leads no more. The three live in one process here; `member` is
what each process would do.
"""

from __future__ import annotations

import random

import trio

from trioraft import (
    MemoryNetwork,
    MemoryStorage,
    Node,
    NodeDead,
    open_node,
    run_while_leader,
)
from trioraft.machines.structures import Counter

NAMES = ("a", "b", "c")
REPORTS = 3


async def member(
    name: str, network: MemoryNetwork, busy: trio.MemorySendChannel[tuple[str, Node]]
) -> None:
    """One node, and its offer to do the job for as long as it lives."""
    counter = Counter()

    async def send_reports(term: int) -> None:
        """The job: it goes on from where the last leader left off, until it is cancelled."""
        print(f"{name} begins")
        try:
            for _ in range(REPORTS):
                print(f"{name} sends report {await counter.add()}")
            await busy.send((name, node))
            await trio.sleep_forever()
        finally:
            print(f"{name} ends")

    async with open_node(
        name,
        voters=NAMES,
        machine=counter,
        storage=MemoryStorage(),
        transport=network.transport(name),
    ) as node:
        counter.attach(node)
        try:
            await run_while_leader(node, send_reports)
        except NodeDead:
            print(f"{name} is Dead")


async def main() -> None:
    """Open three nodes; kill the one that does the job; see another do it."""
    network = MemoryNetwork(random.Random())
    busy, who_is_busy = trio.open_memory_channel[tuple[str, Node]](0)
    async with trio.open_nursery() as nursery:
        for name in NAMES:
            nursery.start_soon(member, name, network, busy)
        _, node = await who_is_busy.receive()
        node.kill()
        await who_is_busy.receive()  # another one
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
