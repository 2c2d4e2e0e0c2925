"""Questions of one connection: those that come together share one read barrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

import trio

from ..core.errors import BadMessage, ConfigError, RaftError
from ..machines.questions import queryable
from ..rpc.protocol import Consistency, Query
from ..tasks.slices import Turn
from .context import ServiceContext


class _Fail(Protocol):
    """How a question that failed is answered."""

    def __call__(self, request_id: int, error: Exception, *, by_machine: bool = False) -> None: ...


class _Outbox(Protocol):
    """Where answers are put down."""

    @property
    def is_full(self) -> bool: ...

    def gather(self) -> None: ...

    def leave(self) -> None: ...

    async def room(self) -> None: ...


@final
class Queries:
    """The questions of one connection that wait.

    Args:
        context: the node, and its state machine.
        answer: called with a request's id and what it returned.
        fail: called with a request's id, what went wrong, and whether the machine raised it.
        outbox: where answers go, which may be full.
        turn: the connection's, for the event loop.
    """

    def __init__(
        self,
        context: ServiceContext,
        answer: Callable[[int, object], None],
        fail: _Fail,
        outbox: _Outbox,
        turn: Turn,
    ) -> None:
        self._context = context
        self._answer = answer
        self._fail = fail
        self._outbox = outbox
        self._turn = turn
        self._waiting: dict[Consistency, dict[int, bytes]] = {"linearizable": {}, "lease": {}}
        self._asking: dict[Consistency, dict[int, bytes]] = {}  # the round that is under way
        self.bytes: int = 0
        """Of the questions that wait."""

    def put(self, query: Query, nursery: trio.Nursery) -> None:
        """Answer this, now or after the next barrier, by a task in this nursery."""
        if query.consistency == "stale":
            self._ask_machine(query.id, query.data)
            return
        waiting = self._waiting[query.consistency]
        if query.id in waiting:
            raise BadMessage(f"request id {query.id} is in use already")
        waiting[query.id] = query.data
        self.bytes += len(query.data)
        if query.consistency not in self._asking:
            self._asking[query.consistency] = {}
            name = f"{trio.lowlevel.current_task().name}.queries"
            nursery.start_soon(self._answer_all, query.consistency, name=name)

    def cancel(self, request_id: int) -> bool:
        """Nobody waits for this any more; returns whether anybody did."""
        for queries in (*self._waiting.values(), *self._asking.values()):
            data = queries.pop(request_id, None)
            if data is not None:
                self.bytes -= len(data)
                return True
        return False

    def refuse_all(self, error: Exception) -> None:
        """Answer everything that waits with this error."""
        for queries in (*self._waiting.values(), *self._asking.values()):
            self._fail_all(queries, error)

    async def _answer_all(self, consistency: Consistency) -> None:
        """One barrier after the other until nothing waits; each answers what came before it began,
        and never from an earlier state."""
        waiting = self._waiting[consistency]
        try:
            while waiting:
                round_ = self._asking[consistency] = dict(waiting)
                waiting.clear()
                try:
                    await self._context.node.read_barrier(lease=consistency == "lease")
                except RaftError as error:
                    self._fail_all(round_, error)
                await self._answer_round(round_)
        finally:
            del self._asking[consistency]

    async def _answer_round(self, round_: dict[int, bytes]) -> None:
        turn, outbox = self._turn, self._outbox
        turn.begin()
        while round_:  # shrinks under us where a question is called back
            request_id = next(iter(round_))
            data = round_.pop(request_id)
            self.bytes -= len(data)
            outbox.gather()
            self._ask_machine(request_id, data)
            if turn.is_over():
                outbox.leave()
                await turn.next()
            if outbox.is_full:
                outbox.leave()
                turn.end()
                await outbox.room()
                turn.begin()
        turn.end()
        outbox.leave()

    def _fail_all(self, queries: dict[int, bytes], error: Exception) -> None:
        while queries:
            request_id, data = queries.popitem()
            self.bytes -= len(data)
            self._fail(request_id, error)

    def _ask_machine(self, request_id: int, data: bytes) -> None:
        try:
            machine = queryable(self._context.machine)
        except ConfigError as error:
            self._fail(request_id, error)
            return
        try:
            value = machine.query(data)
        except Exception as error:  # noqa: BLE001 - the answer to this question, whatever it is
            self._fail(request_id, error, by_machine=True)
            return
        self._answer(request_id, value)
