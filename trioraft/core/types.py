"""The nouns of the protocol: entries, hard state, configurations, recovered state.

Rules of this file:

* What crosses the wire or the disk is a frozen `msgspec.Struct` with `array_like=True`.
  Fields are only ever *appended*, with a default: that is how old and new nodes can talk.
* Log indexes start at 1 and terms at 0; index 0 with term 0 is the empty log (paper, figure 2).
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias

import attrs
import msgspec

NodeId: TypeAlias = str
"""A node's name, unique in its cluster. The harness uses "0", "1", …"""

NUMBER_MAX: Final = 2**62
"""Largest number accepted from a peer or a disk: below what signed 64 bits hold, so that it never
becomes an overflow elsewhere, even after it is counted up."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
"""A number from 0; decoding refuses any other."""

Term: TypeAlias = Count
"""Raft's logical clock (paper, section 5.1)."""

TERM_MAX: Final = 2**48
"""No peer is believed a later term, unless elections lead there: at one a millisecond that would
take nine thousand years. One that said the last number there is would leave none for the next
(hazard G2). A quorum of voters is, for whoever was away meanwhile."""

TERM_END: Final = 2**56
"""And beyond this one nobody is, whoever says so: elections go on from here for ages, and a
majority that lies ends nobody's arithmetic."""

LogIndex: TypeAlias = Count
"""A position in the log, from 1; 0 stands before the first entry."""

Incarnation: TypeAlias = Count
"""A disk's own number, drawn at random when it is new; 0: none said. A voter is an id *and* a
disk: one that was emptied is another node, and the old one is gone for ever."""

MEMBERS_MAX: Final = 64
"""Most nodes in one configuration: it travels in one entry, and each member costs a connection."""

ID_BYTES_MAX: Final = 256
"""Longest name of a node or a cluster, in UTF-8: it travels in every handshake and message."""

Address: TypeAlias = tuple[str, int]
"""Host and TCP port."""

FeatureName: TypeAlias = str
"""See `features.FEATURES`."""

FEATURES_MAX: Final = 64
"""Most features of a release: they travel in each introduction."""


TRACESTATE_CHARS_MAX: Final = 512
"""Of a longer one nothing travels, as the standard allows."""


class TraceContext(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Below which span what bears it is to appear, as W3C Trace Context has it. It travels only
    where somebody traces, and means nothing to the protocol."""

    traceparent: Annotated[str, msgspec.Meta(max_length=128)]
    tracestate: Annotated[str, msgspec.Meta(max_length=TRACESTATE_CHARS_MAX)] = ""


class Role(enum.Enum):
    """What a node is at the moment (paper, figure 4, and dissertation 9.6 for pre-vote)."""

    FOLLOWER = "Follower"
    PRE_CANDIDATE = "PreCandidate"
    CANDIDATE = "Candidate"
    LEADER = "Leader"
    DEAD = "Dead"


class EntryKind(enum.IntEnum):
    """What a log entry carries."""

    COMMAND = 0
    """A command for the state machine."""
    NOOP = 1
    """A leader's first entry in its term (paper, section 8); carries nothing."""
    CONFIGURATION = 2
    """A cluster membership (paper, section 6)."""
    CONFIGURATION_WITH_FEATURES = 3
    """One in which features are on; a kind of its own, for releases that know of none to refuse."""
    CHECKED_COMMAND = 4
    """A command after its checksum (`features.ENTRY_CHECKSUMS`)."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the replicated log (paper, section 5.3)."""

    index: LogIndex
    term: Term
    data: bytes = b""
    # An EntryKind; a plain int because decoding an enum costs more than all else.
    kind: Annotated[int, msgspec.Meta(ge=0, le=int(max(EntryKind)))] = 0


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What must be durable before a node answers (paper, figure 2: persistent state)."""

    term: Term = 0
    voted_for: NodeId | None = None
    promised_ms: Count = 0
    """For how long, in milliseconds of its own clock, the node may have promised a leader to keep
    others from its place: a promise outlives the life that gave it (hazard Q3)."""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Who is in the cluster (paper, section 6).

    While `outgoing` is not empty the configuration is joint: every decision needs a majority
    of `voters` *and* a majority of `outgoing`.
    """

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()
    addresses: dict[NodeId, Address] = {}
    """Where members are reached, as far as it is known."""
    index: LogIndex = 0
    """Of its entry in the log; 0 for the bootstrap configuration."""
    disks: dict[NodeId, Incarnation] = {}
    """Which disk each member is: what comes from another disk under its id counts for nothing."""
    returning: tuple[NodeId, ...] = ()
    """Learners that were voters until their disk was lost: whoever leads makes them voters again
    once their new disk has caught up."""
    features: tuple[FeatureName, ...] = ()
    """What is switched on, in the order in which it was (`features`)."""

    def disk_of(self, node_id: NodeId) -> Incarnation:
        """The disk that counts under this id; 0 if none was named yet."""
        return self.disks.get(node_id, 0)

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everyone who gets the log, sorted, each once."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))

    def is_voter(self, node_id: NodeId) -> bool:
        """Whether this node may vote and campaign."""
        return node_id in self.voters or node_id in self.outgoing


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a snapshot without reading it (paper, section 7).

    Two snapshots are the same exactly if their metas are equal: a transfer may be resumed only
    then.
    """

    index: LogIndex
    """The last log entry that the snapshot stands for."""
    term: Term
    """The term of that entry."""
    configuration: Configuration
    """The configuration in force at that entry."""
    size_bytes: Count
    checksum: Count
    """CRC-32 of the content."""


@attrs.frozen
class Recovered:
    """What a storage gives back when it is opened: where the node left off."""

    hard_state: HardState = attrs.field(factory=HardState)
    entries: tuple[Entry, ...] = ()
    """The entries after `base_index`, without a gap."""
    configuration: Configuration = attrs.field(factory=lambda: Configuration(()))
    """The bootstrap configuration, or the one in force at the log's base."""
    base_index: LogIndex = 0
    """Everything up to here is compacted away; the snapshot stands for it."""
    base_term: Term = 0
    """The term of the entry at `base_index`."""
    snapshot: SnapshotMeta | None = None
    """The newest snapshot that can be read; its index is at least `base_index`."""
    identity: bytes | None = None
    """Opaque record of whose disk this is; None: none was stored."""
    incarnation: Incarnation = 0
    """The disk's own number, out of `identity`; set by whoever opens the node, not by storages."""
    applied: tuple[LogIndex, Term] | None = None
    """Up to which entry, of which term, an earlier life in this process has brought the state
    machine, which is still in memory; set by whoever opens the node. None: it begins anew."""
