"""A cluster for tests that do not run Trio: the same verbs, for asyncio and for threads.

Rules of this file:

* All nodes live in one thread, on one network; what the test holds are `AsyncNode`s and
  `BlockingNode`s, as its program has them.
* On the network in memory, time is virtual while somebody waits for the cluster: it jumps to when
  something happens next. Otherwise it goes on as clocks do, so that a lease does not run out while
  the test thinks. News that may never come (a watch, events) nobody waits for, in this sense.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Generic, TypeVar, final

import trio
import trio.testing

from ..core.types import Address, LogIndex, NodeId, Term
from ..embedding import awaiting, waiting
from ..embedding.async_node import AsyncNode
from ..embedding.blocking_node import BlockingNode
from ..embedding.inside import Inside
from ..embedding.opening import takes_what
from ..embedding.thread import Part, TrioThread
from ..machines.local import LocalClient
from .cluster import Cluster, open_cluster

N = TypeVar("N")
R = TypeVar("R")


class _ClusterElsewhere(Generic[N]):
    """The verbs that need not be waited for."""

    def __init__(
        self, thread: TrioThread[Cluster], make: Callable[[Part[Any, Inside], Inside], N]
    ) -> None:
        self._thread = thread
        self._make = make
        self._known: dict[NodeId, Inside] = {}  # a client has a session: one for each node

    @property
    def ids(self) -> tuple[NodeId, ...]:
        """The names of all nodes, as in `Cluster`."""
        return self._thread.look(lambda cluster: cluster.ids)

    @property
    def nodes(self) -> dict[NodeId, N]:
        """The nodes that run."""

        def found(cluster: Cluster) -> dict[NodeId, Inside]:
            for node_id, node in cluster.nodes.items():
                known = self._known.get(node_id)
                if known is None or known.node is not node:
                    client = LocalClient(node, cluster.machines[node_id])
                    self._known[node_id] = Inside(node, client)
            return {node_id: self._known[node_id] for node_id in cluster.nodes}

        return {
            node_id: self._make(Part(self._thread, inside), inside)
            for node_id, inside in self._thread.look(found).items()
        }

    @property
    def machines(self) -> dict[NodeId, Any]:
        """`Cluster.machines`; they are the nodes' thread's, so look and do not touch."""
        return self._thread.look(lambda cluster: dict(cluster.machines))

    def check_no_leader(self) -> None:
        """`Cluster.check_no_leader`."""
        self._thread.look(lambda cluster: cluster.check_no_leader())

    def check_not_committed(self, data: bytes) -> None:
        """`Cluster.check_not_committed`."""
        self._thread.look(lambda cluster: cluster.check_not_committed(data))

    def check_logs_agree(self) -> None:
        """`Cluster.check_logs_agree`."""
        self._thread.look(lambda cluster: cluster.check_logs_agree())

    def describe(self) -> str:
        """`Cluster.describe`."""
        return self._thread.look(lambda cluster: cluster.describe())

    def disconnect(self, node_id: NodeId) -> None:
        """`Cluster.disconnect`."""
        self._thread.look(lambda cluster: cluster.disconnect(node_id))

    def reconnect(self, node_id: NodeId) -> None:
        """`Cluster.reconnect`."""
        self._thread.look(lambda cluster: cluster.reconnect(node_id))

    def partition(self, *groups: set[NodeId]) -> None:
        """`Cluster.partition`."""
        self._thread.look(lambda cluster: cluster.partition(*groups))

    @property
    def disconnected(self) -> frozenset[NodeId]:
        """`Cluster.disconnected`."""
        return self._thread.look(lambda cluster: cluster.disconnected)

    def cut(self, one: NodeId, other: NodeId) -> None:
        """`Cluster.cut`."""
        self._thread.look(lambda cluster: cluster.cut(one, other))

    def set_network(
        self, *, delay_s: tuple[float, float] | None = None, loss: float | None = None
    ) -> None:
        """`Cluster.set_network`."""
        self._thread.look(lambda cluster: cluster.set_network(delay_s=delay_s, loss=loss))

    def heal(self) -> None:
        """`Cluster.heal`."""
        self._thread.look(lambda cluster: cluster.heal())

    def mute_after(self, node_id: NodeId, sends: int) -> None:
        """`Cluster.mute_after`."""
        self._thread.look(lambda cluster: cluster.mute_after(node_id, sends))

    def drop_connection(self, one: NodeId, other: NodeId) -> None:
        """`Cluster.drop_connection`."""
        self._thread.look(lambda cluster: cluster.drop_connection(one, other))


@final
class AsyncCluster(_ClusterElsewhere[AsyncNode]):
    """`Cluster` for asyncio tests: its nodes are `AsyncNode`s. Made by the fixture `raft_cluster`,
    and by `open_async_cluster`."""

    async def check_single_leader(self, *, timeout_s: float | None = None) -> tuple[NodeId, Term]:
        """`Cluster.check_single_leader`."""
        return await self._call(lambda cluster: cluster.check_single_leader(timeout_s=timeout_s))

    async def leader(self) -> AsyncNode:
        """The node that leads, once there is one that all connected nodes follow.

        Cancelling the wait disturbs nobody.
        """
        node_id, _ = await self.check_single_leader()
        return self.nodes[node_id]

    async def propose(self, data: bytes, *, timeout_s: float | None = None) -> Any:
        """`Cluster.propose`."""
        return await self._call(lambda cluster: cluster.propose(data, timeout_s=timeout_s))

    async def wait(
        self,
        condition: Callable[[Cluster], bool],
        what: str,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """`Cluster.wait`; the condition is called in the nodes' thread, with the `Cluster`."""
        await self._call(
            lambda cluster: cluster.wait(lambda: condition(cluster), what, timeout_s=timeout_s)
        )

    async def check_committed(self, data: bytes) -> tuple[int, LogIndex]:
        """`Cluster.check_committed`."""
        return await self._call(lambda cluster: cluster.check_committed(data))

    async def crash(self, node_id: NodeId) -> None:
        """`Cluster.crash`."""
        await self._call(lambda cluster: cluster.crash(node_id))

    async def restart(self, node_id: NodeId) -> None:
        """`Cluster.restart`."""
        await self._call(lambda cluster: cluster.restart(node_id))

    async def leave(self, node_id: NodeId) -> None:
        """`Cluster.leave`."""
        await self._call(lambda cluster: cluster.leave(node_id))

    async def cancel(self, node_id: NodeId) -> None:
        """`Cluster.cancel`."""
        await self._call(lambda cluster: cluster.cancel(node_id))

    async def join(self, node_id: NodeId) -> Address | None:
        """`Cluster.join`."""
        return await self._call(lambda cluster: cluster.join(node_id))

    async def sleep(self, duration_s: float) -> None:
        """Let so much time pass for the cluster, in seconds.

        Cancelling it ends the sleep.
        """
        await self._call(partial(_sleep, duration_s))

    async def _call(self, function: Callable[[Cluster], Awaitable[R]]) -> R:
        return await awaiting.call(self._thread, "AsyncCluster", function)


@final
class BlockingCluster(_ClusterElsewhere[BlockingNode]):
    """`Cluster` for tests without an event loop: its nodes are `BlockingNode`s. Made by the fixture
    `raft_cluster`, and by `open_blocking_cluster`."""

    def check_single_leader(self, *, timeout_s: float | None = None) -> tuple[NodeId, Term]:
        """`Cluster.check_single_leader`."""
        return self._call(lambda cluster: cluster.check_single_leader(timeout_s=timeout_s))

    def leader(self) -> BlockingNode:
        """The node that leads, once there is one that all connected nodes follow."""
        node_id, _ = self.check_single_leader()
        return self.nodes[node_id]

    def propose(self, data: bytes, *, timeout_s: float | None = None) -> Any:
        """`Cluster.propose`."""
        return self._call(lambda cluster: cluster.propose(data, timeout_s=timeout_s))

    def wait(
        self,
        condition: Callable[[Cluster], bool],
        what: str,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """`Cluster.wait`; the condition is called in the nodes' thread, with the `Cluster`."""
        self._call(
            lambda cluster: cluster.wait(lambda: condition(cluster), what, timeout_s=timeout_s)
        )

    def check_committed(self, data: bytes) -> tuple[int, LogIndex]:
        """`Cluster.check_committed`."""
        return self._call(lambda cluster: cluster.check_committed(data))

    def crash(self, node_id: NodeId) -> None:
        """`Cluster.crash`."""
        self._call(lambda cluster: cluster.crash(node_id))

    def restart(self, node_id: NodeId) -> None:
        """`Cluster.restart`."""
        self._call(lambda cluster: cluster.restart(node_id))

    def leave(self, node_id: NodeId) -> None:
        """`Cluster.leave`."""
        self._call(lambda cluster: cluster.leave(node_id))

    def cancel(self, node_id: NodeId) -> None:
        """`Cluster.cancel`."""
        self._call(lambda cluster: cluster.cancel(node_id))

    def join(self, node_id: NodeId) -> Address | None:
        """`Cluster.join`."""
        return self._call(lambda cluster: cluster.join(node_id))

    def sleep(self, duration_s: float) -> None:
        """Let so much time pass for the cluster, in seconds."""
        self._call(partial(_sleep, duration_s))

    def _call(self, function: Callable[[Cluster], Awaitable[R]]) -> R:
        return waiting.call(self._thread, "BlockingCluster", function)


async def _sleep(duration_s: float, _cluster: Cluster) -> None:
    await trio.sleep(duration_s)


def _cluster_thread(size: int, options: dict[str, Any]) -> TrioThread[Cluster]:
    if options.get("network", "memory") == "memory" and options.get("storage") != "sqlite":
        clock = trio.testing.MockClock(rate=1.0)

        def awaited(count: int) -> None:
            clock.autojump_threshold = 0.0 if count else math.inf

        make = partial(TrioThread[Cluster], clock=clock, on_awaited=awaited)
    else:
        make = partial(TrioThread[Cluster])
    return make(lambda: open_cluster(size, **options), f"cluster of {size}")


@takes_what(open_cluster)
def open_async_cluster(size: int = 3, **options: Any) -> AbstractAsyncContextManager[AsyncCluster]:
    """Open a cluster for an asyncio test and close it with the body; takes what `open_cluster`
    takes.

    Arguments are as `open_cluster` has them.

    Raises:
        WrongEventLoop: this is no asyncio task.
        Exception: of a node that failed, or of the body.
    """
    thread = _cluster_thread(size, options)
    return awaiting.AsyncBeside(
        thread, "open_async_cluster", lambda _: AsyncCluster(thread, AsyncNode)
    )


@takes_what(open_cluster)
def open_blocking_cluster(size: int = 3, **options: Any) -> AbstractContextManager[BlockingCluster]:
    """Open a cluster for a test without an event loop; takes what `open_cluster` takes.

    Arguments are as `open_cluster` has them.

    Raises:
        WrongEventLoop: an event loop runs here, and would be blocked.
        Exception: of a node that failed, or of the body.
    """
    thread = _cluster_thread(size, options)
    return waiting.BlockingBeside(
        thread, "open_blocking_cluster", lambda _: BlockingCluster(thread, BlockingNode)
    )


@contextmanager
def beside_asyncio(size: int = 3, **options: Any) -> Iterator[AsyncCluster]:
    """An `AsyncCluster` for whoever is to make one before there is an event loop, as a fixture."""
    thread = _cluster_thread(size, options)
    with waiting.BlockingBeside(
        thread, "raft_cluster", lambda _: AsyncCluster(thread, AsyncNode)
    ) as made:
        yield made
