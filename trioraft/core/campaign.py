"""Campaign: what a (pre-)candidate knows while it asks for votes. It exists only meanwhile.

Rules of this file: a vote counts once per voter, and only for the term that was asked about
(hazard V3). Our own vote of a real election counts once it is durable (hazard V1).
"""

from __future__ import annotations

import attrs

from . import quorum
from .types import Configuration, NodeId, Term


@attrs.define
class Campaign:
    """One round of asking; the next round gets a new Campaign."""

    term: Term
    """The term in which votes are asked for; for a pre-vote, the one that would follow."""
    started_s: float
    votes: dict[NodeId, bool] = attrs.field(factory=dict)
    anyone_answered: bool = False
    """Whether any peer was heard meanwhile: then time, not the network, was too short."""

    def record(self, voter: NodeId, granted: bool) -> None:
        """Note one answer. The first one stands."""
        self.votes.setdefault(voter, granted)

    def outcome(self, configuration: Configuration) -> quorum.Outcome:
        """How it stands."""
        return quorum.tally(configuration, self.votes)

    def was_too_short(self, candidate: NodeId) -> bool:
        """Whether time ran out on answers that were coming: a peer spoke, or the candidate's own
        vote is still on its way to the disk, so that nobody was asked. Silence is neither.
        """
        return self.anyone_answered or candidate not in self.votes

    def granted_count(self, configuration: Configuration) -> int:
        """Votes won so far, of those that count."""
        return sum(self.votes[voter] for voter in self.votes if configuration.is_voter(voter))
