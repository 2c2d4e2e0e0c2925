"""A trioraft node in a process of its own, which does what it is told through a pipe.

Rules of this file:

* Everything is as a program would have it that embeds a node: default timing, limits and garbage
  collection, TCP, a state machine that counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final, final

from trioraft import Limits, MemoryStorage, Node, TcpTransport, Timing, open_node
from trioraft.core.types import Role
from trioraft.storage.base import Storage as NodeStorage

from ..processes import child
from ..processes.pipe import answer
from .cases import Storage
from .gauge import Gauge, rss_mb, set_collector
from .loads import fill, measure
from .pipe import (
    Applied,
    AwaitApplied,
    Began,
    Begin,
    End,
    Fill,
    Load,
    Opened,
    Order,
    Setup,
    decode_order,
)

WHOLE_LOG: Final = Limits(snapshot_entries=10**12, snapshot_bytes=10**15)
"""Limits under which no snapshot is ever taken."""

clock = time.perf_counter


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
    return child.main(setup.node_id, setup.port, decode_order, partial(_be_a_node, setup))


async def _be_a_node(setup: Setup, transport: TcpTransport, orders: child.Orders) -> None:
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
