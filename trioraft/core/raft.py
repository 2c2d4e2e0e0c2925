"""Raft: the protocol of one node, as a pure state machine.

Rules of this file:

* No I/O, no clock, no randomness of its own: time comes in as `now`, chance as `rng`. The same
  inputs give the same outputs, byte for byte.
* `step` looks at the term once, for every message (paper, section 5.1), then dispatches by role.
* What a peer must not send is `BadMessage`; what must not be is `InvariantViolation`.

The class is laid out over four files, from the ground up: `state` (fields, transitions, sending),
`following`, `leading` and `campaigning` (what a node does in each capacity), and this one (what
comes in, what goes out).
"""

from __future__ import annotations

from typing import Final

from . import events, messages, reasons
from .campaigning import Campaigning
from .errors import BadMessage, InvariantViolation
from .following import Following
from .messages import Message
from .ready import Ready
from .state import FIRST_HASTE, NEVER
from .state import LEGAL_EDGES as LEGAL_EDGES
from .types import Entry, LogIndex, NodeId, Role, SnapshotMeta

OF_LEADER: Final = (messages.AppendEntries, messages.InstallSnapshot)


class Raft(Campaigning, Following):
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

    # -- inputs ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin as a follower (paper, section 5.2)."""
        self._now = self._started_s = now
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
        if isinstance(message, OF_LEADER) and message.term >= self.term:
            self._check_leader(message)  # before its term: bad input changes nothing at all
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

    def _step_follower(self, message: Message) -> None:
        match message:
            case messages.AppendEntries():
                self._follow(message)
            case messages.RequestVote():
                self._answer_vote(message)
            case messages.InstallSnapshot():
                self._receive_chunk(message)
            case messages.TimeoutNow():
                self._take_over(message)
            case messages.RequestReadIndexReply():
                self._on_read_reply(message)
            case _:
                self._note_stale(message)

    def _step_candidate(self, message: Message) -> None:
        match message:
            case messages.AppendEntries() | messages.InstallSnapshot():
                if message.term == self.term:
                    heard = reasons.LeaderHeard(message.sender)
                    self._become_follower(self.term, message.sender, heard)
                self._step_follower(message)
            case messages.RequestVote():
                self._answer_vote(message)
            case messages.RequestVoteReply():
                self._on_vote_reply(message)
            case messages.RequestPreVoteReply():
                self._on_pre_vote_reply(message)
            case messages.TimeoutNow():
                self._take_over(message)
            case messages.RequestReadIndexReply():
                self._on_read_reply(message)
            case _:
                self._note_stale(message)

    def _step_leader(self, message: Message) -> None:
        match message:
            case messages.AppendEntriesReply():
                self._on_append_reply(message)
            case messages.RequestVote():
                self._answer_vote(message)
            case messages.InstallSnapshotReply():
                self._on_chunk_reply(message)
            case messages.RequestReadIndex():
                self._on_read_request(message)
            case messages.RequestReadIndexReply():
                self._on_read_reply(message)
            case messages.AppendEntries() | messages.InstallSnapshot():
                if message.term == self.term:
                    raise BadMessage(
                        f"{message.sender!r} claims to lead term {message.term}, which "
                        f"{self.node_id!r} leads"
                    )
                self._step_follower(message)  # of an earlier term: refused
            case _:
                self._note_stale(message)

    def on_timeout(self, now: float) -> None:
        """The deadline was reached. Calling it early, or twice, does nothing."""
        if self.role is Role.DEAD or not self._timer.is_due(now):
            return
        self._now = now
        if self._leadership is not None:
            self._watch_leadership(self._leadership)
            return
        if not self._may_campaign():
            self._start_timer()
            return
        reason = self._why_campaign()
        if not self._haste:  # a hurried campaign is meant to be short
            self._maybe_widen()
        if self.timing.pre_vote:
            self._become_pre_candidate(reason)
        else:
            self._become_candidate(reason)

    def _maybe_widen(self) -> None:
        campaign = self._campaign
        if campaign is not None and campaign.was_too_short(self.node_id) and self._timer.widen():
            self._trace_widened()

    def on_persisted(self, number: int, now: float) -> None:
        """The Ready of this number, and all before it, are durable."""
        if self.role is Role.DEAD:
            return
        self._now = now
        self._disk_is_full = False
        vote_term = self._out.on_persisted(number, self.log)
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
        is_news = peer == self.leader_id and peer != self._lost_leader  # it has two connections
        if self.role is Role.FOLLOWER and is_news and hint_applies:
            self._leader_heard_s = NEVER
            self._lost_leader = peer
            self._haste = FIRST_HASTE
            self._timer.hurry(now, len(self._other_voters()))

    def on_disk_full(self, now: float) -> None:
        """A write found no room and will be tried again. A leader that cannot write cannot
        commit: it lets somebody else lead, and nobody here campaigns until there is room."""
        if self.role is Role.DEAD:
            return
        self._now = now
        self._disk_is_full = True
        if self.tracing:
            self._out.trace(events.DiskIsFull(now))
        if self._leadership is not None:
            self._resign(self._leadership, reasons.NoRoom())

    def on_snapshot_saved(
        self, meta: SnapshotMeta, now: float, *, keep_after: LogIndex | None = None
    ) -> None:
        """This node's own snapshot is durable: cut the log, but for a tail (paper, section 7).

        Args:
            meta: of the snapshot.
            now: the time.
            keep_after: keep what comes after this index in any case: that of an older snapshot,
                so that one damaged snapshot is not the end of the node.
        """
        previous = self.snapshot
        if previous is not None and previous.index >= meta.index:
            return
        self._now = now
        self.snapshot = meta
        base = meta.index - self.limits.snapshot_tail_entries
        if keep_after is not None:
            base = min(base, keep_after)
        if base > self.log.base_index:
            self.log.compact(base)
            self._out.compact = (self.log.base_index, self.log.base_term)
        self._membership.on_compacted(meta.index)
        if self.tracing:
            saved = events.SnapshotSaved(now, meta.index, meta.size_bytes, self.log.base_index)
            self._out.trace(saved)

    def stop(self, cause: str, now: float) -> None:
        """Become Dead; nothing follows."""
        if self.role is not Role.DEAD:
            self._now = now
            self._become_dead(reasons.Stopped(cause))

    # -- output ----------------------------------------------------------------------------

    def ready(self) -> Ready | None:
        """Everything to do since the last call, or None."""
        if self._open_reads:
            self._ask_for_reads()
        leadership = self._leadership
        if leadership is not None:
            self._begin_read_round(leadership)
            for message in leadership.appends(self.snapshot):
                self._send(message)
            self._out.chunk_requests.extend(leadership.chunk_requests(self._now))
        vote_term = self.term if self.voted_for == self.node_id else None
        committed = self._take_committed()
        return self._out.take(self.log, self.hard_state, vote_term, committed, self._now)

    def _take_committed(self) -> tuple[Entry, ...]:
        first = self._applying_index + 1
        last = min(self.log.commit_index, self.log.stable_index)
        if last < first or self._out.is_installing:
            return ()
        self._applying_index = last
        return self.log.entries(first, last)
