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
from ..machines.log_clock import LogTime
from ..machines.sessions import UnknownCommand

VERSION: Final = b"\x01"
"""First byte of every command and query."""

KEY_BYTES_MAX: Final = 64 * 1024
"""Longest key; a longer one is refused when it is decoded, on every node alike."""
VALUE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest value, what is appended to it included."""

COMPARES_MAX: Final = 128
"""Comparisons of one transaction."""
OPERATIONS_MAX: Final = 128
"""Operations in each branch of a transaction."""
CHANGES_MAX: Final = 1000
"""Keys that one command changes, at most."""
COMPARED_KEYS_MAX: Final = 10_000
"""Keys that the comparisons of one transaction look at, at most."""
TXN_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of keys and values that one transaction writes; and likewise of those that it answers."""
TTL_MS_MAX: Final = 366 * 24 * 3600 * 1000
"""Longest life of a lease, or of a key, in milliseconds."""
LEASE_PREFIX_BYTES_MAX: Final = 1024
"""Longest prefix of a lease."""
LEASES_MAX: Final = 100_000
"""Leases that there are at the same time."""
LEASE_KEYS_MAX: Final = 1000
"""Keys that belong to one lease."""
NUMBER_MIN: Final = -(2**63)
NUMBER_MAX: Final = 2**63 - 1

Key: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=KEY_BYTES_MAX)]
Value: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)]


LeaseId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
"""The log index of its grant."""
LeasePrefix: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=LEASE_PREFIX_BYTES_MAX)]
TtlMs: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=TTL_MS_MAX)]
Amount: TypeAlias = Annotated[int, msgspec.Meta(ge=NUMBER_MIN, le=NUMBER_MAX)]


class ValueTooLarge(RaftError):  # noqa: N818 - what happened, as in the other errors of this kind
    """The value would become longer than `VALUE_BYTES_MAX`, or a number beyond 64 bits; nothing
    was changed.

    Fault: the caller's.
    Remedy: go on in another key.
    """


class NotANumber(RaftError):  # noqa: N818 - as above
    """What is to be incremented is no decimal number of 64 bits; nothing was changed.

    Fault: the caller's.
    Remedy: look at the value, and put a number there first.
    """


class RequestTooLarge(RaftError):  # noqa: N818 - as above
    """One command would change, look at, write or answer too much at once; nothing was changed.

    Fault: the caller's.
    Remedy: do it in several steps, or give a limit.
    """


class LeaseNotFound(RaftError):  # noqa: N818 - as above
    """There is no such lease (any more): it is over, or was revoked; nothing was changed.

    Fault: nobody's, if it was not renewed in time; the caller's, if it was never granted so.
    Remedy: grant another, and put again what belonged to it.
    """


class LeaseRefused(RaftError):  # noqa: N818 - as above
    """There are too many leases, or keys of one, or the key is not one that it may have;
    nothing was changed.

    Fault: the caller's.
    Remedy: revoke what is not needed, or grant a lease with a prefix that the key begins with.
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
    """Set a key's value. It belongs to no lease but the one that is named. Result: `Written`."""

    key: Key
    value: Value
    wants_previous: bool = False
    lease_id: LeaseId | None = None
    """The key goes with this lease."""
    ttl_ms: TtlMs | None = None
    """The key goes after so long, by log time, unless it is put again."""
    at_s: LogTime | None = None
    """When it was proposed, if that matters; whoever proposes it puts it in."""


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


class Increment(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Add to a number, which is kept as decimal text; an absent one is 0. Result: `Incremented`."""

    key: Key
    by: Amount = 1


class DeleteRange(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Remove the keys that begin with `prefix`, or those from `prefix` up to `until`, which is not
    one of them. Result: `Deleted`."""

    prefix: Key
    until: Key | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=CHANGES_MAX)] | None = None
    """Only the first so many; None: all, and none if there are more than `CHANGES_MAX`."""


class CompareBy(enum.IntEnum):
    """What of a key is compared. Of an absent key the value is None, everything else 0."""

    VALUE = 0
    CHANGED_INDEX = 1
    CREATED_INDEX = 2
    VERSION = 3
    LEASE = 4
    COUNT = 5
    """How many keys there are in the range."""


class CompareHow(enum.IntEnum):
    """How it is compared. None is neither below nor above any value."""

    EQUAL = 0
    UNEQUAL = 1
    LESS = 2
    LESS_OR_EQUAL = 3
    GREATER = 4
    GREATER_OR_EQUAL = 5


class Compare(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that must hold of a key, or of every key of a range."""

    key: Key
    by: CompareBy
    how: CompareHow
    operand: Value | Amount | None
    is_prefix: bool = False
    """Of all keys that begin with `key`."""
    until: Key | None = None
    """Of all keys from `key` up to this one, which is not one of them."""


class Look(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A question within a transaction. Result: `Looked`."""

    query: Get | Range


Operation: TypeAlias = Put | Append | Delete | Increment | DeleteRange | Look
"""What a transaction may do."""
Operations: TypeAlias = Annotated[tuple[Operation, ...], msgspec.Meta(max_length=OPERATIONS_MAX)]


class Txn(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """If all comparisons hold, do the one list of operations, else the other, in order, as one
    command: an operation that fails undoes those before it. Result: `TxnDone`."""

    compares: Annotated[tuple[Compare, ...], msgspec.Meta(max_length=COMPARES_MAX)] = ()
    then: Operations = ()
    otherwise: Operations = ()
    at_s: LogTime | None = None
    """When it was proposed; put in by whoever proposes it, if a key shall have a `ttl_ms`."""


class GrantLease(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Grant a lease: keys that are put with it go when it ends. Result: `Granted`."""

    ttl_ms: TtlMs
    prefix: LeasePrefix = b""
    """Of the keys that may belong to it, and part of its name."""
    value: Value | None = None
    """None: no key yet. Else there is one at once, `ordered_key(prefix, lease_id)`, with this."""
    at_s: LogTime | None = None


class KeepAlive(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Have a lease end a whole `ttl_ms` from now on. Result: `Granted`."""

    lease_id: LeaseId
    prefix: LeasePrefix = b""
    at_s: LogTime | None = None


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """End a lease now, and all keys that belong to it. Result: `Deleted`."""

    lease_id: LeaseId
    prefix: LeasePrefix = b""


class Expire(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """End what is over by log time; whoever leads proposes it. Result: `Deleted`."""

    at_s: LogTime


Command: TypeAlias = (
    Put
    | Append
    | Cas
    | Delete
    | Increment
    | DeleteRange
    | Txn
    | GrantLease
    | KeepAlive
    | Revoke
    | Expire
)


def ordered_key(prefix: bytes, lease_id: LeaseId) -> bytes:
    """The key that a `GrantLease` with a value makes: by key is by age.

    Args:
        prefix: what all of the keys begin with.
        lease_id: of the lease that it belongs to.
    """
    return prefix + b"%016x" % lease_id


class Written(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A key was put, appended to or deleted."""

    index: LogIndex
    existed: bool
    """Whether the key had a value before."""
    previous: bytes | None = None
    """That value, if it was asked for."""
    created_index: Count = 0
    """Of the command since which the key is there; 0: it is not."""
    version: Count = 0
    """How often it was written since then."""


class Swapped(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """How a compare-and-set went."""

    index: LogIndex
    swapped: bool
    found: bytes | None
    """The value that was found; None if the key was absent."""
    changed_index: Count = 0
    """Of the command that last changed the key, this one included; 0: it is absent."""
    created_index: Count = 0
    version: Count = 0


class Incremented(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A number was added to."""

    index: LogIndex
    number: int
    """What it is now."""
    created_index: Count = 0
    version: Count = 0


class Deleted(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Some keys were removed."""

    index: LogIndex
    count: Count
    has_more: bool = False
    """Whether there are more than were to be removed."""


class Looked(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer to a `Look`."""

    answer: Found | Page


OperationResult: TypeAlias = Written | Incremented | Deleted | Looked


class TxnDone(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What a transaction did."""

    index: LogIndex
    succeeded: bool
    """Whether the comparisons held."""
    results: tuple[OperationResult, ...]
    """Of the operations of that branch, in order."""


class Granted(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A lease was granted, or renewed."""

    index: LogIndex
    lease_id: LeaseId
    ttl_ms: TtlMs


Result: TypeAlias = Written | Swapped | Incremented | Deleted | TxnDone | Granted

# -- queries -------------------------------------------------------------------------------


class Get(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A key's value. Answer: `Found`."""

    key: Key


class RangeShows(enum.IntEnum):
    """What is wanted of a range."""

    PAIRS = 0
    KEYS = 1
    """Pairs without their values."""
    COUNT = 2
    """No pairs, only how many there are."""


class Range(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The pairs whose keys begin with `prefix`, by key. Answer: `Page`."""

    prefix: Key = b""
    after: Key | None = None
    """Only keys behind this one: the last one of the page before."""
    items_max: Annotated[int, msgspec.Meta(ge=1)] = 1000
    until: Key | None = None
    """Those from `prefix` up to this one, which is not one of them, instead."""
    is_descending: bool = False
    """From the last key on; `after` is one that they are all before, then."""
    shows: RangeShows = RangeShows.PAIRS
    unchanged_since: Count | None = None
    """The index of the first page: `Page.is_same` says whether nothing has changed since."""


class Changes(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """What changed from an index on. Answer: `Changed`, or `Compacted`."""

    from_index: Count
    prefix: Key = b""
    changes_max: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """About so many: the changes of one command stay together."""
    until: Key | None = None
    """Of the keys from `prefix` up to this one, which is not one of them, instead."""
    wants_previous: bool = False
    """Whether the values before are wanted."""


class TimeToLive(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """How long a lease lasts. Answer: `LeaseLife`."""

    lease_id: LeaseId
    prefix: LeasePrefix = b""


Query: TypeAlias = Get | Range | Changes | TimeToLive


class Found(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A key as it is."""

    index: LogIndex
    """The answer holds as of this index: watch from the next one to miss nothing."""
    value: bytes | None
    """None: the key is absent."""
    changed_index: LogIndex = 0
    """Of the command that last changed it; 0 if the key is absent."""
    created_index: Count = 0
    """Of the command since which the key is there; 0 if it is absent."""
    version: Count = 0
    """How often it was written since then, the first time included."""
    lease_id: Count = 0
    """Of the lease that it goes with; 0: none."""


class Pair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key with its value."""

    key: bytes
    value: bytes
    """Empty if only keys were asked for."""
    changed_index: LogIndex
    """Of the command that last changed it."""
    created_index: Count = 0
    """Of the command since which the key is there."""
    version: Count = 0
    """How often it was written since then, the first time included."""
    lease_id: Count = 0
    """Of the lease that it goes with; 0: none."""


class Page(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Some pairs, all as of one index."""

    index: LogIndex
    pairs: tuple[Pair, ...]
    has_more: bool
    """Whether there are pairs behind the last one: ask again with `after` its key."""
    count: Count | None = None
    """How many keys there are in all, if that was asked for."""
    is_same: bool | None = None
    """Whether no key of the range has changed since `unchanged_since`; None: that was not asked
    for, or cannot be told any more."""


class ChangeKind(enum.IntEnum):
    """What happened to a key."""

    SET = 0
    DELETED = 1
    EXPIRED = 2
    """Its own time was over, or that of its lease."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one key."""

    index: LogIndex
    key: bytes
    value: bytes | None
    """The whole new value; None: the key was deleted."""
    previous: bytes | None = None
    """The value before, if it was asked for; None: there was none, too."""
    created_index: Count = 0
    """Of the command since which the key is there, or was until now."""
    version: Count = 0
    """How often it was written since then; 0: it is gone."""
    lease_id: Count = 0
    """Of the lease that it goes with, or went with."""
    is_expired: bool = False

    @property
    def kind(self) -> ChangeKind:
        """What happened to the key."""
        if self.value is not None:
            return ChangeKind.SET
        return ChangeKind.EXPIRED if self.is_expired else ChangeKind.DELETED


class Changed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Changes, in the order in which they were made."""

    changes: tuple[Change, ...]
    next_index: LogIndex
    """Ask from here on next."""


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The changes that were asked for are not kept any more."""

    oldest_index: LogIndex
    """Those from here on are."""


class LeaseLife(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A lease as it is."""

    index: LogIndex
    ttl_ms: Count
    """What it was granted for; 0: there is no such lease."""
    remaining_ms: Count = 0
    """Until it ends, by the clock of the server that answers."""
    keys: tuple[bytes, ...] = ()
    """Those that belong to it, in order."""


Answer: TypeAlias = Found | Page | Changed | Compacted | LeaseLife

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
