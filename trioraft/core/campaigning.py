"""Campaigning: how a node asks for votes, and how it answers who asks (paper, section 5.2).

Rules of this file:

* A vote, and a request for votes, leave only once our own term and vote are durable (hazard V1).
* A pre-vote promises nothing and changes nothing (dissertation 9.6; hazards V4, L3).
* A follower that hears its leader refuses both, so that nobody disturbs a healthy cluster
  (dissertation 4.2.3).
"""

from __future__ import annotations

from . import events, messages, reasons
from .campaign import Campaign
from .errors import InvariantViolation
from .leading import Leading
from .quorum import Outcome
from .reasons import Reason
from .state import FIRST_HASTE, NEVER
from .types import LogIndex, NodeId, Role


class Campaigning(Leading):
    """Elections, from both sides."""

    # -- asking ----------------------------------------------------------------------------

    def _become_pre_candidate(self, reason: Reason) -> None:
        previous = self._enter(Role.PRE_CANDIDATE)
        self.leader_id = None  # hazard L4
        self._lost_leader = None
        campaign = self._campaign = Campaign(term=self.term + 1, started_s=self._now)
        self._trace_role(previous, reason)
        self._start_campaign_timer()
        campaign.record(self.node_id, granted=True)
        for peer in self._other_voters():
            request = messages.RequestPreVote(
                sender=self.node_id,
                receiver=peer,
                term=self.term,
                next_term=campaign.term,
                last_log_index=self.log.last_index,
                last_log_term=self.log.last_term,
            )
            self._send(request)
        self._conclude(campaign)

    def _become_candidate(self, reason: Reason, *, leadership_transfer: bool = False) -> None:
        previous = self._enter(Role.CANDIDATE)
        self.term += 1
        self.voted_for = self.node_id
        self.leader_id = None
        self._lost_leader = None
        self._campaign = Campaign(term=self.term, started_s=self._now)
        self._trace_role(previous, reason)
        self._start_campaign_timer()
        for peer in self._other_voters():
            request = messages.RequestVote(
                sender=self.node_id,
                receiver=peer,
                term=self.term,
                last_log_index=self.log.last_index,
                last_log_term=self.log.last_term,
                leadership_transfer=leadership_transfer,
            )
            self._send_after_persist(request)

    def _take_over(self, request: messages.TimeoutNow) -> None:
        """The leader asks for it: no need for a pre-vote (dissertation 3.10)."""
        may_ask = request.term == self.term and self.leader_id in (None, request.sender)
        if may_ask and self._may_campaign():
            self._become_candidate(reasons.TransferFrom(request.sender), leadership_transfer=True)

    def _may_campaign(self) -> bool:
        """Whether this node has a vote (hazards M7, L8), and can make it durable (hazard L7)."""
        if self.removed_index is not None:
            return False
        if not self._membership.may_vote_since(self.node_id, self.log.commit_index):
            return False
        waits_since_s = self._out.oldest_write_s
        patience_s = self.timing.election_timeout_s[1]
        is_stalled = waits_since_s is not None and self._now - waits_since_s >= patience_s
        return not self._disk_is_full and not is_stalled

    def _start_campaign_timer(self) -> None:
        """A campaign that began with a lost connection must not cost a whole timeout when votes
        split: it is tried again soon, a little less soon each time."""
        self._start_timer()
        if self._haste:
            self._timer.hurry(self._now, len(self._other_voters()), self._haste)
            self._haste += 1

    def _why_campaign(self) -> Reason:
        if self._lost_leader is not None:
            return reasons.PeerLost(self._lost_leader)
        if self._campaign is not None:
            return reasons.NoWinner(self._now - self._campaign.started_s)
        if self._leader_heard_s > NEVER:
            return reasons.NoContact(self._now - self._leader_heard_s)
        return reasons.NoContact(self._timer.timeout_s)

    # -- answering -------------------------------------------------------------------------

    def _answer_vote(self, request: messages.RequestVote) -> None:
        """Paper, figure 2, RequestVote; and section 5.4.1."""
        grant = (
            request.term == self.term
            and self.voted_for in (None, request.sender)
            and self.role is Role.FOLLOWER
            and not self._protects_leader(request)
            and self.leader_id in (None, request.sender)
            and self.log.is_up_to_date(request.last_log_index, request.last_log_term)
        )
        if not grant:
            self._refuse_vote(request)
            return
        self.voted_for = request.sender
        self._start_timer()  # paper, section 5.2: granting a vote restarts it
        self._send_after_persist(
            messages.RequestVoteReply(self.node_id, request.sender, self.term, True)
        )

    def _refuse_vote(self, request: messages.RequestVote) -> None:
        removed_index = self._removed_by(request.sender)
        self._send_once_term_is_durable(
            messages.RequestVoteReply(self.node_id, request.sender, self.term, False, removed_index)
        )

    def _protects_leader(self, request: messages.RequestVote) -> bool:
        """Whether this vote is refused unseen, its term too (dissertation 4.2.3)."""
        return (
            self.timing.check_quorum
            and not request.leadership_transfer
            and self._hears_leader_other_than(request.sender)
        )

    def _answer_pre_vote(self, request: messages.RequestPreVote) -> None:
        """Dissertation 9.6. Changes neither term, vote nor timer (hazards V4, L3)."""
        granted = (
            request.next_term > self.term
            and self.log.is_up_to_date(request.last_log_index, request.last_log_term)
            and not self._hears_leader_other_than(request.sender)
            and not self._goes_first(request)
        )
        self._send_once_term_is_durable(
            messages.RequestPreVoteReply(
                self.node_id,
                request.sender,
                self.term,
                request.next_term,
                granted,
                self._removed_by(request.sender),
            )
        )

    def _removed_by(self, peer: NodeId) -> LogIndex:
        """The committed configuration that does not have this peer, for it to learn; or 0."""
        committed = self._membership.at(self.log.commit_index)
        is_member = peer in committed.members or peer in self.configuration.members
        return 0 if is_member else committed.index

    def _goes_first(self, request: messages.RequestPreVote) -> bool:
        """Two followers that lost their leader in the same moment would both win the pre-vote,
        and split the votes: there the greater id goes first. Only in the first round after the
        loss: a node that cannot win must not keep others from it."""
        return (
            self.role is Role.PRE_CANDIDATE
            and self._haste == FIRST_HASTE + 1
            and self._campaign is not None
            and self._campaign.term == request.next_term
            and self.node_id > request.sender
            and (self.log.last_term, self.log.last_index)
            == (request.last_log_term, request.last_log_index)
        )

    def _hears_leader_other_than(self, candidate: NodeId) -> bool:
        """A leader that asks for votes leads no more: it is not protected from itself (L3)."""
        if self._leadership is not None:
            return True
        if self.leader_id is None and self.timing.lease_s is not None:
            # A leader of an earlier term, or one whom an earlier life of this node has answered,
            # may still read by its lease: a later term alone does not end that.
            promised_s = max(self._promised_s, self._started_s)
            return self._now - promised_s < self.timing.leader_protection_s
        if self.leader_id is None or self.leader_id == candidate:
            return False
        return self._now - self._leader_heard_s < self.timing.leader_protection_s

    # -- counting --------------------------------------------------------------------------

    def _on_vote_reply(self, reply: messages.RequestVoteReply) -> None:
        campaign = self._campaign
        if campaign is not None:
            campaign.anyone_answered = True
        if self._is_news_of_removal(reply.removed_index):
            self._note_removed(reply.removed_index)
            return
        if self.role is not Role.CANDIDATE or reply.term != self.term:
            self._note_stale(reply)
            return
        self._record_vote(reply.sender, granted=reply.vote_granted)

    def _on_pre_vote_reply(self, reply: messages.RequestPreVoteReply) -> None:
        campaign = self._campaign
        if campaign is not None:
            campaign.anyone_answered = True
        if self._is_news_of_removal(reply.removed_index):
            self._note_removed(reply.removed_index)
            return
        if (
            campaign is None
            or self.role is not Role.PRE_CANDIDATE
            or reply.next_term != campaign.term
        ):
            self._note_stale(reply)
            return
        self._record_vote(reply.sender, granted=reply.vote_granted)

    def _is_news_of_removal(self, removed_index: LogIndex) -> bool:
        """Committed at that index: ours, if it stands there too, is that one or is void."""
        return removed_index > 0 and removed_index >= self.configuration.index

    def _record_vote(self, voter: NodeId, *, granted: bool) -> None:
        campaign = self._campaign
        if campaign is None:
            raise InvariantViolation(f"a vote of {voter!r} counted without a campaign")
        campaign.record(voter, granted)
        self._conclude(campaign)

    def _conclude(self, campaign: Campaign) -> None:
        if campaign.outcome(self.configuration) is not Outcome.WON:
            return
        votes = campaign.granted_count(self.configuration)
        if self.role is Role.PRE_CANDIDATE:
            self._become_candidate(reasons.PreVoteWon(votes))
            return
        if self.tracing:
            self._out.trace(events.ElectionWonEvent(self._now, self.term, votes))
        self._become_leader(reasons.ElectionWon(votes))
