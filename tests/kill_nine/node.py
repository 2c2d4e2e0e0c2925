"""One node in a process of its own, to be killed: `python -m tests.kill_nine.node SETUP`.

Rules of this file: it says what was acknowledged after the fact and never before.
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec
import trio

from benchmarks.processes import child
from benchmarks.processes.pipe import Bound, Failed, Peers, answer
from trioraft import (
    Limits,
    MemoryNetwork,
    Node,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    SharedLog,
    SQLiteStorage,
    TcpTransport,
    open_node,
)
from trioraft.protocols import Storage

LIMITS = Limits(snapshot_entries=2_000, snapshot_tail_entries=200, snapshot_chunk_bytes=16 * 1024)
CLIENTS = 8
NEIGHBOURS = ("neighbour 1", "neighbour 2", "neighbour 3")


class Setup(msgspec.Struct, frozen=True):
    """What the node is to be."""

    node_id: str
    voters: tuple[str, ...]
    directory: str
    name: str
    """Of this incarnation."""
    port: int
    is_shared: bool = False
    """Its storage is one of several of a `SharedLog`, and the others write too."""


# -- orders and answers ------------------------------------------------------------------------


class Quiet(msgspec.Struct, frozen=True, tag=True):
    """Order: stop proposing."""


class Propose(msgspec.Struct, frozen=True, tag=True):
    """Order: propose this; answer with `Proposed`."""

    text: str


class Dump(msgspec.Struct, frozen=True, tag=True):
    """Order: answer with `Commands`."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The node is open."""


class Acknowledged(msgspec.Struct, frozen=True, tag=True):
    """Unasked: this command's result is here."""

    text: str


class Proposed(msgspec.Struct, frozen=True, tag=True):
    """Whether it was acknowledged."""

    is_done: bool


class Commands(msgspec.Struct, frozen=True, tag=True):
    """All that were applied, in order."""

    texts: list[str]


decode_order = msgspec.json.Decoder[Peers | Quiet | Propose | Dump](
    Peers | Quiet | Propose | Dump
).decode
decode_answer = msgspec.json.Decoder[Bound | Failed | Opened | Acknowledged | Proposed | Commands](
    Bound | Failed | Opened | Acknowledged | Proposed | Commands
).decode


# -- the node ----------------------------------------------------------------------------------


class Ledger:
    """Remembers every command, in order."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def apply(self, index: int, data: bytes) -> int:
        self.commands.append(data.decode())
        return index

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.commands = msgspec.msgpack.decode(b"".join(chunks), type=list[str])


async def client(
    node: Node, name: str, stop: trio.Event, tell: Callable[[Acknowledged], None] = answer
) -> None:
    """Propose whenever this node leads, and tell what was acknowledged."""
    number = 0
    while not stop.is_set():
        number += 1
        try:
            await node.propose(f"{name}/{number}".encode())
        except (NotLeader, ProposalDropped):
            await trio.sleep(0.02)
        except (OutcomeUnknown, NodeDead):
            continue
        else:
            tell(Acknowledged(f"{name}/{number}"))


async def propose(node: Node, text: str) -> bool:
    """Propose once, if this node leads."""
    try:
        await node.propose(text.encode())
    except (NotLeader, ProposalDropped, OutcomeUnknown):
        return False
    return True


@asynccontextmanager
async def open_storage(setup: Setup) -> AsyncIterator[Storage]:
    """The node's storage; among others that write at the same time, if it is to be so."""
    if not setup.is_shared:
        yield SQLiteStorage(setup.directory)
        return
    shared = SharedLog(setup.directory)
    await trio.to_thread.run_sync(partial(shared.open, cluster_id="all", node_id=setup.node_id))
    try:
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            for group in NEIGHBOURS:
                node = await stack.enter_async_context(
                    open_node(
                        "alone",
                        voters=["alone"],
                        machine=Ledger(),
                        storage=shared.storage_of(group),
                        transport=MemoryNetwork(random.Random(0)).transport("alone"),
                        limits=LIMITS,
                    )
                )
                nursery.start_soon(client, node, group, trio.Event(), lambda _: None)
            yield shared.storage_of("replicated")
            nursery.cancel_scope.cancel()
    finally:
        shared.close()


async def live(setup: Setup, transport: TcpTransport, orders: child.Orders) -> None:
    """Be that node, and obey."""
    ledger = Ledger()
    stop = trio.Event()
    async with (
        open_storage(setup) as storage,
        open_node(
            setup.node_id,
            voters=setup.voters,
            machine=ledger,
            storage=storage,
            transport=transport,
            limits=LIMITS,
        ) as node,
        trio.open_nursery() as nursery,
    ):
        answer(Opened())
        for number in range(CLIENTS):
            nursery.start_soon(client, node, f"{setup.name}.{number}", stop)
        async for order in orders:
            match order:
                case Quiet():
                    stop.set()
                case Dump():
                    answer(Commands(ledger.commands))
                case Propose(text):
                    answer(Proposed(await propose(node, text)))


def main() -> int:
    """Be the node that the only argument describes; returns the exit code."""
    setup = msgspec.json.decode(sys.argv[1], type=Setup)
    return child.main(setup.node_id, setup.port, decode_order, partial(live, setup))


if __name__ == "__main__":
    sys.exit(main())
