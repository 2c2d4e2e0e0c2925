"""Subscriptions: what a server tells of its own accord, over a connection of their own.

A slow reader holds up nobody else: it reads when its owner asks for the next item, and TCP makes
the server wait. A server that says nothing for as long as that is asked whether it is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, final

import anyio
import msgspec

from ..core.errors import BadMessage, ConfigError, RaftError
from ..core.types import Address, NodeId
from ..net.addresses import host_port
from ..net.framing import RECEIVE_BYTES_MAX
from ..net.sentences import quoted
from ..rpc.errors import HandshakeRefused, ServerLeaving, ServerLost
from ..rpc.failures import error_of
from ..rpc.protocol import (
    Answer,
    Failure,
    GoingAway,
    Ping,
    Result,
    decode_answer,
    encode_value,
    frame,
)
from .connection import BREAKAGES, Dialer, Reached, sentence_of
from .servers import Servers

SUBSCRIPTION_SILENCE_S = 5.0
"""How long a server may tell nothing before it is asked, and then before it is lost, in seconds."""
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
            address = host_port(self._address)
            if answer.reason:
                raise ServerLost(f"{address} ended it: {quoted(answer.reason)}; subscribe again")
            raise ServerLeaving(f"{address} is shutting down: subscribe elsewhere")
        try:
            return self._decoder.decode(answer.value)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"an item is not of the type that was given: {error}") from error

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


async def _dialed(
    dialer: Dialer, servers: Servers, at: NodeId | Address | None
) -> tuple[Address, Reached]:
    """A stream of its own to a server, at the first of its addresses that leads there."""
    failure: RaftError | None = None
    for address, name in await servers.ways_to(at):
        try:
            return address, await _dialed_at(dialer, address, name, at)
        except (ServerLost, HandshakeRefused) as error:
            failure = error
    if not isinstance(at, str):
        raise failure or ServerLost(
            "there is no server to subscribe at: give the client more addresses"
        )
    address = (await servers.at(at)).address  # where others say that it is now
    return address, await _dialed_at(dialer, address, servers.name_at(address), at)


async def _dialed_at(
    dialer: Dialer, address: Address, name: str, at: NodeId | Address | None
) -> Reached:
    reached = await dialer.dial(address, name)
    who = reached.welcome.node_id
    if isinstance(at, str) and who != at:
        await anyio.aclose_forcefully(reached.stream)
        raise ServerLost(f"at {host_port(address)} is {who!r}, not {at!r}")
    return reached


@asynccontextmanager
async def open_subscription(
    dialer: Dialer,
    servers: Servers,
    at: NodeId | Address | None,
    request: tuple[Any, ...],
    decoder: msgspec.msgpack.Decoder[Any],
    error_types: dict[str, type[Exception]],
) -> AsyncIterator[AsyncIterator[Any]]:
    """Subscribe at a server.

    Args:
        dialer: how to reach it.
        servers: where it is.
        at: which one; None: the leader's if it is known, else any.
        request: the request's type, and its fields after the id.
        decoder: of items.
        error_types: by name: what the state machine raises on purpose.
    """
    address, reached = await _dialed(dialer, servers, at)
    try:
        kind, *fields = request
        try:
            await reached.stream.send(frame(kind(_ONLY_REQUEST, *fields)))
        except BREAKAGES as error:
            raise ServerLost(f"{host_port(address)}: {sentence_of(error)}") from error
        yield _Subscription(reached, address, decoder, error_types)
    finally:
        # Nothing is waited for, and a cancellation must not take the place of the body's error.
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(reached.stream)
