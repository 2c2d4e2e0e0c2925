"""Typed trace events: what happened inside one core, in order.

Rules of this file:

* Events are the only source of log lines, transcripts and pictures; nothing parses prose.
* They are frozen values, built only when someone listens, and hold no mutable state.
* `at_s` is the caller's monotonic clock in seconds, as it was given to the core.
"""

from __future__ import annotations

import attrs

from .messages import Message
from .reasons import Reason
from .types import Configuration, Incarnation, LogIndex, NodeId, Role, Term


@attrs.frozen
class LogSummary:
    """A log in one glance: `log=[]` when it is empty."""

    first_index: LogIndex
    last_index: LogIndex
    last_term: Term

    def __str__(self) -> str:
        if self.last_index < self.first_index:
            return "[]"
        return f"[{self.first_index}..{self.last_index} term {self.last_term}]"


@attrs.frozen
class TraceEvent:
    """Base of every event."""

    at_s: float


@attrs.frozen
class ElectionTimerStarted(TraceEvent):
    """A new election timeout was drawn; hearing the leader restarts it without a new event."""

    timeout_s: float
    term: Term


@attrs.frozen
class RoleChanged(TraceEvent):
    """The node took a role, perhaps the same one in a new term."""

    role: Role
    previous: Role
    term: Term
    log: LogSummary
    reason: Reason


@attrs.frozen
class ElectionWonEvent(TraceEvent):
    """Enough votes arrived; `RoleChanged` to LEADER follows."""

    term: Term
    votes: int


@attrs.frozen
class MessageSent(TraceEvent):
    """A message is to be sent (one that waits for the disk: not sent yet)."""

    message: Message
    next_index: LogIndex = 0
    """For AppendEntries: the follower's next index when it was built."""


@attrs.frozen
class MessageReceived(TraceEvent):
    """A message arrived; the fields are the receiver's state before it was handled."""

    message: Message
    term: Term
    voted_for: NodeId | None
    role: Role


@attrs.frozen
class TermOutOfDate(TraceEvent):
    """The message bears a higher term than ours; `RoleChanged` to FOLLOWER follows."""

    message: Message


@attrs.frozen
class StaleReply(TraceEvent):
    """A vote reply arrived when this node was no longer asking."""

    message: Message
    role: Role


@attrs.frozen
class CommitAdvanced(TraceEvent):
    """Entries up to and including this index are committed, as far as this node knows."""

    commit_index: LogIndex


@attrs.frozen
class ConfigurationChanged(TraceEvent):
    """Another configuration counts now: it was appended, or a later one was truncated."""

    configuration: Configuration


@attrs.frozen
class Forming(TraceEvent):
    """A new cluster has formed no leader for an election timeout: of whom this node has to hear."""

    waiting_for: tuple[NodeId, ...]
    problems: tuple[str, ...]
    """Why each of them is waited for, in a few words."""


@attrs.frozen
class ForeignDisk(TraceEvent):
    """Under this id another disk is there than the configuration names: nothing of it counts."""

    peer: NodeId
    named_disk: Incarnation
    disk: Incarnation


@attrs.frozen
class AcknowledgedLost(TraceEvent):
    """A follower has refused what it had acknowledged: its disk has lost entries up to
    `acknowledged_index`. It counts for nothing until it holds them again."""

    peer: NodeId
    acknowledged_index: LogIndex


@attrs.frozen
class TransferStarted(TraceEvent):
    """This leader transfers its leadership to `target`, and takes no commands meanwhile."""

    target: NodeId


@attrs.frozen
class TransferGivenUp(TraceEvent):
    """The target did not take over in time: this leader leads on."""

    target: NodeId
    waited_s: float


@attrs.frozen
class SnapshotSaved(TraceEvent):
    """This node's snapshot is durable, and the log is cut before `base_index` + 1."""

    index: LogIndex
    size_bytes: int
    base_index: LogIndex


@attrs.frozen
class SnapshotInstalled(TraceEvent):
    """A snapshot received from the leader took the place of the log up to its index."""

    index: LogIndex
    size_bytes: int
    sender: NodeId


@attrs.frozen
class SnapshotDamaged(TraceEvent):
    """All of a snapshot has come, and it is not what its checksum says: it was thrown away. Told by
    the follower that got it, and by the leader that hears of it."""

    index: LogIndex
    size_bytes: int
    sender: NodeId
    receiver: NodeId


@attrs.frozen
class SnapshotRotten(TraceEvent):
    """What this node has stored as its newest snapshot is not what its checksum says: nobody is
    sent it, and another is taken."""

    index: LogIndex
    size_bytes: int


@attrs.frozen
class ResultsDiffer(TraceEvent):
    """Members have computed other results up to this index, and no majority says who is right; or
    one, which `differing` has alone, is told to stop."""

    index: LogIndex
    checksum: int
    """What `voters` have."""
    voters: tuple[NodeId, ...]
    differing: dict[NodeId, int]
    is_agreed: bool
    """Whether `voters` are a majority."""


@attrs.frozen
class DiskIsFull(TraceEvent):
    """A write found no room and was rolled back; it is tried again."""


@attrs.frozen
class StorageWaits(TraceEvent):
    """A call of the storage lacked something other than room; nothing of it was done, and it is
    tried again."""

    resource: str
    """What is used up: descriptors, threads."""


def storage_waits(at_s: float, lacking: str | None) -> TraceEvent:
    """What is told where the storage lacks this; None: room on the disk."""
    return DiskIsFull(at_s) if lacking is None else StorageWaits(at_s, lacking)


@attrs.frozen
class StorageNotice(TraceEvent):
    """The storage found damage when it was opened, and could do without what was damaged."""

    text: str


@attrs.frozen
class TimingTooShort(TraceEvent):
    """Answers take longer than this leader's timing was made for. Patience is stretched, as far as
    that goes; another timing would be better."""

    round_trip_s: float
    """To a quorum and back, as measured."""
    write_s: float
    """A durable write of this node."""
    election_timeout_s: tuple[float, float]
    """What is in force."""


@attrs.frozen
class TermJumped(TraceEvent):
    """A peer brought a term so much later that elections hardly explain it. It is gone along
    with: what is committed stays."""

    sender: NodeId
    previous: Term
    term: Term


@attrs.frozen
class TimeoutsWidened(TraceEvent):
    """An election nobody won stretched the timeout range by this factor (1 = back to normal)."""

    factor: int
