"""Questions of one connection: those that come together share one read barrier.

Rules of this file: a question is answered by the state machine as it is after the barrier, never by
an earlier state; one that nobody waits for any more is not answered at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, final

import trio

from ..core.errors import ConfigError, RaftError
from ..rpc.protocol import Consistency, Query
from .context import ServiceContext
from .queryable import Queryable


class _Fail(Protocol):
    """How a question that failed is answered."""

    def __call__(self, request_id: int, error: Exception, *, by_machine: bool = False) -> None: ...


@final
class Queries:
    """The questions of one connection that wait.

    Args:
        context: the node, and its state machine.
        answer: called with a request's id and what it returned.
        fail: called with a request's id, what went wrong, and whether the machine raised it.
        room: waits until the client has taken enough of the answers.
    """

    def __init__(
        self,
        context: ServiceContext,
        answer: Callable[[int, object], None],
        fail: _Fail,
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._context = context
        self._answer = answer
        self._fail = fail
        self._room = room
        self._waiting: dict[Consistency, dict[int, bytes]] = {"linearizable": {}, "lease": {}}
        self._asking: dict[Consistency, dict[int, bytes]] = {}  # the round that is under way

    def put(self, query: Query, nursery: trio.Nursery) -> None:
        """Answer this, now or after the next barrier, by a task in this nursery."""
        if query.consistency == "stale":
            self._ask_machine(query.id, query.data)
            return
        self._waiting[query.consistency][query.id] = query.data
        if query.consistency not in self._asking:
            self._asking[query.consistency] = {}
            name = f"{trio.lowlevel.current_task().name}.queries"
            nursery.start_soon(self._answer_all, query.consistency, name=name)

    def cancel(self, request_id: int) -> bool:
        """Nobody waits for this any more; returns whether anybody did."""
        for queries in (*self._waiting.values(), *self._asking.values()):
            if queries.pop(request_id, None) is not None:
                return True
        return False

    def refuse_all(self, error: Exception) -> None:
        """Answer everything that waits with this error."""
        for queries in (*self._waiting.values(), *self._asking.values()):
            while queries:
                self._fail(queries.popitem()[0], error)

    async def _answer_all(self, consistency: Consistency) -> None:
        """One barrier after the other until nothing waits."""
        waiting = self._waiting[consistency]
        try:
            while waiting:
                round_ = self._asking[consistency] = dict(waiting)
                waiting.clear()
                try:
                    await self._context.node.read_barrier(lease=consistency == "lease")
                except RaftError as error:
                    while round_:
                        self._fail(round_.popitem()[0], error)
                while round_:  # shrinks under us where a question is called back
                    request_id = next(iter(round_))
                    self._ask_machine(request_id, round_.pop(request_id))
                    await self._room()
        finally:
            del self._asking[consistency]

    def _ask_machine(self, request_id: int, data: bytes) -> None:
        machine = self._context.machine
        if not isinstance(machine, Queryable):
            name = type(machine).__name__
            self._fail(request_id, ConfigError(f"{name} has no method 'query': ask it nothing"))
            return
        try:
            value = machine.query(data)
        except Exception as error:  # noqa: BLE001 - the answer to this question, whatever it is
            self._fail(request_id, error, by_machine=True)
            return
        self._answer(request_id, value)
