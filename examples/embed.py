"""A node inside a Trio program of your own, with its log on disk.

Run it: `python examples/embed.py DIRECTORY`. Run it again: the journal goes on where it stopped.
The cluster has one member here; the comments say what three would need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import msgspec
import trio

from trioraft import Node, Role, SQLiteStorage, TcpTransport, open_node


class Journal:
    """A state machine: what a command does, and how the state is saved and brought back."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def apply(self, index: int, data: bytes) -> int:
        """A committed command, in order, on every node; returns the line's number."""
        self.lines.append(data.decode())
        return len(self.lines)

    def snapshot(self) -> bytes:
        """The whole state."""
        return msgspec.msgpack.encode(self.lines)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """The whole state again."""
        self.lines = msgspec.msgpack.decode(b"".join(chunks), type=list[str])


async def write(node: Node, line: str) -> None:
    """Once `propose` returns, a majority has the line on disk."""
    print(f"line {await node.propose(line.encode())}: {line}")


async def main(directory: str) -> None:
    """Open a node, use it from several tasks, and leave; nothing of it is left then."""
    journal = Journal()
    async with open_node(
        "a",
        voters=["a"],  # ["a", "b", "c"] on each of three; clusters have three, five or seven
        machine=journal,
        storage=SQLiteStorage(directory),
        # Three: listen=("127.0.0.1", 7000), peers={"b": ("127.0.0.1", 7001), "c": …}
        transport=TcpTransport("a", listen=("127.0.0.1", 0), peers={}),
    ) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        await node.read_barrier()  # what is in the log has been applied
        print("found", len(journal.lines), "lines")
        async with trio.open_nursery() as nursery:
            for line in ("it embeds", "it is durable", "it leaves nothing behind"):
                nursery.start_soon(write, node, line)
        print("snapshot at index", await node.take_snapshot())
    print("the node is", node.status.role.value)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
