"""A class of your own, the same on three nodes: stock that is never sold twice.

Run it: `python examples/replicated_object.py`. The three nodes live in this process, on a network
in memory; in production each has a process, a `TcpTransport` and a `SQLiteStorage` of its own.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import ClassVar

import msgspec
import trio

from trioraft import (
    MemoryNetwork,
    MemoryStorage,
    ReplicatedObject,
    command,
    open_node,
    query,
)


class OutOfStock(Exception):  # noqa: N818 - what the customer is told
    """There is not enough of it."""


class Stock(ReplicatedObject):
    """How much there is of everything. The annotated attributes are the replicated state."""

    version: ClassVar[int] = 1

    items: dict[str, int] = msgspec.field(default_factory=dict)
    sold: int = 0

    @command
    def deliver(self, name: str, count: int = 1) -> int:
        """Goods come in; returns how many there are now."""
        self.items[name] = self.items.get(name, 0) + count
        return self.items[name]

    @command
    def sell(self, name: str, count: int = 1) -> int:
        """Goods go out; returns how many are left. An exception travels to the caller."""
        left = self.items.get(name, 0) - count
        if left < 0:
            raise OutOfStock(f"{count} × {name} wanted, {left + count} there")
        self.items[name] = left
        self.sold += count
        return left

    @query
    def inventory(self) -> dict[str, int]:
        """What there is, everything sold before taken off."""
        return self.items


async def main() -> None:
    """Open three nodes, sell on the leader and on another, look there."""
    network = MemoryNetwork(random.Random())
    stocks = {name: Stock() for name in ("a", "b", "c")}
    async with AsyncExitStack() as stack:
        for name, stock in stocks.items():
            node = await stack.enter_async_context(
                open_node(
                    name,
                    voters=list(stocks),
                    machine=stock,
                    storage=MemoryStorage(),
                    transport=network.transport(name),
                )
            )
            stock.attach(node)
        status = await node.wait(lambda status: status.leader_id is not None)
        leader = str(status.leader_id)
        other = next(name for name in stocks if name != leader)

        print("delivered, there are", await stocks[leader].deliver("lamp", 3))
        print("sold, left are", await stocks[leader].sell("lamp", 2))
        try:
            await stocks[leader].sell("lamp", 2)
        except OutOfStock as error:
            print("not sold:", error)
        print("sold on another node, left are", await stocks[other].sell("lamp"))
        print("another node sees", await stocks[other].inventory())


if __name__ == "__main__":
    trio.run(main)
