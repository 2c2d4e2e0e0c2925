"""python -m benchmarks.election.node SETUP: one node of a cluster of processes.

Rules of this file:

* It is started by `benchmarks.election`, not by hand; SETUP is a `pipe.NodeSetup` in JSON.
* It has SQLite and default limits, as a program has that embeds a node.
* SIGTERM: the node leaves, which hands its leadership over, while clients' calls are still
  answered; then it says goodbye.
* Whenever it leads, a client of its own proposes at once and tells when that succeeded: nobody
  could learn of a new leader sooner, and nothing is measured but the cluster.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import final

import trio

from trioraft import (
    Node,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    Role,
    SQLiteStorage,
    Status,
    TcpTransport,
    Timing,
    TransferFailed,
    open_node,
)

from ..processes import child
from ..processes.pipe import answer
from . import pipe
from .pipe import Outcome
from .watch import Watch, WatchedRandom


@final
class IndexMachine:
    """The least that a state machine can do: a command's result is its index."""

    def apply(self, index: int, _data: bytes) -> int:
        """Nothing is kept."""
        return index

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Nothing."""


def main() -> int:
    """Be the node that the only argument describes; returns the exit code."""
    setup = pipe.decode_setup(sys.argv[1])

    async def live(transport: TcpTransport, orders: child.Orders) -> None:
        await _Served(setup, transport).run(orders)

    return child.main(setup.node_id, setup.port, pipe.decode_order, live)


def _leads_after(term: int, status: Status) -> bool:
    return status.role is Role.LEADER and status.term > term


@final
class _Served:
    """The node, and what is done with it."""

    def __init__(self, setup: pipe.NodeSetup, transport: TcpTransport) -> None:
        self._setup = setup
        self._transport = transport
        self._watch = Watch(WatchedRandom(setup.seed))
        # Trio's clock runs like the machine's, from another origin.
        self._offset_s = time.monotonic() - trio.current_time()
        self._load = pipe.Counted(0, 0)

    async def run(self, orders: child.Orders) -> None:
        """Be open until SIGTERM; returns when all that was asked is answered."""
        setup = self._setup
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as calls:
                obeying = trio.CancelScope()
                async with open_node(
                    setup.node_id,
                    voters=setup.voters,
                    machine=IndexMachine(),
                    storage=SQLiteStorage(setup.directory),
                    transport=self._transport,
                    timing=Timing(
                        setup.election_timeout_s,
                        setup.heartbeat_interval_s,
                        fast_failover=setup.fast_failover,
                    ),
                    rng=self._watch.rng,
                    logger=self._watch if setup.is_watched else None,
                ) as node:
                    calls.start_soon(self._herald, node)
                    calls.start_soon(self._obey, node, orders, calls, obeying)
                    answer(pipe.Opened())
                    await anext(signals)
                obeying.cancel()  # the node is Dead: whatever is asked now, it cannot answer
            answer(pipe.Goodbye())

    async def _herald(self, node: Node) -> None:
        """Whenever this node leads, propose, and tell the moment at which that succeeded."""
        told = 0
        with suppress(NodeDead):
            while True:
                status = await node.wait(partial(_leads_after, told))
                led_s = time.monotonic()
                with suppress(NotLeader, ProposalDropped, OutcomeUnknown):
                    index = int(await node.propose(b"herald"))
                    answer(pipe.Led(node.id, status.term, index, led_s, time.monotonic()))
                    told = status.term

    async def _obey(
        self,
        node: Node,
        orders: child.Orders,
        calls: trio.Nursery,
        scope: trio.CancelScope,
    ) -> None:
        with scope, suppress(NodeDead):
            async for order in orders:
                match order:
                    case pipe.Propose(number):
                        calls.start_soon(self._call, node, number)
                    case pipe.Load(tasks):
                        for _ in range(tasks):
                            calls.start_soon(self._propose_on, node)
                    case _:
                        answer(await self._carry_out(node, order))

    async def _carry_out(self, node: Node, order: pipe.Order) -> pipe.Answer:
        match order:
            case pipe.Settle(term, index):
                status = await node.wait(
                    lambda status: (
                        status.term >= term
                        and status.leader_id is not None
                        and status.applied_index >= index
                    )
                )
                self._watch.forget()
                return pipe.Settled(str(status.leader_id), status.term, status.applied_index)
            case pipe.Look():
                return pipe.RoundTrips(tuple(self._watch.round_trips_s))
            case pipe.When(from_s, to_s):
                offset_s = self._offset_s
                due_s = self._watch.due_s(from_s - offset_s, to_s - offset_s)
                return pipe.Due(due_s + offset_s)
            case pipe.HandOver():
                return pipe.HandedOver(await self._hand_over(node))
            case pipe.Count():
                counted, self._load = self._load, pipe.Counted(0, 0)
                return counted
        raise TypeError(f"{order!r} is no order for a node that is open")

    async def _hand_over(self, node: Node) -> float:
        """Until somebody else leads; returns when that was asked for. What fails costs time."""
        called_s = time.monotonic()
        while node.status.role is Role.LEADER:
            with suppress(NotLeader, TransferFailed):
                await node.transfer_leadership()
        return called_s

    # -- clients ---------------------------------------------------------------------------

    async def _propose_on(self, node: Node) -> None:
        """One task of the load: propose for as long as this node leads, and when it does again."""
        while True:
            try:
                await node.propose(b"load")
            except (NotLeader, ProposalDropped):
                try:
                    await node.wait(lambda status: status.role is Role.LEADER)
                except NodeDead:
                    return
            except OutcomeUnknown:
                self._load = pipe.Counted(self._load.done, self._load.failed + 1)
            except NodeDead:
                return
            else:
                self._load = pipe.Counted(self._load.done + 1, self._load.failed)

    async def _call(self, node: Node, number: int) -> None:
        """A client's call: the answer says what became of it, or who leads."""
        outcome, leader_id = Outcome.DONE, None
        try:
            await node.propose(b"call")
        except (NotLeader, ProposalDropped, NodeDead):
            outcome, leader_id = Outcome.ELSEWHERE, await self._leader(node)
        except OutcomeUnknown:
            outcome = Outcome.UNKNOWN
        answer(pipe.Answered(number, outcome, leader_id))

    async def _leader(self, node: Node) -> str | None:
        """Who leads, once that is known; None if this node is Dead before."""
        try:
            return (await node.wait(lambda status: status.leader_id is not None)).leader_id
        except NodeDead:
            return None


if __name__ == "__main__":
    sys.exit(main())
