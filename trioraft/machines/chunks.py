"""ChunkReader: a head of known length, then the rest, out of chunks that are cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import final

from ..core.errors import ConfigError

_LENGTH_BYTES = 8


def framed(magic: bytes, head: bytes) -> bytes:
    """A head, with its length and what says whose it is."""
    return head_of(magic, len(head)) + head


def head_of(magic: bytes, size_bytes: int) -> bytes:
    """What stands before a head of so many bytes that is handed out in pieces."""
    return magic + size_bytes.to_bytes(_LENGTH_BYTES, "big")


@final
class ChunkReader:
    """Reads what `framed` made, and leaves the rest."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._ahead = bytearray()

    def head_chunks(self, magic: bytes, whose: str) -> Iterator[bytes]:
        """The head, in the chunks in which it comes; to be read to its end before anything else.

        Args:
            magic: as it was given to `framed`.
            whose: for the error, as in "a SessionMachine".

        Raises:
            ConfigError: another machine wrote this; also later: it is cut short.
        """
        return self._in_chunks(self._head_bytes(magic, whose), whose)

    def _in_chunks(self, size_bytes: int, whose: str) -> Iterator[bytes]:
        left_bytes = size_bytes
        while left_bytes:
            chunk = bytes(self._ahead) if self._ahead else next(self._chunks, None)
            self._ahead.clear()
            if chunk is None:
                raise _cut_short(whose, size_bytes - left_bytes, size_bytes)
            self._ahead += chunk[left_bytes:]
            yield chunk[:left_bytes]
            left_bytes -= min(left_bytes, len(chunk))

    def head(self, magic: bytes, whose: str) -> bytes:
        """The head.

        Args:
            magic: as it was given to `framed`.
            whose: for the error, as in "a SessionMachine".

        Raises:
            ConfigError: another machine wrote this, or it is cut short.
        """
        size_bytes = self._head_bytes(magic, whose)
        head = self.read(size_bytes)
        if len(head) < size_bytes:
            raise _cut_short(whose, len(head), size_bytes)
        return head

    def _head_bytes(self, magic: bytes, whose: str) -> int:
        if self.read(len(magic)) != magic:
            raise ConfigError(
                f"the snapshot is not one of {whose}: give the node the state machine that its "
                "cluster was created with"
            )
        return int.from_bytes(self.read(_LENGTH_BYTES), "big")

    def begins_with(self, magic: bytes) -> bool:
        """Whether these bytes come next; nothing is read."""
        found = self.read(len(magic))
        self._ahead[:0] = found
        return found == magic

    def rest(self) -> Iterator[bytes]:
        """All that has not been read."""
        return chain((bytes(self._ahead),) if self._ahead else (), self._chunks)

    def read(self, size_bytes: int) -> bytes:
        """The next bytes; fewer if there are no more."""
        while len(self._ahead) < size_bytes:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._ahead += chunk
        content = bytes(self._ahead[:size_bytes])
        del self._ahead[:size_bytes]
        return content


def _cut_short(whose: str, read_bytes: int, size_bytes: int) -> ConfigError:
    return ConfigError(
        f"the snapshot of {whose} ends after {read_bytes} of {size_bytes} bytes of its head: it is "
        "damaged, or no snapshot of this machine"
    )
