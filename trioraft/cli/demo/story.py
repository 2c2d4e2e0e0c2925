"""Story: what happens to the nodes, step by step, each step timed and put into words.

Rules of this file:

* A step waits for a condition, never for a time; the only sleeps are for the reader's eyes.
* Every wait has a bound, and says what it waited for when it is reached.
* Texts are plain ASCII: they are read on every terminal there is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, TypeVar, final

import attrs
import trio

from ...core.config import Timing
from ...core.errors import RaftError
from ...core.quorum import majority
from ...core.types import NodeId, Role
from ...logs.loggers import EventLogger
from ...node.event_stream import EventStream
from ...node.node import Node, open_node
from ...storage.memory import MemoryStorage
from ...tasks.background import running_beside
from ...testing.cluster import CommandLog
from ...testing.networks import ClusterNetwork, network_of
from .board import Board, Step, WasElected

T = TypeVar("T")

WAIT_MAX_S: Final = 5.0
"""Longest wait for the nodes, in seconds: many elections long, and still soon over."""


class DemoError(RaftError):
    """The nodes did not do what the story tells: a very busy machine, or a bug."""


@final
@attrs.frozen
class Tempo:
    """How long things stay to be read, in seconds."""

    announce_s: float
    """After it was said what comes, before it happens."""
    linger_s: float
    """After it happened."""


def step_names(size: int) -> tuple[str, ...]:
    """The steps of the story of so many nodes.

    One node has nobody to be cut off from; of two, none can lead without the other.
    """
    if size == 1:
        return ("start", "elect", "kill")
    if size == majority(size):
        return ("start", "elect", "disconnect", "reconnect", "kill")
    return ("start", "elect", "disconnect", "elect again", "reconnect", "kill")


@final
class Story:
    """One run over nodes "0", "1", … on the loopback.

    Args:
        board: what the story tells is told there.
        seed: of the randomised timeouts.
        tempo: for the reader's eyes.
        logger: what the nodes and the story log to.
        timing: the nodes'; the defaults of the library are what the texts speak of.
    """

    def __init__(
        self,
        board: Board,
        *,
        seed: int,
        tempo: Tempo,
        logger: EventLogger,
        timing: Timing | None = None,
    ) -> None:
        self._board = board
        self._ids = tuple(board.rows)
        self._seed = seed
        self._tempo = tempo
        self._logger = logger
        self._timing = timing or Timing()
        self._nodes: dict[NodeId, Node] = {}
        self._streams: dict[NodeId, EventStream] = {}

    async def run(self) -> None:
        """Tell it. When it is over, or cancelled, no node is left.

        Raises:
            DemoError: the nodes did not elect in time.
            OSError: the loopback, or the log, cannot be used.
        """
        async with AsyncExitStack() as stack:
            network = await self._start(stack)
            await self._elect()
            if len(self._ids) > 1:
                deposed = await self._disconnect(network)
                await self._reconnect(network, deposed)
            step = await self._announce(
                "kill",
                f"Now {'all nodes are' if len(self._ids) > 1 else 'the node is'} killed. All that "
                "a node owns lives in its nursery: every task, thread and descriptor must be gone "
                "with it.",
            )
            self._say("Kill all")
            self._board.is_measuring = True
            killed_s = trio.current_time()
            self._kill()
        took_s = trio.current_time() - killed_s
        self._board.is_measuring = False
        step.finish(took_s, f"of {_count(len(self._ids), 'node')}, nothing is left")
        await self._linger()

    # -- steps -----------------------------------------------------------------------------

    async def _start(self, stack: AsyncExitStack) -> ClusterNetwork:
        step = await self._announce(
            "start",
            f"{_count(len(self._ids), 'follower')} will start, {self._listening()}. "
            "Nobody leads yet.",
        )
        began_s = trio.current_time()
        network = stack.enter_context(
            network_of("tcp", len(self._ids), seed=self._seed, unreliable=False, delay_s=(0.0, 0.0))
        )
        for node_id in self._ids:
            node = await stack.enter_async_context(
                open_node(
                    node_id,
                    voters=self._ids,
                    machine=CommandLog(),
                    storage=MemoryStorage(),
                    transport=network.transport(node_id),
                    cluster_id="trioraft-demo",
                    timing=self._timing,
                    rng=random.Random(f"{self._seed}/{node_id}"),
                    logger=self._logger,
                )
            )
            self._nodes[node_id] = node
            self._streams[node_id] = await stack.enter_async_context(node.events())
            self._board.opened(node)
        # Left first when the story is over: the streams end with the nodes, and are read to there.
        await stack.enter_async_context(
            running_beside(self._read_events, stop=self._kill, name="demo.events")
        )
        step.finish(
            trio.current_time() - began_s,
            f"{_count(len(self._ids), 'follower')}, {self._listening()}",
        )
        return network

    async def _elect(self) -> None:
        size = len(self._ids)
        step = self._board.begin(
            "elect",
            f"No leader is heard. Whose random timeout ({self._timeouts()}) ends first asks for "
            f"votes; a majority, {majority(size)} of {size}, makes it leader."
            if size > 1
            else f"No leader is heard. When its random timeout ({self._timeouts()}) ends, the node "
            "asks for votes: of one node, its own vote is a majority.",
        )
        began_s = trio.current_time()
        elected = await self._elected()
        step.finish(trio.current_time() - began_s, _sentence(elected))
        await self._linger()

    async def _disconnect(self, network: ClusterNetwork) -> NodeId:
        leader = (await self._elected()).leader_id
        step = await self._announce("disconnect", self._cutting_text(leader))
        announced, leader = leader, (await self._elected()).leader_id
        if leader != announced:  # a busy machine may depose a leader meanwhile
            self._board.explain(step, self._cutting_text(leader))
        cut_s = trio.current_time()
        self._say(f"Disconnect {leader}")
        network.cuts.disconnect(leader)
        self._board.rows[leader].is_cut = True
        asker, asked_s = await self._until(
            lambda: self._board.first_to_ask(since_s=cut_s),
            "somebody to notice that the leader is silent",
        )
        if "elect again" in step_names(len(self._ids)):
            step.finish(asked_s - cut_s, f"node {asker} notices that node {leader} is silent")
            await self._elect_again(leader, asker, asked_s)
        else:
            await self._explain_no_majority(step, leader, asker, asked_s - cut_s)
        return leader

    def _cutting_text(self, leader: NodeId) -> str:
        others = "The others notice" if len(self._ids) > 2 else "The other one notices"
        return (
            f"Now the leader, node {leader}, is cut off: nothing reaches it, nothing leaves it. "
            f"{others} after {self._timeouts()} of silence."
        )

    async def _elect_again(self, deposed: NodeId, asker: NodeId, asked_s: float) -> None:
        size = len(self._ids)
        step = self._board.begin(
            "elect again",
            f"Node {asker} asks first. {size - 1} of {size} are still a majority: a new leader, in "
            f"a new term. Node {deposed}, alone, hears no majority and steps down.",
        )
        elected = await self._elected()
        step.finish(trio.current_time() - asked_s, _sentence(elected))
        await self._stepped_down(deposed)
        step.outcome += f"; node {deposed} steps down"
        await self._linger()

    async def _explain_no_majority(
        self, step: Step, leader: NodeId, asker: NodeId, took_s: float
    ) -> None:
        await self._stepped_down(leader)
        step.finish(
            took_s,
            f"node {asker} asks in vain: 1 of 2 is no majority; node {leader} steps down",
        )
        self._board.explain(
            step,
            "1 of 2 is no majority: nobody can be elected, and nobody may lead, until both hear "
            "each other again. That is why clusters have 3, 5 or 7 nodes.",
        )
        await self._linger()

    async def _reconnect(self, network: ClusterNetwork, returning: NodeId) -> None:
        had_leader = self._board.elected() is not None
        step = await self._announce(
            "reconnect",
            f"Now node {returning} is connected again. "
            + (
                "The first heartbeat tells it the new term: it follows, and disturbs nobody."
                if had_leader
                else "Two nodes are a majority: they can elect."
            ),
        )
        began_s = trio.current_time()
        self._say(f"Reconnect {returning}")
        network.cuts.reconnect(returning)
        self._board.rows[returning].is_cut = False
        elected = await self._elected()
        took_s = trio.current_time() - began_s
        if had_leader:
            step.finish(
                took_s, f"node {returning} follows node {elected.leader_id} in term {elected.term}"
            )
        else:
            step.finish(took_s, _sentence(elected))
        await self._linger()

    # -- nodes -----------------------------------------------------------------------------

    def _kill(self) -> None:
        for node in self._nodes.values():
            node.kill()

    async def _read_events(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Put every node's events on the board, until the nodes are Dead."""
        async with trio.open_nursery() as nursery:
            for node_id, stream in self._streams.items():
                name = f"demo.events[{node_id}]"
                nursery.start_soon(self._read_stream, node_id, stream, name=name)
            task_status.started()

    async def _read_stream(self, node_id: NodeId, stream: EventStream) -> None:
        async for event in stream:
            self._board.apply(node_id, event)

    async def _elected(self) -> WasElected:
        return await self._until(self._board.elected, "one leader that all connected nodes follow")

    async def _stepped_down(self, node_id: NodeId) -> None:
        node = self._nodes[node_id]
        await self._until(
            lambda: node if node.status.role is not Role.LEADER else None,
            f"node {node_id} to step down",
        )

    async def _until(self, find: Callable[[], T | None], what: str) -> T:
        """Wait until there is something to be found; looked for after every event."""
        with trio.move_on_after(WAIT_MAX_S):
            while (found := find()) is None:
                await self._board.changed.park()
            return found
        seen = "; ".join(repr(node) for node in self._nodes.values())
        raise DemoError(
            f"waited {WAIT_MAX_S:g} s in vain for {what} ({seen}). On a machine this busy, try "
            f"fewer --nodes; otherwise please report it, with --seed {self._seed} and the log"
        )

    # -- telling ---------------------------------------------------------------------------

    async def _announce(self, name: str, text: str) -> Step:
        step = self._board.begin(name, text)
        await trio.sleep(self._tempo.announce_s)  # for the reader's eyes only
        return step

    async def _linger(self) -> None:
        await trio.sleep(self._tempo.linger_s)  # for the reader's eyes only

    def _listening(self) -> str:
        return f"{'each ' if len(self._ids) > 1 else ''}on a loopback port of its own"

    def _timeouts(self) -> str:
        low_s, high_s = self._timing.election_timeout_s
        return f"{low_s * 1000:.0f} to {high_s * 1000:.0f} ms"

    def _say(self, text: str) -> None:
        self._logger.info(text)
        self._board.say(text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _sentence(elected: WasElected) -> str:
    votes = _count(elected.votes, "vote")
    return f"node {elected.leader_id} elected in term {elected.term} with {votes}"
