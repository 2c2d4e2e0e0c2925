"""What the kernel is told of a connection.

Rules of this file: options that this platform lacks, or that a socket that was reset meanwhile does
not take, are left out; a connection works without them.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import Any, Protocol


class HasOptions(Protocol):
    """A socket, or a stream over one."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """As of `socket.socket`."""


def keep_alive(sock: HasOptions, silence_s: float) -> None:
    """Have the kernel ask an idle peer whether it is there, and end the connection if it has not
    answered for `silence_s` seconds."""
    seconds = max(1, round(silence_s / 2))
    _set(sock, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPIDLE", seconds)
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, seconds // 2))
    _set(sock, socket.IPPROTO_TCP, "TCP_KEEPCNT", 2)


def give_up_sending(sock: HasOptions, silence_s: float) -> None:
    """Have the kernel end a connection whose peer takes nothing for `silence_s` seconds.

    Without it a connection that was cut silently is retransmitted ever more seldom, for minutes,
    also after the cut has healed; with it the connection is replaced by a new one.
    """
    _set(sock, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", max(1, round(silence_s * 1000)))


def _set(sock: HasOptions, level: int, name: str, value: int) -> None:
    option = getattr(socket, name, None)
    if option is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)


def check_not_itself(sock: Any) -> None:
    """Check that a socket that has just connected reached somebody else.

    Where nobody listens at a port of this machine, the kernel may choose it as ours; TCP then
    connects the socket to itself, and whoever belongs there could never bind it.

    Raises:
        ConnectionRefusedError: it is connected to itself; closing it resets it.
    """
    if sock.getsockname() == sock.getpeername():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
