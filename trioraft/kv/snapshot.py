"""A key-value state as bytes, piece by piece, and back; neither way holds the content as a whole.

A magic, then frames: four bytes of length, and msgpack. The first frame is a `_KvHead`, then come
the pairs, the changes and the leases it counts, in parts of some kilobytes; nothing follows. What
cannot be read is refused before anything of the old state is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import attrs
import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import ConfigError
from ..core.types import Count, LogIndex
from ..machines.chunks import ChunkReader
from ..machines.log_clock import LogTime
from .commands import Change
from .history import size_bytes
from .leases import LeaseRecord, Record
from .sorted_map import MapView

MAGIC: Final = b"trioraft kv\n"
VERSION: Final = 1
"""Of the content; fields of its structs are only ever appended, with a default."""
VERSION_WITH_ENDS: Final = 2
"""Of one in which something ends by itself: a release that knows of no such thing must not read it
as if nothing did."""
PART_BYTES: Final = 64 * 1024
"""From this size on a part is closed."""
_LENGTH_BYTES: Final = 4
_LEASE_BYTES: Final = 32
"""About what one takes without its prefix."""


@attrs.frozen
class KvState:
    """All there is, as of one index."""

    index: LogIndex
    """Of the last command."""
    records: MapView[Record]
    changes: tuple[Change, ...]
    oldest_index: LogIndex
    """Changes before it are not kept."""
    leases: tuple[LeaseRecord, ...] = ()
    has_ends: bool = False
    """Whether there are leases, or keys that end by themselves."""
    log_time_s: float = 0.0


class _KvHead(msgspec.Struct, frozen=True, array_like=True):
    version: int
    index: Count
    records: Count
    changes: Count
    oldest_index: Count
    leases: Count = 0
    log_time_s: LogTime = 0.0


_Pairs = list[tuple[bytes, Record]]
_ENCODER = msgspec.msgpack.Encoder()
_HEADS = msgspec.msgpack.Decoder(_KvHead)
_PAIRS: msgspec.msgpack.Decoder[_Pairs] = msgspec.msgpack.Decoder(_Pairs)
_CHANGES: msgspec.msgpack.Decoder[list[Change]] = msgspec.msgpack.Decoder(list[Change])
_LEASES: msgspec.msgpack.Decoder[list[LeaseRecord]] = msgspec.msgpack.Decoder(list[LeaseRecord])

T = TypeVar("T")


def encode_state(state: KvState) -> Iterator[bytes]:
    """The content of a snapshot, in chunks."""
    head = _KvHead(
        VERSION_WITH_ENDS if state.has_ends else VERSION,
        state.index,
        len(state.records),
        len(state.changes),
        state.oldest_index,
        len(state.leases),
        state.log_time_s,
    )
    yield MAGIC + _frame(head)
    yield from _parts(state.records.items(), lambda pair: len(pair[0]) + len(pair[1].value))
    yield from _parts(state.changes, size_bytes)
    yield from _parts(state.leases, lambda lease: len(lease.prefix) + _LEASE_BYTES)


@attrs.frozen
class Restored:
    """What a snapshot held; each is to be read once, and in this order."""

    index: LogIndex
    oldest_index: LogIndex
    log_time_s: float
    parts: Iterator[list[tuple[bytes, Record]]]
    """Keys with what is kept of them, some at a time."""
    changes: Iterator[Change]
    leases: Iterator[LeaseRecord]


def decode_state(chunks: Iterable[bytes]) -> Restored:
    """What `encode_state` made.

    Raises:
        ConfigError: it is not a key-value snapshot, or of a later version; also while it is read.
    """
    reader = ChunkReader(chunks)
    if reader.read(len(MAGIC)) != MAGIC:
        raise ConfigError(
            "the snapshot is not one of a key-value machine: give the node the machine that it "
            "was created with"
        )
    frames = _Frames(reader)
    head = frames.next(_HEADS)
    if head.version not in (VERSION, VERSION_WITH_ENDS):
        raise ConfigError(
            f"the key-value snapshot has version {head.version}, this release reads "
            f"{VERSION_WITH_ENDS}: run a release that reads it"
        )
    return Restored(
        head.index,
        head.oldest_index,
        head.log_time_s,
        map(_with_revisions, frames.parts(_PAIRS, head.records)),
        frames.items(_CHANGES, head.changes),
        frames.items(_LEASES, head.leases),
    )


def _with_revisions(pairs: _Pairs) -> _Pairs:
    """Before there were revisions, it was not kept how old a key is."""
    if all(record.version for _, record in pairs):
        return pairs
    return [
        (key, record)
        if record.version
        else (key, Record(record.value, record.changed_index, record.changed_index, 1))
        for key, record in pairs
    ]


def _parts(items: Iterable[T], size_bytes: Callable[[T], int]) -> Iterator[bytes]:
    part: list[T] = []
    taken = 0
    for item in items:
        part.append(item)
        taken += size_bytes(item)
        if taken >= PART_BYTES:
            yield _frame(part)
            part, taken = [], 0
    if part:
        yield _frame(part)


def _frame(content: object) -> bytes:
    encoded = _ENCODER.encode(content)
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


class _Frames:
    """Reads frames."""

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader

    def next(self, decoder: msgspec.msgpack.Decoder[T]) -> T:
        """The next frame."""
        length = int.from_bytes(self._reader.read(_LENGTH_BYTES), "big")
        content = self._reader.read(length)
        try:
            return decoder.decode(content)
        except UNREADABLE as error:
            raise ConfigError(f"the key-value snapshot cannot be read: {error}") from error

    def items(self, decoder: msgspec.msgpack.Decoder[list[T]], count: int) -> Iterator[T]:
        """So many items, from as many frames as hold them."""
        for part in self.parts(decoder, count):
            yield from part

    def parts(self, decoder: msgspec.msgpack.Decoder[list[T]], count: int) -> Iterator[list[T]]:
        """Likewise, frame by frame."""
        missing = count
        while missing > 0:
            part = self.next(decoder)
            if not part:
                raise ConfigError("the key-value snapshot cannot be read: it has an empty part")
            missing -= len(part)
            yield part
