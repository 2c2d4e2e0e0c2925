"""What the kernel is told of a connection.

Rules of this file: options that this platform lacks, or that a socket that was reset meanwhile does
not take, are left out; a connection works without them.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from typing import Any, Final, Protocol

import trio

try:
    import fcntl
    import termios
except ImportError:  # not everywhere
    _CAN_LOOK = False
else:
    _CAN_LOOK = sys.platform == "linux"  # elsewhere the question means other things

_TCP_INFO_BYTES: Final = 152
_TCP_INFO_MIN_RTT: Final = 148
"""Where `tcpi_min_rtt` stands in Linux' `struct tcp_info`, which only ever grew at its end."""


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


def socket_under(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket that carries a stream, with or without TLS; None if it is none."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None


def segment_bytes(sock: trio.socket.SocketType | None) -> int | None:
    """How much one segment of this TCP connection carries; None where the kernel does not say, or
    does not say what it holds either."""
    if sock is None or not _CAN_LOOK:
        return None
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except OSError:
        return None


def held_bytes(sock: trio.socket.SocketType | None) -> int | None:
    """What the kernel has not sent yet, or the peer not acknowledged; None: it does not say."""
    if sock is None or not _CAN_LOOK:
        return None
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except OSError:
        return None
    return int.from_bytes(answer, sys.byteorder)


def shortest_round_trip_s(sock: trio.socket.SocketType | None) -> float:
    """To the peer and back, as short as the kernel has seen it lately; 0.0: it does not say."""
    if sock is None or not _CAN_LOOK:
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0.0
    if len(info) < _TCP_INFO_BYTES:
        return 0.0
    micros = int.from_bytes(info[_TCP_INFO_MIN_RTT:], sys.byteorder)
    return 0.0 if micros == 0xFFFFFFFF else micros / 1e6


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
