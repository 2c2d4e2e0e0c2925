"""Raft: the protocol of one node, as a pure state machine.

Rules of this file:

* No I/O, no clock, no randomness of its own: time comes in as `now`, chance as `rng`. The same
  inputs give the same outputs, byte for byte.
* `step` looks at the term once, for every message (paper, section 5.1), then dispatches by role.
* Only `_become_*` changes the role, and only along `LEGAL_EDGES`.
* Nothing is promised before it is durable: votes, vote requests and acknowledgements of entries
  leave through `messages_after_persist` (paper, figure 2; hazards V1, D1).
* What a peer must not send is `BadMessage`; what must not be is `InvariantViolation`.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from . import events, messages, reasons
from .campaign import Campaign
from .config import Limits, Timing
from .errors import BadMessage, ConfigError, InvariantViolation, NotLeader
from .leadership import Leadership
from .log import RaftLog
from .messages import Message
from .quorum import Outcome
from .ready import Ready
from .reasons import Reason
from .timer import ElectionTimer
from .types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    Term,
)

_F, _P, _C, _L, _D = Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER, Role.DEAD

LEGAL_EDGES: Final[dict[Role, frozenset[Role]]] = {
    _F: frozenset({_F, _P, _C, _D}),
    _P: frozenset({_F, _P, _C, _D}),
    _C: frozenset({_F, _P, _C, _L, _D}),
    _L: frozenset({_F, _D}),
    _D: frozenset(),
}
"""Which role may follow which (paper, figure 4, with the pre-vote of dissertation 9.6)."""

NEVER: Final = float("-inf")


class Raft:
    """One node's share of the consensus.

    Args:
        node_id: this node.
        recovered: what the storage gave back, or a bootstrap configuration.
        timing: when to lose patience.
        limits: bounds on batches and windows.
        rng: the only source of chance.
        tracing: build trace events.

    Call `start` once, then any input (`step`, `propose`, `on_*`), and after inputs `ready`.
    """

    def __init__(
        self,
        node_id: NodeId,
        recovered: Recovered,
        timing: Timing,
        limits: Limits,
        rng: random.Random,
        *,
        tracing: bool = False,
    ) -> None:
        if not recovered.configuration.voters:
            raise ConfigError("a cluster needs at least one voter; give voters=[…]")
        self.node_id: Final = node_id
        self.timing: Final = timing
        self.limits: Final = limits
        self.tracing = tracing
        self.configuration: Configuration = recovered.configuration
        self.log: Final = RaftLog(recovered.entries)
        self.role = Role.FOLLOWER
        self.term: Term = recovered.hard_state.term
        self.voted_for: NodeId | None = recovered.hard_state.voted_for
        self.leader_id: NodeId | None = None
        self.last_reason: Reason = reasons.Started()
        self._timer: Final = ElectionTimer(timing, rng)
        self._campaign: Campaign | None = None
        self._leadership: Leadership | None = None
        self._leader_heard_s = NEVER
        self._lost_leader: NodeId | None = None
        self._now = NEVER
        # What the next Ready will carry.
        self._number = 0
        self._durable_number = 0
        self._hard_state_number = 0  # the last Ready that carried a hard state
        self._saved = recovered.hard_state  # the hard state that was last handed to the storage
        self._messages: list[Message] = []
        self._messages_after_persist: list[Message] = []
        self._events: list[events.TraceEvent] = []
        # Writes that are under way: (number, last index of the log then, term of our vote then).
        self._writes: deque[tuple[int, LogIndex, Term]] = deque()
        self._applying_index = self.log.applied_index

    # -- what the caller may look at -------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `on_timeout` wants to be called; None when there is nothing to wait for."""
        return self._timer.deadline

    @property
    def heartbeat_deadline(self) -> float | None:
        """When `on_heartbeat_due` wants to be called; None unless this node leads."""
        return None if self._leadership is None else self._leadership.next_heartbeat_s

    @property
    def leadership(self) -> Leadership | None:
        """What this node knows of its followers, while it leads."""
        return self._leadership

    @property
    def hard_state(self) -> HardState:
        """Term and vote as they are now, durable or not."""
        return HardState(self.term, self.voted_for)

    # -- inputs ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin as a follower (paper, section 5.2)."""
        self._now = now
        self._start_timer()

    def step(self, message: Message, now: float) -> None:
        """Handle one message from a peer.

        Raises:
            BadMessage: no correct peer sends this; nothing was changed by it.
        """
        if self.role is Role.DEAD:
            return
        self._now = now
        if message.receiver != self.node_id or message.sender == self.node_id:
            raise BadMessage(
                f"{type(message).__name__} from {message.sender!r} to {message.receiver!r} "
                f"arrived at {self.node_id!r}"
            )
        if self.tracing:
            self._trace_received(message)
        if isinstance(message, messages.RequestPreVote):
            self._answer_pre_vote(message)
            return
        if message.term > self.term:
            if isinstance(message, messages.RequestVote) and self._protects_leader(message):
                self._refuse_vote(message)
                return
            self._adopt_term(message)
        match self.role:
            case Role.FOLLOWER:
                self._step_follower(message)
            case Role.PRE_CANDIDATE | Role.CANDIDATE:
                self._step_candidate(message)
            case Role.LEADER:
                self._step_leader(message)
            case Role.DEAD:
                pass

    def propose(self, data: bytes, now: float) -> LogIndex:
        """Append a command to the leader's log; it leaves with the next `ready`.

        Raises:
            NotLeader: this node does not lead; the command was not taken.
        """
        if self._leadership is None:
            raise NotLeader(self.leader_id)
        self._now = now
        index = self.log.last_index + 1
        self.log.append_one(Entry(index, self.term, data))
        return index

    def on_timeout(self, now: float) -> None:
        """The deadline was reached. Calling it early, or twice, does nothing."""
        if self.role is Role.DEAD or not self._timer.is_due(now):
            return
        self._now = now
        if self._leadership is not None:
            self._check_quorum(self._leadership)
            return
        if not self.configuration.is_voter(self.node_id):
            self._start_timer()  # a node without a vote never campaigns (hazard M7)
            return
        reason = self._why_campaign()
        if self._campaign is not None and self._campaign.anyone_answered and self._timer.widen():
            self._trace_widened()
        if self.timing.pre_vote:
            self._become_pre_candidate(reason)
        else:
            self._become_candidate(reason)

    def on_heartbeat_due(self, now: float) -> None:
        """The heartbeat deadline was reached: be heard. Calling it early does nothing."""
        if self._leadership is None or now < self._leadership.next_heartbeat_s:
            return
        self._now = now
        for message in self._leadership.heartbeats(now):
            self._send(message)

    def on_persisted(self, number: int, now: float) -> None:
        """The Ready of this number, and all before it, are durable."""
        if self.role is Role.DEAD:
            return
        self._now = now
        self._durable_number = max(self._durable_number, number)
        vote_term: Term | None = None
        while self._writes and self._writes[0][0] <= number:
            _, last_index, vote_term = self._writes.popleft()
            self.log.stable_index = max(self.log.stable_index, last_index)
        if vote_term is None:
            return
        if self._leadership is not None:
            self._maybe_commit(self._leadership)
        elif self.role is Role.CANDIDATE and vote_term == self.term:
            self._record_vote(self.node_id, granted=True)

    def on_applied(self, index: LogIndex) -> None:
        """Entries up to `index` are applied to the state machine."""
        if not self.log.applied_index <= index <= self._applying_index:
            raise InvariantViolation(
                f"applied up to {index}, but {self.log.applied_index} was applied before and "
                f"{self._applying_index} was handed out"
            )
        self.log.applied_index = index

    def on_peer_lost(self, peer: NodeId, now: float) -> None:
        """A connection with `peer` closed: a hint, never proof.

        A follower whose leader it was stops protecting that leader and asks the others soon,
        with a pre-vote; one of them that still hears the leader refuses, and nothing changes.
        """
        if self.role is Role.DEAD:
            return
        self._now = now
        if self._leadership is not None and peer in self._leadership.progress:
            self._leadership.progress[peer].on_link_lost()
        hint_applies = self.timing.fast_failover and self.timing.pre_vote
        if self.role is Role.FOLLOWER and peer == self.leader_id and hint_applies:
            self._leader_heard_s = NEVER
            self._lost_leader = peer
            self._timer.hurry(now)

    def stop(self, cause: str, now: float) -> None:
        """Become Dead; nothing follows."""
        if self.role is not Role.DEAD:
            self._now = now
            self._become_dead(reasons.Stopped(cause))

    # -- output ----------------------------------------------------------------------------

    def ready(self) -> Ready | None:
        """Everything to do since the last call, or None."""
        if self._leadership is not None:
            for message in self._leadership.appends():
                self._send(message)
        log = self.log
        hard_state = self._unsaved_hard_state()
        replace_from = log.handed_index + 1 if log.handed_index < log.last_index else None
        committed_to = min(log.commit_index, log.stable_index)
        if not (
            hard_state is not None
            or replace_from is not None
            or self._messages
            or self._messages_after_persist
            or self._events
            or committed_to > self._applying_index
        ):
            return None
        self._number += 1
        ready = Ready(
            number=self._number,
            hard_state=hard_state,
            append=log.entries(replace_from, log.last_index) if replace_from is not None else (),
            replace_from=replace_from,
            messages=tuple(self._messages),
            messages_after_persist=tuple(self._messages_after_persist),
            committed=self._take_committed(committed_to),
            events=tuple(self._events),
        )
        self._messages.clear()
        self._messages_after_persist.clear()
        self._events.clear()
        if ready.must_persist:
            log.handed_index = log.last_index
            vote_term = self.term if self.voted_for == self.node_id else -1
            self._writes.append((self._number, log.last_index, vote_term))
        return ready

    def _unsaved_hard_state(self) -> HardState | None:
        if self._saved.term == self.term and self._saved.voted_for == self.voted_for:
            return None
        self._saved = self.hard_state
        self._hard_state_number = self._number + 1
        return self._saved

    def _take_committed(self, last: LogIndex) -> tuple[Entry, ...]:
        first = self._applying_index + 1
        if last < first:
            return ()
        self._applying_index = last
        return self.log.entries(first, last)

    # -- roles: transitions ----------------------------------------------------------------

    def _become_follower(self, term: Term, leader_id: NodeId | None, reason: Reason) -> None:
        was_leader = self._leadership is not None
        term_is_new = term != self.term
        previous = self._enter(Role.FOLLOWER)
        if term_is_new:
            self.term = term
            self.voted_for = None  # only with a new term (hazard V2)
        self.leader_id = leader_id
        self._campaign = None
        self._leadership = None
        self._lost_leader = None
        if was_leader or leader_id is None:
            # A node that led has heard no leader; a node in a new term has heard none yet.
            self._leader_heard_s = NEVER
        self._trace_role(previous, reason)
        if previous is not Role.FOLLOWER:
            # A follower's timer goes on: a term alone is no sign of a leader (paper, section 5.2).
            self._start_timer()

    def _become_pre_candidate(self, reason: Reason) -> None:
        previous = self._enter(Role.PRE_CANDIDATE)
        self.leader_id = None  # hazard L4
        self._lost_leader = None
        campaign = self._campaign = Campaign(term=self.term + 1, started_s=self._now)
        self._trace_role(previous, reason)
        self._start_timer()
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

    def _become_candidate(self, reason: Reason) -> None:
        previous = self._enter(Role.CANDIDATE)
        self.term += 1
        self.voted_for = self.node_id
        self.leader_id = None
        self._lost_leader = None
        self._campaign = Campaign(term=self.term, started_s=self._now)
        self._trace_role(previous, reason)
        self._start_timer()
        for peer in self._other_voters():
            request = messages.RequestVote(
                sender=self.node_id,
                receiver=peer,
                term=self.term,
                last_log_index=self.log.last_index,
                last_log_term=self.log.last_term,
            )
            self._send_after_persist(request)

    def _become_leader(self, reason: Reason) -> None:
        previous = self._enter(Role.LEADER)
        self.leader_id = self.node_id
        self._campaign = None
        leadership = self._leadership = Leadership.begin(
            self.node_id,
            self.term,
            self.configuration,
            self.log,
            self.timing,
            self.limits,
            quorum_timeout_s=self._timer.timeout_s / self._timer.factor,
            now=self._now,
        )
        if self._timer.narrow():
            self._trace_widened()
        self._trace_role(previous, reason)
        self._check_quorum(leadership)
        noop = Entry(self.log.last_index + 1, self.term, b"", EntryKind.NOOP)
        self.log.append_one(noop)

    def _become_dead(self, reason: Reason) -> None:
        previous = self._enter(Role.DEAD)
        self.leader_id = None
        self._campaign = None
        self._leadership = None
        self._timer.stop()
        self._messages.clear()
        self._messages_after_persist.clear()
        self._trace_role(previous, reason)

    def _enter(self, role: Role) -> Role:
        if role not in LEGAL_EDGES[self.role]:
            raise InvariantViolation(f"{self.role.value} must not become {role.value}")
        previous, self.role = self.role, role
        return previous

    def _adopt_term(self, message: Message) -> None:
        if self.tracing:
            self._events.append(events.TermOutOfDate(self._now, message))
        reason = reasons.HigherTerm(message.term, message.sender)
        self._become_follower(message.term, None, reason)

    def _start_timer(self) -> None:
        timeout_s = self._timer.start(self._now)
        if self.tracing:
            self._events.append(events.ElectionTimerStarted(self._now, timeout_s, self.term))

    # -- roles: messages -------------------------------------------------------------------

    def _step_follower(self, message: Message) -> None:
        match message:
            case messages.AppendEntries():
                self._follow(message)
            case messages.RequestVote():
                self._answer_vote(message)
            case _:
                self._note_stale(message)

    def _step_candidate(self, message: Message) -> None:
        match message:
            case messages.AppendEntries() if message.term == self.term:
                self._become_follower(
                    self.term, message.sender, reasons.LeaderHeard(message.sender)
                )
                self._follow(message)
            case messages.AppendEntries():
                self._follow(message)
            case messages.RequestVote():
                self._answer_vote(message)
            case messages.RequestVoteReply():
                self._on_vote_reply(message)
            case messages.RequestPreVoteReply():
                self._on_pre_vote_reply(message)
            case _:
                self._note_stale(message)

    def _step_leader(self, message: Message) -> None:
        match message:
            case messages.AppendEntriesReply():
                self._on_append_reply(message)
            case messages.RequestVote():
                self._answer_vote(message)
            case messages.AppendEntries() if message.term == self.term:
                raise BadMessage(
                    f"{message.sender!r} claims to lead term {message.term}, which "
                    f"{self.node_id!r} leads"
                )
            case messages.AppendEntries():
                self._follow(message)
            case _:
                self._note_stale(message)

    # -- votes -----------------------------------------------------------------------------

    def _answer_vote(self, request: messages.RequestVote) -> None:
        """Paper, figure 2, RequestVote; and section 5.4.1."""
        grant = (
            request.term == self.term
            and self.voted_for in (None, request.sender)
            and self.role is Role.FOLLOWER
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
        self._send_once_term_is_durable(
            messages.RequestVoteReply(self.node_id, request.sender, self.term, False)
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
        )
        self._send_once_term_is_durable(
            messages.RequestPreVoteReply(
                self.node_id, request.sender, self.term, request.next_term, granted
            )
        )

    def _hears_leader_other_than(self, candidate: NodeId) -> bool:
        """A leader that asks for votes leads no more: it is not protected from itself (L3)."""
        if self._leadership is not None:
            return True
        if self.leader_id is None or self.leader_id == candidate:
            return False
        return self._now - self._leader_heard_s < self.timing.leader_protection_s

    def _on_vote_reply(self, reply: messages.RequestVoteReply) -> None:
        campaign = self._campaign
        if campaign is not None:
            campaign.anyone_answered = True
        if self.role is not Role.CANDIDATE or reply.term != self.term:
            self._note_stale(reply)
            return
        self._record_vote(reply.sender, granted=reply.vote_granted)

    def _on_pre_vote_reply(self, reply: messages.RequestPreVoteReply) -> None:
        campaign = self._campaign
        if campaign is not None:
            campaign.anyone_answered = True
        if (
            campaign is None
            or self.role is not Role.PRE_CANDIDATE
            or reply.next_term != campaign.term
        ):
            self._note_stale(reply)
            return
        self._record_vote(reply.sender, granted=reply.vote_granted)

    def _record_vote(self, voter: NodeId, *, granted: bool) -> None:
        campaign = self._campaign
        if campaign is None:
            raise InvariantViolation(f"a vote of {voter!r} counted without a campaign")
        campaign.record(voter, granted)
        self._conclude(campaign)

    def _conclude(self, campaign: Campaign) -> None:
        if campaign.outcome(self.configuration) is not Outcome.WON:
            return
        votes = campaign.granted_count
        if self.role is Role.PRE_CANDIDATE:
            self._become_candidate(reasons.PreVoteWon(votes))
            return
        if self.tracing:
            self._events.append(events.ElectionWonEvent(self._now, self.term, votes))
        self._become_leader(reasons.ElectionWon(votes))

    def _why_campaign(self) -> Reason:
        if self._lost_leader is not None:
            return reasons.PeerLost(self._lost_leader)
        if self._campaign is not None:
            return reasons.NoWinner(self._now - self._campaign.started_s)
        if self._leader_heard_s > NEVER:
            return reasons.NoContact(self._now - self._leader_heard_s)
        return reasons.NoContact(self._timer.timeout_s)

    # -- entries: follower -----------------------------------------------------------------

    def _follow(self, message: messages.AppendEntries) -> None:
        """Paper, figure 2, AppendEntries."""
        if message.term < self.term:
            self._reply_failure(message, conflict=(0, 0))
            return
        if self.leader_id not in (None, message.sender):
            raise BadMessage(
                f"{message.sender!r} claims to lead term {message.term}, which "
                f"{self.leader_id!r} leads"
            )
        self._check_entries(message)
        self.leader_id = message.sender
        self._leader_heard_s = self._now
        self._lost_leader = None
        if self._timer.narrow():
            self._trace_widened()
            self._start_timer()
        else:
            self._timer.restart(self._now)
        if self.log.term_at(message.prev_log_index) != message.prev_log_term:
            self._reply_failure(message, conflict=self.log.conflict_hint(message.prev_log_index))
            return
        cut_from = self.log.merge(message.entries)
        if cut_from is not None:
            self._clip_writes(cut_from - 1)
        # Hazard A7: only what this message covers is known to be the leader's.
        covered = message.prev_log_index + len(message.entries)
        self._commit_to(min(message.leader_commit, covered))
        self._reply_success(message, covered)

    def _check_entries(self, message: messages.AppendEntries) -> None:
        """Refuse what no correct leader sends, before anything is changed."""
        index, term = message.prev_log_index, message.prev_log_term
        for entry in message.entries:
            index += 1
            if entry.index != index or not term <= entry.term <= message.term:
                raise BadMessage(
                    f"entry ({entry.index}, term {entry.term}) from {message.sender!r} does not "
                    f"continue ({index - 1}, term {term}) in a message of term {message.term}"
                )
            term = entry.term
        conflict = self.log.first_conflict(message.entries)
        if conflict is not None and conflict <= self.log.commit_index:
            raise BadMessage(
                f"{message.sender!r} would replace entry {conflict}, but everything up to "
                f"{self.log.commit_index} is committed"
            )

    def _clip_writes(self, last_index: LogIndex) -> None:
        """After a truncation a write under way no longer vouches for what was cut (hazard D2)."""
        self._writes = deque(
            (number, min(end, last_index), vote) for number, end, vote in self._writes
        )

    def _reply_success(self, message: messages.AppendEntries, match_index: LogIndex) -> None:
        reply = messages.AppendEntriesReply(
            self.node_id, message.sender, self.term, True, match_index, round=message.round
        )
        if match_index <= self.log.stable_index:
            self._send_once_term_is_durable(reply)
        else:
            self._send_after_persist(reply)

    def _reply_failure(
        self, message: messages.AppendEntries, *, conflict: tuple[LogIndex, Term]
    ) -> None:
        self._send_once_term_is_durable(
            messages.AppendEntriesReply(
                self.node_id,
                message.sender,
                self.term,
                success=False,
                match_index=0,
                rejected_index=message.prev_log_index,
                conflict_index=conflict[0],
                conflict_term=conflict[1],
                round=message.round,
            )
        )

    # -- entries: leader -------------------------------------------------------------------

    def _on_append_reply(self, reply: messages.AppendEntriesReply) -> None:
        leadership = self._leadership
        if leadership is None or reply.term < self.term or reply.sender not in leadership.progress:
            self._note_stale(reply)
            return
        if reply.match_index > self.log.last_index:
            raise BadMessage(
                f"{reply.sender!r} acknowledges entry {reply.match_index}, but the log of its "
                f"leader ends at {self.log.last_index}"
            )
        leadership.on_contact(reply.sender, self._now)
        if not reply.success:
            leadership.on_failure(reply)
        elif leadership.on_success(reply):
            self._maybe_commit(leadership)

    def _maybe_commit(self, leadership: Leadership) -> None:
        index = leadership.committable(self.configuration)
        if index is not None:
            self._commit_to(index)

    def _commit_to(self, index: LogIndex) -> None:
        if not self.log.commit_to(index):
            return
        if self._leadership is not None:
            self._leadership.on_commit(self._now)
        if self.tracing:
            self._events.append(events.CommitAdvanced(self._now, index))

    def _check_quorum(self, leadership: Leadership) -> None:
        """A leader that no quorum answers steps down (dissertation 6.2)."""
        if not self.timing.check_quorum:
            self._timer.stop()
            return
        deadline = leadership.quorum_deadline(self.configuration, self._now)
        if deadline > self._now:
            self._timer.set_deadline(deadline)
            return
        silent_s = self._now - deadline + leadership.quorum_timeout_s
        self._become_follower(self.term, None, reasons.QuorumLost(silent_s))

    # -- sending ---------------------------------------------------------------------------

    def _other_voters(self) -> list[NodeId]:
        members = self.configuration.members
        is_voter = self.configuration.is_voter
        return [node for node in members if node != self.node_id and is_voter(node)]

    def _send(self, message: Message) -> None:
        self._messages.append(message)
        self._trace_sent(message)

    def _send_after_persist(self, message: Message) -> None:
        self._messages_after_persist.append(message)
        self._trace_sent(message)

    def _send_once_term_is_durable(self, message: Message) -> None:
        """For answers that promise nothing but bear our term: they wait only for that."""
        is_durable = (
            self._durable_number >= self._hard_state_number
            and self._saved.term == self.term
            and self._saved.voted_for == self.voted_for
        )
        if is_durable:
            self._send(message)
        else:
            self._send_after_persist(message)

    # -- tracing ---------------------------------------------------------------------------

    def _trace_sent(self, message: Message) -> None:
        if not self.tracing:
            return
        next_index = 0
        if self._leadership is not None and isinstance(message, messages.AppendEntries):
            next_index = message.prev_log_index + 1
        self._events.append(events.MessageSent(self._now, message, next_index))

    def _trace_received(self, message: Message) -> None:
        self._events.append(
            events.MessageReceived(self._now, message, self.term, self.voted_for, self.role)
        )

    def _trace_role(self, previous: Role, reason: Reason) -> None:
        self.last_reason = reason
        if self.tracing:
            self._events.append(
                events.RoleChanged(
                    self._now, self.role, previous, self.term, self.log.summary(), reason
                )
            )

    def _trace_widened(self) -> None:
        if self.tracing:
            self._events.append(events.TimeoutsWidened(self._now, self._timer.factor))

    def _note_stale(self, message: Message) -> None:
        votes = (messages.RequestVoteReply, messages.RequestPreVoteReply)
        if self.tracing and isinstance(message, votes):
            self._events.append(events.StaleReply(self._now, message, self.role))
