"""Listening: take an address, and accept who comes, within bounds.

Rules of this file:

* A wall stands around each connection: whatever goes wrong in it ends it, is told, and nothing
  else; groups of exceptions included (hazard G8). Only what is wrong with this node itself, and not
  with the connection, passes: `OwnerFailed` and broken invariants.
* No lack of descriptors ends the accepting; only the address being unusable prevents it. Some are
  always left over, for the disk and for whoever is more important (hazard G5).
* Who comes to a full port is let in, and another goes: see `visitors`. Who is looked at at all, the
  `door` decides: until then nothing is made for a connection, neither a stream nor a task.
* An address is bound again right after its last owner has gone.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from time import thread_time
from typing import Any, Final, final

import trio

from ..core.errors import InvariantViolation
from ..core.types import Address
from .addresses import numeric_host
from .connection import Connection
from .descriptors import descriptors_max
from .door import Door, Look, metered
from .holdings import Holdings
from .rejections import Rejections
from .sentences import sentence_of
from .visitors import Visitors

LISTEN_BACKLOG: Final = 1024
"""Connections the kernel may hold for us before we accept them."""

ACCEPT_PAUSE_S: Final = 0.100
"""Pause, in seconds, before accepting again when the machine is out of descriptors or memory."""

ACCEPT_S: Final = 0.0003
"""How long accepting may keep the loop before everybody else has a turn, in seconds."""

LOOKS_IN_A_PASS: Final = 8
"""Strangers that are looked at in one pass of the loop: their tasks begin all at once."""

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

_OF_THE_CONNECTION: Final = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)
"""What `accept` says of a connection that failed before it was accepted; Linux's manual has them.
EPERM is a firewall's."""


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


class OwnerFailed(Exception):  # noqa: N818 - what happened; it is no error of this module's
    """What a connection brought was handed to the node, and the node itself failed. Carries the
    node's own error beyond the wall."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


@final
class Listener:
    """Accepts connections, and serves each in a task of its own.

    Args:
        sock: listens already; closed when `run` ends, or by `close`.
        door: who is looked at.
        visitors: who is connected, and who goes when there are too many.
        half_frames: the bound on what all of them keep here of frames that have begun.
        descriptors_reserved: how many of this process's descriptors this port leaves alone.
        silence_s: when the kernel gives up on a connection, in seconds.
        serve: a connection's life; it closes the connection.
        rejections: told of those that are not served, or not to their end.
        task_name: of a connection's task, before its remote address.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        door: Door,
        visitors: Visitors,
        half_frames: Holdings,
        descriptors_reserved: int,
        silence_s: float,
        serve: Callable[[Connection], Coroutine[Any, Any, None]],
        rejections: Rejections,
        task_name: Callable[[str], str],
    ) -> None:
        self.door = door
        self.visitors = visitors
        self.half_frames = half_frames
        self.connections: int = 0
        """Those that are open, admitted or not."""
        self.rejections = rejections
        self._sock = sock
        self._descriptors_reserved = descriptors_reserved
        self._silence_s = silence_s
        self._serve = serve
        self._task_name = task_name

    def close(self) -> None:
        """Give the address back, if `run` never began. Idempotent."""
        self._sock.close()

    async def run(self, nursery: trio.Nursery) -> None:
        """Accept until cancelled; connections live in `nursery`, and may outlive this."""
        with self._sock as sock:
            sock.setblocking(False)
            was_short = False
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    shut_s = self._accept_some(nursery)
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    self.visitors.make_room()
                    if not was_short:
                        was_short = True
                        self._reject("", f"cannot accept: {os.strerror(error.errno)}")
                    await trio.sleep(ACCEPT_PAUSE_S)  # no event says when there are some again
                else:
                    was_short = False
                    if shut_s:
                        await trio.sleep(shut_s)  # the share comes back with time alone

    def _accept_some(self, nursery: trio.Nursery) -> float:
        """Accept who waits, until others should have a turn. Returns for how long nobody is to be
        accepted after that, in seconds."""
        began_s = thread_time()
        spent_s, looks = 0.0, 0
        while spent_s < ACCEPT_S and looks < LOOKS_IN_A_PASS:
            try:
                sock, (host, port, *_) = self._sock.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in _OF_THE_CONNECTION:
                    raise
                continue
            look = self.door.look(host, trio.current_time())
            if look is None:
                sock.close()
            else:
                looks += 1
                self._receive(sock, (host, port), look, nursery)
            spent_s = thread_time() - began_s
        return self.door.accepted(thread_time() - began_s, trio.current_time())

    def _receive(
        self, sock: socket.socket, remote: Address, look: Look, nursery: trio.Nursery
    ) -> None:
        if sock.fileno() >= descriptors_max() - self._descriptors_reserved:
            self.visitors.make_room()
            sock.close()
            look.end()
            told = "descriptors are scarce: those left are for the disk and for others"
            self._reject(remote[0], told)
            return
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        connection = Connection.over(stream, self._silence_s)
        connection.look = look
        look.on_excess = partial(connection.end, "its handshake costs too much")
        connection.half_frames = self.half_frames
        self.visitors.arrive(connection)
        self.connections += 1
        name = self._task_name(connection.remote)
        nursery.start_soon(self._serve_within_wall, connection, look, name=name)

    def _reject(self, remote: str, reason: str) -> None:
        self.rejections.add(remote, None, reason)

    async def _serve_within_wall(self, connection: Connection, look: Look) -> None:
        try:
            with connection.life:
                await metered(self._serve(connection), look)
        except OwnerFailed as failed:
            raise failed.error from failed.error.__cause__
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the wall: parted there
            self._keep_in(connection, error)
        finally:
            self.connections -= 1
            self.visitors.leave(connection)
            connection.forget()
            look.end()
        if connection.ended_because:
            self.rejections.add(connection.remote, None, connection.ended_because, is_counted=False)

    def _keep_in(self, connection: Connection, error: BaseException) -> None:
        """Tell what went wrong with a connection; whatever else it was passes the wall."""
        unexpected, rest = _parted(error)
        if unexpected is not None:
            said = f"serving it failed: {sentence_of(unexpected)} ({unexpected!r:.200})"
            self._reject(connection.remote, said)
            if rest is not None:
                raise rest from None
        elif rest is not None:
            raise rest


def _parted(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """What ends a connection only, and what does not stop there (a cancellation, or an error that
    is not the connection's)."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(_is_of_connection)
    return (error, None) if _is_of_connection(error) else (None, error)


def _is_of_connection(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return False  # its members are looked at one by one
    return isinstance(error, Exception) and not isinstance(error, InvariantViolation | OwnerFailed)
