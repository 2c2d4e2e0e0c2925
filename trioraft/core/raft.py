"""Raft: the protocol of one node, as a pure state machine that reads like the paper.

Rules of this file:

* No I/O, no clock, no randomness of its own: time comes in as `now`, chance as `rng`. The same
  inputs give the same outputs, byte for byte.
* `step` looks at the term once, for every message (paper, section 5.1), then dispatches by role:
  a `Leadership` exists exactly while this node leads, an `Election` while it asks for votes.
* What a peer must not send is `BadMessage`; what must not be is `InvariantViolation`.
* Whoever sends says what the message waits for: nothing, the term, or the whole write.
* Helpers return what they decide about the role (`Transition`); inputs carry it out, in one funnel,
  `_change_role`, and only `_become_*` writes it, along `LEGAL_EDGES`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Container, Sequence
from typing import Final

import attrs
import msgspec

from . import events, messages, quorum, reasons
from .agreement import Agreement
from .config import Limits, Timing
from .election import NEVER, Election, LeaderContact, RemovalHints
from .errors import (
    BadMessage,
    ConfigError,
    ConfigurationConflict,
    CorruptStorage,
    InvariantViolation,
    NotLeader,
    PeerRefused,
    ProposalDropped,
    ResultsDiverged,
    TransferFailed,
)
from .features import (
    ENTRY_CHECKSUMS,
    FEATURES,
    check_can_go_on,
    check_names,
    checked_command,
    is_intact,
    lacking,
)
from .leadership import Leadership
from .log import RaftLog
from .messages import Message
from .outbox import Outbox
from .pace import Pace
from .progress import ProgressState
from .quorum import Outcome, tally
from .reads import ConfirmedRead, OpenReads, ReadRequest
from .ready import ChunkRequest, Ready, SnapshotChunk
from .reasons import Reason
from .reconfiguration import (
    CONFIGURATIONS,
    Change,
    ChangeVoters,
    Membership,
    MembershipChange,
    Replace,
    Stage,
    SwitchOn,
    configuration_entry,
    configuration_of,
    joining_by,
    problem_with,
    without_outgoing,
)
from .timer import ElectionTimer
from .transfer import Transfer
from .types import (
    TERM_END,
    TERM_MAX,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    SnapshotMeta,
    Term,
)

OF_LEADER: Final = (messages.AppendEntries, messages.InstallSnapshot)
_NOOP: Final = int(EntryKind.NOOP)  # comparing with an enum costs more
_WITHOUT_FEATURES: Final = int(EntryKind.CONFIGURATION)
"""The last kind of entry that a release knows which can do none."""
NEVER_DUE: Final = float("inf")
ROUNDS_OF_ORDER: Final = 3
"""Of so many rounds of asking, the last one has no order: whoever asks first may win."""
TERM_JUMP_MAX: Final = 2**20
"""More terms than any node would have campaigned in within a day."""
HINT_TIMEOUTS: Final = 10
"""For how many of the longest election timeouts a node that one peer calls removed is quiet."""

_F, _P, _C, _L, _D = Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER, Role.DEAD

LEGAL_EDGES: Final[dict[Role, frozenset[Role]]] = {
    _F: frozenset({_F, _P, _C, _D}),
    _P: frozenset({_F, _P, _C, _D}),
    _C: frozenset({_F, _P, _C, _L, _D}),
    _L: frozenset({_F, _D}),
    _D: frozenset(),
}
"""Which role may follow which (paper, figure 4, with the pre-vote of dissertation 9.6)."""


@attrs.frozen
class Transition:
    """What an input has decided about the role: helpers return it, `_change_role` carries it out.

    So no helper changes the role under its caller, and nobody has to ask whether he still leads.
    """

    to: Role
    reason: Reason


class Raft:
    """One node's share of the consensus.

    Args:
        node_id: this node.
        recovered: what the storage gave back, or a bootstrap configuration.
        timing: when to lose patience.
        limits: bounds on batches and windows.
        rng: the only source of chance.
        tracing: build trace events.
        features: what this node can do, by name; a cluster switches on what all its members can.

    Raises:
        ConfigError: its log has switched on what it cannot do.

    Call `start` once, then any input (`step`, `propose`, `on_*`), and after inputs `ready`.
    """

    features: tuple[str, ...]
    """What this node can do, whether or not it is switched on."""
    can: dict[NodeId, tuple[str, ...]]
    """What each other node can do, as it has said last, in this life."""
    seen: dict[NodeId, Incarnation]
    """Which disk is there under each other id, as far as it was told in this life."""
    goes_first: bool = False
    """Whether it campaigns as soon as it starts, or has formed, and may: others are known to wait,
    so that votes do not split."""
    _chunk_under_way: bool
    """Handed to the storage."""
    brought_nothing: bool
    """Whether nothing follows from the last message, or write that is durable: who has no other
    reason to ask what is to be done can leave it."""

    def __init__(
        self,
        node_id: NodeId,
        recovered: Recovered,
        timing: Timing,
        limits: Limits,
        rng: random.Random,
        *,
        tracing: bool = False,
        features: Collection[str] = tuple(FEATURES),
    ) -> None:
        self.node_id: Final = node_id
        self.disk: Final = recovered.incarnation
        self.timing: Final = timing
        self.limits: Final = limits
        self.rng: Final = rng
        """The only source of chance; of the member around it, too."""
        self.tracing = tracing
        self.is_sparing = False  # who listens does without what comes with every message

        # On every server, durable before anything is answered (paper, figure 2).
        self.term: Term = recovered.hard_state.term
        self.voted_for: NodeId | None = recovered.hard_state.voted_for  # in this very term
        self.log: Final = _recovered_log(recovered)
        self.snapshot: SnapshotMeta | None = recovered.snapshot
        self.rotten: SnapshotMeta | None = None
        """This node's newest snapshot, if it is stored damaged: another is to be taken."""

        self.role: Role = Role.FOLLOWER
        self.last_reason: Reason = reasons.Started()
        self.leader_id: NodeId | None = None  # of this term; itself exactly while it leads
        self._leadership: Leadership | None = None  # exactly while it leads
        self._election: Election | None = None  # exactly while it asks for votes or pre-votes

        self._membership: Final = _recovered_membership(recovered)
        self.configuration: Configuration = self._membership.current  # committed or not
        self.features, self.can, self.seen = tuple(features), {}, {}
        check_can_go_on(self.configuration, self.features, node_id)
        self._checks_entries = ENTRY_CHECKSUMS in self.configuration.features
        self.removed_index: LogIndex | None = None
        """The index of the committed configuration by which this node was removed, if it was."""
        self._removal = RemovalHints()
        self._far_terms: dict[NodeId, Term] = {}  # beyond all bounds: which voter has said what
        self.replaces_lost_disks = False
        """Whether this node, while it leads, replaces voters that are there with an empty disk."""

        self.agreement: Final = Agreement()
        """Whether all members compute the same results."""
        self._now = NEVER  # as the last input said
        self._timer: Final = ElectionTimer(timing, rng)
        self.pace: Final = Pace(timing)
        """How long answers take."""
        self._contact: Final = LeaderContact()
        self._open_reads: Final = OpenReads(rng, timing.election_timeout_s[0])
        self._out: Final = Outbox(recovered.hard_state)
        self._promised_ms = recovered.hard_state.promised_ms  # durable before it is promised
        self._inherited_until_s = NEVER  # what an earlier life may have promised ends then
        self._applying_index = self.log.applied_index  # handed out: applied_index <= it <= commit
        self._chunk_under_way = self._disk_is_full = self.brought_nothing = False
        self._received: tuple[SnapshotMeta, int] | None = None  # from where more was wanted last

    # -- what the caller may look at ------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `on_timeout` wants to be called; None when there is nothing to wait for."""
        return self._timer.deadline

    @property
    def now(self) -> float:
        """The time, as the last input said."""
        return self._now

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
        """Term, vote and promise as they are now, durable or not."""
        return HardState(self.term, self.voted_for, self._promised_ms)

    # -- inputs ---------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin as a follower (paper, section 5.2)."""
        self._now = now
        # An earlier life may have promised just before it ended, and longer than this one would.
        self._inherited_until_s = self._contact.promised_until_s = now + self._promised_ms / 1000
        self._start_timer()
        self._maybe_go_first()

    def _maybe_go_first(self) -> None:
        """Have the timer due at once; what was promised, and pre-votes, hold all the same."""
        if self.goes_first and self.role is Role.FOLLOWER and self.leader_id is None:
            self._contact.fast_failover_attempt = int(self.timing.fast_failover)
            self._timer.hurry_to(self._now)

    def form(self, base: Configuration, now: float) -> None:
        """The first voters have agreed which disks they are: from now on this node may campaign.
        Its election timer runs on: agreeing costs the first election no time.

        Args:
            base: their configuration, which stands before the first entry.
            now: the time.
        """
        if self.role is Role.DEAD:
            return
        self._now = now
        self._membership.on_formed(base)
        self._configuration_changed()
        self._maybe_go_first()

    def check_can_take_part(self, peer: NodeId, features: Collection[str]) -> None:
        """Check that a node can do what the committed log has switched on.

        Not before that is committed: a leader that alone has it would speak with nobody any more,
        and could not be told that those without it have elected another.

        Raises:
            PeerRefused: it cannot: what it is sent it would refuse, or misread.
        """
        committed = self._membership.at(self.log.commit_index)
        missing = lacking(committed.features, features)
        if missing:
            raise PeerRefused(
                f"the cluster has switched on {', '.join(missing)} (entry {committed.index}), "
                f"which node {peer!r} cannot do: run a release there that can, as node "
                f"{self.node_id!r} does (docs/upgrading.md)"
            )

    def on_seen(self, peer: NodeId, disk: Incarnation, now: float) -> None:
        """This disk is there under `peer`'s id; call it whenever that is news."""
        if self.role is Role.DEAD or self.seen.get(peer) == disk:
            return
        self._now = now
        self.seen[peer] = disk
        named = self.configuration.disk_of(peer)
        if named and named != disk and self.tracing:
            self._out.trace(events.ForeignDisk(now, peer, named, disk))
        if self._leadership is not None:
            self._leadership.on_seen(peer, disk)
            self._name_disks(self._leadership)

    def forget_strangers(self, known: Container[NodeId]) -> None:
        """Forget the disks of all that are neither members nor `known`: when one of them speaks
        again, that is news (see `on_seen`)."""
        members = self.configuration.members
        self.seen = {
            peer: disk for peer, disk in self.seen.items() if peer in members or peer in known
        }
        self.can = {peer: can for peer, can in self.can.items() if peer in self.seen}

    def step(self, message: Message, now: float, disk: Incarnation = 0) -> None:
        """Handle one message from a peer.

        Args:
            message: what it says.
            now: the time.
            disk: which disk of the sender's it came from, as the connection knows. What is counted
                against a majority counts only from the disk that this node's own configuration
                names; entries are taken, and votes given, whatever the configuration says.

        Raises:
            BadMessage: no correct peer sends this; nothing was changed by it.
        """
        if self.role is Role.DEAD:
            return
        self._now, self.brought_nothing = now, False
        if message.receiver != self.node_id or message.sender == self.node_id:
            raise BadMessage(
                f"{type(message).__name__} from {message.sender!r} to {message.receiver!r} "
                f"arrived at {self.node_id!r}"
            )
        if self.tracing and not self.is_sparing:
            self._trace_received(message)
        if isinstance(message, messages.RequestPreVote):
            self._on_request_pre_vote(message)
            return
        if isinstance(message, OF_LEADER):
            if message.term < self.term:
                self._refuse_deposed(message)
                return
            self._check_leader(message)  # before its term: bad input changes nothing at all
        if message.term > self.term:
            jumps = message.term - self.term > TERM_JUMP_MAX
            if jumps and message.term > TERM_MAX and not self._believes(message):
                raise BadMessage(
                    f"{message.sender!r} says that the term is {message.term}: none after "
                    f"{TERM_MAX} is believed"
                )
            if isinstance(message, messages.RequestVote) and self._protects_leader(message):
                self._refuse_vote(message)
                return
            self._adopt_term(message)
        if isinstance(message, messages.ResultsCheck):
            self._on_results_check(message, disk)
            return
        if self._leadership is not None:
            transition = self._step_leader(message, self._leadership, disk)
        elif self._election is not None:
            transition = self._step_candidate(message, self._election, disk)
        else:
            transition = self._step_follower(message, disk)
        if transition is not None:
            self._change_role(transition)

    def _step_follower(self, message: Message, disk: Incarnation) -> Transition | None:
        match message:
            case messages.AppendEntries():
                self._on_append_entries(message)
            case messages.RequestVote():
                self._on_request_vote(message)
            case messages.InstallSnapshot():
                self._on_install_snapshot(message)
            case messages.TimeoutNow():
                return self._on_timeout_now(message)
            case messages.RequestReadIndexReply():
                self._on_request_read_index_reply(message)
            case messages.RequestVoteReply() | messages.RequestPreVoteReply():
                self._note_stale(message)
                if isinstance(message, messages.RequestPreVoteReply):
                    self._note_asked(message, disk)
                # Late, and true all the same; or what a learner has asked.
                if self._is_told_removed(message, disk):
                    self._trace_role(Role.FOLLOWER, reasons.Removed(message.removed_index))
            case _:
                self._note_stale(message)
        return None

    def _step_candidate(
        self, message: Message, election: Election, disk: Incarnation
    ) -> Transition | None:
        match message:
            case messages.AppendEntries() | messages.InstallSnapshot():
                # Somebody else has won this very term (paper, section 5.2).
                heard = reasons.LeaderHeard(message.sender)
                self._become_follower(self.term, message.sender, heard)
                return self._step_follower(message, disk)
            case messages.RequestVote():
                self._on_request_vote(message)
            case messages.RequestVoteReply():
                return self._on_request_vote_reply(message, election, disk)
            case messages.RequestPreVoteReply():
                return self._on_request_pre_vote_reply(message, election, disk)
            case messages.TimeoutNow():
                return self._on_timeout_now(message)
            case messages.RequestReadIndexReply():
                self._on_request_read_index_reply(message)
            case _:
                self._note_stale(message)
        return None

    def _step_leader(
        self, message: Message, leadership: Leadership, disk: Incarnation
    ) -> Transition | None:
        match message:
            case messages.AppendEntriesReply():
                return self._on_append_entries_reply(message, leadership, disk)
            case messages.RequestVote():
                self._on_request_vote(message)
            case messages.InstallSnapshotReply():
                return self._on_install_snapshot_reply(message, leadership, disk)
            case messages.RequestReadIndex():
                if leadership.reads.has_room:
                    leadership.reads.add(ReadRequest(message.sender, message.number))
            case messages.RequestReadIndexReply():
                self._on_request_read_index_reply(message)
            case messages.AppendEntries() | messages.InstallSnapshot():
                raise BadMessage(
                    f"{message.sender!r} claims to lead term {message.term}, which "
                    f"{self.node_id!r} leads"
                )
            case _:
                self._note_stale(message)
        return None

    def on_timeout(self, now: float) -> None:
        """The deadline was reached. Calling it early, or twice, does nothing."""
        if self.role is Role.DEAD or not self._timer.is_due(now):
            return
        self._now = now
        if self._leadership is not None:
            self._change_role(self._watch_leadership(self._leadership))
        elif not self._may_campaign() or self._contact.has_promised(now):
            if self.leader_id is not None:  # it is not there, whoever comes next (hazard P5)
                silent = reasons.NoContact(now - self._contact.heard_s)
                self._change_role(Transition(Role.FOLLOWER, silent))
            self._ask_whether_removed()
            self._start_timer()
        else:
            reason = self._why_campaign()
            if not self._contact.fast_failover_attempt:  # such an election is meant to be short
                self._maybe_widen()
            asks_first = Role.PRE_CANDIDATE if self.timing.pre_vote else Role.CANDIDATE
            self._change_role(Transition(asks_first, reason))

    def on_heartbeat_due(self, now: float) -> None:
        """The heartbeat deadline was reached: be heard. Calling it early does nothing."""
        if self._leadership is None or now < self._leadership.next_heartbeat_s:
            return
        self._now = now
        for message in self._leadership.heartbeats(now):
            self._send(message)
        if self._has_committed_own_term():
            self._leadership.reads.begin_round(self._leadership.round, self.log.commit_index)
        self._ask_for_results(self._leadership)
        self._make_room_for_another_snapshot(self._leadership)
        if self._leadership.transfer is not None:
            self._leadership.transfer.was_asked = False
            self._advance_transfer(self._leadership)
        if self._leadership.sees_foreign_disk:
            self._name_disks(self._leadership)
            if self.replaces_lost_disks:
                self._replace_lost_disks(self._leadership)
        self._go_on_replacing(self._leadership)

    def on_write_begun(self, number: int, now: float, size_bytes: int = 0) -> None:
        """The write of this Ready, and of all before it, has its turn at the disk now, or the next
        part of it has. What it waited for before (a compaction, a snapshot to be installed, another
        part) was no fault of the disk (hazard P6).

        Args:
            number: of the Ready.
            now: the time.
            size_bytes: of the commands in it: a disk that is busy with much does not hang.
        """
        self._out.on_write_begun(number, now, size_bytes)

    def on_persisted(self, number: int, now: float) -> None:
        """The Ready of this number, and all before it, are durable."""
        if self.role is Role.DEAD:
            return
        self._now, self.brought_nothing = now, False
        self._disk_is_full = False
        begun_s = self._out.begun_s
        vote_term = self._out.on_persisted(number, self.log)
        if begun_s is not None:
            self.pace.on_written(now - begun_s)
        if self._leadership is not None:
            committed_index = self.log.commit_index
            self._change_role(self._maybe_commit(self._leadership))
            self.brought_nothing = self._is_idle(committed_index)
        elif self._election is not None and vote_term == self._election.term == self.term:
            # Our own vote counts like any other: once it is durable (hazard V1).
            own = self._record_vote(self._election, self.node_id, self.disk, granted=True)
            self._change_role(own)

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
        # It has two connections: the second loss is no news.
        is_news = peer == self.leader_id and peer != self._contact.lost_leader
        if self.role is Role.FOLLOWER and is_news and hint_applies:
            self._contact.on_lost(peer)
            self._timer.hurry(now, len(self._other_voters()), vote_s=self.pace.vote_s)

    def on_woken(self, now: float) -> None:
        """The machine was suspended until a moment ago, and its clock may have stood still: no
        lease before a round that leaves from now on is answered (hazard Q2)."""
        self._now = now
        if self._leadership is not None:
            self._leadership.end_lease()

    def on_disk_full(self, now: float, lacking: str | None = None) -> None:
        """A write found no room and will be tried again. A leader that cannot write cannot
        commit: it lets somebody else lead, and nobody here campaigns until there is room.

        Args:
            now: the time.
            lacking: what else than room it lacked (hazard G5).
        """
        if self.role is Role.DEAD:
            return
        self._now = now
        self._disk_is_full = True
        self._out.on_disk_full()
        if self.tracing:
            self._out.trace(events.storage_waits(now, lacking))
        if self._leadership is not None:
            self._change_role(self._resign(self._leadership, reasons.NoRoom(lacking)))

    @property
    def disk_is_full(self) -> bool:
        """Whether the last write found no room, or nothing to write with, and is tried again."""
        return self._disk_is_full

    @property
    def disk_waits_since_s(self) -> float:
        """Since when the write waits that waits longest; infinity: none does."""
        return self._out.waits_since_s

    def on_disk_room(self) -> None:
        """Something other than a Ready was written: there is room again."""
        self._disk_is_full = False

    def stop(self, cause: str, now: float) -> None:
        """Become Dead; nothing follows."""
        if self.role is not Role.DEAD:
            self._now = now
            self._change_role(Transition(Role.DEAD, reasons.Stopped(cause)))

    # -- roles (paper, figure 4) ----------------------------------------------------------

    def _change_role(self, transition: Transition | None) -> None:
        """The one funnel: inputs come here with what was decided, when all else is done."""
        while transition is not None:
            match transition.to:
                case Role.FOLLOWER:
                    self._become_follower(self.term, None, transition.reason)
                    return
                case Role.PRE_CANDIDATE:
                    transition = self._become_pre_candidate(transition.reason)
                case Role.CANDIDATE:
                    self._become_candidate(transition.reason)
                    return
                case Role.LEADER:
                    transition = self._become_leader(transition.reason)
                case Role.DEAD:
                    self._become_dead(transition.reason)
                    return

    def _enter(self, role: Role) -> Role:
        if role not in LEGAL_EDGES[self.role]:
            raise InvariantViolation(f"{self.role.value} must not become {role.value}")
        previous, self.role = self.role, role
        return previous

    def _become_follower(self, term: Term, leader_id: NodeId | None, reason: Reason) -> None:
        was_leader = self._leadership is not None
        term_is_new = term != self.term
        previous = self._enter(Role.FOLLOWER)
        if term_is_new:
            self.term = term
            self.voted_for = None  # only with a new term (hazard V2)
        self.leader_id = leader_id
        self._election = None
        self._leadership = None
        # A node that led has heard no leader; a node in a new term has heard none yet.
        self._contact.on_follower(knows_leader=leader_id is not None and not was_leader)
        self._trace_role(previous, reason)
        if previous is not Role.FOLLOWER:
            # A follower's timer goes on: a term alone is no sign of a leader (paper, section 5.2).
            self._start_timer()

    def _become_pre_candidate(self, reason: Reason) -> Transition | None:
        previous = self._enter(Role.PRE_CANDIDATE)
        self.leader_id = None  # hazard L4
        self._contact.lost_leader = None
        self._contact.tries += 1
        election = self._election = Election(
            term=self.term + 1, started_s=self._now, is_forecast=True
        )
        self._trace_role(previous, reason)
        self._start_election_timer()
        for peer in self._other_voters():
            self._send(self._pre_vote_request(peer))
        return self._record_vote(election, self.node_id, self.disk, granted=True)

    def _ask_whether_removed(self) -> None:
        """A learner has no reason to campaign, and so would never hear that it was removed while it
        was away (hazard P5): it asks what a voter would ask."""
        is_learner = self.node_id in self.configuration.learners
        if is_learner and self.leader_id is None and self.removed_index is None:
            for peer in self._other_voters():
                self._send(self._pre_vote_request(peer))

    def _pre_vote_request(self, peer: NodeId) -> messages.RequestPreVote:
        return messages.RequestPreVote(
            sender=self.node_id,
            receiver=peer,
            term=self.term,
            next_term=self.term + 1,
            last_log_index=self.log.last_index,
            last_log_term=self.log.last_term,
            asked_ms=max(0, int(self._now * 1000)),
        )

    def _become_candidate(self, reason: Reason) -> None:
        previous = self._enter(Role.CANDIDATE)
        self.term += 1
        self.voted_for = self.node_id
        self.leader_id = None
        self._contact.lost_leader = None
        self._election = Election(term=self.term, started_s=self._now)
        self._trace_role(previous, reason)
        self._start_election_timer()
        for peer in self._other_voters():
            request = messages.RequestVote(
                sender=self.node_id,
                receiver=peer,
                term=self.term,
                last_log_index=self.log.last_index,
                last_log_term=self.log.last_term,
                leadership_transfer=isinstance(reason, reasons.TransferFrom),
            )
            self._send_after_persist(request)  # once our own vote is durable (hazard V1)

    def _become_leader(self, reason: Reason) -> Transition | None:
        previous = self._enter(Role.LEADER)
        self.leader_id = self.node_id
        if self._election is not None:
            self.pace.on_elected(self._now - self._election.started_s)
        self._election = None
        self._contact.fast_failover_attempt = 0
        leadership = self._leadership = Leadership(
            node_id=self.node_id,
            term=self.term,
            log=self.log,
            timing=self.timing,
            limits=self.limits,
            pace=self.pace,
            usual_patience_s=self._timer.usual_s,
            disk=self.disk,
            heartbeat_deadline=self._now + self.timing.heartbeat_interval_s,
        )
        leadership.on_configuration(self.configuration, self.seen, self._now)
        self.agreement.on_led()
        if self._timer.narrow():
            self._trace_widened()
        self._trace_role(previous, reason)
        # An entry of its own term: earlier ones are committed through it (paper, 5.4.2 and 8).
        if self.configuration.index == 0:
            # The very first leader begins with the bootstrap configuration: from then on it stands
            # in the log, and nodes that are opened with other voters do no harm.
            self._append_configuration(leadership, self.configuration)
        else:
            self.log.append_one(Entry(self.log.last_index + 1, self.term, b"", EntryKind.NOOP))
        return self._watch_leadership(leadership)

    def _become_dead(self, reason: Reason) -> None:
        previous = self._enter(Role.DEAD)
        self.leader_id = None
        self._election = None
        self._leadership = None
        self._timer.stop()
        self._out.clear_messages()
        self._trace_role(previous, reason)

    def _believes(self, message: Message) -> bool:
        """Whether elections may have led to a term that is beyond all bounds: a quorum of voters
        says so. Otherwise whoever was away while one member's word took the others there could
        never come back. A node that knows no voters has nothing to lose."""
        configuration, ends = self.configuration, message.term > TERM_END
        if not configuration.voters:
            return self.term == 0 and not ends
        if not configuration.is_voter(message.sender):
            return False
        self._far_terms[message.sender] = message.term
        reached = quorum.agreed(configuration, lambda voter: self._far_terms.get(voter, 0))
        return reached > TERM_MAX and message.term - reached <= TERM_JUMP_MAX and not ends

    def _adopt_term(self, message: Message) -> None:
        self._far_terms.clear()
        if self.tracing:
            self._out.trace(events.TermOutOfDate(self._now, message))
            if self.term and message.term - self.term > TERM_JUMP_MAX:
                jumped = events.TermJumped(self._now, message.sender, self.term, message.term)
                self._out.trace(jumped)
        reason: Reason = reasons.HigherTerm(message.term, message.sender)
        is_transfer = isinstance(message, messages.RequestVote) and message.leadership_transfer
        if self._leadership is not None and is_transfer:
            reason = reasons.TransferTo(message.sender)
        self._become_follower(message.term, None, reason)

    def _start_timer(self) -> None:
        """Whoever hears its leader waits for the next heartbeat; whoever knows of none, for votes:
        its own, or those of the one that it has just voted for."""
        stretch = self.pace.stretch if self.leader_id is None else 1.0
        timeout_s = self._timer.start(self._now, stretch)
        if self.tracing:
            self._out.trace(events.ElectionTimerStarted(self._now, timeout_s, self.term))

    # -- election: asking (paper, section 5.2) --------------------------------------------

    def _may_campaign(self) -> bool:
        """Whether this disk has a vote (hazards M7, L8), and can make it durable (hazard L7)."""
        if self.removed_index is not None or self._removal.is_hinted(self._now):
            return False
        commit_index = self.log.commit_index
        if not self._membership.may_vote_since(self.node_id, self.disk, commit_index):
            return False
        is_stalled = self._now >= self._out.stalled_s(self.pace.timeout_s)
        return not self._disk_is_full and not is_stalled

    def _why_campaign(self) -> Reason:
        if self._contact.lost_leader is not None:
            return reasons.PeerLost(self._contact.lost_leader)
        if self._election is not None:
            return reasons.NoWinner(self._now - self._election.started_s)
        if self._contact.heard_s > NEVER:
            return reasons.NoContact(self._now - self._contact.heard_s)
        return reasons.NoContact(self._timer.timeout_s)

    def _maybe_widen(self) -> None:
        election = self._election
        if election is not None and election.was_too_short(self.node_id) and self._timer.widen():
            self._trace_widened()

    def _start_election_timer(self) -> None:
        """An election that began with a lost connection must not cost a whole timeout when votes
        split: it is tried again soon, a little less soon each time, until it is one like others."""
        self._start_timer()
        attempt = self._contact.fast_failover_attempt
        if attempt:
            rivals = len(self._other_voters())
            hurries = self._timer.hurry(self._now, rivals, attempt, self.pace.vote_s)
            self._contact.fast_failover_attempt = attempt + 1 if hurries else 0

    def _on_timeout_now(self, request: messages.TimeoutNow) -> Transition | None:
        """The leader asks for it: no need for a pre-vote (dissertation 3.10)."""
        may_ask = request.term == self.term and self.leader_id in (None, request.sender)
        # One that comes late may have been given up, and commands are taken again (hazard T2).
        heard_term, heard_round = self._contact.heard_round
        is_late = request.term == heard_term and 0 < request.next_round <= heard_round
        if may_ask and not is_late and self._may_campaign():
            return Transition(Role.CANDIDATE, reasons.TransferFrom(request.sender))
        return None

    # -- election: voting (paper, figure 2, RequestVote) ----------------------------------

    def _on_request_vote(self, request: messages.RequestVote) -> None:
        """Paper, figure 2, RequestVote; and section 5.4.1."""
        grant = (
            request.term == self.term
            and self.voted_for in (None, request.sender)  # one vote a term (paper, 5.2)
            and self.role is Role.FOLLOWER
            and not self._protects_leader(request)
            and self.leader_id in (None, request.sender)
            and self.log.is_up_to_date(request.last_log_index, request.last_log_term)  # 5.4.1
        )
        if not grant:
            self._refuse_vote(request)
            return
        self.voted_for = request.sender
        self._start_timer()  # paper, section 5.2: granting a vote restarts it
        self._send_after_persist(  # once the vote is durable (hazard V1)
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
            (self.timing.check_quorum or self._contact.has_promised(self._now))
            and not request.leadership_transfer
            and self._hears_leader_other_than(request.sender)
        )

    def _on_request_pre_vote(self, request: messages.RequestPreVote) -> None:
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
                request.asked_ms,
            )
        )

    def _goes_first(self, request: messages.RequestPreVote) -> bool:
        """Two followers that lose patience within a message's way of each other would both win the
        pre-vote, and split the votes: there the greater id goes first. In the first round since
        a leader was there, and in two of three where all hurry or the way is long; and only while
        its answers may be on their way: a node that cannot win must not keep others from it."""
        low_s, stretch = self.timing.election_timeout_s[0], self.pace.stretch
        answers_until_s = min(max(1.5 * self.pace.round_trip_s, low_s), low_s * stretch)
        tries = self._contact.tries
        is_tight = stretch > 1 or self._contact.fast_failover_attempt > 0
        has_order = tries == 1 or (is_tight and tries % ROUNDS_OF_ORDER != 0)
        return (
            self.role is Role.PRE_CANDIDATE
            and has_order
            and self._election is not None
            and self._now - self._election.started_s < answers_until_s
            and self._election.term == request.next_term
            and self.node_id > request.sender
            and (self.log.last_term, self.log.last_index)
            == (request.last_log_term, request.last_log_index)
        )

    def _hears_leader_other_than(self, candidate: NodeId) -> bool:
        if self._leadership is not None:
            return True
        return self._contact.protects(self.leader_id, candidate, self._now, self.timing)

    def _removed_by(self, peer: NodeId) -> LogIndex:
        """The committed configuration that does not have this peer, for it to learn; or 0."""
        committed = self._membership.at(self.log.commit_index)
        is_member = peer in committed.members or peer in self.configuration.members
        return 0 if is_member else committed.index

    # -- election: counting ---------------------------------------------------------------

    def _on_request_vote_reply(
        self, reply: messages.RequestVoteReply, election: Election, disk: Incarnation
    ) -> Transition | None:
        election.anyone_answered = True
        if self._is_told_removed(reply, disk):
            return Transition(Role.FOLLOWER, reasons.Removed(reply.removed_index))
        # A vote of another term, or for a pre-vote, is not for this one (hazards V3, V4).
        if self.role is not Role.CANDIDATE or reply.term != self.term:
            self._note_stale(reply)
            return None
        return self._record_vote(election, reply.sender, disk, granted=reply.vote_granted)

    def _on_request_pre_vote_reply(
        self, reply: messages.RequestPreVoteReply, election: Election, disk: Incarnation
    ) -> Transition | None:
        election.anyone_answered = True
        self._note_asked(reply, disk)
        if self._is_told_removed(reply, disk):
            return Transition(Role.FOLLOWER, reasons.Removed(reply.removed_index))
        if self.role is not Role.PRE_CANDIDATE or reply.next_term != election.term:
            self._note_stale(reply)
            return None
        return self._record_vote(election, reply.sender, disk, granted=reply.vote_granted)

    def _note_asked(self, reply: messages.RequestPreVoteReply, disk: Incarnation) -> None:
        """A voter's answer says how long answers take, however late: whoever waits for votes
        without a leader learns from it what to wait for (hazard P1)."""
        is_voter = reply.sender in self._other_voters() and self._counts(reply.sender, disk)
        if self.leader_id is None and is_voter:
            self.pace.on_asked(reply.asked_ms, self._now)

    def _is_told_removed(
        self, reply: messages.RequestVoteReply | messages.RequestPreVoteReply, disk: Incarnation
    ) -> bool:
        """Whether it is certain by now that this node was removed.

        Its own log is believed, and so is a quorum of the voters that it knows: it campaigns no
        longer (hazard L8). One peer may be the odd one itself: unless this election is won all the
        same, nobody is disturbed for a while, and then it asks again.
        """
        # Committed at that index: ours, if it stands there too, is that one or is void.
        if not 0 < reply.removed_index >= self.configuration.index:
            return False
        if self._counts(reply.sender, disk):
            self._removal.told_by.add(reply.sender)
        self._removal.until_s = self._now + HINT_TIMEOUTS * self.timing.election_timeout_s[1]
        told = dict.fromkeys(self._removal.told_by, True)
        is_in_log = self.node_id not in self.configuration.members
        if not is_in_log and tally(self.configuration, told) is not Outcome.WON:
            return False
        self.removed_index = reply.removed_index
        return True

    def _counts(self, voter: NodeId, disk: Incarnation) -> bool:
        """Whether this is the very disk that our own configuration names under this id."""
        return self.configuration.disk_of(voter) == disk

    def _record_vote(
        self, election: Election, voter: NodeId, disk: Incarnation, *, granted: bool
    ) -> Transition | None:
        if not self._counts(voter, disk):
            return None
        if election.record(voter, self.configuration, granted=granted) is not Outcome.WON:
            return None
        votes = election.granted_count(self.configuration)
        if self.role is Role.PRE_CANDIDATE:
            return Transition(Role.CANDIDATE, reasons.PreVoteWon(votes))
        if self.tracing:
            self._out.trace(events.ElectionWonEvent(self._now, self.term, votes))
        return Transition(Role.LEADER, reasons.ElectionWon(votes))

    # -- replication: the follower's side (paper, figure 2, AppendEntries) ----------------

    def _refuse_deposed(self, message: messages.AppendEntries | messages.InstallSnapshot) -> None:
        """A leader of an earlier term learns of ours (paper, figure 2, AppendEntries 1)."""
        if isinstance(message, messages.AppendEntries):
            # A round of its old term: to its later leadership it would answer another (hazard R2).
            self._reply_failure(msgspec.structs.replace(message, round=0), conflict=(0, 0))
        else:
            self._reply_chunk(message.sender, message.meta, next_offset=0)

    def _hear_leader(self, message: messages.AppendEntries | messages.InstallSnapshot) -> None:
        """The leader of this term speaks (paper, section 5.2)."""
        if self.leader_id not in (None, message.sender):
            raise BadMessage(
                f"{message.sender!r} claims to lead term {message.term}, which "
                f"{self.leader_id!r} leads"
            )
        self.leader_id = message.sender
        heard_round = (message.term, message.round)
        self._contact.on_heard(self._now, self.timing.promise_s, heard_round)
        longest_ms = math.ceil(self.timing.promise_s * 1000)
        if longest_ms > self._promised_ms or self._now >= self._inherited_until_s:
            self._promised_ms = longest_ms  # stored before any answer leaves (hazard Q3)
        if self._timer.narrow():
            self._trace_widened()
        if self._timer.is_stretched:
            self._start_timer()
        else:
            self._timer.restart(self._now)

    def _on_append_entries(self, message: messages.AppendEntries) -> None:
        """Paper, figure 2, AppendEntries."""
        self._hear_leader(message)
        self.pace.on_told(message.round_trip_ms)
        covered = message.prev_log_index + len(message.entries)
        if message.prev_log_index < self.log.base_index:
            message = self._after_base(message)
        if self.log.term_at(message.prev_log_index) != message.prev_log_term:
            self._reply_failure(message, conflict=self.log.conflict_hint(message.prev_log_index))
            return
        cut_from = self.log.merge(message.entries)  # truncates where they contradict ours
        if cut_from is not None:
            self._out.clip_writes(cut_from - 1)  # hazard D2
        self._track_configurations(cut_from, message.entries)
        # Only what this message covers is known to be the leader's (hazards A5, A7).
        self._follow_commit(min(message.leader_commit, covered))
        self._reply_success(message, covered)

    def _after_base(self, message: messages.AppendEntries) -> messages.AppendEntries:
        """What a snapshot stands for is committed, so it matches: look at the rest only, which
        may be nothing."""
        return msgspec.structs.replace(
            message,
            prev_log_index=self.log.base_index,
            prev_log_term=self.log.base_term,
            entries=message.entries[self.log.base_index - message.prev_log_index :],
        )

    def _check_leader(self, message: messages.AppendEntries | messages.InstallSnapshot) -> None:
        """Refuse what no correct leader of this term or a later one sends."""
        if isinstance(message, messages.AppendEntries):
            self._check_entries(message)
        else:
            self._check_chunk(message)

    def _check_entries(self, message: messages.AppendEntries) -> None:
        index, term = message.prev_log_index, message.prev_log_term
        if index < 0:
            raise BadMessage(f"{message.sender!r} sends entries that follow index {index}")
        for entry in message.entries:
            index += 1
            if entry.index != index or not term <= entry.term <= message.term:
                raise BadMessage(
                    f"entry ({entry.index}, term {entry.term}) from {message.sender!r} does not "
                    f"continue ({index - 1}, term {term}) in a message of term {message.term}"
                )
            term = entry.term
            if entry.kind > _NOOP:
                self._check_kind(entry, message.sender)
        conflict = self.log.first_conflict(message.entries)
        if conflict is not None and conflict <= self.log.commit_index:
            raise BadMessage(
                f"{message.sender!r} would replace entry {conflict}, but everything up to "
                f"{self.log.commit_index} is committed"
            )

    def _check_kind(self, entry: Entry, sender: NodeId) -> None:
        """Refuse an entry that this node cannot do what it says, or that was altered."""
        if entry.kind > _WITHOUT_FEATURES and not self.features:
            raise BadMessage(
                f"entry {entry.index} from {sender!r} is of kind {entry.kind}, of a later release"
            )
        if entry.kind in CONFIGURATIONS:
            self._check_features(configuration_of(entry), sender)
        elif not is_intact(entry):
            raise BadMessage(
                f"entry {entry.index} from {sender!r} is not what its leader took: its checksum is "
                "another; a memory, a network card or a line on the way has altered it"
            )

    def _check_features(self, configuration: Configuration, sender: NodeId) -> None:
        missing = lacking(configuration.features, self.features)
        if missing:
            raise BadMessage(
                f"{sender!r} has switched on {', '.join(missing)}, which node {self.node_id!r} "
                "cannot do: run a release here that can (docs/upgrading.md)"
            )

    def _reply_success(self, message: messages.AppendEntries, match_index: LogIndex) -> None:
        reply = messages.AppendEntriesReply(
            self.node_id,
            message.sender,
            self.term,
            True,
            match_index,
            round=message.round,
            promise_ms=self._promise_ms,
        )
        # The base of a snapshot counts as stable before it is installed; a crash takes it back.
        if match_index <= self.log.stable_index and not self._out.is_installing:
            self._send_once_term_is_durable(reply)
        else:
            self._send_after_persist(reply)  # an acknowledgement is a promise (hazard D1)

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
                promise_ms=self._promise_ms if message.term == self.term else 0,
            )
        )

    @property
    def _promise_ms(self) -> int:
        """The promise to the leader that was just heard; a clock that runs fast keeps it for less
        than it shows."""
        drift = self.timing.lease_clock_drift_max or 0.0
        return int(self.timing.promise_s / (1 + drift) * 1000)

    # -- replication: the leader's side ---------------------------------------------------

    def propose(self, data: bytes, now: float) -> LogIndex:
        """Append a command to the leader's log; it leaves with the next `ready`.

        Raises:
            NotLeader: this node does not lead; the command was not taken.
            ProposalDropped: leadership is being transferred; the command was not taken.
        """
        if self._leadership is None:
            raise NotLeader(self.leader_id)
        if self._leadership.transfer is not None:
            raise ProposalDropped(
                f"leadership is being transferred to {self._leadership.transfer.target!r}: the "
                "command was not taken; propose it there, or here in a moment"
            )
        self._now = max(self._now, now)  # the caller may look at its clock once for a batch
        index = self.log.last_index + 1
        if self._checks_entries:
            self.log.append_one(checked_command(index, self.term, data))
        else:
            self.log.append_one(Entry(index, self.term, data))
        return index

    def hasten_commit_notice(self, now: float) -> None:
        """Somebody elsewhere waits for what was committed just now: followers that did not learn it
        with entries are told at once, and not a little later."""
        leadership = self._leadership
        if leadership is not None and leadership.commit_notice_deadline is not None:
            leadership.commit_notice_deadline = min(leadership.commit_notice_deadline, now)

    def _on_append_entries_reply(
        self, reply: messages.AppendEntriesReply, leadership: Leadership, disk: Incarnation
    ) -> Transition | None:
        if reply.term < self.term or not leadership.names(reply.sender, disk):
            self._note_stale(reply)
            return None
        if reply.match_index > self.log.last_index:
            raise BadMessage(
                f"{reply.sender!r} acknowledges entry {reply.match_index}, but the log of its "
                f"leader ends at {self.log.last_index}"
            )
        leadership.on_answered(reply, self._now)
        if leadership.reads.await_confirmation:
            self._confirm_reads(leadership)
        if not reply.success:
            acknowledged = leadership.on_failure(reply)
            if acknowledged is not None and self.tracing:
                lost = events.AcknowledgedLost(self._now, reply.sender, acknowledged)
                self._out.trace(lost)
        elif leadership.on_success(reply, self._now):
            return self._on_matched(leadership, reply.sender)
        elif leadership.change is not None:
            self._on_joining_heard(leadership, reply.sender)
        else:
            self.brought_nothing = self._is_idle(self.log.commit_index, reply.sender)
        return None

    def _is_idle(self, committed_index: LogIndex, peer: NodeId | None = None) -> bool:
        """Whether this leader has nothing to do but what it had before.

        Args:
            committed_index: what was committed before.
            peer: the follower that was heard, if that is what has happened.
        """
        leadership, log = self._leadership, self.log
        if leadership is None or self.tracing or log.commit_index != committed_index:
            return False
        if log.handed_index < log.last_index or not self._out.is_empty:
            return False
        if min(committed_index, log.stable_index) > self._applying_index:
            return False
        if leadership.change is not None or leadership.transfer is not None:
            return False
        if leadership.reads.want_round:
            return False
        progress = None if peer is None else leadership.progress[peer]
        if progress is None:
            return True
        is_fed = progress.state is ProgressState.REPLICATE
        return is_fed and progress.next_index > log.last_index

    def _on_matched(self, leadership: Leadership, peer: NodeId) -> Transition | None:
        """A follower holds more than before."""
        committed_index = self.log.commit_index
        transition = self._maybe_commit(leadership)
        if transition is None:  # whoever steps down begins nothing more
            if leadership.change is not None:
                self._on_joining_heard(leadership, peer)
            elif peer in self.configuration.returning:
                self._maybe_return(leadership, peer)
            self._advance_transfer(leadership)
            self.brought_nothing = self._is_idle(committed_index, peer)
        return transition

    def _watch_leadership(self, leadership: Leadership) -> Transition | None:
        """Step down if that is due; otherwise look again when it may be. A leader that no quorum
        answers, or whose disk does not, cannot commit, and would keep others from it
        (dissertation 6.2; hazard L7)."""
        self._timer.stop()
        self._maybe_give_up_transfer(leadership)
        if leadership.transfer is not None:
            self._timer.hurry_to(leadership.transfer.deadline_s)
        if not self.timing.check_quorum:
            return None
        patience_s = leadership.patience_s
        quorum_deadline = leadership.quorum_deadline(self.configuration, self._now)
        disk_deadline = NEVER_DUE
        if self._other_voters():  # somebody else could lead
            disk_deadline = self._out.stalled_s(patience_s)
        if quorum_deadline <= self._now:
            silent_s = self._now - quorum_deadline + patience_s
            return Transition(Role.FOLLOWER, reasons.QuorumLost(silent_s))
        if disk_deadline <= self._now:
            stalled = reasons.DiskStalled(self._now - self._out.waits_since_s)
            return self._resign(leadership, stalled)
        self._timer.hurry_to(min(quorum_deadline, disk_deadline))
        return None

    # -- commit (paper, sections 5.3 and 5.4.2) -------------------------------------------

    def _maybe_commit(self, leadership: Leadership) -> Transition | None:
        index = leadership.committable(self.configuration)
        if index is None:
            return None
        self._commit_to(index)
        leadership.on_commit(self._now)
        return self._after_commit(leadership)

    def _follow_commit(self, index: LogIndex) -> None:
        """The leader has committed what this follower holds up to here."""
        if self._commit_to(index) and self.node_id not in self.configuration.members:
            self._maybe_removed()

    def _commit_to(self, index: LogIndex) -> bool:
        has_moved = self.log.commit_to(index)
        if has_moved and self.tracing and not self.is_sparing:
            self._out.trace(events.CommitAdvanced(self._now, index))
        return has_moved

    def _after_commit(self, leadership: Leadership) -> Transition | None:
        """The commit index has moved: go on with whatever waited for a configuration. A leader
        that is taken out leads until that is committed (paper, section 6)."""
        configuration = self.configuration
        if configuration.index > self.log.commit_index:
            return None
        change = leadership.change
        if configuration.outgoing:  # committed: only now is it left (hazard M4)
            if change is not None:
                self._continue_change(leadership, change)
            else:  # an earlier leader's change: whoever leads leaves it (hazard M3)
                self._append_configuration(leadership, without_outgoing(configuration))
        elif change is not None and change.stage is Stage.ADDING:
            self._begin_catching_up(leadership, change)
        elif change is not None and change.stage is Stage.FINAL:
            change.stage = Stage.DONE
            leadership.change = None
        if configuration.outgoing or self.node_id in configuration.voters:
            self._name_disks(leadership)
            return None
        if self.node_id not in configuration.members:
            self.removed_index = configuration.index
        return self._resign(leadership, reasons.Removed(configuration.index))

    def _has_committed_own_term(self) -> bool:
        """Whether all that earlier leaders committed is known to be committed here (hazards M1,
        R1)."""
        return self.log.term_at(self.log.commit_index) == self.term

    # -- reads (dissertation 6.4) ---------------------------------------------------------

    def read(self, now: float, *, lease: bool = False) -> int:
        """Ask for a read. Its number comes back in `Ready.reads`, with the index to wait for.

        Args:
            now: the time.
            lease: answer by the clock alone, where `Timing.lease_clock_drift_max` allows it.

        Returns:
            The read's number.
        """
        self._now = now
        number = self._open_reads.new_number()
        leadership = self._leadership
        may_answer = (
            lease
            and leadership is not None
            and leadership.has_lease(self.configuration, now)
            and self._has_committed_own_term()
        )
        if may_answer:
            self._out.reads.append(ConfirmedRead(number, self.log.commit_index))
        else:
            self._open_reads.open(number)
        return number

    def forget_read(self, number: int) -> None:
        """Nobody wants this read any more."""
        self._open_reads.close(number)

    def _ask_for_reads(self) -> None:
        """Pass open reads to whoever leads now; called whenever there may be news."""
        leader_id, leadership = self.leader_id, self._leadership
        if leader_id is None:
            return
        is_own = leadership is not None
        for number in self._open_reads.to_ask(leader_id, self.term, self._now, is_own=is_own):
            if leadership is not None:
                leadership.reads.add(ReadRequest(self.node_id, number))
            else:
                self._send(messages.RequestReadIndex(self.node_id, leader_id, self.term, number))

    def _begin_read_round(self, leadership: Leadership) -> None:
        """Ask the followers whether we still lead, for all reads that wait."""
        if not leadership.reads.want_round or not self._has_committed_own_term():
            return  # hazard R1
        for message in leadership.heartbeats(self._now):
            self._send(message)
        leadership.reads.begin_round(leadership.round, self.log.commit_index)
        self._confirm_reads(leadership)  # a single voter is a quorum

    def _confirm_reads(self, leadership: Leadership) -> None:
        confirmed_round = leadership.confirmed_round(self.configuration)
        for request, index in leadership.reads.confirm(confirmed_round):
            if request.origin == self.node_id:
                self._confirmed(request.number, index)
            else:
                removed_index = self._removed_by(request.origin)
                self._send_once_term_is_durable(
                    messages.RequestReadIndexReply(
                        self.node_id,
                        request.origin,
                        self.term,
                        request.number,
                        index,
                        removed_index,
                    )
                )

    def _on_request_read_index_reply(self, reply: messages.RequestReadIndexReply) -> None:
        """Good whatever its term: a quorum confirmed its sender after the read was asked for. That
        quorum is believed, too, that this node was removed while it was away: it will hear no
        leader any more (hazard P5)."""
        if reply.removed_index > self.configuration.index:
            self._note_removed(reply.removed_index)
        else:
            self._confirmed(reply.number, reply.read_index)

    def _confirmed(self, number: int, index: LogIndex) -> None:
        if self._open_reads.close(number):
            self._out.reads.append(ConfirmedRead(number, index))

    # -- agreement on results (hazard E4) -------------------------------------------------

    def on_results(self, index: LogIndex, checksum: int) -> None:
        """The running checksum of the results up to this index, which is a multiple of
        `agreement.POINTS_EVERY`."""
        self.agreement.note(index, checksum)
        asked = self.agreement.asked
        if asked is not None and asked[1] <= index:
            self.agreement.asked = None
            if asked == (self.leader_id, index):
                self._send_results(asked[0], index, checksum)

    def _ask_for_results(self, leadership: Leadership) -> None:
        """With some heartbeats, if there is anything new to ask about."""
        index = self.agreement.next_question()
        checksum = None if index is None else self.agreement.at(index)
        if index is not None and checksum is not None:
            for peer in leadership.progress:
                self._send_results(peer, index, checksum)

    def _send_results(
        self, peer: NodeId, index: LogIndex, checksum: int, voters: tuple[NodeId, ...] = ()
    ) -> None:
        check = messages.ResultsCheck(self.node_id, peer, self.term, index, checksum, voters)
        self._send_once_term_is_durable(check)

    def _on_results_check(self, message: messages.ResultsCheck, disk: Incarnation) -> None:
        agreement = self.agreement
        if message.term < self.term:
            return
        if self._leadership is not None:
            is_named = self.configuration.disk_of(message.sender) == disk
            if message.sender in self._leadership.progress and is_named:
                self._judge_results(message)
            return
        if message.sender != self.leader_id:
            return  # else a leader that stepped down took answers for questions, and answered those
        ours = agreement.at(message.index)
        if message.voters:
            if ours is not None and ours != message.checksum:
                raise self._diverged(message.index, ours, message.checksum, message.voters)
        elif ours is not None:
            self._send_results(message.sender, message.index, ours)
        elif message.index > self.log.applied_index:
            agreement.asked = message.sender, message.index

    def _judge_results(self, message: messages.ResultsCheck) -> None:
        """Paper, section 2: the same commands in the same order give the same results."""
        agreement, index = self.agreement, message.index
        if index != agreement.index:
            return
        majority = agreement.answered(
            self.node_id, message.sender, message.checksum, self.configuration
        )
        ours = agreement.at(index)
        if majority is None or ours is None:
            return
        news = index, majority.agreed
        is_news, agreement.told = agreement.told != news, news
        agreement.differing.update(
            dict.fromkeys((n for n in majority.differing if n != self.node_id), index)
        )
        if is_news and self.tracing:
            checksum = ours if majority.agreed is None else majority.agreed
            self._out.trace(
                events.ResultsDiffer(
                    self._now,
                    index,
                    checksum,
                    majority.voters,
                    majority.differing,
                    majority.agreed is not None,
                )
            )
        if majority.agreed is None:
            return
        if ours != majority.agreed:
            raise self._diverged(index, ours, majority.agreed, majority.voters)
        for node in majority.differing:
            self._send_results(node, index, majority.agreed, majority.voters)

    def _diverged(
        self, index: LogIndex, ours: int, theirs: int, voters: tuple[NodeId, ...]
    ) -> ResultsDiverged:
        return ResultsDiverged(
            f"up to entry {index} node {self.node_id!r} has results with the checksum {ours:08x}, "
            f"and a majority of the voters ({', '.join(voters)}) has {theirs:08x}: its state is "
            "not theirs. Find out which command does not do the same everywhere (a clock, a random "
            "number, the order of a set, another release); then empty this node's directory, start "
            "it, and have it replaced (trioraft admin replace)"
        )

    # -- reconfiguration (paper, section 6) -----------------------------------------------

    def change_members(
        self, change: Change, now: float, *, expected_index: LogIndex | None = None
    ) -> MembershipChange:
        """Begin to change the members.

        Args:
            change: what to do.
            now: the time.
            expected_index: refuse unless the configuration stands at this index: whoever decided
                on the change had looked at that one.

        Returns:
            An object that shows how far the change has come. Losing the leadership leaves it as
            it is: then a later leader finishes what is joint, and nothing else.

        Raises:
            NotLeader: this node does not lead.
            ConfigurationConflict: another change is under way, the configuration is another, or
                nothing of this leader's term is committed yet.
            ConfigError: the change asks for what cannot be.
        """
        leadership = self._leadership
        if leadership is None:
            raise NotLeader(self.leader_id)
        self._check_no_conflict(leadership, expected_index)
        self._now = now
        if isinstance(change, Replace):
            self.check_replaceable(change.node_id)
        if isinstance(change, SwitchOn):
            self._check_switchable(change, leadership)
        elif self.configuration.features:
            self._check_can_join(joining_by(change, self.configuration))
        begun = MembershipChange.begin(change, self.configuration)
        if begun.has_ended:
            return begun
        leadership.change = begun
        if begun.must_catch_up(self.configuration):
            self._begin_catching_up(leadership, begun)
        else:
            self._continue_change(leadership, begun)
        return begun

    def _check_no_conflict(self, leadership: Leadership, expected_index: LogIndex | None) -> None:
        index = self.configuration.index
        if leadership.change is not None or self.configuration.outgoing:
            raise ConfigurationConflict(
                "another change of the members is under way: wait for it to end"
            )
        if leadership.transfer is not None:
            raise ConfigurationConflict(
                f"leadership is being transferred to {leadership.transfer.target!r}: ask there"
            )
        # Otherwise two leaders' changes could give two disjoint majorities (hazard M1).
        if index > self.log.commit_index or not self._has_committed_own_term():
            raise ConfigurationConflict(
                f"entry {max(index, self.log.commit_index + 1)} of this leader's term has to be "
                "committed first: try again in a moment (Ongaro 2015)"
            )
        if expected_index not in (None, index):
            raise ConfigurationConflict(
                f"the configuration stands at index {index}, not at {expected_index}: it was "
                "changed meanwhile; look at it, and decide again"
            )

    def _check_switchable(self, change: SwitchOn, leadership: Leadership) -> None:
        """Every member is there, and has said that it can: one that cannot would be cut off (hazard
        U1)."""
        check_names(change.features, self.features)
        problems = []
        for peer in self.configuration.members:
            if peer == self.node_id:
                continue
            can, needed = self.can.get(peer), (*self.configuration.features, *change.features)
            if can is None or not leadership.has_heard_lately(peer, self._now):
                problems.append(f"{peer!r} is not there to say whether it can")
            elif lacking(needed, can):
                problems.append(f"{peer!r} cannot do {', '.join(lacking(needed, can))}")
        if problems:
            raise ConfigError(
                f"{', '.join(change.features)} is switched on only when every member can: "
                f"{'; '.join(problems)}. Run a release there that can, or take the member out; "
                "then ask again. Nothing was changed (docs/upgrading.md)"
            )

    def _check_can_join(self, joining: Collection[NodeId]) -> None:
        """Who is there already and cannot do what is on never catches up."""
        on = self.configuration.features
        for peer in joining:
            missing = lacking(on, self.can.get(peer, on))
            if missing:
                raise ConfigError(
                    f"{peer!r} cannot join: the cluster has switched on {', '.join(missing)} "
                    f"(entry {self.configuration.index}), which its release cannot do. Run one "
                    "there that can; nothing was changed (docs/upgrading.md)"
                )

    def abandon_change(self, change: MembershipChange, now: float) -> bool:
        """Give up a change, if no voter has changed yet; learners that joined for it stay.

        Returns:
            True if it is given up, or had ended anyway; False if it goes on to its end.
        """
        if not change.has_ended and change.can_be_abandoned:
            self._now = now
            change.stage = Stage.ABANDONED
            if self._leadership is not None and self._leadership.change is change:
                self._leadership.change = None
        return change.has_ended

    def _continue_change(self, leadership: Leadership, change: MembershipChange) -> None:
        step = change.advance(self.configuration)
        change.on_appended(self._append_configuration(leadership, step))

    def _append_configuration(
        self, leadership: Leadership, configuration: Configuration
    ) -> Configuration:
        entry = configuration_entry(configuration, self.log.last_index + 1, self.term)
        self.log.append_one(entry)
        self._track_configurations(None, (entry,))
        leadership.on_configuration(self.configuration, self.seen, self._now)
        return self.configuration

    def _may_reconfigure(self, leadership: Leadership) -> bool:
        """Whether a configuration may be appended: the last one is committed, as is an entry of
        this term, and nobody else is about to lead (hazard M1)."""
        configuration = self.configuration
        return (
            not configuration.outgoing
            and configuration.index <= self.log.commit_index
            and leadership.transfer is None
            and self._has_committed_own_term()
        )

    def _name_disks(self, leadership: Leadership) -> None:
        """Learners are named by the disk that they are seen to have, once nothing is heard of
        another one. That changes no voter, so it is one step."""
        configuration, seen = self.configuration, self.seen
        if not configuration.learners or not self._may_reconfigure(leadership):
            return
        disks = {
            learner: seen[learner]
            for learner in configuration.learners
            if seen.get(learner, 0) not in (0, named := configuration.disk_of(learner))
            and not (named and leadership.has_heard_lately(learner, self._now))
        }
        if disks:
            named_anew = {**configuration.disks, **disks}
            self._append_configuration(
                leadership, msgspec.structs.replace(configuration, disks=named_anew)
            )

    def check_replaceable(self, node_id: NodeId) -> None:
        """Check that this voter's disk is another than the one that counts.

        Raises:
            ConfigError: it is not, or what is left could decide nothing.
        """
        configuration = self.configuration
        seen = self.disk if node_id == self.node_id else self.seen.get(node_id)
        if node_id not in configuration.members:
            raise ConfigError(
                f"{node_id!r} is no member of the cluster, which has {list(configuration.members)}"
            )
        if node_id in configuration.returning:
            return  # on its way already: what is left to do is done by whoever leads
        if node_id not in configuration.voters:
            raise ConfigError(
                f"{node_id!r} is a learner, and no voter whose disk was lost: to give it a vote, "
                "use change_voters (trioraft admin promote)"
            )
        if len(configuration.voters) <= 2:
            raise ConfigError(
                f"of the voters {list(configuration.voters)} no majority is left without "
                f"{node_id!r}: nothing can be decided; use trioraft recover on the one that lives"
            )
        if seen is None:
            raise ConfigError(
                f"{node_id!r} was not seen since this leader leads, so nobody knows whether its "
                "disk is another one: start it with an empty data directory first"
            )
        if seen == configuration.disk_of(node_id):
            raise ConfigError(
                f"{node_id!r} is a voter, and there with the very disk that the configuration "
                "names: there is nothing to replace, or nothing any more"
            )

    def _replace_lost_disks(self, leadership: Leadership) -> None:
        """Replace a voter that has been there with another disk for an election timeout, as long as
        those that are heard can decide without it: else nobody could undo it, if it was a late word
        of a disk that is long replaced."""
        if leadership.change is not None or not self._may_reconfigure(leadership):
            return
        others = self._other_voters()
        heard = {voter for voter in others if leadership.has_heard_lately(voter, self._now)}
        can_decide = 1 + len(heard) >= quorum.majority(len(others))  # of those without one of them
        for voter in others if len(others) > 1 and can_decide else ():
            if voter not in heard and leadership.progress[voter].foreign_disk:
                begun = MembershipChange.begin(Replace(voter), self.configuration)
                leadership.change = begun
                self._continue_change(leadership, begun)
                return

    def _maybe_return(self, leadership: Leadership, node: NodeId) -> None:
        """A learner whose disk was lost may hold more than before: make it a voter again, once it
        holds all that is committed."""
        configuration = self.configuration
        has_all = leadership.progress[node].match_index >= self.log.commit_index
        if has_all and configuration.disk_of(node) and self._may_reconfigure(leadership):
            change = ChangeVoters((*configuration.voters, node))
            leadership.change = MembershipChange.begin(change, configuration)
            leadership.change.is_own = True
            self._begin_catching_up(leadership, leadership.change)

    def _go_on_replacing(self, leadership: Leadership) -> None:
        """What a replacement waits for may have come without a message of that member: a commit.
        And one that is gone again keeps nobody from changing the members meanwhile."""
        change = leadership.change
        if change is not None:
            is_gone = not all(
                leadership.has_heard_lately(node, self._now) for node in change.joining
            )
            if change.is_own and is_gone:
                self.abandon_change(change, self._now)
            return
        for node in self.configuration.returning:
            if leadership.has_heard_lately(node, self._now):
                self._maybe_return(leadership, node)
                return

    def _begin_catching_up(self, leadership: Leadership, change: MembershipChange) -> None:
        change.begin_catching_up(self.configuration, self.log.last_index, self._now)
        for node in change.joining:
            self._on_joining_heard(leadership, node)

    def _on_joining_heard(self, leadership: Leadership, node: NodeId) -> None:
        """A joining node may have answered: has it caught up, and with it all?"""
        change = leadership.change
        if change is None or not change.awaits(node):
            return
        if self.configuration.index > self.log.commit_index:
            return  # it names a disk, and is not committed yet
        change.joining[node].on_matched(
            leadership.progress[node].match_index,
            self.log.last_index,
            self._now,
            self.timing.election_timeout_s[0] * self.pace.stretch,
        )
        # While the leadership is being transferred nothing is appended: whoever takes over could
        # not be elected with a shorter log.
        if leadership.transfer is None and change.has_caught_up(
            lambda peer: leadership.has_heard_lately(peer, self._now)
        ):
            self._continue_change(leadership, change)

    def _track_configurations(self, cut_from: LogIndex | None, entries: Sequence[Entry]) -> None:
        """The log was cut and continued: the newest configuration in it counts from now on."""
        changed = cut_from is not None and self._membership.on_truncated(cut_from)
        if self._membership.on_appended(entries) or changed:
            self._configuration_changed()

    def _configuration_changed(self) -> None:
        self.configuration = self._membership.current
        # By the log alone (hazard U2).
        self._checks_entries = ENTRY_CHECKSUMS in self.configuration.features
        if self.node_id in self.configuration.members:
            self.removed_index = None
            self._removal = RemovalHints()
        if self.tracing:
            self._out.trace(events.ConfigurationChanged(self._now, self.configuration))

    def _maybe_removed(self) -> None:
        """A committed configuration does not have this follower: has it been taken out, or has it
        not been let in yet?"""
        configuration = self._membership.at(self.log.commit_index)
        was_member = self.node_id in self._membership.before(configuration).members
        if was_member and self.node_id not in configuration.members:
            self._note_removed(configuration.index)

    def _note_removed(self, index: LogIndex) -> None:
        """This follower goes on as one, and campaigns no longer (hazard L8)."""
        if self.removed_index is None:
            self.removed_index = index
            if self.role is Role.FOLLOWER:
                self._contact.on_follower(knows_leader=True)
                self._trace_role(Role.FOLLOWER, reasons.Removed(index))

    # -- leadership transfer (dissertation 3.10) ------------------------------------------

    def transfer(self, to: NodeId | None, now: float, *, patience_s: float) -> Transfer:
        """Begin a transfer. Its outcome shows in what is returned, and in who leads.

        Args:
            to: who shall lead; None for the voter that can take over soonest.
            now: the time.
            patience_s: after that long it is given up.

        Raises:
            NotLeader: this node does not lead.
            ConfigError: `to` is no voter, or this node itself.
            TransferFailed: another one is under way, or no other voter was heard of lately.
        """
        leadership = self._leadership
        if leadership is None:
            raise NotLeader(self.leader_id)
        if leadership.transfer is not None:
            raise TransferFailed(
                f"leadership is being transferred to {leadership.transfer.target!r} already: wait "
                "for its end, by its deadline"
            )
        self._now = now
        if to is None:
            to = leadership.successor(self.configuration, now)
            if to is None:
                raise TransferFailed("no other voter was heard of lately; nobody can take over")
        elif to == self.node_id or to not in self.configuration.voters:
            raise ConfigError(
                f"cannot transfer the leadership to {to!r}: give one of the other voters, "
                f"{self._other_voters()}"
            )
        leadership.transfer = Transfer(to, now, now + patience_s)
        if self.tracing:
            self._out.trace(events.TransferStarted(now, to))
        self._advance_transfer(leadership)
        self._timer.hurry_to(leadership.transfer.deadline_s)
        return leadership.transfer

    def _advance_transfer(self, leadership: Leadership) -> None:
        transfer = leadership.transfer
        if transfer is None:
            return
        if transfer.may_ask(leadership.progress.get(transfer.target), self.log):
            transfer.was_asked = True
            self._send(leadership.timeout_now(transfer.target))

    def _maybe_give_up_transfer(self, leadership: Leadership) -> None:
        transfer = leadership.transfer
        if transfer is None or self._now < transfer.deadline_s:
            return
        transfer.has_failed = True
        leadership.transfer = None
        if self.tracing:
            waited_s = self._now - transfer.started_s
            self._out.trace(events.TransferGivenUp(self._now, transfer.target, waited_s))
        for message in leadership.heartbeats(self._now):  # all that follows says so (hazard T2)
            self._send(message)

    def _resign(self, leadership: Leadership, reason: Reason) -> Transition:
        """Lead no more, and let the best successor know at once: it need not wait for a
        timeout."""
        successor = leadership.successor(self.configuration, self._now)
        if successor is not None:
            self._send(leadership.timeout_now(successor))
        return Transition(Role.FOLLOWER, reason)

    # -- snapshots: sending (paper, figure 13) --------------------------------------------

    def send_chunk(self, request: ChunkRequest, data: bytes, now: float) -> None:
        """The content that `Ready.chunk_requests` asked for; stale requests are dropped."""
        self._now = now
        if self._leadership is None or request.meta == self.rotten:
            return
        progress = self._leadership.awaiting_chunk(request)
        if progress is not None and not progress.is_as_stored(request.offset, data):
            self.rotten = request.meta  # (hazard P4)
            if self.tracing:
                meta = request.meta
                self._out.trace(events.SnapshotRotten(now, meta.index, meta.size_bytes))
        elif progress is not None and self._can_take(request.receiver, request.meta):
            message = messages.InstallSnapshot(
                self.node_id, request.receiver, self.term, request.meta, request.offset, data
            )
            self._send(message)

    def _can_take(self, peer: NodeId, meta: SnapshotMeta) -> bool:
        """Whether a node knows what a snapshot stands for. An earlier release would pass over the
        features in it: it is sent nothing, until it comes back as one that can."""
        on = meta.configuration.features
        return not on or not lacking(on, self.can.get(peer, ()))

    def on_snapshot_gone(self, request: ChunkRequest) -> None:
        """The snapshot that was asked for was replaced by a newer one: start over with that. If
        there is no newer one, it is asked for again like any chunk that does not come: at once
        would be for ever."""
        if self._leadership is not None and self.snapshot not in (None, request.meta):
            progress = self._leadership.awaiting_chunk(request)
            if progress is not None and self.snapshot is not None:
                progress.on_behind(self.snapshot, self._now)

    def _make_room_for_another_snapshot(self, leadership: Leadership) -> None:
        """There is none without an entry that the rotten one does not cover."""
        is_end = self.rotten is not None and self.log.last_index == self.rotten.index
        if is_end and leadership.transfer is None:
            self.log.append_one(Entry(self.log.last_index + 1, self.term, b"", EntryKind.NOOP))

    def _on_install_snapshot_reply(
        self, reply: messages.InstallSnapshotReply, leadership: Leadership, disk: Incarnation
    ) -> Transition | None:
        if reply.term < self.term or not leadership.names(reply.sender, disk):
            return None
        if reply.meta.index > self.log.last_index:
            raise BadMessage(
                f"{reply.sender!r} answers about a snapshot of entry {reply.meta.index}, but the "
                f"log of its leader ends at {self.log.last_index}"
            )
        if not 0 <= reply.next_offset <= reply.meta.size_bytes:
            raise BadMessage(
                f"{reply.sender!r} wants {reply.next_offset} of a snapshot of "
                f"{reply.meta.size_bytes} bytes"
            )
        leadership.on_contact(reply.sender, self._now)
        progress = leadership.progress[reply.sender]
        if reply.is_damaged and progress.snapshot == reply.meta:
            progress.on_damaged(self._now)
            self._trace_damaged(reply.meta, self.node_id, reply.sender)
            return None
        if leadership.on_chunk_stored(reply, self._now):
            return self._on_matched(leadership, reply.sender)
        return None

    # -- snapshots: receiving -------------------------------------------------------------

    def _check_chunk(self, message: messages.InstallSnapshot) -> None:
        meta = message.meta
        if not 0 <= message.offset <= message.offset + len(message.data) <= meta.size_bytes:
            raise BadMessage(
                f"{message.sender!r} sends {len(message.data)} bytes from {message.offset} of a "
                f"snapshot of {meta.size_bytes} bytes"
            )
        if meta.index < 1 or meta.term > message.term:
            raise BadMessage(
                f"{message.sender!r} sends a snapshot of ({meta.index}, term {meta.term}) in a "
                f"message of term {message.term}"
            )
        problem = problem_with(meta.configuration)
        if problem is None and meta.configuration.index > meta.index:
            problem = f"it was made for index {meta.configuration.index}"
        if problem is not None:
            raise BadMessage(
                f"{message.sender!r} sends a snapshot of entry {meta.index} with a wrong "
                f"configuration: {problem}"
            )
        self._check_features(meta.configuration, message.sender)

    def _on_install_snapshot(self, message: messages.InstallSnapshot) -> None:
        """Paper, figure 13, with a resumable transfer.

        One chunk at a time, and none while a snapshot waits to be installed: the storage holds
        one that was received, and a new transfer would throw it away. The leader asks again.
        """
        meta = message.meta
        self._hear_leader(message)
        if meta.index <= self.log.commit_index:
            self._reply_installed(message.sender, meta)
            return
        if self._chunk_under_way or self._out.is_installing:
            return
        self._chunk_under_way = True
        chunk = SnapshotChunk(message.sender, meta, message.offset, message.data)
        self._out.chunks.append(chunk)

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int, now: float) -> None:
        """A chunk of `Ready.chunks` was given to the storage, which wants more from
        `next_offset`; all of the snapshot is there if that is its size."""
        self._chunk_under_way = False
        has_come = chunk.offset == 0 or self._received == (chunk.meta, chunk.offset)
        is_all = 0 < chunk.meta.size_bytes == chunk.offset + len(chunk.data)
        self._received = (chunk.meta, next_offset)
        if self.role is not Role.FOLLOWER or chunk.sender != self.leader_id:
            return  # its sender leads no more; the transfer may be resumed by whoever does
        self._now = now
        meta = chunk.meta
        if meta.index <= self.log.commit_index:
            self._reply_installed(chunk.sender, meta)
        elif next_offset == meta.size_bytes:
            self._install(meta, chunk.sender)
        elif is_all and has_come and next_offset == 0:  # (hazard P4)
            self._trace_damaged(meta, chunk.sender, self.node_id)
            self._reply_chunk(chunk.sender, meta, 0, is_damaged=True)
        else:
            self._reply_chunk(chunk.sender, meta, next_offset)

    def _install(self, meta: SnapshotMeta, sender: NodeId) -> None:
        was_member = self.node_id in self.configuration.members
        keeps_rest = self.log.restart_from(meta)
        self._membership.on_installed(meta.configuration, meta.index, keeps_rest=keeps_rest)
        if self._membership.current != self.configuration:
            self._configuration_changed()
        self._out.clip_writes(self.log.stable_index)
        self._out.install = meta  # in the order of all other writes (hazard S1)
        self._applying_index = meta.index  # what it stands for is not applied again (hazard S1)
        self.snapshot = meta
        self.rotten = None
        if self.tracing:
            installed = events.SnapshotInstalled(self._now, meta.index, meta.size_bytes, sender)
            self._out.trace(installed)
        self._reply_installed(sender, meta)
        if was_member and self.node_id not in self.configuration.members:
            self._note_removed(self.configuration.index)

    def _reply_installed(self, sender: NodeId, meta: SnapshotMeta) -> None:
        reply = messages.InstallSnapshotReply(
            self.node_id, sender, self.term, meta, meta.size_bytes, installed=True
        )
        if meta.index <= self.log.stable_index and not self._out.is_installing:
            self._send_once_term_is_durable(reply)
        else:
            self._send_after_persist(reply)

    def _reply_chunk(
        self, sender: NodeId, meta: SnapshotMeta, next_offset: int, *, is_damaged: bool = False
    ) -> None:
        reply = messages.InstallSnapshotReply(
            self.node_id, sender, self.term, meta, next_offset, is_damaged=is_damaged
        )
        self._send_once_term_is_durable(reply)

    # -- snapshots: of this node (paper, section 7) ---------------------------------------

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
        if self._leadership is not None and self.rotten is not None:
            for progress in self._leadership.progress.values():
                if progress.snapshot == self.rotten:
                    progress.on_behind(meta, now)
        self.rotten = None
        base = self.log.base_of_tail(
            meta.index,
            entries_max=self.limits.snapshot_tail_entries,
            bytes_max=self.limits.snapshot_tail_bytes,
        )
        if keep_after is not None:
            base = min(base, keep_after)
        if self._leadership is not None:  # what follows a snapshot that is being sent (hazard P3)
            sent_index = self._leadership.oldest_sent_snapshot(now)
            base = base if sent_index is None else min(base, sent_index)
        if base > self.log.base_index:
            self.log.compact(base)
            self._out.compact = (self.log.base_index, self.log.base_term)
        self._membership.on_compacted(meta.index)
        if self.tracing:
            saved = events.SnapshotSaved(now, meta.index, meta.size_bytes, self.log.base_index)
            self._out.trace(saved)

    # -- output ---------------------------------------------------------------------------

    def ready(self) -> Ready | None:
        """Everything to do since the last call, or None."""
        if self._open_reads.unconfirmed:
            self._ask_for_reads()
        leadership = self._leadership
        if leadership is not None:
            self._begin_read_round(leadership)
            for message in leadership.appends(self.snapshot, self._now):
                self._send(message)
            self._out.chunk_requests.extend(leadership.chunk_requests(self._now, self.rotten))
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

    # -- tracing --------------------------------------------------------------------------

    def _trace_sent(self, message: Message) -> None:
        if not self.tracing or self.is_sparing:
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

    def _trace_damaged(self, meta: SnapshotMeta, sender: NodeId, receiver: NodeId) -> None:
        if self.tracing:
            self._out.trace(
                events.SnapshotDamaged(self._now, meta.index, meta.size_bytes, sender, receiver)
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
    elif not log.base_index <= snapshot.index <= log.last_index:
        raise CorruptStorage(
            f"the stored snapshot ends at entry {snapshot.index}, but the log holds "
            f"{log.first_index}..{log.last_index} after entry {log.base_index}: they do not "
            "belong together; restore the node's directory from a copy"
        )
    else:
        log.commit_index = log.applied_index = snapshot.index
    if recovered.applied is not None:
        _resume(log, *recovered.applied)
    return log


def _resume(log: RaftLog, index: LogIndex, term: Term) -> None:
    """Go on where the state machine stands, which has outlived the node. What it was brought to was
    committed, and durable here: a log that has something else there is another disk's."""
    if index <= log.applied_index:
        return  # a snapshot that was received stands for more: it is to be restored
    if log.term_at(index) != term:
        raise InvariantViolation(
            f"the state machine was brought to entry {index} of term {term}, and the stored log "
            f"({log.first_index}..{log.last_index}) has term {log.term_at(index)} there"
        )
    log.commit_index = log.applied_index = index
