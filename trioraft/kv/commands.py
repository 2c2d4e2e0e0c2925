"""What a key-value service is told and what it answers: commands, queries, results.

Commands stand in the log for ever: fields are only ever appended, with a default, and what an old
node would misread needs another version byte.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec

from ..core.errors import RaftError
from ..core.types import Count, LogIndex
from ..machines.sessions import UnknownCommand

VERSION: Final = b"\x01"
"""First byte of every command and query."""

KEY_BYTES_MAX: Final = 64 * 1024
"""Longest key; a longer one is refused when it is decoded, on every node alike."""
VALUE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest value, what is appended to it included."""

Key: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=KEY_BYTES_MAX)]
Value: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)]


class ValueTooLarge(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """An append would make the value longer than `VALUE_BYTES_MAX`; nothing was changed.

    Fault: the caller's.
    Remedy: go on in another key.
    """


class HistoryCompacted(RaftError):  # noqa: N818 - as above
    """The changes that a watch asks for are not kept any more.

    Fault: nobody's: the watcher was away for longer than the history that is kept.
    Remedy: read the keys that matter, and watch from the index after the one that came with them.

    Attributes:
        oldest_index: a watch may begin here.
    """

    def __init__(self, from_index: LogIndex, oldest_index: LogIndex) -> None:
        self.from_index = from_index
        self.oldest_index = oldest_index
        super().__init__(
            f"changes from index {from_index} on are asked for, but those before {oldest_index} "
            "are not kept any more: read the keys that matter, and watch from the index after "
            "the one that came with them"
        )


# -- commands ------------------------------------------------------------------------------


class Put(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Set a key's value. Result: `Written`."""

    key: Key
    value: Value
    wants_previous: bool = False


class Append(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Append to a key's value; an absent one counts as empty. Result: `Written`."""

    key: Key
    value: Value
    wants_previous: bool = False


class Cas(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Set a key's value if it is `expected` (None: if the key is absent). Result: `Swapped`."""

    key: Key
    expected: Value | None
    value: Value


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Remove a key. Result: `Written`."""

    key: Key
    wants_previous: bool = False


Command: TypeAlias = Put | Append | Cas | Delete


class Written(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A key was put, appended to or deleted."""

    index: LogIndex
    existed: bool
    """Whether the key had a value before."""
    previous: bytes | None = None
    """That value, if it was asked for."""


class Swapped(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """How a compare-and-set went."""

    index: LogIndex
    swapped: bool
    found: bytes | None
    """The value that was found; None if the key was absent."""


Result: TypeAlias = Written | Swapped

# -- queries -------------------------------------------------------------------------------


class Get(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A key's value. Answer: `Found`."""

    key: Key


class Range(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The pairs whose keys begin with `prefix`, by key. Answer: `Page`."""

    prefix: Key = b""
    after: Key | None = None
    """Only keys behind this one: the last one of the page before."""
    items_max: Annotated[int, msgspec.Meta(ge=1)] = 1000


class Changes(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """What changed from an index on. Answer: `Changed`, or `Compacted`."""

    from_index: Count
    prefix: Key = b""
    changes_max: Annotated[int, msgspec.Meta(ge=1)] = 1000


Query: TypeAlias = Get | Range | Changes


class Found(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A key as it is."""

    index: LogIndex
    """The answer holds as of this index: watch from the next one to miss nothing."""
    value: bytes | None
    """None if the key is absent."""
    changed_index: LogIndex = 0
    """Of the command that last changed it; 0 if it is absent."""


class Pair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key with its value."""

    key: bytes
    value: bytes
    changed_index: LogIndex
    """Of the command that last changed it."""


class Page(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Some pairs, all as of one index."""

    index: LogIndex
    pairs: tuple[Pair, ...]
    has_more: bool
    """Whether there are pairs behind the last one: ask again with `after` its key."""


class ChangeKind(enum.IntEnum):
    """What happened to a key."""

    SET = 0
    DELETED = 1


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one key."""

    index: LogIndex
    key: bytes
    value: bytes | None
    """The whole new value; None: the key was deleted."""

    @property
    def kind(self) -> ChangeKind:
        """What happened to the key."""
        return ChangeKind.DELETED if self.value is None else ChangeKind.SET


class Changed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Changes, in the order in which they were made."""

    changes: tuple[Change, ...]
    next_index: LogIndex
    """Ask from here on next."""


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The changes that were asked for are not kept any more."""

    oldest_index: LogIndex
    """Those from here on are."""


Answer: TypeAlias = Found | Page | Changed | Compacted

# -- codecs --------------------------------------------------------------------------------

_R = TypeVar("_R", Command, Query)
_ENCODER = msgspec.msgpack.Encoder()
_COMMANDS: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_QUERIES: msgspec.msgpack.Decoder[Query] = msgspec.msgpack.Decoder(Query)


def encode(request: Command | Query) -> bytes:
    """A command for `KvMachine.apply`, or a query for `KvMachine.query`."""
    return VERSION + _ENCODER.encode(request)


def decode_command(data: bytes) -> Command:
    """What `encode` made.

    Raises:
        UnknownCommand: it is of a later version, or nothing of the kind.
    """
    return _decoded(_COMMANDS, data, "command")


def decode_query(data: bytes) -> Query:
    """What `encode` made.

    Raises:
        UnknownCommand: it is of a later version, or nothing of the kind.
    """
    try:
        return _decoded(_QUERIES, data, "query")
    except RecursionError as error:  # of a question, it is its asker's: no other node sees it
        raise UnknownCommand(f"a key-value query cannot be read: {error}") from error


def _decoded(decoder: msgspec.msgpack.Decoder[_R], data: bytes, what: str) -> _R:
    if data[:1] != VERSION:
        raise UnknownCommand(
            f"a key-value request of version {data[:1].hex() or 'none'}; this release reads "
            f"{VERSION.hex()}: encode requests with trioraft.kv, and upgrade every node before "
            "any client speaks a later version"
        )
    try:
        return decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise UnknownCommand(f"a key-value {what} cannot be read: {error}") from error
