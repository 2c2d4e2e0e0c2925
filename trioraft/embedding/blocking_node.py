"""BlockingNode: a node in a program of threads, as `Node` is one in a Trio program.

Rules of this file: the node lives in a thread of its own; every method hands over to the node's
method of that name, there, and may be called from any thread that has no event loop.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, final

import trio

from ..backups.format import BackupHead
from ..core.types import Address, LogIndex, NodeId, Term
from ..machines.local import LocalClient
from ..machines.questions import Consistency
from ..machines.replicated.leader import LeaderLatch, LeadershipLost
from ..member.attempts import Attempt
from ..member.status import Status
from ..node.event_stream import EventStream, NodeEvent
from ..node.node import Node
from ..node.node import open_node as trio_open_node
from .inside import Inside
from .opening import node_thread, takes_what
from .thread import Held, Reach
from .waiting import BlockingBeside, call

R = TypeVar("R")


@final
class BlockingNode:
    """One member of a cluster, for threads. Made by `trioraft.sync.open_node`.

    It has what `trioraft.Node` has, without `await`, and `call`, `query`, `watch` and `run` as
    `trioraft.BlockingClient` has them. Its methods may be called from any thread without an event
    loop. Ctrl-C ends the call that the main thread waits for, and cancels it in the node's thread.
    """

    def __init__(self, thread: Reach[Inside], inside: Inside) -> None:
        self._thread = thread
        self._id = inside.node.id

    def __repr__(self) -> str:
        return f"<BlockingNode {self.id!r}>"

    @property
    def id(self) -> NodeId:
        """This node's name."""
        return self._id

    @property
    def status(self) -> Status:
        """`Node.status`."""
        return self._thread.look(lambda inside: inside.node.status)

    def budgets(self) -> dict[str, tuple[int, int]]:
        """`Node.budgets`."""
        return self._thread.look(lambda inside: inside.node.budgets())

    def run(self, function: Callable[[LocalClient], Awaitable[R]]) -> R:
        """Call an async function with the node's `LocalClient`, in its thread, under Trio; and
        return what it returns. Objects made by `through` this node do so.

        Raises:
            NodeDead: the node was left; the function was not called.
            OutcomeUnknown: the node was left meanwhile.
            Exception: whatever the function raises.
        """
        return call(self._thread, "BlockingNode.run", lambda inside: function(inside.client))

    def run_in_trio(self, function: Callable[[Node], Awaitable[R]]) -> R:
        """The same with the `trioraft.Node`: so `open_service` can run beside it, for as long as a
        thread of yours waits here."""
        return self._call("run_in_trio", function)

    # -- as Node has it --------------------------------------------------------------------

    def propose(self, data: bytes) -> Any:
        """`Node.propose`: only the leader takes it; `call` works on every node."""
        return self._call("propose", lambda node: node.propose(data))

    def forward(self, data: bytes, *, attempt: Attempt | None = None) -> Any:
        """`Node.forward`."""
        return self._call("forward", lambda node: node.forward(data, attempt=attempt))

    def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """`Node.read_barrier`."""
        return self._call("read_barrier", lambda node: node.read_barrier(lease=lease))

    def transfer_leadership(
        self, to: NodeId | None = None, *, timeout_s: float | None = None
    ) -> NodeId:
        """`Node.transfer_leadership`."""
        return self._call(
            "transfer_leadership", lambda node: node.transfer_leadership(to, timeout_s=timeout_s)
        )

    def add_learner(
        self,
        node_id: NodeId,
        address: Address | None = None,
        *,
        expected_index: LogIndex | None = None,
    ) -> LogIndex:
        """`Node.add_learner`."""
        return self._call(
            "add_learner",
            lambda node: node.add_learner(node_id, address, expected_index=expected_index),
        )

    def change_voters(
        self,
        voters: Iterable[NodeId],
        *,
        addresses: Mapping[NodeId, Address] | None = None,
        expected_index: LogIndex | None = None,
    ) -> LogIndex:
        """`Node.change_voters`."""
        return self._call(
            "change_voters",
            lambda node: node.change_voters(
                voters, addresses=addresses, expected_index=expected_index
            ),
        )

    def remove(self, node_id: NodeId, *, expected_index: LogIndex | None = None) -> LogIndex:
        """`Node.remove`."""
        return self._call(
            "remove", lambda node: node.remove(node_id, expected_index=expected_index)
        )

    def switch_on(
        self, features: Iterable[str], *, expected_index: LogIndex | None = None
    ) -> LogIndex:
        """`Node.switch_on`."""
        return self._call(
            "switch_on", lambda node: node.switch_on(features, expected_index=expected_index)
        )

    def replace(self, node_id: NodeId) -> LogIndex:
        """`Node.replace`."""
        return self._call("replace", lambda node: node.replace(node_id))

    def invite(self, node_id: NodeId, valid_s: float = 24 * 3600.0) -> str:
        """`Node.invite`."""
        return self._call("invite", lambda node: node.invite(node_id, valid_s))

    def move(self, node_id: NodeId, address: Address, *, force: bool = False) -> LogIndex:
        """`Node.move`."""
        return self._call("move", lambda node: node.move(node_id, address, force=force))

    def announce(self, clients_at: Address | None) -> None:
        """`Node.announce`."""

        async def tell(node: Node) -> None:
            node.announce(clients_at)

        self._call("announce", tell)

    def address_of(self, node_id: NodeId) -> Address | None:
        """`Node.address_of`."""
        return self._thread.look(lambda inside: inside.node.address_of(node_id))

    def wait(
        self, predicate: Callable[[Status], bool], *, timeout_s: float | None = None
    ) -> Status:
        """`Node.wait`. The predicate is called in the node's thread.

        Args:
            predicate: of the status.
            timeout_s: when to give up, in seconds; None: never.

        Raises:
            TimeoutError: time is up.
            NodeDead: the node is Dead, and the predicate does not hold of that.
        """
        if timeout_s is None:
            return self._call("wait", lambda node: node.wait(predicate))

        async def in_time(node: Node) -> Status:
            with trio.move_on_after(timeout_s):
                return await node.wait(predicate)
            raise TimeoutError(f"waited {timeout_s:g} s for node {node.id!r}: {node.status}")

        return self._call("wait", in_time)

    def take_snapshot(self) -> LogIndex:
        """`Node.take_snapshot`."""
        return self._call("take_snapshot", lambda node: node.take_snapshot())

    def backup(self, path: Path | str, *, stale: bool = False) -> BackupHead:
        """`Node.backup`."""
        return self._call("backup", lambda node: node.backup(path, stale=stale))

    def events(self) -> AbstractContextManager[BlockingEventStream]:
        """`Node.events`."""
        held = Held(
            self._thread, lambda inside: inside.node.events(), f"events of node {self.id!r}"
        )
        return BlockingBeside(held, "BlockingNode.events", self._event_stream)

    def _event_stream(self, stream: EventStream) -> BlockingEventStream:
        return BlockingEventStream(self._thread, stream)

    def kill(self) -> None:
        """`Node.kill`. The node is Dead when this returns."""
        self._thread.look(lambda inside: inside.node.kill())

    # -- as BlockingClient has it ----------------------------------------------------------

    def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any:
        """`LocalClient.call`, through this node."""
        return call(
            self._thread,
            "BlockingNode.call",
            lambda inside: inside.client.call(
                data, timeout_s=timeout_s, result_type=result_type, exactly_once=exactly_once
            ),
        )

    def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """`LocalClient.query`, through this node."""
        return call(
            self._thread,
            "BlockingNode.query",
            lambda inside: inside.client.query(
                data, consistency=consistency, timeout_s=timeout_s, result_type=result_type
            ),
        )

    def watch(
        self, data: bytes, *, at: object = None, item_type: Any = Any
    ) -> AbstractContextManager[Iterator[Any]]:
        """`LocalClient.watch`: `with node.watch(…) as items: for item in items: …`."""
        held: Held[Inside, AsyncIterator[Any]] = Held(
            self._thread,
            lambda inside: inside.client.watch(data, at=at, item_type=item_type),
            f"a watch of node {self.id!r}",
        )
        return BlockingBeside(held, "BlockingNode.watch", self._items)

    def _items(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        return _Items(self._thread, "BlockingNode.watch", items)

    # -- work for the leader alone ---------------------------------------------------------

    def lead(self) -> AbstractContextManager[Leadership]:
        """Wait until the node leads, and hand out its leadership.

        ```python
        with node.lead() as leadership:
            while not leadership.is_lost:
                print("a bit of what the leader does in term", leadership.term)
                break
        ```

        A thread cannot be cancelled, so the body has to look at its leadership, often.

        Raises:
            LeadershipLost: when the body is over: the node stopped leading, or died, before that.
            NodeDead: the node is Dead; it will not lead.

        It is no lock: see `trioraft.LeaderLatch`.
        """
        held = Held(
            self._thread,
            lambda inside: LeaderLatch(inside.node).lead(),
            f"lead of node {self.id!r}",
        )
        leadership = Leadership()
        return BlockingBeside(held, "BlockingNode.lead", leadership._begin, on_lost=leadership._end)

    def _call(self, name: str, function: Callable[[Node], Awaitable[R]]) -> R:
        return call(self._thread, f"BlockingNode.{name}", lambda inside: function(inside.node))


@final
class Leadership:
    """What a thread knows of its node's leadership. Made by `BlockingNode.lead`."""

    def __init__(self) -> None:
        self.term: Term = 0
        """The term that the node leads."""
        self._ended = threading.Event()
        self._error: BaseException | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the node leads this term no more."""
        return self._ended.is_set()

    def check(self) -> None:
        """Do nothing while the node leads.

        Raises:
            LeadershipLost: it leads this term no more.
        """
        if self._ended.is_set() and self._error is not None:
            raise self._error

    def wait_lost(self, timeout_s: float | None = None) -> bool:
        """Sleep until the leadership is lost, or time is up; returns whether it is lost.

        Args:
            timeout_s: how long, in seconds; None: as long as it takes.
        """
        return self._ended.wait(timeout_s)

    def _begin(self, term: Term) -> Leadership:
        self.term = term
        return self

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        self._ended.set()


class _Items(Generic[R]):
    """An iterator of the thread, here."""

    def __init__(self, thread: Reach[Inside], what: str, items: AsyncIterator[R]) -> None:
        self._thread = thread
        self._what = what
        self._items = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        try:
            return call(self._thread, self._what, lambda _: anext(self._items), is_awaited=False)
        except StopAsyncIteration:
            raise StopIteration from None


@final
class BlockingEventStream(_Items[NodeEvent]):
    """An iterator over a node's events since it was opened. Made by `BlockingNode.events`."""

    def __init__(self, thread: Reach[Inside], stream: EventStream) -> None:
        super().__init__(thread, "BlockingNode.events", stream)
        self._stream = stream

    @property
    def dropped(self) -> int:
        """Events lost because they were not read in time."""
        return self._stream.dropped


@takes_what(trio_open_node)
def open_node(node_id: NodeId, **arguments: Any) -> AbstractContextManager[BlockingNode]:
    """Open a node in a program of threads and keep it alive for the body of the `with`.

    Takes what `trioraft.open_node` takes; raises the same, here. The node runs in a thread of its
    own. Leaving the body, by an error or Ctrl-C too, hands the leadership over and waits until
    nothing of the node is left, its thread included; a second Ctrl-C ends that wait. When a node
    fails, what the body calls raises `NodeDead` from the node's error, and that one is raised when
    the body is over.

    All arguments are as `trioraft.open_node` has them.

    Raises:
        WrongEventLoop: an event loop runs here, and would be blocked.
        ThreadsExhausted: there is no room for a thread.
    """
    thread = node_thread(node_id, **arguments)
    return BlockingBeside(thread, "trioraft.sync.open_node", partial(BlockingNode, thread))


def run_while_leader(node: BlockingNode, job: Callable[[Leadership], R]) -> R:
    """Run a job on the leader: start it whenever the node leads.

    Args:
        node: whose leadership counts.
        job: `def job(leadership)`. It looks at `leadership.is_lost`, and ends when that is true: a
            thread cannot be cancelled. It is started again in each term that the node leads.

    Returns:
        What the job returned, once it ended while the node led.

    Raises:
        NodeDead: the node is Dead.
        WrongEventLoop: an event loop runs here, and would be blocked.
        Exception: the job's own.
    """
    while True:
        try:
            with node.lead() as leadership:
                result = job(leadership)
        except LeadershipLost:
            continue
        return result
