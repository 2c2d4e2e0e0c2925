"""The running checksum of results: equal on all replicas, or something has gone wrong.

* It chains (index, result) of every command, as msgpack with sets and maps sorted; an exception by
  its type only, and what cannot be encoded by the name of its type. It does not depend on slices.
* It stands before the content of every snapshot, so that it goes on after one is restored. A
  snapshot without it (of an earlier release) makes it unknown from there on.
* A machine whose snapshots are canonical has its whole state chained in now and then, too.
* So does `OutcomeUnknown` out of `apply`: this node's class is too old to say.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final, final

import msgspec

from ..core.errors import OutcomeUnknown
from ..core.types import LogIndex
from .state_machine import StateMachine

CONTENTS_EVERY: Final = 4096
"""At each index that is a multiple of this (and so of `POINTS_EVERY`), where there is a command or
not, the content of a canonical machine is chained in."""
_MAGIC: Final = b"trioraft results\n"
_HEAD_BYTES: Final = len(_MAGIC) + 5


PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types of results that cannot change after they were given."""


def _array_head_bytes(count: int) -> int:
    """How msgpack tells the length of an array."""
    return 1 if count < 16 else 3 if count < 65_536 else 5


def _name_of(value: object) -> str:
    return type(value).__qualname__


@final
class RunningChecksum:
    """Of all results up to an index.

    Args:
        checksum: with which it begins; None: unknown.
        note: told the checksum at each multiple of `POINTS_EVERY`.
        contents: the state as bytes, the same for equal states; None: it cannot be compared.
    """

    def __init__(
        self,
        checksum: int | None,
        note: Callable[[LogIndex, int], None],
        contents: Callable[[], bytes | Iterable[bytes]] | None = None,
    ) -> None:
        self._checksum = checksum
        self._note = note
        self._contents = contents
        self.plain: Final[list[Any]] = []
        """Index, result, index, result, … of those that cannot change, not encoded yet."""
        encoder = msgspec.msgpack.Encoder(enc_hook=_name_of, order="deterministic")
        self._encode = encoder.encode

    def add(self, index: LogIndex, value: Any) -> None:
        """The command at this index returned this."""
        if type(value) in PLAIN:
            self.plain.extend((index, value))
            return
        if self.plain:
            self._chain_plain()
        try:  # at once: what changes later is no longer the result
            encoded = self._encode((index, value))
        except Exception:  # noqa: BLE001 - an encoder's, or of code in the value itself
            encoded = self._encode((index, _name_of(value)))
        self._chain(encoded)

    def _chain(self, encoded: bytes) -> None:
        if self._checksum is not None:
            self._checksum = zlib.crc32(encoded, self._checksum)

    def _chain_plain(self) -> None:
        """What cannot change is encoded all at once. How much that is differs from node to node, so
        the length that msgpack puts in front of it is left out."""
        plain = self.plain
        if not plain:
            return
        try:
            self._chain(self._encode(plain)[_array_head_bytes(len(plain)) :])
        except Exception:  # noqa: BLE001 - a number or a text that msgpack does not have
            for pair in zip(plain[::2], plain[1::2], strict=True):
                try:
                    encoded = self._encode(pair)
                except Exception:  # noqa: BLE001 - this one
                    encoded = self._encode((pair[0], _name_of(pair[1])))
                self._chain(encoded[_array_head_bytes(2) :])
        plain.clear()

    def add_error(self, index: LogIndex, error: Exception) -> None:
        """The command at this index raised this."""
        if isinstance(error, OutcomeUnknown):
            self._checksum = None
        self.add(index, [_name_of(error)])

    def point(self, index: LogIndex) -> None:
        """All entries up to this multiple of `POINTS_EVERY` were applied."""
        checksum = self.value
        if checksum is not None and self._contents is not None and index % CONTENTS_EVERY == 0:
            content = self._contents()
            for chunk in (content,) if isinstance(content, bytes) else content:
                checksum = zlib.crc32(chunk, checksum)
            self._checksum = checksum
        if checksum is not None:
            self._note(index, checksum)

    @property
    def value(self) -> int | None:
        """The checksum of all that was added; None: unknown."""
        self._chain_plain()
        return self._checksum

    def restart(self, checksum: int | None) -> None:
        """A snapshot was restored that has this one."""
        self.plain.clear()
        self._checksum = checksum

    def head(self) -> bytes:
        """What stands before the content of a snapshot that is taken now."""
        value = self.value
        return _MAGIC + (b"\0" if value is None else b"\1") + (value or 0).to_bytes(4, "big")


def restore(machine: StateMachine, chunks: Iterable[bytes]) -> int | None:
    """Bring a state machine to where a snapshot stands.

    Args:
        machine: whose state is replaced.
        chunks: the content of the snapshot, cut anywhere.

    Returns:
        The checksum of the results up to there; None: unknown.
    """
    pieces = iter(chunks)
    head, rest = split(pieces)
    machine.restore(rest)
    return head


def split(pieces: Iterator[bytes]) -> tuple[int | None, Iterator[bytes]]:
    """The checksum that stands before the content of a snapshot, if it is known; and the rest,
    which is the state machine's own."""
    ahead = b""
    for piece in pieces:
        ahead += piece
        if len(ahead) >= _HEAD_BYTES:
            break
    if not ahead.startswith(_MAGIC) or len(ahead) < _HEAD_BYTES:
        return None, chain((ahead,), pieces)
    is_known = ahead[len(_MAGIC)] == 1
    checksum = int.from_bytes(ahead[len(_MAGIC) + 1 : _HEAD_BYTES], "big")
    content = ahead[_HEAD_BYTES:]
    return (checksum if is_known else None), chain((content,), pieces)
