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
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

if TYPE_CHECKING:  # clients use this file too, and need no Trio
    import trio

try:
    import fcntl
    import termios
except ImportError:  # not everywhere
    _CAN_LOOK = False
else:
    _CAN_LOOK = sys.platform == "linux"  # elsewhere the question means other things

_TCP_INFO_BYTES: Final = 152
_LAST_ACK_RECV_AT: Final = 56
_RTT_AT: Final = 68
_BYTES_ACKED_AT: Final = 120
_MIN_RTT_AT: Final = 148
"""Where `tcpi_last_ack_recv` (ms), `tcpi_rtt` (µs), `tcpi_bytes_acked` and `tcpi_min_rtt` (µs)
stand in Linux' `struct tcp_info`, which only ever grew at its end."""


class HasOptions(Protocol):
    """A socket, or a stream over one."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """As of `socket.socket`."""


class CanBeAsked(Protocol):
    """A socket, of Trio or of the standard library."""

    def fileno(self) -> int:
        """As of `socket.socket`."""

    def getsockopt(self, level: int, option: int, size_bytes: int, /) -> bytes:
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


def segment_bytes(sock: trio.socket.SocketType | None) -> int | None:
    """How much one segment of this TCP connection carries; None where the kernel does not say, or
    does not say what it holds either."""
    if sock is None or not _CAN_LOOK:
        return None
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except OSError:
        return None


def held_bytes(sock: CanBeAsked | None) -> int | None:
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
    info = _tcp_info(sock)
    micros = 0 if info is None else _field(info, _MIN_RTT_AT)
    return 0.0 if micros == 0xFFFFFFFF else micros / 1e6


@attrs.frozen
class Acknowledged:
    """What the kernel says of the other side of a connection."""

    written_bytes: int
    """What it was given to send so far."""
    acknowledged_bytes: int
    """What the peer's kernel has of that."""
    heard_s: float
    """How long ago that was heard, whatever it said, in seconds."""

    @property
    def held_bytes(self) -> int:
        """What it has not acknowledged yet."""
        return self.written_bytes - self.acknowledged_bytes


def acknowledged(sock: CanBeAsked | None) -> Acknowledged | None:
    """How far the peer's kernel has got; None where ours does not say."""
    info, held = _tcp_info(sock), held_bytes(sock)
    if info is None or held is None:
        return None
    acked = _field(info, _BYTES_ACKED_AT, 8)
    return Acknowledged(acked + held, acked, _field(info, _LAST_ACK_RECV_AT) / 1e3)


def round_trip_s(sock: CanBeAsked | None) -> float:
    """To the peer and back, as usual lately; 0.0: the kernel does not say."""
    info = _tcp_info(sock)
    return 0.0 if info is None else _field(info, _RTT_AT) / 1e6


def _tcp_info(sock: CanBeAsked | None) -> bytes | None:
    if sock is None or not _CAN_LOOK:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    return info if len(info) == _TCP_INFO_BYTES else None


def _field(info: bytes, at: int, size_bytes: int = 4) -> int:
    return int.from_bytes(info[at : at + size_bytes], sys.byteorder)


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
