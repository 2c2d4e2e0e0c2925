"""The cluster of processes that trials are made with: its leaders, and calls of its clients.

Rules of this file: a call that a process took and did not answer before it ended is a call of
unknown outcome, unless it said goodbye.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

import attrs
import msgspec
import trio

from trioraft import NodeId

from ..processes import Listener, NodeProcess, NodeProcesses, open_nodes, patience
from . import pipe
from .pipe import Answered, NodeSetup, Outcome


@final
@attrs.define(eq=False)
class _Call:
    """A client's call on its way."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Answered | None = None


@attrs.define(eq=False)
class _Clients:
    """What one process owes to clients."""

    calls: dict[int, _Call] = attrs.field(factory=dict)
    said_goodbye: bool = False


@final
class ProcessCluster(Listener):
    """The processes of one cluster; made by `process_cluster`."""

    processes: NodeProcesses

    def __init__(self, ids: tuple[NodeId, ...]) -> None:
        self.ids = ids
        self._clients: dict[NodeProcess, _Clients] = {}
        self._calls_made = 0
        self._latest: pipe.Led | None = None
        self._news = trio.Event()

    @property
    def nodes(self) -> dict[NodeId, NodeProcess]:
        """Their processes."""
        return self.processes.nodes

    async def restart(self, node_id: NodeId) -> None:
        """Start a process again that has ended or is about to; returns when its node is open."""
        await self.processes.restart(node_id, pipe.Opened)

    # -- clients ---------------------------------------------------------------------------

    def heard(self, node: NodeProcess, answer: Any) -> bool:
        """What nobody ordered as such."""
        match answer:
            case pipe.Opened():
                self._clients[node] = _Clients()
                return False
            case Answered(number):
                call = self._clients[node].calls.pop(number)
                call.answer = answer
                call.answered.set()
            case pipe.Led():
                if self._latest is None or answer.term > self._latest.term:
                    self._latest = answer
                    self._news.set()
                    self._news = trio.Event()
            case pipe.Goodbye():
                self._clients[node].said_goodbye = True
            case _:
                return False
        return True

    def ended(self, node: NodeProcess) -> None:
        """Nobody waits for it any more."""
        if node in self._clients:
            for call in self._clients[node].calls.values():
                call.answered.set()

    async def call(self, node_id: NodeId) -> Answered:
        """A client's call: propose once."""
        self._calls_made = number = self._calls_made + 1
        node = self.nodes[node_id]
        clients = self._clients.get(node)
        if clients is None or node.ended.is_set():
            return Answered(number, Outcome.ELSEWHERE)
        call = clients.calls[number] = _Call()
        node.order(pipe.Propose(number))
        await call.answered.wait()
        if call.answer is not None:
            return call.answer
        return Answered(number, Outcome.ELSEWHERE if clients.said_goodbye else Outcome.UNKNOWN)

    # -- leaders ---------------------------------------------------------------------------

    async def leader_after(self, term: int) -> pipe.Led:
        """The latest leader of a term after this one whose first proposal has succeeded.

        Raises:
            ProcessError: it took too long.
        """
        with patience("a leader that takes proposals"):
            while self._latest is None or self._latest.term <= term:
                await self._news.wait()
            return self._latest

    async def settle(self) -> pipe.Led:
        """Wait until all nodes follow one leader and have applied what it has; returns it.

        Raises:
            ProcessError: it took too long.
        """
        term = 0
        with patience("all nodes to follow one leader"):
            while True:
                leader = await self.leader_after(term)
                order = pipe.Settle(leader.term, leader.index)
                first = await self.nodes[leader.node_id].ask(order, pipe.Settled)
                order = pipe.Settle(leader.term, first.applied_index)
                said = [await node.ask(order, pipe.Settled) for node in self.nodes.values()]
                if all(settled.leader_id == leader.node_id for settled in said):
                    return leader
                term = leader.term


@asynccontextmanager
async def process_cluster(setup: NodeSetup) -> AsyncIterator[ProcessCluster]:
    """Start a cluster of node processes, open their nodes, and kill them all on leaving.

    Args:
        setup: of each; what is each one's own is filled in. `directory` holds their directories.

    Raises:
        ProcessError: one of them ended, or failed, by itself, or did not start in time.
    """
    starts = itertools.count(1)

    def setup_of(node_id: NodeId, *, port: int) -> NodeSetup:
        return msgspec.structs.replace(
            setup,
            node_id=node_id,
            directory=str(Path(setup.directory) / node_id),
            seed=f"{setup.seed}/{node_id}/{next(starts)}",
            port=port,
        )

    cluster = ProcessCluster(setup.voters)
    async with open_nodes(
        "benchmarks.election.node", setup.voters, setup_of, pipe.decode_answer, cluster
    ) as cluster.processes:
        await cluster.processes.open(pipe.Opened)
        yield cluster
