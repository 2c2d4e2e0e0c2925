"""Frames: a length, then that many bytes, and nothing that trusts either.

Rules of this file:

* A frame is four bytes of big-endian length, then that many bytes of msgpack.
* A declared length is compared with its bound before anything is allocated for it, and a buffer
  grows only by bytes that have really arrived.
* No byte is copied more than a constant number of times, however the stream is cut up.
"""

from __future__ import annotations

from typing import Final, final

from ..core.errors import BadMessage

LENGTH_BYTES: Final = 4
"""Size of the length that opens a frame."""

FIRST_FRAME_BYTES_MAX: Final = 4096
"""Largest frame before it is known who is there."""

RECEIVE_BYTES_MAX: Final = 64 * 1024
"""Bytes taken from a socket at once. Larger reads cost more than they save: malloc then maps and
unmaps pages for each."""

UNREADABLE: Final = (ValueError, OverflowError, RecursionError, MemoryError)
"""What decoding somebody else's bytes may raise. ValueError: msgspec's own errors and broken UTF-8.
RecursionError: deep nesting in fields beyond the known ones, which are skipped, not read."""


def frame_of(payload: bytes) -> bytes:
    """Put the length before a payload."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


@final
class Deframer:
    """Cuts a byte stream into payloads: `feed` it what arrived, then take `next_payload`s.

    Args:
        frame_bytes_max: largest payload accepted. May be changed between two payloads: the bound
            before a handshake is much smaller than after it.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer: bytes | bytearray = b""
        self._at = 0  # everything before this offset was taken

    @property
    def pending(self) -> bool:
        """Whether a frame has begun that `next_payload` could not return yet."""
        return len(self._buffer) > self._at

    def feed(self, data: bytes | bytearray) -> None:
        """Add what arrived. Take `next_payload` until it is None before feeding again: that is
        where a frame that is too large is noticed before it is collected."""
        if not self.pending:
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
            BadMessage: the frame declares more bytes than are accepted.
        """
        start = self._at + LENGTH_BYTES
        if len(self._buffer) < start:
            return None
        size = int.from_bytes(self._buffer[self._at : start], "big")
        if size > self.frame_bytes_max:
            raise BadMessage(
                f"a frame declares {size} bytes, at most {self.frame_bytes_max} are accepted"
            )
        end = start + size
        if len(self._buffer) < end:
            return None
        payload = self._buffer[start:end]
        if end == len(self._buffer):
            self._buffer, self._at = b"", 0  # an idle connection keeps no large buffer
        else:
            self._at = end
        return payload
