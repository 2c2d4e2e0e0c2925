"""How much memory does a big snapshot take? `python -m benchmarks.big_snapshot --mib 1024`

Rules of this file: the state machine streams a state that it does not hold in memory, so whatever
the process grows by is the library's. Three nodes in one process, TCP over the loopback, SQLite.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import trio

from trioraft import Limits, Node, SQLiteStorage, TcpTransport, open_node

PIECE_BYTES: Final = 1024 * 1024
LIMITS: Final = Limits(snapshot_tail_entries=1)
COMMANDS: Final = 50


class Big:
    """Counts commands; its snapshot is as big as it is told to be."""

    def __init__(self, pieces: int) -> None:
        self._pieces = pieces
        self._count = 0
        self.restored_bytes = 0

    def apply(self, index: int, data: bytes) -> int:
        """Count one command."""
        self._count += 1
        return self._count

    def snapshot(self) -> Iterator[bytes]:
        """The count, and a lot more."""
        return self._content(self._count)

    def _content(self, count: int) -> Iterator[bytes]:
        yield count.to_bytes(8, "big")
        piece = os.urandom(PIECE_BYTES)
        for _ in range(self._pieces):
            yield piece

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Read it all, keep the count."""
        head = b""
        self.restored_bytes = 0
        for chunk in chunks:
            head = (head + chunk)[:8]
            self.restored_bytes += len(chunk)
        self._count = int.from_bytes(head, "big")


def rss_mib() -> float:
    """The most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(what: str, since_s: float) -> None:
    """One line: what was done, how long it took, and the memory by now."""
    print(f"{what:<32} {time.perf_counter() - since_s:7.2f} s   RSS at most {rss_mib():6.0f} MiB")


async def run(pieces: int, directory: Path) -> None:
    """Take, send, install and load a snapshot of so many MiB."""
    ids = ("0", "1", "2")
    machines = {node_id: Big(pieces) for node_id in ids}
    transports = {node_id: TcpTransport(node_id, ("127.0.0.1", 0), {}) for node_id in ids}
    for node_id, transport in transports.items():
        address = transport.bind()
        for other in transports.values():
            other.set_peer(node_id, address)

    def member(node_id: str) -> AbstractAsyncContextManager[Node]:
        return open_node(
            node_id,
            voters=ids,
            machine=machines[node_id],
            storage=SQLiteStorage(directory / node_id),
            transport=transports[node_id],
            limits=LIMITS,
        )

    async with member("0") as a, member("1") as b:
        status = await a.wait(lambda status: status.leader_id is not None)
        leader = a if status.leader_id == a.id else b
        begun_s = time.perf_counter()
        for round_of_two in range(2):  # the log is cut at the previous snapshot
            for _ in range(COMMANDS):
                await leader.propose(b"x")
            for node in (a, b):
                begun_s = time.perf_counter()
                await node.take_snapshot()
                say(f"snapshot {round_of_two + 1} taken by {node.id}", begun_s)
        begun_s = time.perf_counter()
        async with member("2") as late:
            await late.wait(lambda status: status.applied_index >= COMMANDS)
            say("sent to 2 and installed there", begun_s)
        begun_s = time.perf_counter()
        async with member("2"):
            say("2 started again from it", begun_s)
    print(f"restored on 2: {machines['2'].restored_bytes / PIECE_BYTES:.0f} MiB")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_snapshot", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the snapshot")
    parser.add_argument(
        "--dir", type=Path, default=Path(), help="where to put it: the disk matters"
    )
    options = parser.parse_args()
    if options.mib < 1:
        parser.error(f"--mib is {options.mib}: give at least 1")
    with tempfile.TemporaryDirectory(prefix="big-snapshot-", dir=options.dir) as directory:
        trio.run(run, options.mib, Path(directory))


if __name__ == "__main__":
    main()
