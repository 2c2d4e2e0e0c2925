"""Subscriptions: what a server tells of its own accord.

Those to the state machine share connections (`watches`). Whatever else comes piece by piece has a
connection of its own, and so has all that an earlier release is asked for: it is read when its
owner asks for the next item, and TCP makes the server wait. A server that says nothing for as long
as that is asked whether it is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, final

import anyio
import attrs
import msgspec

from ..core.errors import BadMessage, RaftError
from ..core.types import Address, NodeId
from ..net.addresses import host_port
from ..net.framing import RECEIVE_BYTES_MAX
from ..rpc.errors import HandshakeRefused, ServerLost
from ..rpc.failures import error_of
from ..rpc.protocol import (
    Answer,
    Failure,
    GoingAway,
    Ping,
    Result,
    Watch,
    decode_answer,
    encode_value,
    frame,
)
from .connection import BREAKAGES, Dialer, Reached, sentence_of
from .servers import Servers
from .watches import SUBSCRIPTION_SILENCE_S, WatchConnection, WatchConnections, farewell, item_of

T = TypeVar("T")

SHARED_BYTES_MAX: Final = 8 * 1024
"""Whoever says what to watch with more than this has a connection of their own: a server ends one
for a request of more than 16 KiB, which must not cost the others theirs."""
_ONLY_REQUEST = 1
_PING = 2
_PONG = Result(_PING, encode_value(None))


@final
class _Subscription:
    def __init__(
        self,
        reached: Reached,
        address: Address,
        decoder: msgspec.msgpack.Decoder[Any],
        error_types: dict[str, type[Exception]],
    ) -> None:
        self._is_broken = False
        self._stream = reached.stream
        self._deframer = reached.deframer
        self._address = address
        self._decoder = decoder
        self._error_types = error_types

    def __aiter__(self) -> _Subscription:
        return self

    async def __anext__(self) -> Any:
        answer = await self._next_answer()
        if isinstance(answer, Failure):
            raise error_of(answer, self._error_types)
        if isinstance(answer, Result):
            raise StopAsyncIteration
        if isinstance(answer, GoingAway):
            raise farewell(self._address, answer)()
        return item_of(answer.value, self._decoder)

    async def _next_answer(self) -> Answer:
        if self._is_broken:
            raise ServerLost(f"{host_port(self._address)}: the subscription is over")
        try:
            while True:
                payload = self._deframer.next_payload()
                if payload is None:
                    await self._receive()
                elif (answer := decode_answer(payload)) != _PONG:
                    return answer
        except (*BREAKAGES, BadMessage) as error:
            raise ServerLost(f"{host_port(self._address)}: {sentence_of(error)}") from error

    async def _receive(self) -> None:
        """Wait for more; with a question in between, if it takes long."""
        for may_ask in (True, False):
            with anyio.move_on_after(SUBSCRIPTION_SILENCE_S):
                self._deframer.feed(await self._stream.receive(RECEIVE_BYTES_MAX))
                return
            if may_ask:
                await self._ask()
        self._is_broken = True
        raise ServerLost(
            f"{host_port(self._address)}: it was silent for {2 * SUBSCRIPTION_SILENCE_S:g} s"
        )

    async def _ask(self) -> None:
        self._is_broken = True  # half a question sent would garble the next one
        with anyio.move_on_after(SUBSCRIPTION_SILENCE_S):
            await self._stream.send(frame(Ping(_PING)))
            self._is_broken = False


@final
@attrs.frozen
class Subscriber:
    """What a client's subscriptions have in common."""

    dialer: Dialer
    servers: Servers
    error_types: dict[str, type[Exception]]
    """By name: what the state machine raises on purpose."""
    shared: WatchConnections = attrs.field(init=False)

    @shared.default
    def _make_shared(self) -> WatchConnections:
        return WatchConnections(self.dialer)

    @asynccontextmanager
    async def own(
        self,
        at: NodeId | Address | None,
        request: tuple[Any, ...],
        decoder: msgspec.msgpack.Decoder[Any],
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Subscribe at a server, over a connection of its own.

        Args:
            at: which one; None: the leader's if it is known, else any.
            request: the request's type, and its fields after the id.
            decoder: of items.
        """

        async def reach(address: Address, name: str) -> Reached:
            return await _dialed_at(self.dialer, address, name, at)

        address, reached = await _first(self.servers, at, reach)
        async with self._over(address, reached, request, decoder) as items:
            yield items

    @asynccontextmanager
    async def watch(
        self,
        at: NodeId | Address | None,
        data: bytes,
        decoder: msgspec.msgpack.Decoder[Any],
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Subscribe to the state machine, over the connection that others have there.

        Args:
            at, decoder: as of `own`.
            data: what to watch.
        """

        async def reach(address: Address, name: str) -> WatchConnection | Reached:
            connection = None
            if len(data) <= SHARED_BYTES_MAX:
                connection = await self.shared.to(address, name)
            if connection is None:
                reached = await _dialed_at(self.dialer, address, name, at)
                self.shared.note_version(address, name, reached.welcome.version)
                return reached
            if isinstance(at, str) and connection.node_id != at:
                connection.close_if_unused()
                raise _somebody_else(address, connection.node_id, at)
            return connection

        # From here to `begin` nothing is waited for: the connection may have nobody else.
        address, connection = await _first(self.servers, at, reach)
        if isinstance(connection, Reached):
            async with self._over(address, connection, (Watch, data), decoder) as items:
                yield items
            return
        subscription = connection.begin(data, decoder, self.error_types)
        try:
            yield subscription
        finally:
            connection.leave(subscription)

    @asynccontextmanager
    async def _over(
        self,
        address: Address,
        reached: Reached,
        request: tuple[Any, ...],
        decoder: msgspec.msgpack.Decoder[Any],
    ) -> AsyncIterator[AsyncIterator[Any]]:
        try:
            kind, *fields = request
            try:
                await reached.stream.send(frame(kind(_ONLY_REQUEST, *fields)))
            except BREAKAGES as error:
                raise ServerLost(f"{host_port(address)}: {sentence_of(error)}") from error
            yield _Subscription(reached, address, decoder, self.error_types)
        finally:
            # Nothing is waited for, and a cancellation must not take the place of the body's error.
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(reached.stream)


async def _first(
    servers: Servers,
    at: NodeId | Address | None,
    reach: Callable[[Address, str], Awaitable[T]],
) -> tuple[Address, T]:
    """What reaches a server, at the first of its addresses that leads there."""
    failure: RaftError | None = None
    for address, name in await servers.ways_to(at):
        try:
            return address, await reach(address, name)
        except (ServerLost, HandshakeRefused) as error:
            failure = error
    if not isinstance(at, str):
        raise failure or ServerLost(
            "there is no server to subscribe at: give the client more addresses"
        )
    address = (await servers.at(at)).address  # where others say that it is now
    return address, await reach(address, servers.name_at(address))


async def _dialed_at(
    dialer: Dialer, address: Address, name: str, at: NodeId | Address | None
) -> Reached:
    """A stream of its own to a server."""
    reached = await dialer.dial(address, name)
    who = reached.welcome.node_id
    if isinstance(at, str) and who != at:
        await anyio.aclose_forcefully(reached.stream)
        raise _somebody_else(address, who, at)
    return reached


def _somebody_else(address: Address, who: NodeId, wanted: NodeId) -> ServerLost:
    return ServerLost(f"at {host_port(address)} is {who!r}, not {wanted!r}")
