"""One node in a process of its own, to be killed: `python -m tests.kill_nine.node CONFIG`.

Rules of this file: it says on standard output what was acknowledged, one line each, after the
fact and never before; what its parent says on standard input is `quiet` (stop proposing),
`propose TEXT`, and `dump`. It ends when its parent is gone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from trioraft import (
    Limits,
    Node,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    SQLiteStorage,
    TcpTransport,
    open_node,
)

LIMITS = Limits(snapshot_entries=2_000, snapshot_tail_entries=200, snapshot_chunk_bytes=16 * 1024)
CLIENTS = 8


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


def say(*words: str) -> None:
    """One line to the parent."""
    os.write(1, (" ".join(words) + "\n").encode())


async def client(node: Node, name: str, stop: trio.Event) -> None:
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
            say("ack", f"{name}/{number}")


async def obey(node: Node, ledger: Ledger, stop: trio.Event) -> None:
    """Do what the parent says, until it is gone."""
    stdin = trio.lowlevel.FdStream(os.dup(0))
    buffer = b""
    async with stdin:
        while chunk := await stdin.receive_some(4096):
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                word, _, rest = line.decode().partition(" ")
                if word == "quiet":
                    stop.set()
                elif word == "dump":
                    say("dump", json.dumps(ledger.commands))
                elif word == "propose":
                    await propose(node, rest)


async def propose(node: Node, text: str) -> None:
    """Propose once, if this node leads."""
    try:
        await node.propose(text.encode())
    except (NotLeader, ProposalDropped, OutcomeUnknown) as error:
        say("no", type(error).__name__)
    else:
        say("yes", text)


async def main(config: dict[str, Any]) -> None:
    """Be the node that `config` describes."""
    node_id: str = config["id"]
    peers = {peer: ("127.0.0.1", port) for peer, port in config["ports"].items()}
    ledger = Ledger()
    stop = trio.Event()
    async with open_node(
        node_id,
        voters=sorted(peers),
        machine=ledger,
        storage=SQLiteStorage(config["directory"]),
        transport=TcpTransport(node_id, peers[node_id], peers),
        limits=LIMITS,
    ) as node:
        say("up")
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(client, node, f"{config['name']}.{number}", stop)
            await obey(node, ledger, stop)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
