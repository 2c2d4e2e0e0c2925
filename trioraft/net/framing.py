"""Frames: a length, then that many bytes, and nothing that trusts either.

Rules of this file:

* A frame is four bytes of big-endian length, then that many bytes of msgpack.
* Where both sides take pieces, a large frame may come as several: the highest bit of a length says
  "a piece", the next one "the last". Whole frames may stand between the pieces, so that what is
  urgent need not wait; pieces of a second frame may not. An empty frame then says nothing but that
  this connection is in use.
* A declared length is compared with its bound before anything is allocated for it, and a buffer
  grows only by bytes that have really arrived.
* No byte is copied more than a constant number of times, however the stream is cut up.
"""

from __future__ import annotations

from typing import Final, final

from ..core.errors import BadMessage

LENGTH_BYTES: Final = 4
"""Size of the length that opens a frame."""

PIECE: Final = 1 << 31
"""In a length: a piece of a frame."""

LAST_PIECE: Final = 1 << 30
"""In a piece's length: no more follow."""

_PIECE_BYTES: Final = LAST_PIECE - 1

FIRST_FRAME_BYTES_MAX: Final = 4096
"""Largest frame before it is known who is there."""

RECEIVE_BYTES_MAX: Final = 64 * 1024
"""Bytes taken from a socket at once. Larger reads cost more than they save: malloc then maps and
unmaps pages for each."""


def frame_of(payload: bytes) -> bytes:
    """Put the length before a payload."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def piece_length(size_bytes: int, *, is_last: bool) -> bytes:
    """What stands before a piece of so many bytes."""
    flags = PIECE | LAST_PIECE if is_last else PIECE
    return (flags | size_bytes).to_bytes(LENGTH_BYTES, "big")


@final
class Deframer:
    """Cuts a byte stream into payloads: `feed` it what arrived, then take `next_payload`s.

    Args:
        frame_bytes_max: largest payload accepted. May be changed between two payloads: the bound
            before a handshake is much smaller than after it.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.takes_pieces = False
        """Whether a frame may come in pieces; may be changed as well."""
        self.pieces: int = 0
        """How many have come."""
        self._collected: bytearray | None = None  # of the frame that comes in pieces
        self._buffer: bytes | bytearray = b""
        self._at = 0  # everything before this offset was taken

    @property
    def pending(self) -> bool:
        """Whether a frame has begun that `next_payload` could not return yet."""
        return len(self._buffer) > self._at or self._collected is not None

    @property
    def held_bytes(self) -> int:
        """What is kept here: of a frame that has begun, and behind it."""
        return len(self._buffer) - self._at + len(self._collected or b"")

    def clear(self) -> None:
        """Forget what is kept: the connection is over, and who still refers to it needs none."""
        self._buffer, self._at, self._collected = b"", 0, None

    def feed(self, data: bytes | bytearray) -> None:
        """Add what arrived. Take `next_payload` until it is None before feeding again: that is
        where a frame that is too large is noticed before it is collected."""
        if len(self._buffer) == self._at:
            self._buffer = data  # the common case: whole frames, not copied
        else:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer[self._at :])
            else:
                del self._buffer[: self._at]
            self._buffer += data
        self._at = 0

    def next_payload(self) -> bytes | bytearray | None:
        """Return the next whole payload, or None until more was fed.

        Raises:
            BadMessage: the frame declares more bytes than are accepted, or is a piece that nobody
                may send.
        """
        while True:
            start = self._at + LENGTH_BYTES
            buffer = self._buffer
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[self._at : start], "big")
            if size <= self.frame_bytes_max:
                if not size and self.takes_pieces:
                    self._take(start, 0)
                    continue
                if start + size != len(buffer):
                    return self._take(start, size)
                self._buffer, self._at = b"", 0  # the common case: the last frame, and whole
                return buffer[start:]
            if not (size & PIECE and self.takes_pieces):
                raise BadMessage(
                    f"a frame declares {size} bytes, at most {self.frame_bytes_max} are accepted"
                )
            self._check_piece(size & _PIECE_BYTES)
            piece = self._take(start, size & _PIECE_BYTES)
            if piece is None:
                return None
            payload = self._collect(piece, is_last=bool(size & LAST_PIECE))
            if payload is not None:
                return payload

    def _take(self, start: int, size: int) -> bytes | bytearray | None:
        end = start + size
        if len(self._buffer) < end:
            return None
        payload = self._buffer[start:end]
        if end == len(self._buffer):
            self._buffer, self._at = b"", 0  # an idle connection keeps no large buffer
        else:
            self._at = end
        return payload

    def _check_piece(self, size: int) -> None:
        if not size:
            raise BadMessage("a piece of a frame is empty")
        whole = size + len(self._collected or b"")
        if whole > self.frame_bytes_max:
            raise BadMessage(
                f"the pieces of a frame amount to {whole} bytes, at most {self.frame_bytes_max} "
                "are accepted"
            )

    def _collect(self, piece: bytes | bytearray, *, is_last: bool) -> bytearray | None:
        self.pieces += 1
        if self._collected is None:
            self._collected = bytearray()
        self._collected += piece
        if not is_last:
            return None
        payload, self._collected = self._collected, None
        return payload
