"""The key-value machine: its commands and results, and its snapshots. Frozen: format 1."""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias

import msgspec

from .objects import LOG_TIME_MAX_S, LogTime
from .peers import Count, LogIndex

KEY_BYTES_MAX: Final = 64 * 1024

Key: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=KEY_BYTES_MAX)]

LeaseId: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**62)]

TTL_MS_MAX: Final = 366 * 24 * 3600 * 1000

TtlMs: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=TTL_MS_MAX)]

VALUE_BYTES_MAX: Final = 4 * 1024 * 1024

Value: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)]


class Put(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    key: Key
    value: Value
    wants_previous: bool = False
    lease_id: LeaseId | None = None
    ttl_ms: TtlMs | None = None
    at_s: LogTime | None = None


class Append(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    key: Key
    value: Value
    wants_previous: bool = False


class Cas(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    key: Key
    expected: Value | None
    value: Value


class Delete(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    key: Key
    wants_previous: bool = False


NUMBER_MAX: Final = 2**63 - 1

NUMBER_MIN: Final = -(2**63)

Amount: TypeAlias = Annotated[int, msgspec.Meta(ge=NUMBER_MIN, le=NUMBER_MAX)]


class Increment(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    key: Key
    by: Amount = 1


CHANGES_MAX: Final = 1000


class DeleteRange(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    prefix: Key
    until: Key | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=CHANGES_MAX)] | None = None


VERSION: Final = b"\x01"


class CompareBy(enum.IntEnum):
    """What of a key is compared. Of an absent key the value is None, everything else 0."""

    VALUE = 0
    CHANGED_INDEX = 1
    CREATED_INDEX = 2
    VERSION = 3
    LEASE = 4
    COUNT = 5
    "How many keys there are in the range."


class CompareHow(enum.IntEnum):
    """How it is compared. None is neither below nor above any value."""

    EQUAL = 0
    UNEQUAL = 1
    LESS = 2
    LESS_OR_EQUAL = 3
    GREATER = 4
    GREATER_OR_EQUAL = 5


class Compare(msgspec.Struct, frozen=True, array_like=True, gc=False):
    key: Key
    by: CompareBy
    how: CompareHow
    operand: Value | Amount | None
    is_prefix: bool = False
    until: Key | None = None


class Get(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    key: Key


class RangeShows(enum.IntEnum):
    """What is wanted of a range."""

    PAIRS = 0
    KEYS = 1
    "Pairs without their values."
    COUNT = 2
    "No pairs, only how many there are."


class Range(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    prefix: Key = b""
    after: Key | None = None
    items_max: Annotated[int, msgspec.Meta(ge=1)] = 1000
    until: Key | None = None
    is_descending: bool = False
    shows: RangeShows = RangeShows.PAIRS
    unchanged_since: Count | None = None


class Look(msgspec.Struct, frozen=True, array_like=True, tag=6):
    query: Get | Range


COMPARES_MAX: Final = 128

OPERATIONS_MAX: Final = 128

Operation: TypeAlias = Put | Append | Delete | Increment | DeleteRange | Look

Operations: TypeAlias = Annotated[tuple[Operation, ...], msgspec.Meta(max_length=OPERATIONS_MAX)]


class Txn(msgspec.Struct, frozen=True, array_like=True, tag=7):
    compares: Annotated[tuple[Compare, ...], msgspec.Meta(max_length=COMPARES_MAX)] = ()
    then: Operations = ()
    otherwise: Operations = ()
    at_s: LogTime | None = None


LEASE_PREFIX_BYTES_MAX: Final = 1024

LeasePrefix: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=LEASE_PREFIX_BYTES_MAX)]


class GrantLease(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    ttl_ms: TtlMs
    prefix: LeasePrefix = b""
    value: Value | None = None
    at_s: LogTime | None = None


class KeepAlive(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    lease_id: LeaseId
    prefix: LeasePrefix = b""
    at_s: LogTime | None = None


class Revoke(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    lease_id: LeaseId
    prefix: LeasePrefix = b""


class Expire(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    at_s: LogTime


class Written(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    index: LogIndex
    existed: bool
    previous: bytes | None = None
    created_index: Count = 0
    version: Count = 0


class Swapped(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    index: LogIndex
    swapped: bool
    found: bytes | None
    changed_index: Count = 0
    created_index: Count = 0
    version: Count = 0


class Incremented(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    index: LogIndex
    number: int
    created_index: Count = 0
    version: Count = 0


class Deleted(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    index: LogIndex
    count: Count
    has_more: bool = False


class Found(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    index: LogIndex
    value: bytes | None
    changed_index: LogIndex = 0
    created_index: Count = 0
    version: Count = 0
    lease_id: Count = 0


class Pair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    key: bytes
    value: bytes
    changed_index: LogIndex
    created_index: Count = 0
    version: Count = 0
    lease_id: Count = 0


class Page(msgspec.Struct, frozen=True, array_like=True, tag=1):
    index: LogIndex
    pairs: tuple[Pair, ...]
    has_more: bool
    count: Count | None = None
    is_same: bool | None = None


class Looked(msgspec.Struct, frozen=True, array_like=True, tag=4):
    answer: Found | Page


OperationResult: TypeAlias = Written | Incremented | Deleted | Looked


class TxnDone(msgspec.Struct, frozen=True, array_like=True, tag=5):
    index: LogIndex
    succeeded: bool
    results: tuple[OperationResult, ...]


class Granted(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    index: LogIndex
    lease_id: LeaseId
    ttl_ms: TtlMs


class Changes(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    from_index: Count
    prefix: Key = b""
    changes_max: Annotated[int, msgspec.Meta(ge=1)] = 1000
    until: Key | None = None
    wants_previous: bool = False


class TimeToLive(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    lease_id: LeaseId
    prefix: LeasePrefix = b""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    index: LogIndex
    key: bytes
    value: bytes | None
    previous: bytes | None = None
    created_index: Count = 0
    version: Count = 0
    lease_id: Count = 0
    is_expired: bool = False


class Changed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    changes: tuple[Change, ...]
    next_index: LogIndex


class Compacted(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    oldest_index: LogIndex


class LeaseLife(msgspec.Struct, frozen=True, array_like=True, tag=4):
    index: LogIndex
    ttl_ms: Count
    remaining_ms: Count = 0
    keys: tuple[bytes, ...] = ()


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

Query: TypeAlias = Get | Range | Changes | TimeToLive

Result: TypeAlias = Written | Swapped | Incremented | Deleted | TxnDone | Granted

Answer: TypeAlias = Found | Page | Changed | Compacted | LeaseLife

EndTime: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=LOG_TIME_MAX_S + TTL_MS_MAX)]


class LeaseRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    lease_id: LeaseId
    ttl_ms: TtlMs
    prefix: bytes
    ends_at_s: EndTime


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    value: bytes
    changed_index: Count
    created_index: Count = 0
    version: Count = 0
    lease_id: Count = 0
    ends_at_s: EndTime | None = None


class _KvHead(msgspec.Struct, frozen=True, array_like=True):
    version: int
    index: Count
    records: Count
    changes: Count
    oldest_index: Count
    leases: Count = 0
    log_time_s: LogTime = 0.0
