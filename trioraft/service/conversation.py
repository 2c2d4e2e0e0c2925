"""One client's connection: its requests in, answers out, in whatever order they come.

* Every request that was read is answered, or the connection ends; none waits unanswered for good.
* No task per command: what arrived together is proposed together, and what has its outcome
  together is answered together, where the node stands still after it. A task only answers what
  waits because the client takes nothing.
* Backpressure is not reading: with too much unanswered or untaken, the socket is left alone, and
  TCP makes the client wait.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, final

import trio

from ..core.errors import BadMessage, ConfigError, NotLeader, Overloaded, RaftError
from ..machines.questions import watchable
from ..machines.sessions import closes_session, is_repeatable, message_of, opens_session
from ..net.connection import BROKEN, Connection
from ..net.handshake import in_time
from ..net.holdings import Holdings
from ..node.node import Node
from ..node.proposal import Proposal, outcome_of, when_settled
from ..node.unwaited import afterwards, submit
from ..rpc.errors import ServerLeaving
from ..rpc.failures import failure_of
from ..rpc.protocol import (
    AddLearnerRequest,
    Answer,
    Cancel,
    ChangeVotersRequest,
    Failure,
    GetStatus,
    GoingAway,
    InviteNode,
    Item,
    MoveNode,
    Ping,
    Propose,
    Query,
    ReadBackup,
    RemoveNode,
    ReplaceNode,
    Request,
    Result,
    SwitchOnRequest,
    Take,
    TakeSnapshot,
    TransferLeadership,
    Watch,
    WatchStatus,
    append_frame,
    decode_request,
    encode_value,
    frame,
    id_of_unknown,
    weight_bytes,
)
from ..tasks.slices import Turn
from ..tasks.wakeup import Wakeup
from .admission import Admitted
from .backups import send_backup
from .context import ServiceContext, ServiceLimits
from .event_feed import tell_events
from .feed import Watcher
from .queries import Queries
from .roles import UNLIMITED, Credentials, Permission
from .windows import Window

if TYPE_CHECKING:
    from ..tracing.spans import Span, Spans

PIECE_BYTES = 64 * 1024
"""What a client must take within `frame_timeout_s`."""

FAREWELL_S = 0.5
"""How long a client that goes for others may take to be told so, in seconds."""

SMALL_BYTES = 16 * 1024
"""What is not worth counting; and the most that a request may have which is neither a command nor a
question."""


@final
class ReplyQueue:
    """The answers of one connection.

    Args:
        connection: where they go.
        limits: bounds.
        shared: what the answers of all connections may amount to; None: there is no bound.
    """

    def __init__(
        self, connection: Connection, limits: ServiceLimits, shared: Holdings | None = None
    ) -> None:
        self._shared = shared
        self._sending_bytes = 0
        self.frame_bytes_max = 0
        """Largest frame that the client reads; it says so in its handshake."""
        self._connection = connection
        self._limits = limits
        self._unsent = bytearray()
        self._is_sending = self._is_gathering = False
        stream = connection.stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._work = Wakeup()
        self._drained = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        """Whether the client should take some first."""
        return len(self._unsent) > self._limits.unsent_bytes_max

    @property
    def is_empty(self) -> bool:
        """Whether everything is with the kernel."""
        return not self._unsent and not self._is_sending

    def put(self, answer: Answer) -> None:
        start = len(self._unsent)
        size_bytes = append_frame(self._unsent, answer)
        if size_bytes > self.frame_bytes_max and not isinstance(answer, Failure):
            del self._unsent[start:]
            self._put_too_large(answer, size_bytes)
        if len(self._unsent) > SMALL_BYTES:
            self._count()
        if not self._is_gathering:
            self._work.set()

    def gather(self) -> None:
        """More answers are about to be put down, all before the next wait: `leave` has them sent
        together."""
        self._is_gathering = True

    def leave(self) -> None:
        """What was gathered leaves: at once if nothing is before it and the kernel takes it, which
        spares it a turn of the scheduler. A broken connection is noticed by those who wait on it.
        Idempotent."""
        self._is_gathering = False
        unsent = self._unsent
        if not unsent:
            return
        socket = self._socket
        if socket is not None and not self._is_sending and len(unsent) <= SMALL_BYTES:
            with suppress(OSError):  # it is full, broken or closed: the sender finds out
                # Asked each time: a number that was closed may be another connection's by now.
                del unsent[: os.write(socket.fileno(), unsent)]
        if unsent:
            self._work.set()
        elif self._drained:
            self._drained.unpark_all()

    def put_value(self, request_id: int, value: object, kind: type[Result | Item] = Result) -> int:
        """Put a result (or an item) down; what cannot be encoded becomes a failure. Returns what it
        counts in a subscription's window, in bytes."""
        try:
            answer = kind(request_id, encode_value(value))
        except Exception as error:  # noqa: BLE001 - an encoder's, or of code in the value itself
            self.put(
                failure_of(
                    request_id,
                    ConfigError(
                        f"the state machine returned a {type(value).__name__}, which cannot be "
                        f"sent: {message_of(error)}. Return bytes, numbers, text, lists, dicts, or "
                        "msgspec structs"
                    ),
                )
            )
            return 0
        self.put(answer)
        return weight_bytes(answer.value)

    async def room(self) -> None:
        """Wait until the client has taken enough."""
        while self.is_full:
            await self._drained.park()

    async def drained(self) -> None:
        """Wait until everything is with the kernel."""
        while not self.is_empty:
            await self._drained.park()

    def abandon(self) -> None:
        """The connection is over: there is nothing to wait for any more."""
        self._unsent.clear()
        self._is_sending = False
        self._drained.unpark_all()
        if self._shared is not None:
            self._shared.let_go(self._connection)

    async def send_forever(self) -> None:
        """Send until cancelled.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection ended.
            trio.TooSlowError: the client takes nothing.
        """
        send_all = self._connection.stream.send_all
        while True:
            await self._work.wait()
            while self._unsent:
                unsent, self._unsent = self._unsent, bytearray()
                self._is_sending = True
                self._sending_bytes = len(unsent)
                if len(unsent) <= PIECE_BYTES:
                    with trio.fail_after(self._limits.frame_timeout_s):
                        await send_all(unsent)
                else:
                    await self._send_in_pieces(memoryview(unsent))
                self._is_sending = False
                self._on_taken(len(unsent))
                self._drained.unpark_all()

    async def _send_in_pieces(self, unsent: memoryview) -> None:
        """A client that takes a lot slowly is not one that takes nothing."""
        for start in range(0, len(unsent), PIECE_BYTES):
            with trio.fail_after(self._limits.frame_timeout_s):
                piece = unsent[start : start + PIECE_BYTES]
                await self._connection.stream.send_all(piece)
                self._on_taken(len(piece))

    def _count(self) -> None:
        if self._shared is not None:
            self._shared.hold(self._connection, len(self._unsent) + self._sending_bytes)

    def _on_taken(self, size_bytes: int) -> None:
        """The client has taken so many bytes."""
        self._sending_bytes = max(0, self._sending_bytes - size_bytes)
        if self._shared is None:
            return
        if len(self._unsent) + self._sending_bytes > SMALL_BYTES:
            self._count()
            self._shared.on_progress(self._connection)
        else:
            self._shared.let_go(self._connection)

    def _put_too_large(self, answer: Answer, size_bytes: int) -> None:
        if isinstance(answer, Result | Item):
            append_frame(
                self._unsent,
                failure_of(
                    answer.id,
                    ConfigError(
                        f"the answer has {size_bytes} bytes, this client reads at most "
                        f"{self.frame_bytes_max}: ask for less, or raise Client(frame_bytes_max=…)"
                    ),
                ),
            )


_CALLED_BACK = RaftError("the client does not wait for the answer any more: it may ask again")
_GONE = RaftError("the connection ended before there was an answer: ask again over another one")
_LEAVING = "the server is shutting down and did not take the request: ask another one"


@final
class Conversation:
    """One connection of a client port. `run` is its life."""

    def __init__(self, context: ServiceContext, connection: Connection, admitted: Admitted) -> None:
        self._context = context
        self._connection = connection
        self._outbox = ReplyQueue(connection, context.limits, context.unsent)
        self._outbox.frame_bytes_max = admitted.frame_bytes_max
        self._version = admitted.version
        self._proposed = 0  # commands on their way
        self._settled: deque[tuple[int, Proposal]] = deque()  # they are not answered yet
        self._work = Wakeup()  # for the task that answers those
        self._failure: Exception | None = None  # likewise: what to raise
        self._unanswered = 0
        self._answered = trio.lowlevel.ParkingLot()
        self._scopes: dict[int, trio.CancelScope] = {}  # of requests that have a task
        self._watches: set[int] = set()  # those of them that end only with one side's will
        self._windows: dict[int, Window] = {}  # of those of them that have one
        self._backups: set[int] = set()  # those that take longer than a server may that leaves
        self.shown: Credentials = admitted.shown
        self.permission: Permission = admitted.permission
        """Goes with what it showed; changed by who reloads the roles."""
        self._turn = Turn(context.slices)
        self._queries = Queries(context, self._answer, self._fail, self._outbox, self._turn)
        self._nursery: trio.Nursery | None = None
        self._name = ""
        self._reason = ""
        """Why it ended, if not as it should."""
        self._spans = context.spans
        self._traced: dict[int, Span] = {}  # by request

    async def run(self) -> None:
        """Serve the connection to its end, and close it."""
        self._name = trio.lowlevel.current_task().name
        try:
            if await self._welcome():
                await self._serve()
        finally:
            self._connection.hang_up()
            self._context.waiting.let_go(self._connection)
            # It refers to us, and we to it: what is of no use any more goes now, and need not be
            # searched for.
            del self._queries

    async def leave(self) -> None:
        """The server goes: take nothing new, answer what is under way, and hang up."""
        if self._nursery is None:
            self._connection.hang_up()
            return
        self._begin_to_answer()
        self._outbox.put(GoingAway())
        self._queries.refuse_all(ServerLeaving(_LEAVING))
        for request_id in self._watches | self._backups:
            self._scopes[request_id].cancel()
        while self._unanswered:
            await self._answered.park()
        await self._outbox.drained()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def hang_up(self) -> None:
        """End it now. Idempotent."""
        self._connection.hang_up()

    async def _welcome(self) -> bool:
        """Tell the client that it is one. False: it does not listen, or is gone."""
        welcome = frame(self._context.welcome(version=self._version))
        try:
            sent = self._connection.stream.send_all(welcome)
            await in_time(sent, self._context.limits.handshake_timeout_s)
        except BadMessage as error:
            self._context.reject(self._connection.remote, str(error))
            return False
        return True

    async def _serve(self) -> None:
        """Read, answer, and end when either is over."""
        connection = self._connection
        owes_nothing = False
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._read_while_it_lasts()
                finally:
                    self._nursery = None  # it ends, and takes no task any more
                    owes_nothing = connection.idle_since_s is not None and self._outbox.is_empty
                nursery.cancel_scope.cancel()
        except* BadMessage as errors:  # what a task of its own found out
            self._reason = str(errors.exceptions[0])
        finally:
            self._outbox.abandon()
            self._queries.leave()
            for request_id in [*self._traced]:
                self._end_span(request_id, _GONE)
            self._unanswered = 0
            self._answered.unpark_all()
            if owes_nothing and connection.has_asked and connection.ended_because:
                await self._say_farewell()
        if self._reason:
            self._context.reject(connection.remote, self._reason)

    async def _read_while_it_lasts(self) -> None:
        """Usual ends are no errors of the nursery's: a group of them refers to all that there was,
        and is referred to by it."""
        try:
            with self._connection.reading(self._context.limits.frame_timeout_s):
                await self._read()
        except BadMessage as error:
            self._reason = str(error)
        except BROKEN:
            pass  # it is gone, which is its right

    async def _send(self, whole: trio.CancelScope) -> None:
        try:
            await self._outbox.send_forever()
        except trio.TooSlowError:
            self._reason = f"it took no answer for {self._context.limits.frame_timeout_s:g} s"
        except BROKEN:
            pass
        whole.cancel()

    async def _say_farewell(self) -> None:
        """It goes for others' sake, and may come again. Nothing was left half sent."""
        until_s = trio.current_time() + FAREWELL_S
        farewell = frame(GoingAway(self._connection.ended_because))
        with trio.CancelScope(shield=True, deadline=until_s), suppress(*BROKEN):
            await self._connection.stream.send_all(farewell)

    # -- requests --------------------------------------------------------------------------

    async def _read(self) -> None:
        connection, deframer = self._connection, self._connection.deframer
        turn = self._turn
        is_open = True
        self._note_idle()
        turn.begin()
        while is_open:
            took_frames = False
            while (payload := deframer.next_payload()) is not None:
                if turn.is_over():
                    await turn.next()
                took_frames = True
                try:
                    request = decode_request(payload)
                except BadMessage:
                    self._refuse_unknown(payload)
                    continue
                self._unanswered += 1
                connection.idle_since_s = None
                if not connection.has_asked:
                    self._begin_to_answer()
                has_waited = False
                if self._spans is not None and isinstance(request, Propose | Query):
                    self._begin_span(self._spans, request)
                if self.permission is not UNLIMITED and not self._may(request):
                    pass
                elif type(request) is Propose:
                    has_waited = await self._propose(request)
                else:
                    self._take(request, len(payload))
                if self._is_behind:
                    has_waited = True
                    await self._catch_up()
                if has_waited:  # which is no work
                    turn.begin()
            turn.end()
            if self._nursery is not None:
                self._queries.ask(self._nursery)
            is_open = await connection.receive(took_frames=took_frames)
            # A byte at a time, or a thousand that close at once, is work too.
            turn.begin()
            if turn.is_over():
                await turn.next()

    def _begin_to_answer(self) -> None:
        """Have the tasks that answer: who never asks for anything needs none. Idempotent."""
        if not self._connection.has_asked and self._nursery is not None:
            self._connection.note_use()
            self._nursery.start_soon(self._answer_later, name=f"{self._name}.outcomes")
            whole = self._nursery.cancel_scope
            self._nursery.start_soon(self._send, whole, name=f"{self._name}.answers")

    def _may(self, request: Request) -> bool:
        """Whether its role allows it; if not, that is the answer."""
        try:
            self.permission.check(request)
        except RaftError as error:
            self._fail(request.id, error)
            return False
        return True

    @property
    def _is_behind(self) -> bool:
        return self._outbox.is_full or self._has_too_many

    @property
    def _has_too_many(self) -> bool:
        limits = self._context.limits
        # A subscription is answered when it ends; those of all connections have their own bound.
        if self._unanswered - len(self._watches) >= limits.requests_max:
            return True
        return self._queries.bytes > limits.unsent_bytes_max

    async def _catch_up(self) -> None:
        self._connection.stop_the_clock()
        while self._has_too_many:
            await self._answered.park()
        await self._outbox.room()

    def _note_waiting(self, more_bytes: int = 0) -> None:
        """Count what waits here for its turn: questions, and perhaps a command."""
        waiting = self._queries.bytes + more_bytes
        if waiting > SMALL_BYTES:
            self._context.waiting.hold(self._connection, waiting)
        else:
            self._context.waiting.let_go(self._connection)

    def _note_idle(self) -> None:
        if self._unanswered <= len(self._watches):  # who only listens is idle
            self._connection.idle_since_s = trio.current_time()

    async def _propose(self, request: Propose) -> bool:
        """Propose a command; return whether it had to wait for room."""
        has_waited = False
        if self._context.is_leaving:
            self._fail(request.id, ServerLeaving(_LEAVING))
            return False
        opens = self._context.has_sessions and opens_session(request.data)
        if opens and not self._may_open(request):
            return False
        while True:
            try:
                proposal = self._submit(request)
            except Overloaded as error:
                if not self._proposed:  # others fill the room: the client shall come again
                    self._fail(request.id, error)
                    return has_waited
            except RaftError as error:
                self._fail(request.id, error)
                return has_waited
            else:
                # Who can send it again shall do so as soon as another leads, and not wait here.
                proposal.is_repeatable = self._context.has_sessions and is_repeatable(request.data)
                self._note_session(request.data, opens=opens)
                self._proposed += 1
                if proposal.is_done:  # the node has died of it
                    self._settled.append((request.id, proposal))
                    self._answer_settled()
                else:
                    when_settled(proposal, partial(self._on_settled, request.id))
                return has_waited
            has_waited = True
            self._connection.stop_the_clock()
            self._note_waiting(len(request.data))
            await self._answered.park()  # our own commands fill it: wait for one of them
            self._note_waiting()

    def _submit(self, request: Propose) -> Proposal:
        span = self._traced.get(request.id) if self._traced else None
        if span is None or self._spans is None:
            return submit(self._context.node, request.data)
        with self._spans.below(span):
            return submit(self._context.node, request.data)

    def _may_open(self, request: Propose) -> bool:
        """Whether it may open a session; if not, that is the answer."""
        context = self._context
        if context.openings.may_open(self._client, trio.current_time()):
            return True
        self._fail(
            request.id,
            Overloaded(
                f"this client has opened {context.openings.of_client_max} sessions at this server "
                "and closed none of them (ServiceLimits.sessions_of_client_max): close some"
            ),
        )
        return False

    def _note_session(self, data: bytes, *, opens: bool) -> None:
        """Count what it has opened or closed."""
        openings = self._context.openings
        if opens:
            openings.on_opened(self._client, trio.current_time())
        elif self._context.has_sessions and closes_session(data):
            openings.on_closed(self._client)

    @property
    def _client(self) -> object:
        """Who it is, as far as bounds go: by what was verified."""
        if self._context.roles is not None and self.shown != Credentials():
            return self.shown
        return self.shown.names or self._connection.remote_host

    def _on_settled(self, request_id: int, proposal: Proposal) -> None:
        """One of our commands has its outcome; those of a slice are answered together."""
        if not self._settled:
            afterwards(self._context.node, self._answer_settled)
        self._settled.append((request_id, proposal))

    def _answer_settled(self) -> None:
        """Answer the commands that have their outcome, as far as the client takes the answers. What
        goes wrong is this connection's affair, and not of the node that calls."""
        settled, outbox = self._settled, self._outbox
        if self._nursery is None:  # nobody is there any more
            settled.clear()
            return
        try:
            outbox.gather()
            while settled and not outbox.is_full:
                request_id, proposal = settled.popleft()
                self._proposed -= 1
                value, error = outcome_of(proposal)
                if error is None:
                    self._answer(request_id, value)
                else:
                    self._fail(request_id, error, by_machine=proposal.was_applied)
            outbox.leave()
        except Exception as failure:  # noqa: BLE001 - the task raises it
            self._failure = failure
        if settled or self._failure is not None:
            self._work.set()

    async def _answer_later(self) -> None:
        """Answer what waits until the client has taken some: many large answers must not pile
        up."""
        while True:
            await self._work.wait()
            if self._failure is not None:
                raise self._failure
            await self._outbox.room()
            self._answer_settled()

    def _take(self, request: Request, size_bytes: int) -> None:
        """Answer what can be answered at once, and give the rest to a task."""
        limits, context = self._context.limits, self._context
        if size_bytes > SMALL_BYTES and not isinstance(request, Query):
            name = type(request).__name__
            raise BadMessage(f"a {name} has {size_bytes} bytes; at most {SMALL_BYTES} are accepted")
        if isinstance(request, Ping):
            self._answer(request.id, None)
        elif isinstance(request, GetStatus):
            self._answer(request.id, self._context.server_status(self._context.node.status))
        elif isinstance(request, Cancel):
            self._cancel(request)
        elif isinstance(request, Take):
            self._forget_one()  # it has no answer of its own
            if (window := self._windows.get(request.id)) is not None:
                window.on_taken(request.taken_bytes)
        elif self._context.is_leaving:
            self._fail(request.id, ServerLeaving(_LEAVING))
        elif isinstance(request, Query):
            self._queries.put(request)
            self._note_waiting()
        elif isinstance(request, Watch | WatchStatus):
            self._subscribe(request)
        elif isinstance(request, ReadBackup):
            self._back_up(request)
        elif context.changes >= limits.changes_max:
            self._fail(
                request.id,
                Overloaded(
                    f"{limits.changes_max} changes of the cluster are under way already: wait "
                    "until one has ended"
                ),
            )
        else:
            self._check_free(request.id)
            context.changes += 1
            self._start(request.id, change_counted, context, request)

    def _subscribe(self, request: Watch | WatchStatus) -> None:
        self._check_free(request.id)
        context, limits = self._context, self._context.limits
        too_many = ""
        if context.subscriptions >= limits.subscriptions_max:
            too_many = f"this server has {limits.subscriptions_max} subscriptions"
        elif isinstance(request, Watch):
            window = Window(request.window_bytes)
            if window.is_bounded:
                self._windows[request.id] = window
            self._start(request.id, watch_machine, context, self._outbox, request, window)
        elif context.status_watches >= limits.status_watches_max:
            too_many = f"{limits.status_watches_max} watch the status of this server"
        else:
            context.status_watches += 1
            self._start(request.id, watch_node, context, self._outbox, request)
        if too_many:
            self._fail(request.id, Overloaded(f"{too_many} already: end one, or ask another"))
        else:
            self._watches.add(request.id)
            context.subscriptions += 1
            self._note_idle()

    def _back_up(self, request: ReadBackup) -> None:
        self._check_free(request.id)
        context, limits = self._context, self._context.limits
        if context.backups >= limits.backups_max:
            self._fail(
                request.id,
                Overloaded(
                    f"{limits.backups_max} backups of this server are being read already "
                    "(ServiceLimits.backups_max): wait until one has ended, or ask another one"
                ),
            )
        elif self._nursery is not None:
            context.backups += 1
            self._backups.add(request.id)
            self._start(request.id, send_backup, context, self._outbox, request)

    def _check_free(self, request_id: int) -> None:
        """Before anything is counted for it.

        Raises:
            BadMessage: an earlier request of this id is not answered.
        """
        if request_id in self._scopes:
            raise BadMessage(f"request id {request_id} is in use already")

    def _start(self, request_id: int, work: Any, *args: Any) -> None:
        if self._nursery is not None:
            scope = self._scopes[request_id] = trio.CancelScope()
            self._nursery.start_soon(
                partial(self._run, request_id, scope, work, args),
                name=f"{trio.lowlevel.current_task().name}.{work.__name__}",
            )

    async def _run(self, request_id: int, scope: trio.CancelScope, work: Any, args: Any) -> None:
        try:
            with scope:
                try:
                    value = await work(*args)
                except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
                    self._fail(request_id, error)
                else:
                    self._answer(request_id, value)
            if scope.cancelled_caught:
                self._forget_one()
        finally:
            self._scopes.pop(request_id, None)
            self._backups.discard(request_id)
            if request_id in self._watches:
                self._watches.discard(request_id)
                self._windows.pop(request_id, None)
                self._context.subscriptions -= 1

    def _cancel(self, request: Cancel) -> None:
        self._forget_one()  # it has no answer of its own
        if self._queries.cancel(request.id):
            self._end_span(request.id, _CALLED_BACK)
            self._forget_one()
        scope = self._scopes.get(request.id)
        if scope is not None:
            scope.cancel()

    def _refuse_unknown(self, payload: bytes | bytearray) -> None:
        request_id = id_of_unknown(payload)
        if request_id is None:
            decode_request(payload)  # says what is wrong with it
            return
        self._begin_to_answer()
        self._unanswered += 1
        self._fail(
            request_id,
            ConfigError("this server does not know such a request: upgrade it, or ask another one"),
        )

    # -- answers ---------------------------------------------------------------------------

    def _begin_span(self, spans: Spans, request: Propose | Query) -> None:
        name = "trioraft.propose" if isinstance(request, Propose) else "trioraft.query"
        context, size_bytes = request.trace, len(request.data)
        span = None if context is None else spans.served(context, name, request_bytes=size_bytes)
        if span is not None:
            self._traced[request.id] = span

    def _end_span(self, request_id: int, error: BaseException | None = None) -> None:
        span = self._traced.pop(request_id, None)
        if span is not None and self._spans is not None:
            self._spans.end(span, error)

    def _answer(self, request_id: int, value: object) -> None:
        self._outbox.put_value(request_id, value)
        if self._traced:
            self._end_span(request_id)
        self._forget_one()

    def _fail(self, request_id: int, error: Exception, *, by_machine: bool = False) -> None:
        address = None
        if isinstance(error, NotLeader) and error.leader_id is not None:
            address = self._context.leader_address(error.leader_id)
        self._outbox.put(failure_of(request_id, error, address, by_machine=by_machine))
        if self._traced:
            self._end_span(request_id, error)
        self._forget_one()

    def _forget_one(self) -> None:
        self._unanswered -= 1
        self._answered.unpark_all()
        self._note_idle()


async def change_counted(context: ServiceContext, request: Any) -> Any:
    """As `administer`; one change less is under way when it is over."""
    try:
        return await administer(context.node, request)
    finally:
        context.changes -= 1


async def administer(node: Node, request: Any) -> Any:
    """Do as the request says, and return what the node returns.

    Raises:
        RaftError: the node's.
        ConfigError: it is no such request.
    """
    match request:
        case TransferLeadership(to=to, timeout_s=timeout_s):
            return await node.transfer_leadership(to, timeout_s=timeout_s)
        case AddLearnerRequest(node_id=node_id, address=address, expected_index=index):
            return await node.add_learner(node_id, address, expected_index=index)
        case ChangeVotersRequest(ids=ids, addresses=addresses, expected_index=index):
            return await node.change_voters(ids, addresses=addresses, expected_index=index)
        case RemoveNode(node_id=node_id, expected_index=index):
            return await node.remove(node_id, expected_index=index)
        case ReplaceNode(node_id=node_id):
            return await node.replace(node_id)
        case MoveNode(node_id=node_id, address=address, force=force):
            return await node.move(node_id, address, force=force)
        case InviteNode(node_id=node_id, valid_s=valid_s):
            return await node.invite(node_id, valid_s)
        case SwitchOnRequest(features=features, expected_index=index):
            return await node.switch_on(features, expected_index=index)
        case TakeSnapshot():
            return await node.take_snapshot()
    raise ConfigError(
        f"{type(request).__name__} is no request that changes anything: ask for it elsewhere"
    )


async def watch_machine(
    context: ServiceContext, outbox: ReplyQueue, request: Watch, window: Window
) -> None:
    """Send what the state machine's subscription yields, until it ends. The machine is asked for
    the next item when there is room for it: nothing is kept here that waits for room.

    Raises:
        ConfigError: the machine cannot be watched.
        Exception: what the subscription raised.
    """
    async with watchable(context.machine).watch(request.data) as items:
        async for item in items:
            window.on_sent(outbox.put_value(request.id, item, Item))
            await outbox.room()
            await window.room()


async def watch_node(context: ServiceContext, outbox: ReplyQueue, request: WatchStatus) -> None:
    """Send the node's status whenever it changed, and its role changes at once, until it dies; and
    what else happens in it, if that was asked for."""
    interval_s = max(request.interval_s, context.limits.watch_interval_min_s)
    try:
        async with trio.open_nursery() as nursery:
            if request.events_every:
                nursery.start_soon(tell_events, context.node, outbox, request)
            await context.feed.watch(Watcher(request.id, outbox, interval_s))
            nursery.cancel_scope.cancel()
    finally:
        context.status_watches -= 1
