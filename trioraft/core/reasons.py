"""Why a node changed its role, as typed values: events, logs and status carry them.

Rules of this file: one class a reason, with the values that decided it; `str()` is the sentence
a person reads.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from .types import LogIndex, NodeId, Term


@attrs.frozen
class Started:
    """The node has just been opened."""

    def __str__(self) -> str:
        return "started"


@attrs.frozen
class NoContact:
    """No leader was heard from for an election timeout (paper, section 5.2)."""

    silent_s: float

    def __str__(self) -> str:
        return f"no contact for {self.silent_s * 1000:.0f} ms"


@attrs.frozen
class PeerLost:
    """The connection to the leader closed, and fast failover brought the election forward."""

    peer: NodeId

    def __str__(self) -> str:
        return f"connection to leader {self.peer} lost"


@attrs.frozen
class NoWinner:
    """The (pre-)election ended without a winner and is tried again."""

    waited_s: float

    def __str__(self) -> str:
        return f"no winner after {self.waited_s * 1000:.0f} ms"


@attrs.frozen
class PreVoteWon:
    """A majority would vote for this node (dissertation 9.6)."""

    votes: int

    def __str__(self) -> str:
        return f"pre-vote won with {_votes(self.votes)}"


@attrs.frozen
class ElectionWon:
    """A majority voted for this node (paper, section 5.2)."""

    votes: int

    def __str__(self) -> str:
        return f"election won with {_votes(self.votes)}"


@attrs.frozen
class HigherTerm:
    """A message of a later term arrived (paper, section 5.1)."""

    term: Term
    peer: NodeId

    def __str__(self) -> str:
        return f"higher term {self.term} from {self.peer}"


@attrs.frozen
class LeaderHeard:
    """The leader of this very term spoke up."""

    leader_id: NodeId

    def __str__(self) -> str:
        return f"leader {self.leader_id} heard"


@attrs.frozen
class QuorumLost:
    """A leader heard no majority for an election timeout (dissertation 6.2)."""

    silent_s: float

    def __str__(self) -> str:
        return f"quorum lost for {self.silent_s * 1000:.0f} ms"


@attrs.frozen
class NoRoom:
    """The disk of a leader is full, or it cannot be written to for want of something else: it
    cannot commit, so somebody else should lead."""

    lacking: str | None = None
    """What that is; None: room on the disk."""

    def __str__(self) -> str:
        return "disk full" if self.lacking is None else f"no {self.lacking} left"


@attrs.frozen
class DiskStalled:
    """A leader's disk did not finish a write within an election timeout: it cannot commit."""

    waited_s: float

    def __str__(self) -> str:
        return f"disk stalled for {self.waited_s * 1000:.0f} ms"


@attrs.frozen
class TransferTo:
    """A leader transferred its leadership on purpose (dissertation 3.10)."""

    peer: NodeId

    def __str__(self) -> str:
        return f"transfer to {self.peer}"


@attrs.frozen
class TransferFrom:
    """The leader asked this node to take over, at once (dissertation 3.10)."""

    peer: NodeId

    def __str__(self) -> str:
        return f"transfer from {self.peer}"


@attrs.frozen
class Removed:
    """The node is no member of the cluster any more (paper, section 6)."""

    index: LogIndex
    """Of the configuration without it."""

    def __str__(self) -> str:
        return f"removed by configuration {self.index}"


@attrs.frozen
class Stopped:
    """The node was killed or left, or failed."""

    cause: str = "killed"

    def __str__(self) -> str:
        return self.cause


def _votes(count: int) -> str:
    return "1 vote" if count == 1 else f"{count} votes"


Reason: TypeAlias = (
    Started
    | NoContact
    | PeerLost
    | NoWinner
    | PreVoteWon
    | ElectionWon
    | HigherTerm
    | LeaderHeard
    | QuorumLost
    | NoRoom
    | DiskStalled
    | TransferTo
    | TransferFrom
    | Removed
    | Stopped
)
