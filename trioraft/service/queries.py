"""Questions of one connection: those that come together share one read barrier."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, final

import trio

from ..core.errors import BadMessage, ConfigError, RaftError
from ..machines.questions import queryable
from ..node.unwaited import begin_read
from ..rpc.protocol import Consistency, Query
from ..tasks.slices import Turn
from .context import ServiceContext

AT_ONCE_MAX: Final = 4
"""So many questions are answered where the word of their barrier arrives; for more there is a task,
which lets others have their turn."""


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
        self._give_up: dict[Consistency, Callable[[], None]] = {}  # its barrier
        self._nursery: trio.Nursery | None = None
        self._name = ""  # of the connection's task
        self.bytes: int = 0
        """Of the questions that wait."""

    def put(self, query: Query) -> None:
        """Answer this: now, or after the next barrier, for which `ask` asks."""
        if query.consistency == "stale":
            self.bytes += len(query.data)
            self._ask_machine(query.id, query.data)
            return
        waiting = self._waiting[query.consistency]
        if query.id in waiting:
            raise BadMessage(f"request id {query.id} is in use already")
        waiting[query.id] = query.data
        self.bytes += len(query.data)

    def ask(self, nursery: trio.Nursery) -> None:
        """All that came together is there: begin the next barrier, unless one is under way. What
        takes long is answered by a task in this nursery."""
        if self._nursery is None:
            self._nursery, self._name = nursery, trio.lowlevel.current_task().name
        for consistency, waiting in self._waiting.items():
            if waiting and consistency not in self._asking:
                self._begin(consistency)

    def leave(self) -> None:
        """The connection is over. Idempotent."""
        self._nursery = None
        for give_up in self._give_up.values():
            give_up()
        self._give_up.clear()

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

    def _begin(self, consistency: Consistency) -> None:
        """A barrier for all that wait: it answers what came before it began, and never from an
        earlier state."""
        waiting = self._waiting[consistency]
        self._asking[consistency] = dict(waiting)
        waiting.clear()
        try:
            give_up = begin_read(
                self._context.node,
                partial(self._on_barrier, consistency),
                lease=consistency == "lease",
            )
        except RaftError as error:
            self._on_barrier(consistency, error)
        else:
            if consistency in self._asking:
                self._give_up[consistency] = give_up

    def _on_barrier(self, consistency: Consistency, error: RaftError | None) -> None:
        """Called where the member stands still; what goes wrong here is no affair of the node's."""
        self._give_up.pop(consistency, None)
        round_, nursery, turn = self._asking[consistency], self._nursery, self._turn
        if error is not None:
            self._fail_all(round_, error)
        if nursery is None:
            return
        turn.begin()
        is_much = len(round_) > AT_ONCE_MAX or self._outbox.is_full or turn.is_over()
        if not is_much:
            self._outbox.gather()
            while round_:
                self._ask_machine(*round_.popitem())
            self._outbox.leave()
        turn.end()
        if is_much:
            nursery.start_soon(self._answer_round, consistency, name=f"{self._name}.queries")
        else:
            self._end_round(consistency)

    def _end_round(self, consistency: Consistency) -> None:
        """Begin the next one, if anything waits."""
        del self._asking[consistency]
        if self._waiting[consistency] and self._nursery is not None:
            self._begin(consistency)

    async def _answer_round(self, consistency: Consistency) -> None:
        turn, outbox, round_ = self._turn, self._outbox, self._asking[consistency]
        turn.begin()
        while round_:  # shrinks under us where a question is called back
            request_id = next(iter(round_))
            data = round_.pop(request_id)
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
        self._end_round(consistency)

    def _fail_all(self, queries: dict[int, bytes], error: Exception) -> None:
        while queries:
            request_id, data = queries.popitem()
            self.bytes -= len(data)
            self._fail(request_id, error)

    def _ask_machine(self, request_id: int, data: bytes) -> None:
        self.bytes -= len(data)
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
