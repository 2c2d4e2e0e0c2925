"""Election: what a node knows while it asks for votes, and of the leader whom it would replace.

Rules of this file:

* A vote counts once per voter, and only for the term that was asked about (hazard V3). Our own
  vote of a real election counts once it is durable (hazard V1): whoever holds it records it then.
* A connection that closed is a hint. It ends the protection of the leader here and hurries the
  elections that follow; whether anybody wins is up to the others.
"""

from __future__ import annotations

from typing import Final

import attrs

from . import quorum
from .config import Timing
from .types import Configuration, NodeId, Term

NEVER: Final = float("-inf")


@attrs.define
class Election:
    """One round of asking, for votes or pre-votes; the next round gets a new Election."""

    term: Term
    """The term in which votes are asked for; for a pre-vote, the one that would follow."""
    started_s: float
    is_forecast: bool = False
    """Whether pre-votes are asked for: they promise nothing, and are asked for again."""
    votes: dict[NodeId, bool] = attrs.field(factory=dict)
    anyone_answered: bool = False
    """Whether any peer was heard meanwhile: then time, not the network, was too short."""

    def record(
        self, voter: NodeId, configuration: Configuration, *, granted: bool
    ) -> quorum.Outcome:
        """Note one answer, the first of each voter; how the election stands with it. Of pre-votes a
        refusal may answer an earlier question about the same term: a later grant counts."""
        if granted and self.is_forecast:
            self.votes[voter] = True
        self.votes.setdefault(voter, granted)
        return quorum.tally(configuration, self.votes)

    def was_too_short(self, candidate: NodeId) -> bool:
        """Whether time ran out on answers that were coming: a peer spoke, or the candidate's own
        vote is still on its way to the disk, so that nobody was asked. Silence is neither.
        """
        return self.anyone_answered or candidate not in self.votes

    def granted_count(self, configuration: Configuration) -> int:
        """Votes won so far, of those that count."""
        return sum(self.votes[voter] for voter in self.votes if configuration.is_voter(voter))


@attrs.define
class RemovalHints:
    """Who has told this node that it is no member any more."""

    told_by: set[NodeId] = attrs.field(factory=set)
    until_s: float = NEVER
    """Until then a single peer's word is heeded."""

    def is_hinted(self, now: float) -> bool:
        """Whether this node is to disturb nobody."""
        return now < self.until_s


@attrs.define
class LeaderContact:
    """What a node that does not lead knows of its leader's being there."""

    heard_s: float = NEVER
    """When the leader of this term was last heard; NEVER too if its connection closed since."""
    promised_until_s: float = NEVER
    """Until then nobody gets a vote, not even this node, unless a leader asks for it: a leader, of
    whatever term, was told so, perhaps by an earlier life of this node (hazards Q1, Q3)."""
    heard_round: tuple[Term, int] = (0, 0)
    """The latest term in which a leader was heard, and the latest of its rounds."""
    lost_leader: NodeId | None = None
    """The leader whose connection closed, until another role or leader comes of it."""
    fast_failover_attempt: int = 0
    """The number of the next election since the leader's connection closed; 0: it did not."""
    tries: int = 0
    """Elections begun here since a leader was heard, or its connection closed."""

    def on_heard(self, now: float, promise_s: float, heard_round: tuple[Term, int]) -> None:
        """The leader of this term speaks, and is promised its place for so long."""
        self.heard_s = now
        self.heard_round = max(self.heard_round, heard_round)
        if promise_s:
            self.promised_until_s = max(self.promised_until_s, now + promise_s)
        self.lost_leader = None
        self.fast_failover_attempt = self.tries = 0

    def on_lost(self, leader_id: NodeId) -> None:
        """The connection with the leader closed: protect it no longer, and hurry."""
        self.heard_s = NEVER
        self.lost_leader = leader_id
        self.fast_failover_attempt = 1
        self.tries = 0

    def on_follower(self, *, knows_leader: bool) -> None:
        """The node follows, perhaps anew: whoever led before is history."""
        self.lost_leader = None
        self.fast_failover_attempt = 0
        if not knows_leader:
            self.heard_s = NEVER

    def has_promised(self, now: float) -> bool:
        """Whether a leader may still rely on nobody else's being elected."""
        return now < self.promised_until_s

    def protects(
        self, leader_id: NodeId | None, candidate: NodeId, now: float, timing: Timing
    ) -> bool:
        """Whether the leader was heard so lately that nobody else gets a (pre-)vote (dissertation
        4.2.3). A leader that asks for votes leads no more: it is not protected from itself (hazard
        L3)."""
        if leader_id == candidate:
            return False
        # A leader of an earlier term, or one whom an earlier life of this node has answered, may
        # still read by its lease: a later term alone does not end that.
        if self.has_promised(now):
            return True
        return leader_id is not None and now - self.heard_s < timing.leader_protection_s
