"""A trioraft node in a process of its own, which does what it is told through a pipe.

Rules of this file:

* Everything is as a program would have it that embeds a node: default timing, limits and garbage
  collection, TCP, a state machine that counts.
* It ends when its standard input does, in whatever it is; then nothing of it is left.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeAlias, final

import trio

from trioraft import Limits, MemoryStorage, Node, RaftError, TcpTransport, Timing, open_node
from trioraft.core.types import Role
from trioraft.storage.base import Storage as NodeStorage

from .cases import Storage
from .gauge import Gauge, rss_mb, set_collector
from .loads import fill, measure
from .pipe import (
    Applied,
    AwaitApplied,
    Began,
    Begin,
    Bound,
    End,
    Failed,
    Fill,
    Load,
    Opened,
    Order,
    Peers,
    Setup,
    answer,
    decode_order,
)

HOST: Final = "127.0.0.1"
WHOLE_LOG: Final = Limits(snapshot_entries=10**12, snapshot_bytes=10**15)
"""Limits under which no snapshot is ever taken."""
ORDERS_MAX: Final = 16
"""Orders that may wait."""

clock = time.perf_counter

Orders: TypeAlias = trio.MemoryReceiveChannel[Order]


@final
class CountingMachine:
    """The least that a state machine can do."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, _index: int, _data: bytes) -> int:
        """Count one more."""
        self.count += 1
        return self.count

    def snapshot(self) -> bytes:
        """The count."""
        return str(self.count).encode()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """The count of a snapshot."""
        self.count = int(b"".join(chunks))


def run(setup: Setup) -> int:
    """Be a node until standard input ends; returns the exit code."""
    try:
        trio.run(_serve, setup)
    except (RaftError, OSError, ExceptionGroup) as error:
        cause = _first(error)
        if not isinstance(cause, RaftError | OSError):
            raise
        answer(Failed(f"{type(cause).__name__}: {cause}"))
        return 1
    return 0


def _first(error: BaseException) -> BaseException:
    """The first of many tasks' errors: they lost their leader all at once."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(setup: Setup) -> None:
    transport = TcpTransport(setup.node_id, (HOST, setup.port), {})
    answer(Bound(transport.bind()[1]))
    send, orders = trio.open_memory_channel[Order](ORDERS_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_orders, send, nursery.cancel_scope)
        peers = await orders.receive()
        if not isinstance(peers, Peers):
            raise TypeError(f"the first order is {peers!r}, not Peers")
        for peer, port in peers.ports.items():
            transport.set_peer(peer, (HOST, port))
        await _be_a_node(setup, transport, orders)


async def _read_orders(send: trio.MemorySendChannel[Order], scope: trio.CancelScope) -> None:
    """Pass on what is ordered; the end of the input ends everything."""
    pending = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for data in stdin:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                await send.send(decode_order.decode(line))
    scope.cancel()


async def _be_a_node(setup: Setup, transport: TcpTransport, orders: Orders) -> None:
    storage = _storage(setup)
    began_s = clock()
    async with open_node(
        setup.node_id,
        voters=setup.voters,
        machine=CountingMachine(),
        storage=storage,
        transport=transport,
        timing=_timing(setup.patience),
        limits=Limits() if setup.snapshots else WHOLE_LOG,
    ) as node:
        open_s = clock() - began_s
        set_collector(setup.collector)
        status = await node.wait(lambda status: status.leader_id is not None)
        answer(Opened(str(status.leader_id), open_s))
        gauge = Gauge()
        async for order in orders:
            match order:
                case Begin():
                    gauge.begin(order.profile)
                case End():
                    answer(gauge.end())
                case AwaitApplied():
                    await _wait_applied(node, order.index)
                    answer(Applied(clock() - began_s, rss_mb()))
                case _:
                    await _carry_out(node, order, gauge)


async def _carry_out(node: Node, order: Order, gauge: Gauge) -> None:
    """What only a leader is told to do."""
    await node.wait(lambda status: status.role is Role.LEADER)
    match order:
        case Load():
            answer(await measure(node, order, gauge, on_begin=lambda: answer(Began())))
        case Fill():
            answer(await fill(node, order))
        case _:
            raise TypeError(f"{order!r} is no order for a node that is open")


async def _wait_applied(node: Node, index: int) -> None:
    await node.wait(lambda status: status.applied_index >= index)


def _timing(patience: int) -> Timing:
    low_s, high_s = Timing().election_timeout_s
    return Timing(election_timeout_s=(low_s * patience, high_s * patience))


def _storage(setup: Setup) -> NodeStorage:
    if setup.storage is Storage.MEMORY:
        return MemoryStorage()
    from trioraft.storage.sqlite import SQLiteStorage

    return SQLiteStorage(Path(setup.directory) / f"node-{setup.node_id}")
