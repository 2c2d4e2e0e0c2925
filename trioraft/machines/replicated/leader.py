"""LeaderLatch: work for the leader alone, over when its leadership is.

* Work is cancelled when the node stops leading the term in which it began, and its end is seen: a
  body that was cancelled raises `LeadershipLost` at its `async with`.
* This is no lock. A leader that nobody hears notices only after an election timeout, while another
  leads already: for that moment the work is done twice. What it does outside must be told apart by
  its term, which never repeats.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, final

import attrs
import trio

from ...core.errors import RaftError
from ...core.types import NodeId, Role, Term
from ...tasks.background import running_beside
from ...tasks.event_loop import opened_under
from .calls import Port

R = TypeVar("R")


class LeadershipLost(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """The node stopped leading while work for the leader was under way; that was cancelled.

    Fault: nobody's; leaders change.
    Remedy: wait until this node leads again, or let the new leader do it.

    Attributes:
        term: the term that it led.
        leader_id: who leads now, as far as this node knows.
    """

    def __init__(self, term: Term, leader_id: NodeId | None, why: str) -> None:
        self.term = term
        self.leader_id = leader_id
        super().__init__(
            f"this node does not lead term {term} any more ({why}): what was under way was "
            "cancelled; wait until it leads again, or let the new leader do it"
        )


@final
@attrs.frozen
class LeaderLatch:
    """Lets work begin when a node leads, and ends it when the node does not."""

    _node: Port

    @opened_under("trio")
    @asynccontextmanager
    async def lead(self) -> AsyncIterator[Term]:
        """Wait until the node leads; yield the term; end the body when leadership goes.

        ```python
        async with LeaderLatch(node).lead() as term:
            print("this node leads term", term)
        ```

        Raises:
            LeadershipLost: the body was cancelled, because the node stopped leading or died.
            NodeDead: the node is Dead; it will not lead.
            Exception: the body's own.

        It can be cancelled.
        """
        status = await self._node.wait(lambda status: status.role is Role.LEADER)
        watch = _LeadershipWatch(self._node, status.term)
        name = f"raft[{status.node_id}].latch(term={status.term})"
        async with running_beside(watch.run, stop=watch.stop, name=name):
            yield status.term


@attrs.define(eq=False)
class _LeadershipWatch:
    """Fails when a term's leadership goes."""

    _node: Port
    _term: Term
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _is_over: bool = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Fail when the node does not lead the term any more, unless it is over before."""
        task_status.started()
        with self._scope:
            status = await self._node.wait(
                lambda status: status.role is not Role.LEADER or status.term != self._term
            )
            if not self._is_over:
                why = str(status.last_role_change)
                raise LeadershipLost(self._term, status.leader_id, why)

    def stop(self) -> None:
        """The body is over: nobody needs to know any more."""
        self._is_over = True
        self._scope.cancel()


async def run_while_leader(node: Port, job: Callable[[Term], Awaitable[R]]) -> R:
    """Run a job on the leader: start it whenever the node leads, cancel it when it does not.

    Call it on every node; the job runs on one of them (see the head of this file for when it is
    two). It is started again, from its beginning, in each term that the node leads; not before the
    cancelled one has cleaned up.

    Args:
        node: whose leadership counts.
        job: `async def job(term)`.

    Returns:
        What the job returned, once it ended by itself. A job that shall run for ever does not.

    Raises:
        NodeDead: the node is Dead, and the job has been cancelled.
        Exception: the job's own.
    """
    latch = LeaderLatch(node)
    ended: list[R] = []
    while True:
        try:
            async with latch.lead() as term:
                ended.append(await job(term))
        except LeadershipLost:
            if not ended:
                continue  # until it comes back
        return ended[0]
