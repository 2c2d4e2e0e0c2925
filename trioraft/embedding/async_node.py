"""AsyncNode: a node in an asyncio program, as `Node` is one in a Trio program.

Rules of this file: the node lives in a thread of its own, so that a handler that blocks the event
loop deposes no leader; every method hands over to the node's method of that name, there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, final

from ..backups.format import BackupHead
from ..core.types import Address, LogIndex, NodeId, Term
from ..machines.questions import Consistency
from ..machines.replicated.leader import LeaderLatch, LeadershipLost
from ..member.attempts import Attempt
from ..member.status import Status
from ..node.event_stream import EventStream, NodeEvent
from ..node.node import Node
from ..node.node import open_node as trio_open_node
from .awaiting import AsyncBeside, call
from .inside import Inside
from .opening import node_thread, takes_what
from .thread import Held, Reach

R = TypeVar("R")


@final
class AsyncNode:
    """One member of a cluster, as an asyncio program sees it. Made by `trioraft.aio.open_node`.

    It has what `trioraft.Node` has, and `call`, `query` and `watch` as `trioraft.LocalClient` has
    them, so that `Counter.through(node)` and `KvClient(node)` work, on every node. Its methods may
    be awaited in any asyncio task, of any event loop; cancelling one cancels it in the node's
    thread too, and is over when that is.

    Methods are as `Node` and as `LocalClient` have them.
    """

    def __init__(self, thread: Reach[Inside], inside: Inside) -> None:
        self._thread = thread
        self._id = inside.node.id

    def __repr__(self) -> str:
        return f"<AsyncNode {self.id!r}>"

    @property
    def id(self) -> NodeId:
        """This node's name."""
        return self._id

    @property
    def status(self) -> Status:
        """`Node.status`. It is asked for in the node's thread: this takes some 0.1 ms, in which the
        event loop does nothing else."""
        return self._thread.look(lambda inside: inside.node.status)

    def budgets(self) -> dict[str, tuple[int, int]]:
        """`Node.budgets`. Takes as long as `status`."""
        return self._thread.look(lambda inside: inside.node.budgets())

    async def run_in_trio(self, function: Callable[[Node], Awaitable[R]]) -> R:
        """Call an async function in the node's thread, under Trio, and return what it returns.

        Args:
            function: is given the `trioraft.Node`: so `open_service` can run beside it, for as long
                as this is awaited.

        Raises:
            NodeDead: the node was left; the function was not called.
            OutcomeUnknown: the node was left meanwhile.
            Exception: whatever the function raises.

        Cancelling the call cancels the function in the node's thread, and waits for its end.
        """
        return await self._call("run_in_trio", function)

    # -- as Node has it --------------------------------------------------------------------

    async def propose(self, data: bytes) -> Any:
        """`Node.propose`: only the leader takes it; `call` works on every node."""
        return await self._call("propose", lambda node: node.propose(data))

    async def forward(self, data: bytes, *, attempt: Attempt | None = None) -> Any:
        """`Node.forward`."""
        return await self._call("forward", lambda node: node.forward(data, attempt=attempt))

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """`Node.read_barrier`."""
        return await self._call("read_barrier", lambda node: node.read_barrier(lease=lease))

    async def transfer_leadership(
        self, to: NodeId | None = None, *, timeout_s: float | None = None
    ) -> NodeId:
        """`Node.transfer_leadership`."""
        return await self._call(
            "transfer_leadership", lambda node: node.transfer_leadership(to, timeout_s=timeout_s)
        )

    async def add_learner(
        self,
        node_id: NodeId,
        address: Address | None = None,
        *,
        expected_index: LogIndex | None = None,
    ) -> LogIndex:
        """`Node.add_learner`."""
        return await self._call(
            "add_learner",
            lambda node: node.add_learner(node_id, address, expected_index=expected_index),
        )

    async def change_voters(
        self,
        voters: Iterable[NodeId],
        *,
        addresses: Mapping[NodeId, Address] | None = None,
        expected_index: LogIndex | None = None,
    ) -> LogIndex:
        """`Node.change_voters`."""
        return await self._call(
            "change_voters",
            lambda node: node.change_voters(
                voters, addresses=addresses, expected_index=expected_index
            ),
        )

    async def remove(self, node_id: NodeId, *, expected_index: LogIndex | None = None) -> LogIndex:
        """`Node.remove`."""
        return await self._call(
            "remove", lambda node: node.remove(node_id, expected_index=expected_index)
        )

    async def switch_on(
        self, features: Iterable[str], *, expected_index: LogIndex | None = None
    ) -> LogIndex:
        """`Node.switch_on`."""
        return await self._call(
            "switch_on", lambda node: node.switch_on(features, expected_index=expected_index)
        )

    async def replace(self, node_id: NodeId) -> LogIndex:
        """`Node.replace`."""
        return await self._call("replace", lambda node: node.replace(node_id))

    async def invite(self, node_id: NodeId, valid_s: float = 24 * 3600.0) -> str:
        """`Node.invite`."""
        return await self._call("invite", lambda node: node.invite(node_id, valid_s))

    async def move(self, node_id: NodeId, address: Address, *, force: bool = False) -> LogIndex:
        """`Node.move`."""
        return await self._call("move", lambda node: node.move(node_id, address, force=force))

    async def announce(self, clients_at: Address | None) -> None:
        """`Node.announce`.

        Cancelling it does not take back what was said.
        """

        async def tell(node: Node) -> None:
            node.announce(clients_at)

        await self._call("announce", tell)

    def address_of(self, node_id: NodeId) -> Address | None:
        """`Node.address_of`. Takes as long as `status`."""
        return self._thread.look(lambda inside: inside.node.address_of(node_id))

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """`Node.wait`. The predicate is called in the node's thread."""
        return await self._call("wait", lambda node: node.wait(predicate))

    async def take_snapshot(self) -> LogIndex:
        """`Node.take_snapshot`."""
        return await self._call("take_snapshot", lambda node: node.take_snapshot())

    async def backup(self, path: Path | str, *, stale: bool = False) -> BackupHead:
        """`Node.backup`."""
        return await self._call("backup", lambda node: node.backup(path, stale=stale))

    def events(self) -> AbstractAsyncContextManager[AsyncEventStream]:
        """`Node.events`."""
        held = Held(
            self._thread, lambda inside: inside.node.events(), f"events of node {self.id!r}"
        )
        return AsyncBeside(held, "AsyncNode.events", self._event_stream)

    def _event_stream(self, stream: EventStream) -> AsyncEventStream:
        return AsyncEventStream(self._thread, stream)

    def kill(self) -> None:
        """`Node.kill`. The node is Dead when this returns, which takes as long as `status`."""
        self._thread.look(lambda inside: inside.node.kill())

    # -- as Client has it ------------------------------------------------------------------

    async def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any:
        """`LocalClient.call`, through this node."""
        return await call(
            self._thread,
            "AsyncNode.call",
            lambda inside: inside.client.call(
                data, timeout_s=timeout_s, result_type=result_type, exactly_once=exactly_once
            ),
        )

    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """`LocalClient.query`, through this node."""
        return await call(
            self._thread,
            "AsyncNode.query",
            lambda inside: inside.client.query(
                data, consistency=consistency, timeout_s=timeout_s, result_type=result_type
            ),
        )

    def watch(
        self, data: bytes, *, at: object = None, item_type: Any = Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """`LocalClient.watch`, at this node."""
        held: Held[Inside, AsyncIterator[Any]] = Held(
            self._thread,
            lambda inside: inside.client.watch(data, at=at, item_type=item_type),
            f"a watch of node {self.id!r}",
        )
        return AsyncBeside(held, "AsyncNode.watch", self._items)

    def _items(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return _Items(self._thread, "AsyncNode.watch", items)

    # -- work for the leader alone ---------------------------------------------------------

    def lead(self) -> AbstractAsyncContextManager[Term]:
        """Wait until the node leads; yield the term; end the body when leadership goes.

        Raises, and is no lock: as `trioraft.LeaderLatch.lead`.
        """
        held = Held(
            self._thread, lambda inside: LeaderLatch(inside.node).lead(), f"lead of {self.id!r}"
        )
        return AsyncBeside(held, "AsyncNode.lead", lambda term: term)

    async def _call(self, name: str, function: Callable[[Node], Awaitable[R]]) -> R:
        return await call(self._thread, f"AsyncNode.{name}", lambda inside: function(inside.node))


class _Items(Generic[R]):
    """An iterator of the thread, here."""

    def __init__(self, thread: Reach[Inside], what: str, items: AsyncIterator[R]) -> None:
        self._thread = thread
        self._what = what
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        return await call(self._thread, self._what, lambda _: anext(self._items), is_awaited=False)


@final
class AsyncEventStream(_Items[NodeEvent]):
    """An async iterator over a node's events since it was opened. Made by `AsyncNode.events`."""

    def __init__(self, thread: Reach[Inside], stream: EventStream) -> None:
        super().__init__(thread, "AsyncNode.events", stream)
        self._stream = stream

    @property
    def dropped(self) -> int:
        """Events lost because they were not read in time."""
        return self._stream.dropped


@takes_what(trio_open_node)
def open_node(node_id: NodeId, **arguments: Any) -> AbstractAsyncContextManager[AsyncNode]:
    """Open a node in an asyncio program and keep it alive for the body of the `async with`.

    Takes what `trioraft.open_node` takes; raises the same, here. The node runs in a thread of its
    own. Leaving the body, by an error or a cancellation too, hands the leadership over and waits
    until nothing of the node is left, the thread included. A node that fails cancels the body's
    task and raises the node's error at the `async with`; `asyncio.timeout` and `TaskGroup` inside
    and outside are not disturbed by that.

    All arguments are as `trioraft.open_node` has them.

    Raises:
        WrongEventLoop: this is no asyncio task.
        ThreadsExhausted: there is no room for a thread.
    """
    thread = node_thread(node_id, **arguments)
    return AsyncBeside(thread, "trioraft.aio.open_node", partial(AsyncNode, thread))


async def run_while_leader(node: AsyncNode, job: Callable[[Term], Awaitable[R]]) -> R:
    """Run a job on the leader: start it whenever the node leads, cancel it when it does not.

    `job` is `async def job(term)`, under asyncio; all else is as `trioraft.run_while_leader`.

    Raises:
        NodeDead: the node is Dead, and the job has been cancelled.
        WrongEventLoop: this is no asyncio task.
        Exception: the job's own.
    """
    ended: list[R] = []
    while True:
        try:
            async with node.lead() as term:
                ended.append(await job(term))
        except LeadershipLost:
            if not ended:
                continue  # until it comes back
        return ended[0]
