"""What members say to each other, and what their log holds. Frozen: format 1."""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias

import msgspec


class EntryKind(enum.IntEnum):
    """What a log entry carries."""

    COMMAND = 0
    "A command for the state machine."
    NOOP = 1
    "A leader's first entry in its term (paper, section 8); carries nothing."
    CONFIGURATION = 2
    "A cluster membership (paper, section 6)."


NUMBER_MAX: Final = 2**62

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]

LogIndex: TypeAlias = Count

Term: TypeAlias = Count


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    index: LogIndex
    term: Term
    data: bytes = b""
    kind: Annotated[int, msgspec.Meta(ge=0, le=int(max(EntryKind)))] = 0


NodeId: TypeAlias = str


class HardState(msgspec.Struct, frozen=True, array_like=True):
    term: Term = 0
    voted_for: NodeId | None = None
    promised_ms: Count = 0


Address: TypeAlias = tuple[str, int]

Incarnation: TypeAlias = Count


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    addresses: dict[NodeId, Address] = {}
    index: LogIndex = 0
    disks: dict[NodeId, Incarnation] = {}
    returning: tuple[NodeId, ...] = ()


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    index: LogIndex
    term: Term
    configuration: Configuration
    size_bytes: Count
    checksum: Count


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    sender: NodeId
    receiver: NodeId
    term: Term
    last_log_index: LogIndex
    last_log_term: Term
    leadership_transfer: bool = False


class RequestVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=2):
    sender: NodeId
    receiver: NodeId
    term: Term
    vote_granted: bool
    removed_index: LogIndex = 0


class RequestPreVote(msgspec.Struct, frozen=True, array_like=True, tag=3):
    sender: NodeId
    receiver: NodeId
    term: Term
    next_term: Term
    last_log_index: LogIndex
    last_log_term: Term
    asked_ms: Count = 0


class RequestPreVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=4):
    sender: NodeId
    receiver: NodeId
    term: Term
    next_term: Term
    vote_granted: bool
    removed_index: LogIndex = 0
    asked_ms: Count = 0


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=5):
    sender: NodeId
    receiver: NodeId
    term: Term
    prev_log_index: LogIndex
    prev_log_term: Term
    entries: tuple[Entry, ...]
    leader_commit: LogIndex
    round: Count = 0
    round_trip_ms: Count = 0


class AppendEntriesReply(msgspec.Struct, frozen=True, array_like=True, tag=6):
    sender: NodeId
    receiver: NodeId
    term: Term
    success: bool
    match_index: LogIndex
    rejected_index: LogIndex = 0
    conflict_index: LogIndex = 0
    conflict_term: Term = 0
    round: Count = 0
    promise_ms: Count = 0


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=7):
    sender: NodeId
    receiver: NodeId
    term: Term
    meta: SnapshotMeta
    offset: Count
    data: bytes
    round: Count = 0


class InstallSnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=8):
    sender: NodeId
    receiver: NodeId
    term: Term
    meta: SnapshotMeta
    next_offset: Count
    installed: bool = False
    round: Count = 0
    is_damaged: bool = False


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=9):
    sender: NodeId
    receiver: NodeId
    term: Term
    next_round: Count = 0


class RequestReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=10):
    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count


class RequestReadIndexReply(msgspec.Struct, frozen=True, array_like=True, tag=11):
    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count
    read_index: LogIndex
    removed_index: LogIndex = 0


MEMBERS_MAX: Final = 64

NONCES_MAX: Final = 64

OwnIncarnation: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]

SEEN_MAX: Final = 8


class Introduction(msgspec.Struct, frozen=True, array_like=True, tag=12):
    sender: NodeId
    receiver: NodeId
    term: Term
    incarnation: OwnIncarnation
    voters: Annotated[tuple[NodeId, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()
    record: Annotated[dict[NodeId, Incarnation], msgspec.Meta(max_length=MEMBERS_MAX)] | None = None
    uuid: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")] | None = None
    formed: bool = False
    opening: tuple[Count, Count] = (0, 0)
    remembered: tuple[Incarnation, Count, Count] | None = None
    wants_reply: bool = False
    nonces: Annotated[tuple[Count, ...], msgspec.Meta(max_length=NONCES_MAX)] = ()
    clients_at: Address | None = None
    seen_at: Annotated[dict[NodeId, Address], msgspec.Meta(max_length=SEEN_MAX)] = {}


class ResultsCheck(msgspec.Struct, frozen=True, array_like=True, tag=13):
    sender: NodeId
    receiver: NodeId
    term: Term
    index: LogIndex
    checksum: Count
    voters: tuple[NodeId, ...] = ()


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=14):
    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count
    data: bytes


REFUSAL_CHARS_MAX: Final = 1000


class Forwarded(msgspec.Struct, frozen=True, array_like=True, tag=15):
    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count
    index: LogIndex = 0
    refusal: Annotated[str, msgspec.Meta(max_length=REFUSAL_CHARS_MAX)] = ""
    is_final: bool = False


Message: TypeAlias = (
    RequestVote
    | RequestVoteReply
    | RequestPreVote
    | RequestPreVoteReply
    | AppendEntries
    | AppendEntriesReply
    | InstallSnapshot
    | InstallSnapshotReply
    | TimeoutNow
    | RequestReadIndex
    | RequestReadIndexReply
    | Introduction
    | ResultsCheck
    | Forward
    | Forwarded
)


class PeerHello(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    version: int
    cluster_id: str
    sender: NodeId
    receiver: NodeId
    introduction: Introduction
    address: Address | None = None
    invitation: str = ""


class HelloReply(msgspec.Struct, frozen=True, array_like=True):
    magic: str
    version: int
    refused_because: str = ""
    introduction: Introduction | None = None
    invitation: str = ""


_NONCE_BYTES: Final = 16


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    cluster_id: str
    node_id: NodeId
    expires_s: int
    nonce: Annotated[bytes, msgspec.Meta(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]
