"""What every process with a trioraft node in it does: listen, obey, end.

Rules of this file:

* Everything is as a program would have it that embeds a node over TCP.
* It ends when its standard input does, in whatever it is; then nothing of it is left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio

from trioraft import NodeId, RaftError, TcpTransport

from .pipe import Bound, Failed, Peers, answer

HOST: Final = "127.0.0.1"
ORDERS_MAX: Final = 64
"""Orders that may wait."""

Orders: TypeAlias = trio.MemoryReceiveChannel[Any]
Life: TypeAlias = Callable[[TcpTransport, Orders], Awaitable[None]]
"""Opens a node over this transport and does what it is told, until it is over."""


def main(node_id: NodeId, port: int, decode: Callable[[bytes], Any], live: Life) -> int:
    """Be a node until `live` ends, or the input; returns the exit code.

    Args:
        node_id: of the node.
        port: where to listen on the loopback; 0: anywhere.
        decode: an order.
        live: called once it is known where everyone listens.
    """

    async def run(orders: Orders) -> None:
        transport = TcpTransport(node_id, (HOST, port), {})
        answer(Bound(transport.bind()[1]))
        for peer, peer_port in (await _peers(orders)).ports.items():
            transport.set_peer(peer, (HOST, peer_port))
        await live(transport, orders)

    return obey(decode, run)


def main_beside(decode: Callable[[bytes], Any], live: Callable[[Orders], Awaitable[None]]) -> int:
    """Be no node, but a process that stands beside some and is told what to do in the same way.

    Args:
        decode: an order.
        live: called once it is to begin.
    """

    async def run(orders: Orders) -> None:
        answer(Bound(0))
        await _peers(orders)
        await live(orders)

    return obey(decode, run)


async def _peers(orders: Orders) -> Peers:
    peers = await orders.receive()
    if not isinstance(peers, Peers):
        raise TypeError(f"the first order is {peers!r}, not Peers")
    return peers


def obey(decode: Callable[[bytes], Any], live: Callable[[Orders], Awaitable[None]]) -> int:
    """Live until it is over or the input ends; returns the exit code. What fails is said."""
    code = 0
    try:
        trio.run(_run, decode, live)
    except* (RaftError, OSError) as group:
        # Tasks that lost their leader all at once say the same.
        said = dict.fromkeys(f"{type(e).__name__}: {e}" for e in _leaves(group))
        answer(Failed("; ".join(said)))
        code = 1
    return code


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


async def _run(decode: Callable[[bytes], Any], live: Callable[[Orders], Awaitable[None]]) -> None:
    send, orders = trio.open_memory_channel[Any](ORDERS_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_orders, decode, send, nursery.cancel_scope)
        await live(orders)
        nursery.cancel_scope.cancel()


async def _read_orders(
    decode: Callable[[bytes], Any], send: trio.MemorySendChannel[Any], scope: trio.CancelScope
) -> None:
    """Pass on what is ordered; the end of the input ends everything."""
    pending = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for data in stdin:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                await send.send(decode(line))
    scope.cancel()
