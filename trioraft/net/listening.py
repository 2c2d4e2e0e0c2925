"""Listening: take an address, and accept who comes, within bounds.

Rules of this file:

* No error of one connection, and no lack of descriptors, ends the accepting; only the address being
  unusable prevents it.
* A connection beyond the bound is closed at once, and told.
* An address is bound again right after its last owner has gone.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

from ..core.types import Address
from .addresses import numeric_host
from .connection import Connection
from .sentences import sentence_of

LISTEN_BACKLOG: Final = 128
"""Connections the kernel may hold for us before we accept them."""

ACCEPT_PAUSE_S: Final = 0.100
"""Pause, in seconds, before accepting again when the machine is out of descriptors or memory."""

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


def listen_now(address: Address, failure: str) -> socket.socket:
    """Listen at an address; blocks on the resolver if its host is a name.

    Args:
        address: port 0 lets the system choose.
        failure: what cannot be done if it fails, as a half sentence.

    Raises:
        OSError: the address cannot be used; the message is `failure` and why.
    """
    try:
        return _listen_at_first(socket.getaddrinfo(*_query(address)))
    except OSError as error:
        raise _explained(error, failure) from error


async def listen(address: Address, failure: str) -> socket.socket:
    """As `listen_now`, without blocking."""
    try:
        return _listen_at_first(await trio.socket.getaddrinfo(*_query(address)))
    except OSError as error:
        raise _explained(error, failure) from error


def _query(address: Address) -> tuple[str, int, int, int, int, int]:
    host, port = address
    return (numeric_host(host), port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)


def _listen_at_first(found: list[tuple[Any, ...]]) -> socket.socket:
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(LISTEN_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _explained(error: OSError, failure: str) -> OSError:
    return OSError(error.errno, f"{failure}: {sentence_of(error)}")


@final
class Listener:
    """Accepts connections, and serves each in a task of its own.

    Args:
        sock: listens already; closed when `run` ends, or by `close`.
        connections_max: open at the same time; a further one is closed.
        silence_s: when the kernel gives up on a connection, in seconds.
        serve: a connection's life; it closes the connection.
        reject: called with the remote address (empty: none yet) and why nothing is accepted.
        task_name: of a connection's task, before its remote address.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        connections_max: int,
        silence_s: float,
        serve: Callable[[Connection], Awaitable[None]],
        reject: Callable[[str, str], None],
        task_name: Callable[[str], str],
    ) -> None:
        self.connections = 0
        """Those that are open, admitted or not."""
        self._sock = sock
        self._connections_max = connections_max
        self._silence_s = silence_s
        self._serve = serve
        self._reject = reject
        self._task_name = task_name

    def close(self) -> None:
        """Give the address back, if `run` never began. Idempotent."""
        self._sock.close()

    async def run(self, nursery: trio.Nursery) -> None:
        """Accept until cancelled; connections live in `nursery`, and may outlive this."""
        with trio.socket.from_stdlib_socket(self._sock) as sock:
            listener = trio.SocketListener(sock)
            was_short = False
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    if not was_short:
                        was_short = True
                        self._reject("", f"cannot accept: {os.strerror(error.errno)}")
                    await trio.sleep(ACCEPT_PAUSE_S)  # no event says when there are some again
                else:
                    was_short = False
                    self._receive(stream, nursery)

    def _receive(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        connection = Connection.over(stream, self._silence_s)
        if self.connections >= self._connections_max:
            connection.hang_up()
            limit = self._connections_max
            self._reject(connection.remote, f"there are already {limit} incoming connections")
            return
        self.connections += 1
        nursery.start_soon(self._serve_counted, connection, name=self._task_name(connection.remote))

    async def _serve_counted(self, connection: Connection) -> None:
        try:
            await self._serve(connection)
        finally:
            self.connections -= 1
