"""One connection, as the tasks around it see it.

Rules of this file:

* A connection is closed by `hang_up`, which is synchronous: the descriptor is gone at once, with
  no TLS close_notify to wait for, also when the task around it was cancelled.
* No wait on a connection is without a deadline, but the one for the next frame's first byte. A
  frame in pieces has it for each piece: over a narrow line it takes as long as it takes.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, final

import attrs
import trio

from ..core.errors import BadMessage
from .addresses import host_port
from .door import Look
from .framing import FIRST_FRAME_BYTES_MAX, RECEIVE_BYTES_MAX, Deframer
from .holdings import Holdings
from .sockets import give_up_sending, keep_alive, remote_address
from .tls import certified_names

BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
"""How a stream says that the connection ended otherwise than by the other side closing it."""


class FrameTooSlow(BadMessage):
    """A frame began, and its end did not come in time."""


@final
@attrs.define(eq=False)
class Connection:
    """A byte stream to somebody who may have yet to prove who he is."""

    stream: trio.abc.Stream
    remote: str
    """The other side's address, for logs."""
    hang_up: Callable[[], None]
    """Close the descriptor now. Idempotent."""
    certified: frozenset[str] | None = None
    """The DNS names in the other side's certificate; None on plain TCP."""
    deframer: Deframer = attrs.Factory(lambda: Deframer(FIRST_FRAME_BYTES_MAX))
    remote_host: str = ""
    """The host in that address; empty if it is not known, or does not matter."""
    idle_since_s: float | None = None
    """Since when nothing of it is unanswered (Trio's clock), so that it may go for another one if
    there are too many; None: something is, or it is not known."""
    has_asked: bool = False
    """Whether it was ever of use to whoever opened it."""
    look: Look | None = None
    """What it costs until it is known who it is."""
    half_frames: Holdings | None = None
    """What all connections of its port keep of frames that have begun."""
    life: trio.CancelScope = attrs.Factory(trio.CancelScope)
    """Around whoever serves it."""
    ended_because: str = ""
    """Why it was ended from our side, for others' sake."""
    _frame_timeout_s: float = math.inf
    _patience: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _is_timed: bool = False
    """Whether that has a deadline."""
    _pieces: int = 0
    """Of the deframer, when its bytes were last waited for."""
    _is_drained: bool = False
    """The last bytes were fewer than were asked for: there are no more yet."""

    @classmethod
    def over(cls, stream: trio.SocketStream, silence_s: float, remote: str = "") -> Connection:
        """Wrap a connected socket, which the kernel gives up on after `silence_s` seconds without
        a sign of life. The remote address is looked up unless it is given."""
        keep_alive(stream, silence_s)
        give_up_sending(stream, silence_s)
        found = remote_address(stream.socket)
        host = "" if found is None else found[0]
        remote = remote or ("unknown" if found is None else host_port(found))
        return cls(stream, remote, stream.socket.close, remote_host=host)

    def end(self, reason: str) -> None:
        """Have whoever serves it stop, which closes it, and remember why. Idempotent."""
        if not self.ended_because:
            self.ended_because = reason
            self.life.cancel()

    def note_use(self) -> None:
        """It is of use to whoever opened it. Idempotent, and cheap."""
        if not self.has_asked:
            self.has_asked = True
            if self.look is not None:
                self.look.was_of_use()
                self.look.end()

    def forget(self) -> None:
        """It is over: nothing is kept for it any more, whoever may still refer to it."""
        self.deframer.clear()
        if self.half_frames is not None:
            self.half_frames.let_go(self)

    async def says_something(self) -> bool:
        """Wait for its first byte, and leave it there. False: it was closed without one, as those
        do who only look whether somebody listens."""
        sock = socket_under(self.stream)
        if sock is None:
            return True  # nothing to look into: reading will tell
        try:
            return bool(await sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    async def secure(self, context: ssl.SSLContext, *, server_hostname: str | None) -> None:
        """Do the TLS handshake: as a client of `server_hostname`, or as the server.

        Raises:
            trio.BrokenResourceError: TLS failed; its `__cause__` says how.
        """
        if not isinstance(self.stream, trio.SocketStream):
            raise TypeError(f"TLS goes over a TCP connection, this is {self.stream!r}")
        secured = trio.SSLStream(
            self.stream,
            context,
            server_hostname=server_hostname,
            server_side=server_hostname is None,
        )
        await secured.do_handshake()
        self.stream = secured
        self.certified = certified_names(secured)

    async def first_payload(self) -> bytes | bytearray | None:
        """Return the payload of the first frame; None when the other side closed. The deadline is
        the handshake's.

        Raises:
            BadMessage: the frame declares too many bytes.
            trio.BrokenResourceError: the connection broke.
        """
        while True:
            payload = self.deframer.next_payload()
            if payload is not None:
                return payload
            data = await self.stream.receive_some(RECEIVE_BYTES_MAX)
            if not data:
                return None
            self.deframer.feed(data)

    @contextmanager
    def reading(self, frame_timeout_s: float) -> Iterator[None]:
        """Hold frames that `receive` waits for to a deadline, for the length of a block.

        Args:
            frame_timeout_s: how long a frame, or a piece of one, may take from its first byte to
                its last, in seconds; more bytes do not extend it.

        Raises:
            FrameTooSlow: a frame is half there, and its time is up.
        """
        self._frame_timeout_s = frame_timeout_s
        with self._patience:
            yield
        if self._patience.cancelled_caught:
            raise FrameTooSlow(f"a frame took longer than {frame_timeout_s:g} s")

    def stop_the_clock(self) -> None:
        """To be called by a reader who waits for something else, and so does not read: the frame
        that is half there has its whole time again."""
        self._patience.deadline = math.inf
        self._is_timed = False

    async def receive(self, *, took_frames: bool) -> bool:
        """Wait for bytes and feed them to the deframer, which must have nothing whole left.

        One scope with a deadline that moves: a new one for each wait would double its price.

        Args:
            took_frames: whether payloads were taken since the last call, so that what is half
                there now is another frame.

        Returns:
            False when the other side closed.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection broke.
        """
        deframer = self.deframer
        if not deframer.pending:
            if self._is_timed:
                self.stop_the_clock()
                if self.half_frames is not None:
                    self.half_frames.let_go(self)
        else:
            if took_frames or not self._is_timed or deframer.pieces != self._pieces:
                self._patience.deadline = trio.current_time() + self._frame_timeout_s
                self._is_timed = True
                self._pieces = deframer.pieces
                if self.half_frames is not None:
                    self.half_frames.on_progress(self)
            if self.half_frames is not None:
                self.half_frames.hold(self, deframer.held_bytes)
        data = await self._bytes()
        if not data:
            return False
        deframer.feed(data)
        return True

    async def _bytes(self) -> bytes | bytearray:
        """The next bytes; none: the other side closed.

        A socket of Trio's is asked first and then waited for, which is in vain where it has just
        been emptied: a call of the system, and an error on its way, for each message.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection broke.
        """
        stream = self.stream
        if self._is_drained and isinstance(stream, trio.SocketStream):
            await trio.lowlevel.wait_readable(stream.socket)
            try:
                data: bytes | bytearray = os.read(stream.socket.fileno(), RECEIVE_BYTES_MAX)
            except BlockingIOError:  # it was readable for another reason
                data = await stream.receive_some(RECEIVE_BYTES_MAX)
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
        else:
            data = await stream.receive_some(RECEIVE_BYTES_MAX)
        self._is_drained = len(data) < RECEIVE_BYTES_MAX
        return data


def socket_under(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket that carries a stream, with or without TLS; None if it is none."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None
