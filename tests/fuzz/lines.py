"""Lines to servers: connections as a hostile program has them, and a note of what went over them.

Rules of this file:

* Nothing waits long: a server that does not read, or does not answer, costs a line and no time.
* Every line and every byte is noted as a `Step`, so that it can be done again; what was noted
  before a check that went well is forgotten.
* A handshake is made of the project's own structs by whoever opens the line; or it is bytes.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, final

import msgspec

from trioraft.core.types import Address
from trioraft.net.framing import LENGTH_BYTES

CONNECT_SECONDS_MAX: Final = 3.0
SEND_SECONDS_MAX: Final = 1.0
RECEIVE_BYTES: Final = 1 << 16
STEPS_MAX: Final = 50_000


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was done to a server."""

    line: int
    """Which line it was done over; numbered in the order in which they were opened."""
    data: bytes = b""
    """What was sent; nothing: the line was opened, or closed."""
    opened: str = ""
    """Who opened it, as in "member 1" or "client"."""
    server: str = ""
    """To whom: a server's id, or "leader"."""
    closed: bool = False


@final
class Line:
    """One connection."""

    def __init__(self, number: int, who: str, stream: socket.socket, *, reads: bool = True) -> None:
        self.number = number
        self.who = who
        """Who opened it, as in "member 1" or "client"."""
        self.reads = reads
        """Whether what comes is taken from the socket at all."""
        self.stream = stream

    def send(self, data: bytes) -> bool:
        """Send; False if the line is over, or nobody reads there."""
        try:
            self.stream.settimeout(SEND_SECONDS_MAX)
            self.stream.sendall(data)
        except (OSError, ValueError):
            return False
        return not self.reads or self.drain()

    def drain(self) -> bool:
        """Take what has come; False if the line is over."""
        try:
            self.stream.settimeout(0.0)
            while self.stream.recv(RECEIVE_BYTES):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def close(self) -> None:
        """Close it, without a farewell."""
        with suppress(OSError):
            self.stream.close()


def connected(address: Address, context: ssl.SSLContext | None) -> socket.socket:
    """A stream to there, with TLS if there is a context.

    Raises:
        OSError: there is none.
    """
    stream = socket.create_connection(address, CONNECT_SECONDS_MAX)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            return context.wrap_socket(stream)
    except BaseException:
        stream.close()
        raise
    return stream


def frame_from(stream: socket.socket, bytes_max: int = 1 << 20) -> bytes:
    """The next frame's payload.

    Raises:
        OSError: none came.
    """
    stream.settimeout(CONNECT_SECONDS_MAX)
    size_bytes = int.from_bytes(_exactly(stream, LENGTH_BYTES), "big")
    if size_bytes > bytes_max:
        raise ConnectionError(f"a frame of {size_bytes} bytes")
    return _exactly(stream, size_bytes)


def _exactly(stream: socket.socket, size_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < size_bytes:
        part = stream.recv(size_bytes - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return bytes(data)


@final
class Journal:
    """The steps since the last check that went well."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._open: dict[int, Step] = {}
        self._last = 0

    def opened(self, who: str, server: str) -> int:
        """A line was opened; its number."""
        self._last += 1
        step = self._open[self._last] = Step(self._last, opened=who, server=server)
        self._note(step)
        return self._last

    def sent(self, line: int, data: bytes) -> None:
        """Something was sent, or tried to be."""
        self._note(Step(line, data))

    def closed(self, line: int) -> None:
        """The line is closed by us."""
        self._open.pop(line, None)
        self._note(Step(line, closed=True))

    def forget(self) -> None:
        """All is well: what was done so far did no harm. The lines that are open stay noted."""
        self.steps = list(self._open.values())

    def _note(self, step: Step) -> None:
        if len(self.steps) < STEPS_MAX:
            self.steps.append(step)


def again(
    steps: Sequence[Step], open_line: Callable[[int, str, str], Line | None]
) -> dict[int, Line]:
    """Do the steps once more.

    Args:
        steps: as a journal noted them.
        open_line: opens a line for somebody, to a server; None: it was refused.
    """
    lines: dict[int, Line] = {}
    for step in steps:
        line = lines.get(step.line)
        if step.opened:
            opened = open_line(step.line, step.opened, step.server)
            if opened is not None:
                lines[step.line] = opened
        elif line is not None and step.closed:
            line.close()
        elif line is not None:
            line.send(step.data)
    return lines
