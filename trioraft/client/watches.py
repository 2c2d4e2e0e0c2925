"""Subscriptions of one client that share a connection to their server.

A server takes so many connections from one address, and a program may watch more. So one task
reads for all that watch there, and reads always: a slow reader holds up neither the others nor the
connection. Each subscription has a window: the server sends no more of it than that until its
reader has taken some (`protocol.Take`), so what waits here has a bound, and who is slow makes the
server wait, as TCP does for a connection of one's own.

Connections are made and live in the client's own tasks; one is there from the first subscription at
its server to the end of the last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import anyio
import attrs
import msgspec
from anyio.abc import TaskGroup

from ..core.errors import BadMessage, ConfigError, RaftError
from ..core.types import Address, NodeId
from ..net.addresses import host_port
from ..net.framing import RECEIVE_BYTES_MAX
from ..net.sentences import quoted
from ..rpc.errors import ClientClosed, HandshakeRefused, ServerLeaving, ServerLost
from ..rpc.failures import error_of
from ..rpc.protocol import (
    WINDOWS,
    Answer,
    Cancel,
    Failure,
    GoingAway,
    Item,
    Ping,
    Take,
    Watch,
    append_frame,
    decode_answer,
    weight_bytes,
)
from .connection import BREAKAGES, Dialer, Reached, sentence_of

SUBSCRIPTION_SILENCE_S = 5.0
"""How long a server may tell nothing before it is asked, and then before it is lost, in seconds."""
WINDOW_BYTES: Final = 64 * 1024
"""What of one subscription may wait for its reader, and one item more."""
WATCHES_MAX: Final = 1000
"""Subscriptions that share a connection; the next one begins another."""

Ending = Callable[[], Exception]
"""Makes the error that ends a subscription, for each time that somebody asks."""


def item_of(value: msgspec.Raw, decoder: msgspec.msgpack.Decoder[Any]) -> Any:
    """What a state machine has yielded.

    Raises:
        ConfigError: it is of another type than the decoder's.
    """
    try:
        return decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"an item is not of the type that was given: {error}") from error


def farewell(address: Address, answer: GoingAway) -> Ending:
    """How a server's going ends a subscription."""
    if answer.reason:
        why = f"{host_port(address)} ended it: {quoted(answer.reason)}; subscribe again"
        return partial(ServerLost, why)
    return partial(ServerLeaving, f"{host_port(address)} is shutting down: subscribe elsewhere")


@final
class SharedSubscription:
    """One of those that share a connection: what has come of it, and was not taken. Made by
    `WatchConnection.begin`.

    Args:
        connection: over which it comes.
        request_id: its name there.
        decoder: of items.
        error_types: by name: what the state machine raises on purpose.
    """

    def __init__(
        self,
        connection: WatchConnection,
        request_id: int,
        decoder: msgspec.msgpack.Decoder[Any],
        error_types: dict[str, type[Exception]],
    ) -> None:
        self.request_id: int = request_id
        self._connection = connection
        self._decoder = decoder
        self._error_types = error_types
        self._values: deque[msgspec.Raw] = deque()
        self._waiting_bytes = 0  # what has come and was not taken
        self._taken_bytes = 0  # what was taken, and the server does not know yet
        self._ending: Ending | None = None
        self._arrived: anyio.Event | None = None  # there while somebody waits

    def __aiter__(self) -> SharedSubscription:
        return self

    async def __anext__(self) -> Any:
        while not self._values:
            if self._ending is not None:
                raise self._ending()
            if self._arrived is None:
                self._arrived = anyio.Event()
            await self._arrived.wait()
        value = self._values.popleft()
        size_bytes = weight_bytes(value)
        self._waiting_bytes -= size_bytes
        self._taken_bytes += size_bytes
        # Soon enough that a reader that keeps up never waits, and not for each item.
        if self._taken_bytes >= WINDOW_BYTES // 2 and self._ending is None:
            self._connection.say(Take(self.request_id, self._taken_bytes))
            self._taken_bytes = 0
        return item_of(value, self._decoder)

    def on_item(self, value: msgspec.Raw) -> None:
        """An item has come.

        Raises:
            BadMessage: there was no room for it: the server does not heed the window.
        """
        if self._ending is not None:
            return
        if self._waiting_bytes + self._taken_bytes >= WINDOW_BYTES:
            raise BadMessage(f"it sent more than {WINDOW_BYTES} bytes of a subscription unasked")
        self._values.append(value)
        self._waiting_bytes += weight_bytes(value)
        self._wake()

    def on_failure(self, failure: Failure) -> None:
        """The server has ended it."""
        self.end(partial(error_of, failure, self._error_types))

    def end(self, ending: Ending) -> None:
        """Nothing comes any more; what has come is read first. Idempotent."""
        if self._ending is None:
            self._ending = ending
            self._wake()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None


@final
class WatchConnection:
    """One connection, for many subscriptions. `run` is its life.

    Args:
        address: where the server is.
        reached: the stream, and what the server said of itself.
        expected: how many are about to subscribe here, or to say that they do not.
    """

    def __init__(self, address: Address, reached: Reached, expected: int) -> None:
        self.node_id: NodeId = reached.welcome.node_id
        self._address = address
        self._stream = reached.stream
        self._deframer = reached.deframer
        self._frame_bytes_max = reached.welcome.frame_bytes_max
        self._expected = expected
        self._subscriptions: dict[int, SharedSubscription] = {}
        self._last_id = 0
        self._unsent = bytearray()
        self._to_write = anyio.Event()
        self._is_open = True
        self._scope = anyio.CancelScope()

    @property
    def has_room(self) -> bool:
        """Whether one more subscription can begin here."""
        return self._is_open and len(self._subscriptions) < WATCHES_MAX

    def begin(
        self,
        data: bytes,
        decoder: msgspec.msgpack.Decoder[Any],
        error_types: dict[str, type[Exception]],
    ) -> SharedSubscription:
        """Subscribe; the request is on its way."""
        request_id = self._next_id()
        self.say(Watch(request_id, data, WINDOW_BYTES))
        subscription = SharedSubscription(self, request_id, decoder, error_types)
        self._subscriptions[request_id] = subscription
        return subscription

    def leave(self, subscription: SharedSubscription) -> None:
        """Nobody reads it any more; what is on its way is dropped."""
        if self._subscriptions.pop(subscription.request_id, None) is not None:
            self.say(Cancel(subscription.request_id))
        self.close_if_unused()

    def expect_one_less(self) -> None:
        """One of those that were expected is there, or does not come."""
        self._expected -= 1

    def close_if_unused(self) -> None:
        """End it, unless somebody has subscribed or is about to."""
        if not self._subscriptions and not self._expected:
            self._end(partial(ServerLost, "nobody subscribes any more"))

    def say(self, request: Watch | Take | Cancel | Ping) -> None:
        """Have a request sent."""
        if self._is_open:
            append_frame(self._unsent, request)
            self._to_write.set()

    async def run(self) -> None:
        """Live until the connection ends, or nobody needs it; then nothing of it is left."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write)
                    await self._read()
        finally:
            self._lose("the client was closed")
            await anyio.aclose_forcefully(self._stream)

    async def _write(self) -> None:
        try:
            while True:
                await self._to_write.wait()
                self._to_write = anyio.Event()
                unsent, self._unsent = bytes(self._unsent), bytearray()
                await self._stream.send(unsent)
        except BREAKAGES as error:
            self._lose(sentence_of(error))

    async def _read(self) -> None:
        try:
            while True:
                while (payload := self._deframer.next_payload()) is not None:
                    self._on_answer(decode_answer(payload))
                await self._receive()
        except (*BREAKAGES, BadMessage) as error:
            self._lose(sentence_of(error))

    async def _receive(self) -> None:
        """Wait for more; with a question in between, if it takes long."""
        for may_ask in (True, False):
            with anyio.move_on_after(SUBSCRIPTION_SILENCE_S):
                self._deframer.feed(await self._stream.receive(RECEIVE_BYTES_MAX))
                return
            if may_ask:
                self.say(Ping(self._next_id()))
        self._lose(f"it was silent for {2 * SUBSCRIPTION_SILENCE_S:g} s")

    def _on_answer(self, answer: Answer) -> None:
        if isinstance(answer, GoingAway):
            self._end(farewell(self._address, answer))
            return
        if answer.id > self._last_id:
            raise BadMessage("it sent a piece of a subscription that nobody has")
        subscription = self._subscriptions.get(answer.id)
        if subscription is None:
            return  # nobody waits any more, or it says that it is there
        if isinstance(answer, Item):
            subscription.on_item(answer.value)
        elif isinstance(answer, Failure):
            subscription.on_failure(answer)
        else:
            subscription.end(StopAsyncIteration)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _lose(self, why: str) -> None:
        self._end(partial(ServerLost, f"{host_port(self._address)}: {why}"))

    def _end(self, ending: Ending) -> None:
        """The end for all that are here. Idempotent."""
        self._is_open = False
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            subscription.end(ending)
        self._scope.cancel()


@final
@attrs.define(eq=False)
class _Dial:
    """An attempt to connect, and who waits for it."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    waiting: int = 0
    connection: WatchConnection | None = None
    error: RaftError | None = None


@final
@attrs.define(eq=False)
class _Place:
    """A server, as it is dialed."""

    connections: list[WatchConnection] = attrs.field(factory=list)
    dial: _Dial | None = None
    is_older: bool = False
    """It heeds no windows: whoever subscribes there has a connection of its own."""


@final
class WatchConnections:
    """Those of one client.

    Args:
        dialer: how servers are reached.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._places: dict[tuple[Address, str], _Place] = {}
        self._tasks: TaskGroup | None = None

    def open(self, tasks: TaskGroup) -> None:
        """From here on there are connections, in this task group."""
        self._tasks = tasks

    def close(self) -> None:
        """None is made any more. (Those that are there end with their tasks.)"""
        self._tasks = None

    def note_version(self, address: Address, name: str, version: int) -> None:
        """A server speaks this version of the protocol; it may be upgraded, or rolled back."""
        if (place := self._places.get((address, name))) is not None:
            place.is_older = version < WINDOWS

    async def to(self, address: Address, name: str) -> WatchConnection | None:
        """A connection that has room, made if there is none; None: the server is of an earlier
        release, and shares none. Whoever gets it begins its subscription before it waits for
        anything, or calls `close_if_unused`.

        Args:
            address: of the server.
            name: what its certificate must bear.

        Raises:
            ServerLost, HandshakeRefused: as `Dialer.dial`.
            ClientClosed: the client is not open.
        """
        place = self._places.setdefault((address, name), _Place())
        while not place.is_older:
            for connection in place.connections:
                if connection.has_room:
                    return connection
            await self._dialed(place, address, name)
        return None

    async def _dialed(self, place: _Place, address: Address, name: str) -> None:
        """Wait until an attempt to connect is over; one is shared by all."""
        dial = place.dial
        if dial is None:
            if self._tasks is None:
                raise ClientClosed("the client is not open: use it inside its `async with`")
            dial = place.dial = _Dial()
            self._tasks.start_soon(self._dial, place, dial, address, name)
        dial.waiting += 1
        try:
            await dial.done.wait()
        except BaseException:
            dial.waiting -= 1
            if dial.connection is not None:
                dial.connection.expect_one_less()
                dial.connection.close_if_unused()
            raise
        if dial.connection is not None:
            dial.connection.expect_one_less()
        if isinstance(dial.error, HandshakeRefused):
            raise type(dial.error)(dial.error.refusal, str(dial.error))
        if dial.error is not None:
            raise type(dial.error)(str(dial.error))  # a traceback belongs to one of those who wait

    async def _dial(self, place: _Place, dial: _Dial, address: Address, name: str) -> None:
        """Connect, and then be the connection."""
        reached: Reached | None = None
        try:
            reached = await self._dialer.dial(address, name)
            place.is_older = reached.welcome.version < WINDOWS
            if not place.is_older and dial.waiting:
                dial.connection = WatchConnection(address, reached, dial.waiting)
                place.connections.append(dial.connection)
        except (ServerLost, HandshakeRefused) as error:
            dial.error = error
        except BaseException:
            dial.error = ClientClosed("the client was closed: open another one")
            raise
        finally:
            place.dial = None
            dial.done.set()
        if dial.connection is not None:
            try:
                await dial.connection.run()
            finally:
                place.connections.remove(dial.connection)
        elif reached is not None:
            await anyio.aclose_forcefully(reached.stream)
        if not place.connections and place.dial is None and not place.is_older:
            self._places.pop((address, name), None)
