"""Every message that crosses the wire.

Rules of this file:

* A message is a frozen, tagged, array-like `msgspec.Struct`; decoding validates its types.
* Every message bears `sender`, `receiver` and the sender's own `term`. `Raft.step` looks at the
  term once for all of them; `RequestPreVote` alone never moves the receiver's term. What is the
  member's (`MEMBERS_OWN`) never gets there.
* A pre-vote and a vote are different types, as are their replies: one cannot be taken for the
  other (hazard V4).
* Fields are only ever appended, with a default; tags are never reused.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from .types import (
    FEATURES_MAX,
    MEMBERS_MAX,
    NUMBER_MAX,
    Address,
    Count,
    Entry,
    FeatureName,
    Incarnation,
    LogIndex,
    NodeId,
    SnapshotMeta,
    Term,
    TraceContext,
)

SEEN_MAX: Final = 8
"""Most members that a node tells of; with all, a handshake would be too large."""

OwnIncarnation: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
"""What a node says of its own disk: always a number."""

NONCES_MAX: Final = 64
"""Most openings of its disk that a node tells the numbers of."""


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A candidate asks for a vote in `term` (paper, figure 2)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    last_log_index: LogIndex
    last_log_term: Term
    leadership_transfer: bool = False
    """The old leader asked for this election: the receiver need not protect it (4.2.3)."""


class RequestVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer to `RequestVote`; leaves only once the vote is durable."""

    sender: NodeId
    receiver: NodeId
    term: Term
    vote_granted: bool
    removed_index: LogIndex = 0
    """As in `RequestPreVoteReply`, with a refusal."""


class RequestPreVote(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Would you vote for me in `next_term`? Changes nothing at the receiver (dissertation 9.6)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    """The sender's current term."""
    next_term: Term
    """The term in which it would campaign."""
    last_log_index: LogIndex
    last_log_term: Term
    asked_ms: Count = 0
    """When this was asked, by the sender's own clock; the reply echoes it. 0: not said."""


class RequestPreVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The answer to `RequestPreVote`. `term` is the receiver's real term, so a refused node that
    is behind catches up with it (hazards L1, L2)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    next_term: Term
    """Echo of the request: a reply to another round does not count."""
    vote_granted: bool
    removed_index: LogIndex = 0
    """Not 0: the committed configuration of this index does not have the receiver; it need not
    ask again (hazard L8)."""
    asked_ms: Count = 0
    """Echo of the request."""


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Replicates entries; without entries, a heartbeat (paper, figure 2)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    prev_log_index: LogIndex
    prev_log_term: Term
    entries: tuple[Entry, ...]
    leader_commit: LogIndex
    round: Count = 0
    """Which heartbeat round of this leader's term this is; the reply echoes it."""
    round_trip_ms: Count = 0
    """How long a quorum takes to answer, as the leader has measured it: who may have to elect the
    next one is patient enough for that. 0: below a millisecond, or not known yet."""


class AppendEntriesReply(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The answer to `AppendEntries`; a success leaves only once the entries are durable.

    On success `match_index` is the last entry *that this message covered*. On failure the hint
    says where the logs may part; it never becomes a match (hazard A5).
    """

    sender: NodeId
    receiver: NodeId
    term: Term
    success: bool
    match_index: LogIndex
    """Success: prev_log_index + number of entries. Failure: 0."""
    rejected_index: LogIndex = 0
    """Failure: the prev_log_index that did not match, so that a stale reply is known."""
    conflict_index: LogIndex = 0
    """Failure: first index of the conflicting term, or one past the end of a short log."""
    conflict_term: Term = 0
    """Failure: the term that stands at prev_log_index here, 0 if the log is short."""
    round: Count = 0
    """Echo of the request."""
    promise_ms: Count = 0
    """For how long after the request arrived the sender neither votes for anybody but the leader
    nor campaigns, unless that leader asks for it; in milliseconds, whatever its clock's drift.
    0: it promises nothing (hazard Q1)."""


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """One chunk of a snapshot, for a follower that lacks entries the leader has compacted away
    (paper, figure 13)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    meta: SnapshotMeta
    offset: Count
    """Where in the content this chunk stands, in bytes."""
    data: bytes
    round: Count = 0
    """As in `AppendEntries`."""


class InstallSnapshotReply(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The answer to `InstallSnapshot`; leaves once the chunk is stored."""

    sender: NodeId
    receiver: NodeId
    term: Term
    meta: SnapshotMeta
    """Echo of the request: a reply about another snapshot does not count."""
    next_offset: Count
    """From where more is wanted: a transfer that was interrupted goes on from here."""
    installed: bool = False
    """The follower's log stands at or beyond the snapshot now."""
    round: Count = 0
    """Echo of the request."""
    is_damaged: bool = False
    """All of it came, and it is not what its checksum says: it was thrown away."""


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The leader asks a voter that holds the whole log to campaign at once (dissertation 3.10)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    next_round: Count = 0
    """The sender's next heartbeat round: it asks again in each, for as long as it means it. Whoever
    has heard that one ignores this request (hazard T2). 0: not known."""


class RequestReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A follower asks its leader how far it must have applied to answer reads (dissertation
    6.4)."""

    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count
    """Never used twice, not even by an earlier life of the sender (hazard R2)."""


class RequestReadIndexReply(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The answer, once a quorum has confirmed that its sender still led after it was asked."""

    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count
    """Echo of the request."""
    read_index: LogIndex
    removed_index: LogIndex = 0
    """The committed configuration that does not have the receiver, which gets nothing more: it
    could not read, however long it waited. 0: it is a member."""
    """Everything that was committed when the request arrived stands at or before this index."""


class Introduction(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Whose disk the sender is, and of which history. It opens each connection in both directions,
    and is said again when it changes. No core ever sees one: it is the member's."""

    sender: NodeId
    receiver: NodeId
    term: Term
    """Always 0: no term is looked at before this is known."""
    incarnation: OwnIncarnation
    voters: Annotated[tuple[NodeId, ...], msgspec.Meta(max_length=MEMBERS_MAX)] = ()
    """Whom its operator named as the first voters; none: it joins."""
    record: Annotated[dict[NodeId, Incarnation], msgspec.Meta(max_length=MEMBERS_MAX)] | None = None
    """Which disks the first voters are, as it has written down for good."""
    uuid: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")] | None = None
    """The history that it belongs to; None: none yet."""
    formed: bool = False
    """Whether it knows that all first voters hold the record: only then are votes asked for."""
    opening: tuple[Count, Count] = (0, 0)
    """How often this disk was opened, and the number drawn for this opening."""
    remembered: tuple[Incarnation, Count, Count] | None = None
    """The receiver's disk as the sender knows it, and its newest opening that the sender has
    seen."""
    wants_reply: bool = False
    nonces: Annotated[tuple[Count, ...], msgspec.Meta(max_length=NONCES_MAX)] = ()
    """The numbers of the openings before the present one, the newest last: whoever remembers one of
    them sees that this disk has gone on from there, and is no copy that went another way."""
    clients_at: Address | None = None
    """Where it takes clients, for the receiver to tell its own; a wildcard host stands for the one
    at which it is reached. None: nowhere, or not told yet."""
    seen_at: Annotated[dict[NodeId, Address], msgspec.Meta(max_length=SEEN_MAX)] = {}
    """Where other members were when they connected to the sender, by their own words, if that is
    not where the configuration has them: two that have moved may find each other by it."""
    features: Annotated[tuple[FeatureName, ...], msgspec.Meta(max_length=FEATURES_MAX)] = ()
    """What its release can do, whether or not that is on (`features.FEATURES`)."""


class ResultsCheck(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Do all members compute the same results? The leader asks with a heartbeat now and then; a
    follower answers; to whoever differs the leader says what a majority of voters has."""

    sender: NodeId
    receiver: NodeId
    term: Term
    index: LogIndex
    checksum: Count
    """Of the results up to that index, at the sender; in a verdict, at the voters."""
    voters: tuple[NodeId, ...] = ()
    """Not empty: a verdict. All of them, a majority, have this checksum."""


REFUSAL_CHARS_MAX: Final = 1000
"""What is said of why a command was not taken; the rest is cut off."""


class UntracedForward(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A `Forward` as it travels where nobody traces: a field that says nothing takes no byte."""

    sender: NodeId
    receiver: NodeId
    term: Term
    number: Count
    data: bytes


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A member asks its leader to take a command that was brought to it. It moves no term, log or
    timer, and no core ever sees one: it is the member's, as its answer is."""

    sender: NodeId
    receiver: NodeId
    term: Term
    """In which the receiver leads: it takes this in no other one."""
    number: Count
    """The sender's own, also when it asks again; never used twice, not even by an earlier life of
    it."""
    data: bytes
    trace: TraceContext | None = None
    """For whoever traces the command. None takes no byte (`UntracedForward`)."""


class Forwarded(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """The answer to `Forward`, at once: where the command stands in the log. What becomes of it
    there the receiver learns from its own log."""

    sender: NodeId
    receiver: NodeId
    term: Term
    """Echo of the request, and the term of the entry."""
    number: Count
    """Echo of the request."""
    index: LogIndex = 0
    """Where the sender has appended it; 0: see `refusal`."""
    refusal: Annotated[str, msgspec.Meta(max_length=REFUSAL_CHARS_MAX)] = ""
    """Without an index: why it certainly was not taken, in that term; empty: the sender does not
    know, or not any more, what it did with it."""
    is_final: bool = False
    """A refusal that asking again does not change: the command cannot be read, or is too large."""


GROUPS_IN_FRAME_MAX: Final = 65_536
"""Most messages, and most notes, in one frame of many groups."""

GroupName: TypeAlias = Annotated[str, msgspec.Meta(max_length=64)]
"""Of a Raft group among many of one process; a stranger one is no group's."""


class GroupMessage(msgspec.Struct, frozen=True, array_like=True):
    """A message between two members of one group."""

    group: GroupName
    said: Count
    """The sender's own number of what it has last said of itself in this group (`Introduction`):
    whoever has not heard that yet, asks (`GroupNote`)."""
    payload: bytes
    """One `Message` of that group, encoded."""


class GroupNote(msgspec.Struct, frozen=True, array_like=True):
    """What processes say of one group, beside what its members say."""

    group: GroupName
    kind: Count
    """See `groups.notes`; one that is not known is passed over."""
    term: Term = 0
    index: LogIndex = 0


class GroupsFrame(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Messages of many groups from one process to another; without any, a sign of life. No member
    ever sees one."""

    sender: NodeId
    receiver: NodeId
    term: Term
    """Always 0: each group has its own."""
    messages: Annotated[tuple[GroupMessage, ...], msgspec.Meta(max_length=GROUPS_IN_FRAME_MAX)] = ()
    notes: Annotated[tuple[GroupNote, ...], msgspec.Meta(max_length=GROUPS_IN_FRAME_MAX)] = ()
    leads: Count = 0
    """How many groups the sender leads."""
    is_bulk: bool = False
    """Whether there are entries or parts of snapshots in it."""


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
    | GroupsFrame
)

MEMBERS_OWN: Final = (Introduction, Forward, Forwarded)
"""Messages that are not the core's: between the members around two of them."""
