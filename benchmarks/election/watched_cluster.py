"""WatchedCluster: real nodes, real sockets, and what their timers and round trips were.

Rules of this file:

* All nodes live in this process and talk TCP over the loopback: the machine's own delays are
  part of what is measured, a network's are not. Nodes that share a process share its pauses too,
  which makes their timers expire together, and votes split, more often than on several machines.
* Every time is `trio.current_time()`, in seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final, final

import attrs
import trio

from trioraft import MemoryStorage, Node, NodeId, Role, Status, Timing, open_node
from trioraft.tasks.background import running_beside
from trioraft.testing import CommandLog
from trioraft.testing.networks import ClusterNetwork, network_of

from .watch import NoElectionError, Watch, WatchedRandom

PATIENCE_TIMEOUTS: Final = 100
"""Longest election timeouts that a wait lasts before the measurement is given up."""


@final
@attrs.define(eq=False)
class _Member:
    """One running incarnation of a node."""

    node: Node
    leave: trio.Event = attrs.field(factory=trio.Event)
    gone: trio.Event = attrs.field(factory=trio.Event)


@final
class WatchedCluster:
    """Nodes "0", "1", … over TCP, each with its watch. Made by `watched_cluster`."""

    def __init__(self, size: int, timing: Timing, seed: str, network: ClusterNetwork) -> None:
        self.timing = timing
        self.cuts = network.cuts
        self._network = network
        self.ids: tuple[NodeId, ...] = tuple(str(number) for number in range(size))
        self.watches: dict[NodeId, Watch] = {
            node_id: Watch(WatchedRandom(f"{seed}/{node_id}")) for node_id in self.ids
        }
        self._storages = {node_id: MemoryStorage() for node_id in self.ids}
        self._members: dict[NodeId, _Member] = {}
        self._nursery: trio.Nursery | None = None

    # -- life ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all nodes open until `stop` is called, or one of them fails."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for node_id in self.ids:
                await self._open(node_id)
            task_status.started()
            await trio.sleep_forever()

    def stop(self) -> None:
        """Close all nodes."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def kill(self, node_id: NodeId) -> None:
        """Kill a node, now; its connections close with its tasks."""
        self._members[node_id].node.kill()

    async def restart(self, node_id: NodeId) -> None:
        """Open a killed node again, once nothing of it is left."""
        member = self._members.pop(node_id)
        member.leave.set()
        await member.gone.wait()
        await self._open(node_id)

    async def _open(self, node_id: NodeId) -> None:
        if self._nursery is None:
            raise RuntimeError("the cluster does not run; use `async with watched_cluster(…)`")
        self._members[node_id] = await self._nursery.start(self._keep_open, node_id)

    async def _keep_open(self, node_id: NodeId, *, task_status: trio.TaskStatus[_Member]) -> None:
        watch = self.watches[node_id]
        async with open_node(
            node_id,
            voters=self.ids,
            machine=CommandLog(),
            storage=self._storages[node_id],
            transport=self._network.transport(node_id),
            timing=self.timing,
            rng=watch.rng,
            logger=watch,
        ) as node:
            member = _Member(node)
            task_status.started(member)
            await member.leave.wait()
        member.gone.set()

    # -- waiting ---------------------------------------------------------------------------

    async def wait_for_leader(self, *, other_than: NodeId | None = None) -> float:
        """Wait until a node knows that it leads; returns when a task that waited for it ran.

        Args:
            other_than: a node that does not count.

        Raises:
            NoElectionError: it took too long.
        """
        with self._patience("a leader" if other_than is None else "a new leader"):
            async with trio.open_nursery() as nursery:

                async def wait_for(node: Node) -> None:
                    await node.wait(lambda status: status.role is Role.LEADER)
                    nursery.cancel_scope.cancel()

                for node_id, member in self._members.items():
                    if node_id != other_than:
                        nursery.start_soon(wait_for, member.node)
            return trio.current_time()

    async def settle(self, pause_s: float) -> NodeId:
        """Wait until all nodes follow one leader and know what is committed, then a while more.

        What the watches know after it is of that while.

        Args:
            pause_s: how long the leader must then have led undisturbed, in seconds.

        Returns:
            the leader.

        Raises:
            NoElectionError: it took too long.
        """
        with self._patience("all nodes to follow one leader"):
            while True:
                await self.wait_for_leader()
                leader = max(self._leaders(), key=lambda node: node.status.term)
                for member in self._members.values():
                    await member.node.wait(partial(_is_settled, leader))
                for watch in self.watches.values():
                    watch.forget()
                await trio.sleep(pause_s)  # the experiment's own time: it waits for nothing
                # On a busy machine no heartbeat may have been answered in that while.
                if self._leaders() == [leader] and self.watches[leader.id].round_trips_s:
                    return leader.id

    def term(self) -> int:
        """The latest term that any node knows."""
        return max(member.node.status.term for member in self._members.values())

    def is_campaigning(self) -> bool:
        """Whether any node has lost patience already."""
        every = [member.node.status for member in self._members.values()]
        return any(status.role is not Role.FOLLOWER or status.term > 0 for status in every)

    def _leaders(self) -> list[Node]:
        nodes = [member.node for member in self._members.values()]
        return [node for node in nodes if node.status.role is Role.LEADER]

    @contextmanager
    def _patience(self, what: str) -> Iterator[None]:
        limit_s = PATIENCE_TIMEOUTS * self.timing.election_timeout_s[1]
        with trio.move_on_after(limit_s):
            yield
            return
        raise NoElectionError(f"waited {limit_s:g} s for {what}; is the machine overloaded?")


def _is_settled(leader: Node, status: Status) -> bool:
    head = leader.status
    if head.role is not Role.LEADER:
        return True  # and `settle` begins anew
    return status.leader_id == leader.id and status.commit_index == head.last_index


@asynccontextmanager
async def watched_cluster(size: int, timing: Timing, seed: str) -> AsyncIterator[WatchedCluster]:
    """Open a cluster, all its nodes started, and close it with the body.

    Args:
        size: number of nodes.
        timing: the same for all.
        seed: of all chance.

    Raises:
        Exception: of a node that failed, or of the body.
    """
    with network_of("tcp", size, seed=0, unreliable=False, delay_s=(0.0, 0.0)) as network:
        cluster = WatchedCluster(size, timing, seed, network)
        async with running_beside(cluster.run, stop=cluster.stop, name="cluster"):
            yield cluster
