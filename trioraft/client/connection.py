"""One connection to a server: how it is reached, and many requests on their way over it.

Plain TCP stays on this machine unless `insecure=True` says otherwise. One task writes, one reads,
one minds the silence; whoever asks only waits. A server that says nothing while it owes an answer
is asked whether it is there; if it does not say so, the connection is in doubt, and then lost.
Whatever is received is a sign of life: a server that is slow to answer, and says so, is waited for.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar, final

import anyio
import attrs
import msgspec
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from ..core.errors import BadMessage, ConfigError
from ..core.types import Address, NodeId
from ..net import sentences
from ..net.addresses import AddressRules, host_port, is_loopback, numeric_host
from ..net.framing import FIRST_FRAME_BYTES_MAX, RECEIVE_BYTES_MAX, Deframer
from ..net.sockets import (
    Acknowledged,
    CanBeAsked,
    acknowledged,
    check_not_itself,
    keep_alive,
    round_trip_s,
)
from ..net.tls import TlsContexts
from ..net.versions import MORE, common, said_by, shown
from ..rpc.errors import HandshakeRefused, NoRole, ServerLost
from ..rpc.failures import error_of
from ..rpc.protocol import (
    MAGIC,
    PROTOCOL,
    Cancel,
    ClientHello,
    Failure,
    GoingAway,
    Item,
    Ping,
    Propose,
    Result,
    UntracedPropose,
    Welcome,
    append_frame,
    decode_answer,
    decode_welcome,
    frame,
)
from ..tasks.event_loop import running_clock, running_event_loop, wait_readable_under_trio

T = TypeVar("T")

KEEPALIVE_S = 20
"""Silence after which the kernel ends a connection, also where nobody asks anything, in seconds."""

Connect: TypeAlias = Callable[[Address, str], Awaitable[ByteStream]]
"""Opens a byte stream to an address; the second argument is the name its certificate must bear."""

BREAKAGES: Final = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
"""How a stream says that the connection ended."""
_WELL_FORMED = AddressRules(has_tls=False, insecure=True)
_PERMANENT = ("not-a-client", "version", "cluster")
_NO_ROLE = "no-role"


@final
@attrs.frozen
class Reached:
    """A stream to a server that took us."""

    stream: ByteStream
    welcome: Welcome
    deframer: Deframer
    round_trip_s: float
    """What its first answer took, in seconds."""


@final
@attrs.frozen
class Dialer:
    """How servers are reached; the same for all of them."""

    hello: ClientHello
    connect: Connect
    timeout_s: float
    """For connecting and the handshake together."""

    async def dial(self, address: Address, server_name: str) -> Reached:
        """Connect and shake hands.

        Args:
            address: where.
            server_name: what the server's certificate must bear, over TLS.

        Raises:
            ServerLost: it cannot be reached now, or not within `timeout_s`.
            HandshakeRefused: it is no client port, or one of another cluster or version, or gives
                us no role (`NoRole`).
        """
        stream: ByteStream | None = None
        reached: Reached | None = None
        try:
            with anyio.fail_after(self.timeout_s):
                stream = await self.connect(address, server_name)
                reached = await self._shake_hands(stream, address)
        except TimeoutError:
            raise ServerLost(
                f"{host_port(address)}: no answer within {self.timeout_s:g} s"
            ) from None
        except BadMessage as error:
            raise HandshakeRefused("not-a-client", f"{host_port(address)}: {error}") from error
        except (*BREAKAGES, ValueError) as error:  # ValueError: no resolver takes that host
            raise ServerLost(f"{host_port(address)}: {sentence_of(error)}") from error
        finally:
            if stream is not None and reached is None:
                await anyio.aclose_forcefully(stream)
        return reached

    async def _shake_hands(self, stream: ByteStream, address: Address) -> Reached:
        asked_s = anyio.current_time()
        await stream.send(frame(self.hello))
        deframer = Deframer(FIRST_FRAME_BYTES_MAX)
        while (payload := deframer.next_payload()) is None:
            deframer.feed(await stream.receive(RECEIVE_BYTES_MAX))
        welcome = decode_welcome(payload)
        refusal = f"{host_port(address)} refused us: {sentences.printable(welcome.reason)}"
        if welcome.refused == _NO_ROLE:
            raise NoRole(welcome.refused, refusal)
        if welcome.refused in _PERMANENT:
            raise HandshakeRefused(welcome.refused, refusal)
        if welcome.refused:
            raise ServerLost(refusal)
        if welcome.magic != MAGIC:
            raise HandshakeRefused(
                "not-a-client",
                f"{host_port(address)} is no client port (it begins with "
                f"{sentences.quoted(welcome.magic)}): clients and peers have ports of their own",
            )
        if common(PROTOCOL, said_by(welcome.version, 0)) is None:
            raise HandshakeRefused(
                "version",
                f"{host_port(address)} speaks client protocol {welcome.version}, this program "
                f"speaks {shown(PROTOCOL)}: run a later release of whichever is behind ({MORE})",
            )
        deframer.frame_bytes_max = self.hello.frame_bytes_max
        return Reached(stream, welcome, deframer, anyio.current_time() - asked_s)


def connect_over(tls: ssl.SSLContext | TlsContexts | None) -> Connect:
    """How to open TCP connections: with TLS if a context is given."""

    async def connect(address: Address, server_name: str) -> ByteStream:
        host, port = address
        host = numeric_host(host)
        stream: ByteStream
        context = tls.client if isinstance(tls, TlsContexts) else tls
        if context is None:
            stream = await anyio.connect_tcp(host, port)
        else:
            stream = await anyio.connect_tcp(
                host,
                port,
                ssl_context=context,
                tls_hostname=server_name,
                tls_standard_compatible=False,  # frames say where they end
            )
        try:
            raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - of a stream, not of a query
            check_not_itself(raw)
            keep_alive(raw, KEEPALIVE_S)
        except OSError:
            await anyio.aclose_forcefully(stream)
            raise
        return stream

    return connect


def checked_addresses(
    addresses: Iterable[Address] | Mapping[NodeId, Address], *, may_leave_machine: bool
) -> dict[Address, NodeId | None]:
    """The addresses that a client was given, with the ids they were given for.

    Raises:
        ConfigError: one is unusable, there are none, or plain TCP would leave this machine.
    """
    if isinstance(addresses, str):
        raise ConfigError(f"addresses is the string {addresses!r}; give (host, port) pairs")
    if isinstance(addresses, Mapping):
        named: list[tuple[NodeId | None, Address]] = list(addresses.items())
    else:
        named = [(None, address) for address in addresses]
    checked: dict[Address, NodeId | None] = {}
    for node_id, address in named:
        host, port = _WELL_FORMED.check_dialable("an address", address)
        if not may_leave_machine and not is_loopback(host):
            raise ConfigError(
                f"{host_port((host, port))} is on another machine and there is no ssl_context: "
                "over plain TCP anyone on the way reads and changes everything. Give "
                "ssl_context=…, or say insecure=True if the network is trusted"
            )
        checked[(host, port)] = node_id
    if not checked:
        raise ConfigError("no address was given: name at least one server's client port")
    return checked


TOKEN_CHARS_MAX: Final = 256


def checked_token(
    token: str | None, context: ssl.SSLContext | TlsContexts | None, *, insecure: bool
) -> str:
    """The token that a client was given; empty if there is none. (Plain TCP that leaves this
    machine is refused by its addresses.)

    Raises:
        ConfigError: it is no token, or anybody could pose as a server and would be given it.
    """
    if token is None:
        return ""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ConfigError("token is not printable ASCII: give what trioraft admin new-token made")
    if not 0 < len(token) <= TOKEN_CHARS_MAX or token != token.strip():
        raise ConfigError(
            f"token has {len(token)} characters, or spaces around it: give 1 to {TOKEN_CHARS_MAX}, "
            "as trioraft admin new-token made it"
        )
    context = context.client if isinstance(context, TlsContexts) else context
    if context is not None and context.verify_mode is not ssl.CERT_REQUIRED and not insecure:
        raise ConfigError(
            "ssl_context does not verify servers: whoever poses as one would be given the token; "
            "load their authority, or say insecure=True if the network is trusted"
        )
    return token


def sentence_of(error: BaseException) -> str:
    """Say what broke: `net.sentences.sentence_of`, and anyio's own way to say the end."""
    if isinstance(error, anyio.EndOfStream):
        return "it closed the connection"
    return sentences.sentence_of(error)


PIECE_BYTES = 16 * 1024
"""What is sent in one go: while a large request leaves, a server that takes it is not silent."""
ASKED_AFTER: Final = 1 / 2
"""A silent server is asked whether it is there after so much of the silence that it is allowed."""
DOUBTED_AFTER: Final = 1 / 8
"""The connection is in doubt once the answer to that has not come for so much of it, and a round
trip: a server that has much to do is late by less."""
LATE_S: Final = 0.02
"""Whoever wakes up later than that was not there to listen."""


AT_ONCE_MAX: Final = 4
"""With fewer requests on their way, one is given to the kernel as it is made; more are sent
together, as soon as the event loop comes round."""


class NotSent(ServerLost):
    """The connection was gone before the request left, or the server said that it took none."""


@final
class NoAnswerInTime(Exception):  # noqa: N818 - what happened; nobody outside of the client sees it
    """The time that a request had is up."""


async def in_time(waiting: Awaitable[T], until_s: float) -> T:
    """Wait for something, but no longer than until then by the event loop's clock.

    Raises:
        NoAnswerInTime: time is up.
    """
    with anyio.CancelScope(deadline=until_s):
        return await waiting
    raise NoAnswerInTime


@final
class _Pending:
    """A request without an answer yet."""

    __slots__ = ("answer", "asked_s", "done", "is_late", "until_s")

    def __init__(self, asked_s: float, until_s: float, done: anyio.Event) -> None:
        self.asked_s = asked_s
        self.until_s = until_s
        self.done = done
        self.is_late = False  # its time was up before there was an answer
        self.answer: Result | Failure | None = None  # None when done: late, or the connection ended


@final
class ServerConnection:
    """Asks one server. `run` is its life.

    Args:
        address: where the server is.
        reached: the stream, and what the server said of itself.
        silence_s: how long the server may be silent while it owes an answer, a round trip aside.
        error_types: by name: what the state machine raises on purpose.
        on_doubt: called with the connection when `is_in_doubt` changes while it is open.
    """

    def __init__(
        self,
        address: Address,
        reached: Reached,
        *,
        silence_s: float,
        error_types: dict[str, type[Exception]],
        on_doubt: Callable[[ServerConnection], None],
    ) -> None:
        self.address = address
        self.node_id: NodeId = reached.welcome.node_id
        self.is_open: bool = True
        self.is_leaving: bool = False
        """The server takes nothing new."""
        self._took_nothing = False  # of what it had not answered when the connection ended
        self.is_in_doubt: bool = False
        """It owes an answer, and did not say in time that it is there."""
        self.has_sessions: bool | None = reached.welcome.has_sessions
        self.version: int = reached.welcome.version
        """Of the protocol, as it is spoken here."""
        """Whether commands go to a `SessionMachine`; None: not said."""
        self._stream = reached.stream
        self._deframer = reached.deframer
        self._requests_max = max(1, reached.welcome.requests_max)
        self._frame_bytes_max = reached.welcome.frame_bytes_max
        self._silence_s = silence_s
        self._error_types = error_types
        self._on_doubt = on_doubt
        self._ended_because = "the client was closed"
        self._last_id = 0
        self._pending: dict[int, _Pending] = {}
        self._room: anyio.Event | None = None
        self._unsent = bytearray()
        self._to_write: anyio.Event | None = None  # there while the writer sleeps
        self._owing: anyio.Event | None = None  # there while the server owes nothing
        self._new_event: Callable[[], anyio.Event] = type(anyio.Event())  # this event loop's
        self._now_s = running_clock()
        self._look_s = math.inf  # when somebody's time may be up
        self._look_sooner = self._new_event()
        self._silent_since_s = 0.0  # while it owes an answer: the last sign of life
        self._quickest_s = reached.round_trip_s  # of all answers
        self._socket: CanBeAsked | None = reached.stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610 - of a stream, not of a query
        # Trio's keeps nothing back: what was sent is with the kernel. asyncio's may.
        is_plain = isinstance(reached.stream, SocketStream) and running_event_loop() == "trio"
        self._plain: socket.socket | None = (
            reached.stream.extra(SocketAttribute.raw_socket) if is_plain else None  # noqa: S610 - as above
        )
        self._until_readable = None if self._plain is None else wait_readable_under_trio()
        self._is_drained = False  # what was received last was less than was asked for
        self._scope = anyio.CancelScope()

    def __repr__(self) -> str:
        return f"<Connection to {self.node_id!r} at {host_port(self.address)}>"

    @property
    def is_usable(self) -> bool:
        """Whether new requests have a chance here."""
        return self.is_open and not self.is_leaving and not self.is_in_doubt

    @property
    def has_room(self) -> bool:
        """Whether the server is ready to read one more request."""
        return len(self._pending) < self._requests_max

    async def room(self) -> None:
        """Wait until the server is ready to read one more request, or the connection has ended."""
        while self.is_open and not self.has_room:
            if self._room is None:
                self._room = self._new_event()
            await self._room.wait()

    async def request(self, kind: Any, *fields: Any, until_s: float = math.inf) -> msgspec.Raw:
        """Ask, and wait for the answer. The request is on its way before the first wait.

        Args:
            kind: one of `protocol.Request`.
            fields: its fields after the id.
            until_s: when to give up, by the event loop's clock, in seconds. It costs next to
                nothing, which a scope for each request does not.

        Returns:
            What the request returned, as msgpack.

        Raises:
            NotSent: the connection had ended, or ended without having taken anything.
            ServerLost: the connection ended before the answer came.
            NoAnswerInTime: time is up; the server is told that nobody waits any more.
            ConfigError: the request is larger than the server reads.
            Exception: what the server answered; see `failures`.

        Cancelling tells the server that nobody waits any more.
        """
        request_id, pending = self._ask(kind, fields, until_s)
        try:
            await pending.done.wait()
        except BaseException:
            self._give_up(request_id, kind)
            raise
        answer = pending.answer
        if type(answer) is Result:
            return answer.value
        if isinstance(answer, Failure):
            raise error_of(answer, self._error_types)
        if pending.is_late:
            self._give_up(request_id, kind)
            raise NoAnswerInTime
        raise (NotSent if self._took_nothing else ServerLost)(self._ended_because)

    async def run(self) -> None:
        """Live until the connection ends or `close` is called; then nothing of it is left."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read)
                    tasks.start_soon(self._write_forever)
                    tasks.start_soon(self._mind_silence)
                    tasks.start_soon(self._mind_deadlines)
        finally:
            self._end()
            await anyio.aclose_forcefully(self._stream)

    def close(self, because: str = "the client was closed") -> None:
        """End the connection; whoever waits gets `ServerLost`. Idempotent."""
        if self.is_open:
            self._ended_because = f"{host_port(self.address)}: {because}"
            self._end()
            self._scope.cancel()

    # -- asking ----------------------------------------------------------------------------

    def _ask(
        self, kind: Any, fields: tuple[Any, ...], until_s: float = math.inf
    ) -> tuple[int, _Pending]:
        if not self.is_open:
            raise NotSent(self._ended_because)
        self._last_id = request_id = self._last_id + 1
        self._write(kind(request_id, *fields))
        now_s = self._now_s()
        if not self._pending:
            self._silent_since_s = now_s
        pending = self._pending[request_id] = _Pending(now_s, until_s, self._new_event())
        if until_s < self._look_s:
            self._look_s = until_s
            self._look_sooner.set()
        if self._owing is not None:
            self._owing.set()
            self._owing = None
        return request_id, pending

    def _give_up(self, request_id: int, kind: Any) -> None:
        """Nobody waits for this answer any more. (A command cannot be called back.)"""
        if self._pending.pop(request_id, None) is not None:
            self._wake_room()
            if kind is not UntracedPropose and kind is not Propose:
                self._write(Cancel(request_id))

    def _write(self, request: Any) -> None:
        size_before = len(self._unsent)
        size_bytes = append_frame(self._unsent, request)
        if size_bytes > self._frame_bytes_max:
            del self._unsent[size_before:]
            raise ConfigError(
                f"a request of {size_bytes} bytes is larger than the server reads "
                f"({self._frame_bytes_max}): split it, or raise the server's limit"
            )
        if self._to_write is None:
            return
        if self._plain is not None and len(self._pending) < AT_ONCE_MAX and not size_before:
            with suppress(OSError):  # it is full, or broken: the writer finds out
                del self._unsent[: self._plain.send(self._unsent)]
            if not self._unsent:
                return
        self._to_write.set()
        self._to_write = None

    def _wake_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    # -- the tasks -------------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            if not self._unsent:
                self._to_write = asked = self._new_event()
                await asked.wait()
            unsent, self._unsent = bytes(self._unsent), bytearray()
            try:
                if len(unsent) <= PIECE_BYTES:
                    await self._stream.send(unsent)
                    continue
                for start in range(0, len(unsent), PIECE_BYTES):
                    await self._stream.send(unsent[start : start + PIECE_BYTES])
                    self._note_life()  # it reads, so it is there
            except BREAKAGES as error:
                self.close(sentence_of(error))
                return

    async def _read(self) -> None:
        deframer = self._deframer
        try:
            while True:
                while (payload := deframer.next_payload()) is not None:
                    self._on_answer(decode_answer(payload))
                deframer.feed(await self._receive())
                self._note_life()
        except (*BREAKAGES, BadMessage) as error:
            self.close(sentence_of(error))

    async def _receive(self) -> bytes:
        """The next bytes. A socket that has just been emptied is waited for before it is read: the
        other way round is a call of the system, and an error, in vain for each answer.

        Raises:
            The `BREAKAGES`: the connection ended.
        """
        plain, until_readable = self._plain, self._until_readable
        if plain is None or until_readable is None or not self._is_drained:
            data = await self._stream.receive(RECEIVE_BYTES_MAX)
        else:
            await until_readable(plain)
            try:
                data = plain.recv(RECEIVE_BYTES_MAX)
            except BlockingIOError:  # it was readable for another reason
                data = await self._stream.receive(RECEIVE_BYTES_MAX)
            if not data:
                raise anyio.EndOfStream
        self._is_drained = len(data) < RECEIVE_BYTES_MAX
        return data

    def _on_answer(self, answer: Result | Failure | Item | GoingAway) -> None:
        if isinstance(answer, GoingAway):
            self.is_leaving = True
            if answer.reason:
                self._took_nothing = True
                self.close(f"it ended an idle connection: {sentences.quoted(answer.reason)}")
            return
        if isinstance(answer, Item):
            raise BadMessage("it sent a piece of a subscription that nobody has")
        pending = self._pending.pop(answer.id, None)
        if pending is not None:  # else nobody waits any more
            self._quickest_s = min(self._quickest_s, self._silent_since_s - pending.asked_s)
            pending.answer = answer
            pending.done.set()
            self._wake_room()

    async def _mind_deadlines(self) -> None:
        """Tell those whose time is up. One sleeper for all: it looks when the first of those that
        were under way at the last look may be late, which most are not."""
        while True:
            with anyio.CancelScope(deadline=self._look_s):
                await self._look_sooner.wait()
            self._look_sooner = self._new_event()
            now_s = self._now_s()
            if now_s < self._look_s:
                continue
            for pending in self._pending.values():
                if pending.until_s <= now_s and not pending.is_late:
                    pending.is_late = True
                    pending.done.set()
            waiting = (each.until_s for each in self._pending.values() if not each.is_late)
            self._look_s = min(waiting, default=math.inf)

    # -- silence ---------------------------------------------------------------------------

    def _note_life(self) -> None:
        self._silent_since_s = self._now_s()
        if self.is_in_doubt and self.is_open:
            self.is_in_doubt = False
            self._on_doubt(self)

    async def _mind_silence(self) -> None:
        while True:
            if not self._pending:
                self._owing = self._new_event()
                await self._owing.wait()
            since_s = self._silent_since_s
            if await self._is_silent(since_s, since_s + ASKED_AFTER * self._silence_s):
                await self._ask_for_life(since_s)

    async def _ask_for_life(self, since_s: float) -> None:
        """Ask a server that has been silent since then whether it is there; give it up if it does
        not say so."""
        asked_s = self._now_s()
        self._ask(Ping, ())
        round_trip_s = self._round_trip_s()
        doubted_s = asked_s + DOUBTED_AFTER * self._silence_s + round_trip_s
        if not await self._is_silent(since_s, doubted_s):
            return
        self.is_in_doubt = True
        self._on_doubt(self)
        patience_s = (1 - ASKED_AFTER) * self._silence_s + round_trip_s
        if not await self._is_silent(since_s, asked_s + patience_s):
            return
        if self._now_s() > asked_s + patience_s + LATE_S:
            # This process was away, and what has come meanwhile is not read yet.
            read_s = DOUBTED_AFTER * self._silence_s + round_trip_s
            if not await self._is_silent(since_s, self._now_s() + read_s):
                return
        self.close(f"it was silent for {self._now_s() - since_s:.2g} s")

    async def _is_silent(self, since_s: float, until_s: float) -> bool:
        """Wait until then, and return whether it has been silent all the time."""
        before = acknowledged(self._socket)
        await anyio.sleep_until(until_s)
        if self._is_taken(before):
            self._note_life()
        return self._silent_since_s == since_s and bool(self._pending)

    def _is_taken(self, before: Acknowledged | None) -> bool:
        """Whether a large request was on its way before, and the other side has more of it now: it
        owes no answer yet."""
        if before is None or before.held_bytes <= PIECE_BYTES:
            return False
        now = acknowledged(self._socket)
        return now is not None and now.acknowledged_bytes > before.acknowledged_bytes

    def _round_trip_s(self) -> float:
        """As the kernel knows it, or, where that is only the way to a proxy, the answers."""
        return max(self._quickest_s, round_trip_s(self._socket))

    def _end(self) -> None:
        self.is_open = False
        pending, self._pending = self._pending, {}
        for each in pending.values():
            each.done.set()
        self._wake_room()
