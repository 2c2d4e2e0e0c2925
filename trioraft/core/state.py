"""State: what one node of the protocol is made of, and the moves that every role shares.

Rules of this file:

* Only `_become_*` changes the role, and only along `LEGAL_EDGES`.
* The vote goes with its term: only a new term clears it (hazard V2).
* Whoever sends says what the message waits for: nothing, the term, or the whole write.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from . import events, messages, reasons
from .campaign import Campaign
from .config import Limits, Timing
from .errors import CorruptStorage, InvariantViolation
from .leadership import Leadership
from .log import RaftLog
from .membership import Membership
from .messages import Message
from .outbox import Outbox
from .reads import OpenRead
from .reasons import Reason
from .timer import ElectionTimer
from .types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    SnapshotMeta,
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
FIRST_HASTE: Final = 1
"""The number of the first campaign after the leader's connection was lost."""


class State:
    """The fields of one node, and what all roles do with them."""

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
        self.node_id: Final = node_id
        self.timing: Final = timing
        self.limits: Final = limits
        self.tracing = tracing
        self.log: Final = _recovered_log(recovered)
        self.snapshot: SnapshotMeta | None = recovered.snapshot
        self._membership: Final = _recovered_membership(recovered)
        self.configuration: Configuration = self._membership.current
        self.removed_index: LogIndex | None = None
        """The index of the committed configuration by which this node was removed, if it was."""
        self.role = Role.FOLLOWER
        self.term: Term = recovered.hard_state.term
        self.voted_for: NodeId | None = recovered.hard_state.voted_for
        self.leader_id: NodeId | None = None
        self.last_reason: Reason = reasons.Started()
        self._rng: Final = rng
        self._timer: Final = ElectionTimer(timing, rng)
        self._campaign: Campaign | None = None
        self._leadership: Leadership | None = None
        self._leader_heard_s = NEVER
        self._promised_s = NEVER  # when a leader, of whatever term, was last heard: see leases
        self._lost_leader: NodeId | None = None
        self._haste = 0  # since the leader's connection was lost: the next campaign's number
        self._now = NEVER
        self._started_s = NEVER
        self._disk_is_full = False
        self._chunk_under_way = False  # handed to the storage, and not answered yet
        self._open_reads: dict[int, OpenRead] = {}
        self._read_number: int | None = None  # of the last read; None: none was asked in this life
        self._out: Final = Outbox(recovered.hard_state)
        self._applying_index = self.log.applied_index  # handed out to be applied

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
    def membership(self) -> Membership:
        """The configurations that stand in the log."""
        return self._membership

    @property
    def leadership(self) -> Leadership | None:
        """What this node knows of its followers, while it leads."""
        return self._leadership

    @property
    def hard_state(self) -> HardState:
        """Term and vote as they are now, durable or not."""
        return HardState(self.term, self.voted_for)

    # -- transitions -----------------------------------------------------------------------

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
        self._haste = 0
        if was_leader or leader_id is None:
            # A node that led has heard no leader; a node in a new term has heard none yet.
            self._leader_heard_s = NEVER
        self._trace_role(previous, reason)
        if previous is not Role.FOLLOWER:
            # A follower's timer goes on: a term alone is no sign of a leader (paper, section 5.2).
            self._start_timer()

    def _become_dead(self, reason: Reason) -> None:
        previous = self._enter(Role.DEAD)
        self.leader_id = None
        self._campaign = None
        self._leadership = None
        self._timer.stop()
        self._out.clear_messages()
        self._trace_role(previous, reason)

    def _enter(self, role: Role) -> Role:
        if role not in LEGAL_EDGES[self.role]:
            raise InvariantViolation(f"{self.role.value} must not become {role.value}")
        previous, self.role = self.role, role
        return previous

    def _adopt_term(self, message: Message) -> None:
        if self.tracing:
            self._out.trace(events.TermOutOfDate(self._now, message))
        reason: Reason = reasons.HigherTerm(message.term, message.sender)
        is_handing_over = isinstance(message, messages.RequestVote) and message.leadership_transfer
        if self._leadership is not None and is_handing_over:
            reason = reasons.TransferTo(message.sender)
        self._become_follower(message.term, None, reason)

    def _start_timer(self) -> None:
        timeout_s = self._timer.start(self._now)
        if self.tracing:
            self._out.trace(events.ElectionTimerStarted(self._now, timeout_s, self.term))

    def _commit_to(self, index: LogIndex) -> None:
        if not self.log.commit_to(index):
            return
        if self._leadership is not None:
            self._leadership.on_commit(self._now)
        if self.tracing:
            self._out.trace(events.CommitAdvanced(self._now, index))
        if self._leadership is None and self.node_id not in self.configuration.members:
            self._maybe_removed()

    def _has_committed_own_term(self) -> bool:
        """Whether all that earlier leaders committed is known to be committed here (hazards M1,
        R1)."""
        return self.log.term_at(self.log.commit_index) == self.term

    # -- configurations --------------------------------------------------------------------

    def _track_configurations(self, cut_from: LogIndex | None, entries: Sequence[Entry]) -> None:
        """The log was cut and continued: the newest configuration in it counts from now on."""
        changed = cut_from is not None and self._membership.on_truncated(cut_from)
        if self._membership.on_appended(entries) or changed:
            self._configuration_changed()

    def _configuration_changed(self) -> None:
        self.configuration = self._membership.current
        if self.node_id in self.configuration.members:
            self.removed_index = None
        if self.tracing:
            self._out.trace(events.ConfigurationChanged(self._now, self.configuration))

    def _maybe_removed(self) -> None:
        """A committed configuration does not have this node: has it been taken out, or has it not
        been let in yet?"""
        configuration = self._membership.at(self.log.commit_index)
        was_member = self.node_id in self._membership.before(configuration).members
        if was_member and self.node_id not in configuration.members:
            self._note_removed(configuration.index)

    def _note_removed(self, index: LogIndex) -> None:
        """Nobody waits for this node any more: it campaigns no longer (hazard L8)."""
        if self.removed_index is None:
            self.removed_index = index
            self._become_follower(self.term, self.leader_id, reasons.Removed(index))

    # -- sending ---------------------------------------------------------------------------

    def _other_voters(self) -> list[NodeId]:
        members = self.configuration.members
        is_voter = self.configuration.is_voter
        return [node for node in members if node != self.node_id and is_voter(node)]

    def _send(self, message: Message) -> None:
        self._out.send(message)
        self._trace_sent(message)

    def _send_after_persist(self, message: Message) -> None:
        self._out.send_after_persist(message)
        self._trace_sent(message)

    def _send_once_term_is_durable(self, message: Message) -> None:
        self._out.send_once_durable(message, self.hard_state)
        self._trace_sent(message)

    # -- tracing ---------------------------------------------------------------------------

    def _trace_sent(self, message: Message) -> None:
        if not self.tracing:
            return
        next_index = 0
        if self._leadership is not None and isinstance(message, messages.AppendEntries):
            next_index = message.prev_log_index + 1
        self._out.trace(events.MessageSent(self._now, message, next_index))

    def _trace_received(self, message: Message) -> None:
        self._out.trace(
            events.MessageReceived(self._now, message, self.term, self.voted_for, self.role)
        )

    def _trace_role(self, previous: Role, reason: Reason) -> None:
        self.last_reason = reason
        if self.tracing:
            self._out.trace(
                events.RoleChanged(
                    self._now, self.role, previous, self.term, self.log.summary(), reason
                )
            )

    def _trace_widened(self) -> None:
        if self.tracing:
            self._out.trace(events.TimeoutsWidened(self._now, self._timer.factor))

    def _note_stale(self, message: Message) -> None:
        votes = (messages.RequestVoteReply, messages.RequestPreVoteReply)
        if self.tracing and isinstance(message, votes):
            self._out.trace(events.StaleReply(self._now, message, self.role))


def _recovered_membership(recovered: Recovered) -> Membership:
    """What a snapshot stands for is in its configuration; the rest is in the log."""
    snapshot = recovered.snapshot
    if snapshot is None:
        return Membership(recovered.configuration, recovered.entries)
    later = (entry for entry in recovered.entries if entry.index > snapshot.index)
    return Membership(snapshot.configuration, later)


def _recovered_log(recovered: Recovered) -> RaftLog:
    """The log as it was stored. What a snapshot stands for is committed and applied."""
    log = RaftLog(recovered.entries, base_index=recovered.base_index, base_term=recovered.base_term)
    snapshot = recovered.snapshot
    if snapshot is None:
        if log.base_index:
            raise CorruptStorage(
                f"the stored log begins after entry {log.base_index}, but there is no snapshot "
                "that stands for what came before: restore the node's directory from a copy, or "
                "empty it and let the node join anew"
            )
        return log
    if not log.base_index <= snapshot.index <= log.last_index:
        raise CorruptStorage(
            f"the stored snapshot ends at entry {snapshot.index}, but the log holds "
            f"{log.first_index}..{log.last_index} after entry {log.base_index}: they do not "
            "belong together; restore the node's directory from a copy"
        )
    log.commit_index = log.applied_index = snapshot.index
    return log
