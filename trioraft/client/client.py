"""Client: commands to a cluster, applied exactly once, from Trio or asyncio.

One deadline is over everything that a call does: finding the leader, opening a session, trying
again. A command is sent again only if that is harmless: in a session, or if it was not taken.
"""

from __future__ import annotations

import random
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, final, overload

import anyio
import msgspec
from anyio.abc import TaskGroup

from ..backups.format import BackupHead
from ..core.errors import ConfigError, OutcomeUnknown, Overloaded, RaftError, SessionExpired
from ..core.types import Address, NodeId
from ..machines.sessions import (
    CLIENT_ID_BYTES,
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)
from ..net.resolving import Resolver
from ..net.tls import TlsContexts
from ..rpc.errors import (
    ClientClosed,
    HandshakeRefused,
    PermissionDenied,
    ServerLeaving,
    ServerLost,
)
from ..rpc.protocol import (
    FRAME_BYTES_MAX,
    MAGIC,
    PROTOCOL,
    PROTOCOL_VERSION,
    ClientHello,
    Consistency,
    NodeNews,
    Propose,
    Query,
    ReadBackup,
    UntracedPropose,
    UntracedQuery,
    WatchStatus,
)
from ..tasks.event_loop import refuse_plain_with, running_clock, running_event_loop
from ..tracing.optional import spans_of
from ..tracing.tracer import Tracer
from .administration import STATUS_TIMEOUT_S, ClusterAdministration
from .attempts import (
    MAYBE_TAKEN,
    NOT_TAKEN,
    SPREAD_MAX,
    Attempt,
    Backoff,
    Numbering,
    checked_error_types,
    failed,
    pause,
)
from .backups import IncomingBackup, OnProgress, in_order, read_head, why_none, write_backup
from .connection import (
    Connect,
    Dialer,
    NoAnswerInTime,
    ServerConnection,
    checked_addresses,
    checked_token,
    connect_over,
    in_time,
)
from .servers import Servers
from .subscription import Subscriber

_T = TypeVar("_T")

CLOSE_PATIENCE_S = 0.5
"""How long leaving a client waits for its session to be closed, in seconds."""


@final
class Client(ClusterAdministration):
    """Talks to the client ports of a cluster. Use it as `async with Client(…) as client:`.

    Args:
        addresses: client ports of some servers: `[(host, port), …]`, or `{node_id: (host, port)}`.
            Further ones are learnt from the servers, so one that is up is enough. A host is an
            address written out ("::1" without brackets), or a name, all of whose addresses are
            tried; `("srv+NAME", 0)` stands for the SRV records of NAME (`trioraft[dns]`).
        cluster_id: the cluster to talk to; servers of another one refuse us.
        ssl_context: for TLS: made with `ssl.create_default_context(cafile=…)`, with our own
            certificate loaded if servers ask for one. A server's certificate must bear the name
            that it was dialed by: its node id if `addresses` names ids, else its host. A client
            that lives long may be given `TlsContexts.from_files(…)`, and read them again while it
            is connected: `reload()`.
        insecure: allow plain TCP beyond this machine.
        timeout_s: deadline of a call that gives none, in seconds.
        sessions: whether the servers' machine is a `SessionMachine`. Without sessions, commands
            are handed to the machine as they are, and what may have been applied is not sent
            again: that is `OutcomeUnknown`.
        error_types: exceptions that the state machine raises on purpose: a call raises the same
            type, made from its message. Any other becomes `CommandFailed`. None may be an error by
            which servers say that they did not take a command (`Overloaded`, `NotLeader`, …).
        spread_max: commands of the session on their way at the same time; at most half of the
            servers' `SessionMachine(results_max=…)`.
        connect_timeout_s: for one attempt to reach a server, handshake included, in seconds.
        silence_s: a server that owes an answer and says nothing for so long, and a round trip, is
            given up, in seconds. It is asked whether it is there after half of that, and soon after
            the others are asked who leads. Below the servers' election timeout there is nobody to
            go to yet.
        read_patience_s: how long a query waits for one server before it asks again, in seconds;
            twice as long each time, so that a large answer arrives over a slow line too.
        frame_bytes_max: largest answer that is read.
        token: what `trioraft admin new-token` made, for servers that go by roles. Never shown.
        rng: jitter; its own if None.
        connect: how to open a byte stream; for tests and tunnels. `ssl_context` is not used then,
            and names are left to it unless there is a `resolver`.
        resolver: how names are looked up, again in each search for a leader; default: the system's.
        tracer: an OpenTelemetry tracer, for a span of each call and query, which the servers' spans
            are below (docs/tracing.md).

    Raises:
        ConfigError: an argument cannot work.
    """

    def __init__(
        self,
        addresses: Iterable[Address] | Mapping[NodeId, Address],
        *,
        cluster_id: str = "trioraft",
        ssl_context: ssl.SSLContext | TlsContexts | None = None,
        insecure: bool = False,
        timeout_s: float = 10.0,
        sessions: bool = True,
        error_types: Iterable[type[Exception]] = (),
        spread_max: int = SPREAD_MAX,
        connect_timeout_s: float = 2.0,
        silence_s: float = 0.5,
        read_patience_s: float = 1.0,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        token: str | None = None,
        rng: random.Random | None = None,
        connect: Connect | None = None,
        resolver: Resolver | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        may_leave = insecure or ssl_context is not None or connect is not None
        given = checked_addresses(addresses, may_leave_machine=may_leave)
        for name, value in (
            *(("timeout_s", timeout_s), ("connect_timeout_s", connect_timeout_s)),
            *(("silence_s", silence_s), ("read_patience_s", read_patience_s)),
            ("spread_max", spread_max),
        ):
            if not value > 0:
                raise ConfigError(f"{name} is {value!r}: give a positive number")
        self._sessions, self._spread_max = sessions, spread_max
        self._read_patience_s, rng = read_patience_s, rng or random.Random()
        self._error_types = checked_error_types(error_types)
        self._dialer = Dialer(
            ClientHello(
                MAGIC,
                PROTOCOL_VERSION,
                cluster_id,
                frame_bytes_max,
                checked_token(token, ssl_context, insecure=insecure),
                PROTOCOL[1],
            ),
            connect_over(ssl_context) if connect is None else connect,
            connect_timeout_s,
        )
        servers = Servers(
            given,
            self._dialer,
            partial(ServerConnection, silence_s=silence_s, error_types=self._error_types),
            may_leave_machine=may_leave,
            rng=rng,
            resolver=_resolver(resolver, given, rng) if connect is None or resolver else None,
        )
        super().__init__(servers, timeout_s, rng)
        self._subscriber = Subscriber(self._dialer, servers, self._error_types)
        self._tasks: TaskGroup | None = None
        self._session: Numbering | None = None
        self._client_id, self._spans = b"", spans_of(tracer)
        self._opening: anyio.Lock | None = None
        self._now_s: Callable[[], float] = anyio.current_time  # until it is known which loop's

    async def __aenter__(self) -> Client:
        if self._tasks is not None:
            raise ClientClosed("this client is open already; make one for each `async with`")
        self._check_event_loop()
        self._opened_under = running_event_loop()
        self._now_s = running_clock()
        self._opening = anyio.Lock()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._servers.open(self._tasks)
        self._subscriber.shared.open(self._tasks)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks = self._tasks
        if tasks is None:
            raise ClientClosed("the client is not open: enter it before you leave it")
        cancelled = anyio.get_cancelled_exc_class()
        is_cancelled = isinstance(error, cancelled)
        try:
            try:
                if not is_cancelled:
                    await self._close_session()
            finally:
                self._servers.close()
                self._subscriber.shared.close()
                self._session = self._tasks = None
                tasks.cancel_scope.cancel()
                # The body's own error is not this group's affair: it goes on as it is, ungrouped.
                if is_cancelled:
                    await tasks.__aexit__(error_type, error, traceback)
                else:
                    await tasks.__aexit__(None, None, None)
        except cancelled:
            if error is None or is_cancelled:
                raise  # otherwise there is an error to be told, as from any code that is cancelled

    if not TYPE_CHECKING:  # a type checker is to complain, as `with` does below

        def __enter__(self) -> NoReturn:
            refuse_plain_with("Client")

        def __exit__(self, *_: object) -> None:
            """Never called; without it nobody would get to `__enter__`."""

    # -- commands --------------------------------------------------------------------------

    @overload
    async def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: type[_T],
        exactly_once: bool = True,
    ) -> _T: ...

    @overload
    async def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any: ...

    async def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any:
        """Have the cluster apply a command, once, and return its result.

        Args:
            data: the command, for the state machine's `apply`.
            timeout_s: when to give up, in seconds; default: the client's.
            result_type: what `apply` returns; msgspec decodes and checks it, and type checkers
                know the result by it, if it is a class. (They take `A | B` for `Any`.)
            exactly_once: False sends the command outside the session: a little less work for the
                servers, and `OutcomeUnknown` instead of trying again.

        Raises:
            DeadlineExceeded: time is up; nothing was applied, unless the error is an
                `OutcomeUnknown` too (`DeadlineOutcomeUnknown`).
            SessionExpired: the servers forgot our session while the command's outcome was unknown:
                it may or may not be applied. The next call opens a new session.
            OutcomeUnknown: without a session: it may or may not be applied.
            HandshakeRefused: every server refuses this client for good.
            PermissionDenied: our role does not allow it; not applied.
            ConfigError: the command cannot be taken: it is not bytes, or too large.
            ClientClosed: the client is not open.
            Exception: whatever `apply` raised for this command (see `error_types`), or
                `CommandFailed`.

        Cancelling gives up the wait; the command may still be applied.
        """
        if not isinstance(data, bytes):
            raise ConfigError(f"a command is bytes, but {type(data).__name__} was given: encode it")
        self._check_event_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if self._spans is None:
            return await self._call(data, timeout_s, result_type, Attempt(), exactly_once)
        with self._spans.call("trioraft.call", command_bytes=len(data)) as span:
            attempt = Attempt(trace=self._spans.context_of(span))
            return await self._call(data, timeout_s, result_type, attempt, exactly_once)

    async def _call(
        self, data: bytes, timeout_s: float, result_type: Any, attempt: Attempt, exactly_once: bool
    ) -> Any:
        until_s = self._now_s() + timeout_s
        try:
            if self._sessions and exactly_once:
                value = await self._call_in_session(data, attempt, until_s)
            else:
                command = encode_plain(data) if self._sessions else data
                value = await self._submit(command, attempt, until_s, may_repeat=False)
        except NoAnswerInTime:
            pass
        except (ClientClosed, PermissionDenied, HandshakeRefused) as error:
            if attempt.maybe_applied:
                raise OutcomeUnknown(f"{error}; the command may be applied or not") from error
            raise
        else:
            return self._decoded(value, result_type)
        raise attempt.deadline_error(timeout_s, self._servers.last_problem)

    async def _call_in_session(self, data: bytes, attempt: Attempt, until_s: float) -> msgspec.Raw:
        while True:
            session = self._session
            if session is None:
                session = await in_time(self._open_session(until_s), until_s)
            if session.has_room:
                number = session.take_now()
            else:
                number = await in_time(session.take(), until_s)
            try:
                command = encode_command(
                    session.session_id, number, data, session.acknowledged_below
                )
                return await self._submit(command, attempt, until_s, may_repeat=True)
            except SessionExpired:
                if self._session is session:
                    self._session = None
                if attempt.maybe_applied:
                    raise
            finally:
                session.done(number)

    async def _submit(
        self, command: bytes, attempt: Attempt, until_s: float, *, may_repeat: bool
    ) -> msgspec.Raw:
        """Send one command to whoever leads until it has an outcome."""
        backoff: Backoff | None = None
        while True:
            server = self._servers.known_leader()
            if server is None:
                server = await in_time(self._servers.leader(), until_s)
            if server.has_sessions is (not self._sessions):
                raise _of_another_kind(server)
            if not server.has_room:
                await in_time(server.room(), until_s)
            attempt.is_underway = True
            try:
                if attempt.trace is None:
                    return await server.request(UntracedPropose, command, until_s=until_s)
                return await server.request(Propose, command, attempt.trace, until_s=until_s)
            except (*NOT_TAKEN, *MAYBE_TAKEN) as error:
                failed(attempt, error)
                if self._spans is not None:
                    self._spans.note_retry(error, server.node_id)
                self._servers.forget(server, error)
                if attempt.maybe_applied and not may_repeat:
                    raise OutcomeUnknown(
                        f"{error}; the command may or may not be applied, and without a session it "
                        "cannot be sent again"
                    ) from error
            except RaftError:
                attempt.is_underway = False
                raise
            if backoff is None:
                backoff = Backoff(self._rng, skip_first=True)
            await in_time(pause(backoff), until_s)

    async def _open_session(self, until_s: float) -> Numbering:
        """The session; opened by the first who needs it, while the others wait."""
        if self._opening is None:
            raise ClientClosed("the client is not open: use it inside its `async with`")
        async with self._opening:
            if self._session is None:
                # The same id when trying again: it opens no second session.
                self._client_id = self._client_id or secrets.token_bytes(CLIENT_ID_BYTES)
                opening = encode_open(self._client_id)
                value = await self._submit(opening, Attempt(), until_s, may_repeat=True)
                self._client_id = b""
                self._session = Numbering(self._decoded(value, int), anyio.Event, self._spread_max)
            return self._session

    async def _close_session(self) -> None:
        """Tell the servers to forget our session, if that is quick; they will some day anyway."""
        session, leader = self._session, self._servers.known_leader()
        if session is None or leader is None:
            return
        with anyio.move_on_after(CLOSE_PATIENCE_S):
            try:
                await leader.request(Propose, encode_close(session.session_id))
            except RaftError:
                return  # evicted when others need its room

    @overload
    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
        result_type: type[_T],
    ) -> _T: ...

    @overload
    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any: ...

    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        at: NodeId | Address | None = None,
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """Ask the state machine something (its `query(data)`), without writing to the log.

        Args:
            data: the question.
            consistency: "linearizable": sees every command that was answered before; "lease": the
                same as long as clocks run evenly, without asking the other servers; "stale":
                whatever that server has applied so far.
            at: which server to ask, by id or address; default: the leader ("stale": any).
            timeout_s: when to give up, in seconds; default: the client's.
            result_type: what `query` returns, as in `call`.

        Raises:
            DeadlineExceeded: time is up.
            ServerLost: with `at`: that server cannot be reached.
            HandshakeRefused, ConfigError, ClientClosed: as `call`.
            Exception: whatever `query` raised, as in `call`.

        Cancelling the wait disturbs nobody.
        """
        self._check_event_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if self._spans is None:
            return await self._query((data, consistency), at, timeout_s, result_type)
        with self._spans.call("trioraft.query", consistency=consistency) as span:
            context = self._spans.context_of(span)
            fields = (data, consistency) if context is None else (data, consistency, context)
            return await self._query(fields, at, timeout_s, result_type)

    async def _query(
        self, fields: tuple[Any, ...], at: NodeId | Address | None, timeout_s: float, result: Any
    ) -> Any:
        until_s = self._now_s() + timeout_s
        try:
            value = await self._ask(fields, at, until_s)
        except NoAnswerInTime:
            pass
        else:
            return self._decoded(value, result)
        raise Attempt().deadline_error(timeout_s, self._servers.last_problem)

    async def _ask(
        self, fields: tuple[Any, ...], at: NodeId | Address | None, until_s: float
    ) -> msgspec.Raw:
        """Ask whoever is to be asked until there is an answer."""
        consistency: Consistency = fields[1]
        kind = Query if len(fields) > 2 else UntracedQuery
        backoff: Backoff | None = None
        patience_s = self._read_patience_s
        while True:
            server = None
            if at is not None:
                server = await in_time(self._servers.at(at), until_s)
            elif consistency == "stale":
                server = await in_time(self._servers.any(), until_s)
            elif (server := self._servers.known_leader()) is None:
                server = await in_time(self._servers.leader(), until_s)
            if not server.has_room:
                await in_time(server.room(), until_s)
            patient_until_s = self._now_s() + patience_s
            try:
                return await server.request(kind, *fields, until_s=min(until_s, patient_until_s))
            except NoAnswerInTime:
                if until_s <= patient_until_s:
                    raise
                why: RaftError = ServerLost(f"no answer within {patience_s:g} s: it is asked again")
                patience_s *= 2
            except (*NOT_TAKEN, *MAYBE_TAKEN) as error:
                why = error
            self._servers.forget(server, why)
            if backoff is None:
                backoff = Backoff(self._rng, skip_first=True)
            await in_time(pause(backoff), until_s)

    # -- subscriptions ---------------------------------------------------------------------

    @overload
    def watch(
        self, data: bytes, *, at: NodeId | Address | None = None, item_type: type[_T]
    ) -> AbstractAsyncContextManager[AsyncIterator[_T]]: ...

    @overload
    def watch(
        self, data: bytes, *, at: NodeId | Address | None = None, item_type: Any = Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]: ...

    def watch(
        self, data: bytes, *, at: NodeId | Address | None = None, item_type: Any = Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Subscribe to the state machine (its `watch(data)`). Those at the same server share a
        connection.

        ```python
        async with client.watch(b"0") as items:
            async for item in items:
                print(item)
                break
        ```

        Args:
            data: what to watch.
            at: at which server, by id or address; default: the leader's if it is known, else any.
            item_type: what an item is, as `result_type` in `call`.

        Raises:
            ServerLost: on entering, or while iterating: the server cannot be reached, or its
                connection ended: subscribe again, from where you are.
            ServerLeaving: it is shutting down; likewise.
            Exception: whatever the state machine raised.

        A reader that is slow makes the server wait, for this subscription alone: neither the
        client's calls nor its other subscriptions. Up to 64 KiB wait here, and one item more.
        """
        self._check_event_loop()
        return self._subscriber.watch(at, data, self._decoder(item_type))

    def watch_status(
        self,
        at: NodeId | Address | None = None,
        *,
        interval_s: float = 0.1,
        events_every: int = 0,
    ) -> AbstractAsyncContextManager[AsyncIterator[NodeNews]]:
        """Subscribe to a node: its status now and whenever it changed, and its role changes; over a
        connection of its own.

        Args:
            at: at which server, by id or address; default: the leader's if it is known, else any.
            interval_s: shortest time between two statuses, in seconds. Role changes come at once.
            events_every: not 0: what happens in the node too, as `EventsNews`; of heartbeats, every
                so-manieth round. (An older server tells none.)

        Raises: as `watch`.
        """
        return self._subscribe(at, (WatchStatus, interval_s, events_every), NodeNews)

    # -- backups ---------------------------------------------------------------------------

    async def backup(
        self,
        path: Path | str,
        *,
        at: NodeId | Address | None = None,
        stale: bool = False,
        on_progress: OnProgress | None = None,
        timeout_s: float | None = None,
    ) -> BackupHead:
        """Write a backup of the cluster's state to a file, while it runs.

        The file gets its name when it is complete, checked and durable; until then there is
        `PATH.part`. What was acknowledged before the call is in it, unless it is `stale`.

        Args:
            path: of the file; one that is there is replaced.
            at: from which server, by id or address; default: a follower that is far, else the
                leader.
            stale: what that server has, without asking a majority first: for a cluster that has
                none any more.
            on_progress: told meanwhile what comes, and how many bytes of it have come.
            timeout_s: when to give up finding a server, in seconds, and how long that may wait for
                a majority; default: the client's. How long the rest takes is not bounded, but a
                server that is silent is given up.

        Returns:
            What it is of.

        Raises:
            ServerLost, ServerLeaving: the server was lost meanwhile; nothing is kept.
            Overloaded: it sends too many already, or no majority answers it.
            PermissionDenied: our role does not allow it (docs/backup.md).
            UnusableBackup: what came is not what the server has; nothing is kept.
            ConfigError: there is no state yet, or another backup is being written to that file.
            OSError: the file cannot be written.

        Cancelling leaves no file.
        """
        async with self.open_backup(at, stale=stale, timeout_s=timeout_s) as backup:
            return await write_backup(backup, Path(path), on_progress)

    @asynccontextmanager
    async def open_backup(
        self,
        at: NodeId | Address | None = None,
        *,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncIterator[IncomingBackup]:
        """As `backup`, for what shall go elsewhere than into a file: what it is of (`head`), and an
        async iterator over the content; `BackupWriter` makes a file's bytes of them.

        Args:
            at, stale, timeout_s: as of `backup`.

        Raises:
            As `backup`, also while it is read: then what was read is not whole.
        """
        self._check_event_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        places: list[NodeId | Address] = [] if at is None else [at]
        if at is None:
            statuses = await self.statuses(timeout_s=min(timeout_s, STATUS_TIMEOUT_S))
            places += in_order(statuses, stale=stale)
            if not places:
                raise why_none(statuses)
        async with AsyncExitStack() as stack:
            yield await self._first_backup(stack, places, (ReadBackup, stale, timeout_s))

    async def _first_backup(
        self,
        stack: AsyncExitStack,
        places: list[NodeId | Address],
        request: tuple[Any, ...],
    ) -> IncomingBackup:
        """From the first of these that has begun to send one."""
        for place in places[:-1]:
            try:
                async with AsyncExitStack() as own:
                    backup = await self._backup_from(own, place, request)
                    stack.push_async_exit(own.pop_all())
                    return backup
            except (ServerLost, ServerLeaving, Overloaded):
                continue  # the next one may
        return await self._backup_from(stack, places[-1], request)

    async def _backup_from(
        self, stack: AsyncExitStack, place: NodeId | Address, request: tuple[Any, ...]
    ) -> IncomingBackup:
        pieces = await stack.enter_async_context(self._subscribe(place, request, bytes))
        return IncomingBackup(await read_head(pieces), pieces)

    def _subscribe(
        self, at: NodeId | Address | None, request: tuple[Any, ...], item_type: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        self._check_event_loop()
        return self._subscriber.own(at, request, self._decoder(item_type))


def _resolver(resolver: Resolver | None, given: Iterable[Address], rng: random.Random) -> Resolver:
    """What looks names up.

    Raises:
        ConfigError: a given one needs a package that is not there.
    """
    found = Resolver(anyio.getaddrinfo, rng=rng) if resolver is None else resolver
    for address in given:
        found.check(address)
    return found


def _of_another_kind(server: ServerConnection) -> ConfigError:
    if server.has_sessions:
        return ConfigError(
            f"server {server.node_id!r} has sessions and this client has none: it would take "
            "commands for something else; leave sessions=False out"
        )
    return ConfigError(
        f"server {server.node_id!r} has a machine without sessions: put SessionMachine around it, "
        "or say Client(sessions=False)"
    )
