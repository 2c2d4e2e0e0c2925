"""Member: one member of a cluster, pure. The core, and everything between it and the world.

Inputs come in (`receive`, `propose`, `on_stored`, …), actions come out (see `actions`). An input
only notes what is to be done; `run` then carries out all that waits, in one queue and in order,
until nothing is left: whatever an action brings about at once is an input like any other, and joins
the queue. So nothing is ever entered twice, and a crash may come before any action without a
promise being broken. The same object is run by Trio (`node`) and by the simulator (`sim`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, final

from ..core.config import Limits
from ..core.errors import (
    BadMessage,
    InvariantViolation,
    NotLeader,
    ProposalDropped,
    RaftError,
    ResourceExhausted,
)
from ..core.events import storage_waits
from ..core.messages import (
    REFUSAL_CHARS_MAX,
    Forward,
    Forwarded,
    GroupsFrame,
    Introduction,
    Message,
)
from ..core.raft import Raft
from ..core.ready import ChunkRequest, Ready, SnapshotChunk, Write
from ..core.types import Address, LogIndex, NodeId, Recovered, Role, SnapshotMeta, Term
from .actions import Action, AdmitClients, Apply, Install, Runner, SaveSnapshot
from .apply_queue import ApplyQueue, WantsSnapshot
from .forwarding import Answers, Forwards, answer_to, refusal_of
from .lineage import MET_MAX, Lineage
from .outcomes import Outcomes, Proposed
from .reads import ReadBatch, Reads
from .results import RunningChecksum
from .state_machine import StateMachine, contents_of, preparation_of
from .write_queue import WriteQueue

OUTCOME_WAIT_TIMEOUTS: Final = 10
"""Upper election timeouts that a deposed leader waits for what becomes of its entries, unless
`Limits.outcome_wait_s` says otherwise."""

_APPLY: Final = Apply()


@final
class Member:
    """One life of one member.

    Args:
        raft: its core, not started.
        machine: what committed commands are applied to. If the core was recovered with a snapshot,
            the machine is restored from it already, or further (`Recovered.applied`).
        limits: bounds on batches, and when a snapshot is due.
        runner: how actions are done.
        lineage: whose disk this is, and of which history. None: nobody tells disks apart, as in
            tests of the protocol alone.
        checksum: of the results up to where the machine stands, see `results.restore`; None:
            unknown.

    Call `start` once; after inputs, `run`. `deadline`, and the core's `heartbeat_deadline`, say
    when `on_timeout` and `on_heartbeat_due` want to be called.
    """

    def __init__(
        self,
        raft: Raft,
        machine: StateMachine,
        limits: Limits,
        runner: Runner,
        lineage: Lineage | None = None,
        *,
        checksum: int | None = 0,
    ) -> None:
        self.lineage: Final = lineage
        self.raft: Final = raft
        self.outcomes: Final = Outcomes()
        self.reads: Final = Reads()
        self.forwards: Final = Forwards(raft.node_id, raft.rng)
        """Commands on their way from here to the leader."""
        self.writes: Final = WriteQueue(limits.write_bytes_max)
        self.applies: Final = ApplyQueue(
            machine,
            self.outcomes,
            limits,
            RunningChecksum(
                checksum,
                self._on_results,
                contents_of(machine),
            ),
            phase_of(raft.node_id, raft.configuration.members),
        )
        self.leading_term: Term | None = None
        """The term that this member leads, as far as it has acted on that."""
        self._waiting_term: Term | None = None  # in which those that wait were proposed
        self._answers = Answers(0)  # of the leadership of that term, to what was forwarded here
        self._awaited: Final[deque[LogIndex]] = deque()  # of it: what others wait for
        self._command_bytes_max: Final = limits.command_bytes_max
        self._make_room: Final = runner.make_room
        # Inputs that are the core's own; no action brings about any of them.
        self.on_heartbeat_due: Final = raft.on_heartbeat_due
        self.on_woken: Final = raft.on_woken
        self._prepare: Final = preparation_of(machine)
        self._outcome_wait_s: Final = limits.outcome_wait_s or (
            OUTCOME_WAIT_TIMEOUTS * raft.timing.election_timeout_s[1]
        )
        self._perform: Final = runner.table()
        self._tell: Final = runner.tell
        self._actions: Final[deque[Action]] = deque()
        self._is_running = False
        self._has_news = False  # for the core, since it was last asked what it wants done
        self._is_admitting = False  # a new leader lets its clients in before it speaks
        self._must_save = False  # somebody asked for a snapshot since the last run
        if raft.snapshot is not None:
            self.applies.restored(raft.snapshot)
        self.applies.resumed(raft.log)

    # -- inputs ----------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When `on_timeout` wants to be called; None: there is nothing to wait for."""
        earliest_s = self.raft.deadline
        if not self.outcomes.deposed and self.forwards.deadline_s is None:
            return earliest_s
        for other_s in (self.outcomes.deadline_s, self.forwards.deadline_s):
            if other_s is not None and (earliest_s is None or other_s < earliest_s):
                earliest_s = other_s
        return earliest_s

    def start(self, now: float) -> None:
        """Begin as a follower, and say who is here."""
        self.raft.start(now)
        if self.lineage is not None:
            self.lineage.begin()

    def receive(self, message: Message, now: float, origin: Introduction | None = None) -> None:
        """Handle one message from a peer.

        Args:
            message: what it says.
            now: the time.
            origin: what its sender has last said of itself; the transport knows.

        Raises:
            BadMessage: no correct peer of this history sends this.
        """
        lineage = self.lineage
        if lineage is None or origin is None:
            self._step(message, now, None)
            return
        if lineage.met.get(origin.sender) is not origin:
            self._has_news = True
            if not self.meet(origin, now, is_live=False):
                return
        if type(message) is Introduction:
            return
        formed = lineage.identity.formed
        if not lineage.admits(message, origin):
            self._has_news = True
            return
        if lineage.identity.formed is not formed:
            self._on_formed(now)
        self._step(message, now, origin)

    def _step(self, message: Message, now: float, origin: Introduction | None) -> None:
        """To the core, unless it is the member's own."""
        raft = self.raft
        kind = type(message)
        if kind is not Forward and kind is not Forwarded:
            if kind is GroupsFrame:
                raise BadMessage(
                    f"{message.sender!r} sent a frame of many groups to a member of one"
                )
            raft.step(message, now, 0 if origin is None else origin.incarnation)
            self._has_news = self._has_news or not raft.brought_nothing
            return
        self._has_news = True
        if message.receiver != raft.node_id or message.sender == raft.node_id:
            raise BadMessage(
                f"{kind.__name__} from {message.sender!r} to {message.receiver!r} arrived at "
                f"{raft.node_id!r}"
            )
        if raft.role is Role.DEAD:
            return
        if isinstance(message, Forward):
            self._actions.append(self._answered(message, now, origin))
        elif isinstance(message, Forwarded):
            self._on_forwarded(message, now)

    def meet(self, said: Introduction, now: float, *, is_live: bool) -> bool:
        """Another node says whose disk it is; see `Lineage.meet`.

        Raises:
            BadMessage: it is of another history, an older copy of a disk, or cannot do what the
                cluster has switched on.
        """
        if self.lineage is None:
            return True
        self.raft.check_can_take_part(said.sender, said.features)
        formed = self.lineage.identity.formed
        if not self.lineage.meet(said, is_live=is_live):
            return False
        self.raft.can[said.sender] = said.features
        self.raft.on_seen(said.sender, said.incarnation, now)
        if len(self.raft.seen) > 2 * MET_MAX:  # of all that were met it stays known
            self.raft.forget_strangers(self.lineage.met)
        if self.lineage.identity.formed is not formed:
            self._on_formed(now)
        return True

    def announce(self, clients_at: Address | None) -> None:
        """This node takes clients there from now on; None: nowhere. See `Lineage.announce`."""
        if self.lineage is not None:
            self.lineage.announce(clients_at)

    def note_seen_at(self, peer: NodeId, address: Address) -> None:
        """A peer that has connected says that it is there."""
        if self.lineage is not None:
            configuration = self.raft.configuration
            is_news = peer in configuration.members and configuration.addresses.get(peer) != address
            self.lineage.note_seen_at(peer, address if is_news else None)

    def on_peer_lost(self, peer: NodeId, now: float) -> None:
        """A connection with `peer` closed: a hint, never proof."""
        self.raft.on_peer_lost(peer, now)
        if self.lineage is not None:
            self.lineage.on_peer_lost(peer)

    def on_timeout(self, now: float) -> None:
        """The deadline was reached. Calling it early, or twice, does nothing."""
        due_s = self.raft.deadline
        self.raft.on_timeout(now)
        self.outcomes.expire(now)
        self.forwards.expire(now)
        self._actions.extend(self.forwards.due(now, self._patience_s()))
        if self.lineage is not None and due_s is not None and now >= due_s:
            self.lineage.ask_again()

    def propose(self, data: bytes, proposed: Proposed, now: float) -> None:
        """Append a command to the leader's log; `proposed` learns where, and what becomes of it.

        Raises:
            NotLeader, ProposalDropped: the command was not taken.
            RaftError: the state machine cannot read it, or it is too deep; it was not taken.
        """
        raft = self.raft
        if self._prepare is not None:
            data = self._prepare(data)
        index, term = raft.propose(data, now), raft.term
        if term != self._waiting_term:
            self._leadership_lost(now)
            self._waiting_term = term
        proposed.index, proposed.term = index, term
        self.outcomes.waiting[index] = proposed

    def forward(self, data: bytes, proposed: Proposed, now: float) -> None:
        """Have whoever leads take a command; `proposed` learns where it stands once that is known
        here, and what becomes of it once it is applied here.

        It fails with `NotLeader` or `ProposalDropped` if the command certainly was not taken, with
        `ConfigError` if it cannot be, and with `OutcomeUnknown` if nobody could say.

        Raises:
            NotLeader: no leader is known; the command was not taken.
            RaftError: the state machine cannot read it, or it is too deep; it was not taken.
        """
        if self._prepare is not None:
            self._prepare(data)  # the leader does so as well, with what counts
        self._follow_leader(now)
        if self._followed is None:
            raise NotLeader(self.raft.leader_id)
        self.forwards.put(data, proposed)
        self._has_news = True

    def forget_forward(self, proposed: Proposed) -> bool:
        """Nobody waits for it any more. Returns whether it was not sent, and never will be."""
        return self.forwards.forget(proposed)

    def want_snapshot(self, wanted: WantsSnapshot) -> None:
        """Take a snapshot of at least what is applied now, and tell when it is durable."""
        self.applies.want_snapshot(wanted)
        self._must_save = self.applies.is_wanted

    def press_snapshot(self) -> None:
        """The log is too long: take a snapshot, whatever the thresholds say."""
        self.applies.is_pressed = self._must_save = True

    def leave_reads(self, batch: ReadBatch) -> None:
        """Nobody waits for this batch of reads any more."""
        self.reads.leave(batch, self.raft)

    def go_on(self) -> None:
        """The clients of a new leader were let in."""
        self._is_admitting = False

    # -- inputs: what was to be done, is done ----------------------------------------------

    def on_stored(self, now: float, *, next_offset: int | None = None) -> None:
        """The storage step that was on its way is durable.

        Args:
            now: the time.
            next_offset: of a chunk: from where the storage wants more of that snapshot.
        """
        step = self.writes.step_done()
        if isinstance(step, Write | Install) and step.identity is not None:
            self._on_identity_stored(now)
        if isinstance(step, Install):
            self.outcomes.covered(step.meta)
            self.applies.put_snapshot(step.meta)
            self._begin_applying()
        elif isinstance(step, SnapshotChunk):
            if next_offset is None:
                raise InvariantViolation(f"a chunk of {step.meta} was stored, and ends nowhere")
            self.raft.on_chunk_stored(step, next_offset, now)
            self._has_news = True
        self._go_on_writing(now)

    @property
    def pending(self) -> int:
        """How many commands that were brought here have no outcome yet."""
        deposed = sum(len(by_term) for by_term in self.outcomes.deposed.values())
        return len(self.outcomes.waiting) + deposed + self.forwards.pending

    @property
    def to_restore(self) -> SnapshotMeta | None:
        """The snapshot to which the state machine is to be brought before anything else is applied,
        if there is one."""
        head = self.applies.head
        return head if isinstance(head, SnapshotMeta) else None

    def on_disk_full(self, now: float, lacking: str | None = None) -> None:
        """There is no room for the step on its way; it will be tried again (hazard L7).

        Args:
            now: the time.
            lacking: what else than room the storage lacked (hazard G5).
        """
        self._has_news = True
        self.raft.on_disk_full(now, lacking)

    def on_storage_waits(self, lacking: str | None, now: float) -> None:
        """Something that the log does not wait for could not be read; it will be tried again."""
        if self.raft.tracing:
            self._actions.append(storage_waits(now, lacking))

    def apply_next(self) -> bool:
        """Apply one slice of the entries that wait, unless a snapshot is to be restored first.

        Returns:
            Whether there is more to do.
        """
        applies = self.applies
        if applies.queue and self.to_restore is None:
            index = applies.apply()
            self.raft.on_applied(index)
            if self.reads:
                self.reads.on_applied(index)
            self._maybe_save()
        applies.is_busy = bool(applies.queue)
        return applies.is_busy

    def on_restored(self, meta: SnapshotMeta, checksum: int | None = None) -> None:
        """The state machine stands where this snapshot does.

        Args:
            meta: of the snapshot.
            checksum: of the results up to there, as `results.restore` gives it.
        """
        applies = self.applies
        applies.checksum.restart(checksum)
        self.raft.agreement.forget()
        applies.restored(meta)
        self.raft.on_applied(meta.index)
        self.reads.on_applied(meta.index)
        applies.is_busy = bool(applies.queue)

    def on_chunk_read(self, request: ChunkRequest, data: bytes, now: float) -> None:
        """Part of a snapshot that a follower is to get."""
        self._has_news = True
        self.raft.send_chunk(request, data, now)
        if self.raft.rotten is not None:
            self.applies.is_distrusted = self._must_save = True

    def on_snapshot_gone(self, request: ChunkRequest) -> None:
        """The snapshot that a follower was getting was replaced by a newer one."""
        self._has_news = True
        self.raft.on_snapshot_gone(request)

    def on_snapshot_saved(self, meta: SnapshotMeta, now: float) -> None:
        """A snapshot of our own is durable: the log may be cut, but for what the one before it
        would need, so that one damaged snapshot is not the end of the node; unless the log is
        longer than may be, and nothing is taken any more."""
        before = self.raft.snapshot
        keep_after: LogIndex | None = 0 if before is None else before.index
        if self.raft.log.memory_bytes > self.raft.limits.log_memory_bytes_bound:
            keep_after = None
        self._has_news = True
        self.raft.on_snapshot_saved(meta, now, keep_after=keep_after)
        self.applies.saved(meta.index)
        self._maybe_save()

    def on_snapshot_unsaved(self, error: ResourceExhausted, now: float) -> None:
        """There was no room for a snapshot, or nothing to write it with: the log grows until there
        is."""
        self.applies.unsaved(error)
        self._actions.append(storage_waits(now, error.lacking))

    def stop(self, cause: str, now: float) -> None:
        """Become Dead: no vote, no message, no result after this."""
        self.raft.stop(cause, now)
        self._actions.clear()
        last = self.raft.ready()
        for event in () if last is None else last.events:
            self._tell(event)
        self.outcomes.member_died()
        self.forwards.member_died()
        self.reads.member_died()
        self.applies.member_died()

    # -- actions ---------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether `run` would do nothing: no message, no write that is durable, and nothing that
        was done asks for more. (Every other input does.)"""
        if self._actions or self._has_news or self._must_save:
            return False
        return self.lineage is None or not self.lineage.has_news

    def run(self, now: float) -> None:
        """Carry out all that the inputs so far ask for, and all that this brings about."""
        if self._is_running:
            raise InvariantViolation("a member was run in the middle of one of its own actions")
        self._is_running = self._has_news = True
        if self.outcomes.deposed:
            self.outcomes.expire(now)
        actions, perform = self._actions, self._perform
        try:
            while True:
                while actions:
                    action = actions.popleft()
                    perform[type(action)](action)
                if not self._look(now):
                    return
        finally:
            self._is_running = False

    def _on_identity_stored(self, now: float) -> None:
        lineage = self.lineage
        if lineage is None:
            raise InvariantViolation("an identity was stored for a member that has none")
        self.raft.on_disk_room()
        formed = lineage.identity.formed
        lineage.on_stored()
        if lineage.identity.formed is not formed:
            self._on_formed(now)

    def _on_formed(self, now: float) -> None:
        """It may campaign from now on: whatever that brings about is written after `formed` is."""
        if self.lineage is not None:
            self._has_news = True
            self.raft.form(self.lineage.base, now)

    def _say_who_is_here(self, lineage: Lineage) -> None:
        self._actions.extend(lineage.take_messages())
        self.writes.identity = lineage.take_identity() or self.writes.identity
        self._has_news = True  # in one write with what the core wants written

    def _look(self, now: float) -> bool:
        """See what the core wants done. False: nothing, for now."""
        raft, lineage = self.raft, self.lineage
        if lineage is not None and lineage.has_news:
            self._say_who_is_here(lineage)
        leading_term = raft.term if raft.role is Role.LEADER else None
        if self._waiting_term is not None and self._waiting_term != self._followed_term(raft):
            self._leadership_lost(now)
        is_forwarding = False
        if self.forwards.open or self.forwards.queue or self.outcomes.kept is not None:
            is_forwarding = self._go_on_forwarding(now)
        if leading_term != self.leading_term:
            self._leadership_changed(leading_term, now)
            return True
        if self._is_admitting or not self._has_news:
            return is_forwarding
        self._has_news = False
        if self._must_save:
            self._must_save = False
            self._maybe_save()
        if raft.removed_index is not None and self.reads:
            self.reads.removed(raft)
        if self.reads.new and raft.leader_id is not None:
            self.reads.ask(raft, now)
        ready = raft.ready()
        if ready is not None:
            self._take(ready, now)
        if self.writes.identity is not None and not self.writes.is_busy:
            self._go_on_writing(now)
        return bool(self._actions) or self._has_news

    def unfinished(self) -> str | None:
        """What is under way, in a word or two. None: everything that is known here is durable,
        committed and applied; as far as this member knows, on all members, if it leads."""
        raft, log = self.raft, self.raft.log
        lineage, writes, applies = self.lineage, self.writes, self.applies
        if lineage is None or not lineage.is_settled:
            return "who is who"
        if not self.is_settled or writes.is_busy or writes.waiting or writes.identity is not None:
            return "a write"
        if not log.applied_index == log.commit_index == log.stable_index == log.last_index:
            return "entries"
        if applies.queue or applies.is_busy:
            return "entries to apply"
        if applies.is_saving or applies.is_wanted or raft.rotten is not None:
            return "a snapshot"
        if self.outcomes.are_open or self.forwards or self.reads:
            return "a call"
        configuration = raft.configuration
        if configuration.outgoing or configuration.returning or raft.removed_index is not None:
            return "a change of members"
        if raft.leader_id is None:
            return "no leader"
        return None if raft.leadership is None else raft.leadership.unfinished()

    # -- forwarding ------------------------------------------------------------------------

    @property
    def _followed(self) -> tuple[NodeId, Term] | None:
        """Whom this member follows, and in which term; None: nobody, or itself."""
        raft = self.raft
        leader_id = raft.leader_id
        if leader_id is None or leader_id == raft.node_id:
            return None
        return leader_id, raft.term

    def _followed_term(self, raft: Raft) -> Term | None:
        """The term of the leadership that counts here, this member's own included."""
        return None if raft.leader_id is None else raft.term

    def _patience_s(self) -> float:
        """How long the answer of a leader is waited for: as long as it may be silent."""
        return self.raft.timing.election_timeout_s[0] * self.raft.pace.stretch

    def _follow_leader(self, now: float) -> None:
        self.forwards.leader_is(self._followed, now + self._outcome_wait_s)

    def _go_on_forwarding(self, now: float) -> bool:
        """Send what waits; keep what comes of commands for as long as a place is not known. Returns
        whether there is anything to send."""
        self._follow_leader(now)
        leader = self._followed
        messages = [] if leader is None else self.forwards.take(leader, now, self._patience_s())
        self._actions.extend(messages)
        self.outcomes.keep(is_asked=bool(self.forwards.open))
        return bool(messages)

    def _answered(self, message: Forward, now: float, origin: Introduction | None) -> Forwarded:
        """Take a command that another member has forwarded, once, and say where it stands."""
        raft = self.raft
        opening = None if origin is None else origin.opening
        if raft.leadership is not None:
            self._begin_answering(raft.term)
        if self._answers.term != message.term or not self._is_members(message, origin):
            return answer_to(message)
        answer = self._answers.to(message, opening)
        if answer is None:
            answer = self._taken(message, now)
            self._answers.remember(message, opening, answer)
        return answer

    def _begin_answering(self, term: Term) -> None:
        """This member leads that term, and knows from here on whatever it takes in it."""
        if self._answers.term != term:
            self._answers = Answers(term)
            self._awaited.clear()

    def _is_members(self, message: Forward, origin: Introduction | None) -> bool:
        """Whether it comes from a member, with the disk that is named, if one is."""
        configuration = self.raft.configuration
        named = configuration.disk_of(message.sender)
        is_own = origin is None or named in (0, origin.incarnation)
        return is_own and message.sender in configuration.members

    def _taken(self, message: Forward, now: float) -> Forwarded:
        raft, size_bytes = self.raft, len(message.data)
        if raft.leadership is None or raft.term != message.term:
            why = f"it leads term {message.term} no more"
            return answer_to(message, refusal=why)
        if size_bytes > self._command_bytes_max:
            why = f"{size_bytes} bytes exceed its Limits.command_bytes_max"
            return answer_to(message, refusal=why, is_final=True)
        proposed = self._make_room(message)
        if proposed is None:
            why = (
                "the commands on their way there fill its Limits.proposals_bytes_max, or its log "
                "Limits.log_memory_bytes_max"
            )
            return answer_to(message, refusal=why)
        try:
            self.propose(message.data, proposed, now)
        except RaftError as error:
            proposed.fail(error)
            is_final = not isinstance(error, NotLeader | ProposalDropped)
            why = f"{type(error).__name__}: {error}"[:REFUSAL_CHARS_MAX]
            return answer_to(message, refusal=why, is_final=is_final)
        self._has_news = True
        self._awaited.append(proposed.index)
        return answer_to(message, index=proposed.index)

    def _tell_who_awaits(self, committed_index: LogIndex, now: float) -> None:
        awaited = self._awaited
        if awaited[0] <= committed_index:
            self.raft.hasten_commit_notice(now)
        while awaited and awaited[0] <= committed_index:
            awaited.popleft()

    def _on_forwarded(self, message: Forwarded, now: float) -> None:
        """The leader has said where a command of ours stands."""
        proposed = self.forwards.answered(message)
        if proposed is None:
            return
        self._has_news = True
        if not message.index:
            proposed.fail(refusal_of(message))
            return
        raft = self.raft
        proposed.index, proposed.term = message.index, message.term
        if message.index <= self.applies.applied_index:
            self.outcomes.told_late(proposed, raft.log.term_at(message.index))
        elif message.term == self._followed_term(raft):
            if message.term != self._waiting_term:
                self._leadership_lost(now)
                self._waiting_term = message.term
            self.outcomes.wait_for(proposed)
        else:
            deadline_s = now + self._outcome_wait_s
            by_term = self.outcomes.deposed.setdefault(message.index, {})
            by_term[message.term] = proposed, deadline_s

    def _leadership_lost(self, now: float) -> None:
        """The one in which those that wait were proposed: it may have come and gone between two
        runs, unseen."""
        self._waiting_term = None
        deadline_s = now + self._outcome_wait_s
        self.outcomes.leadership_lost(self.raft.log.commit_index, deadline_s)

    def _leadership_changed(self, leading_term: Term | None, now: float) -> None:
        self.leading_term = leading_term
        if leading_term is not None:
            self._begin_answering(leading_term)
        if leading_term is not None and not self._is_admitting:
            self._is_admitting = True
            self._actions.append(AdmitClients())

    def _take(self, ready: Ready, now: float) -> None:
        """Queue what a Ready asks for, in the order in which its fields must be honoured."""
        actions = self._actions
        if ready.events:
            actions.extend(ready.events)
        actions.extend(ready.messages)  # they need not wait for the disk (dissertation 10.2.1)
        if ready.awaits_persist:
            self.writes.put(ready)
            if not self.writes.is_busy:
                self._go_on_writing(now)
        if ready.chunk_requests:
            actions.extend(ready.chunk_requests)
        if ready.committed:
            self.applies.put(ready.committed)
            self._begin_applying()
            if self._awaited:
                self._tell_who_awaits(ready.committed[-1].index, now)
        for read in ready.reads:
            self.reads.confirmed(read, self.raft.log.applied_index)

    def _go_on_writing(self, now: float) -> None:
        """Begin the next step; let promises leave once all steps of a group are done."""
        writes = self.writes
        while True:
            if writes.steps:
                step = writes.steps[0]
                if isinstance(step, Write) and writes.group:
                    self.raft.on_write_begun(writes.group[-1].number, now, step.size_bytes)
                self._actions.append(step)
                return
            if writes.group:
                group = writes.end_group()
                for ready in group:
                    self._actions.extend(ready.messages_after_persist)
                self.raft.on_persisted(group[-1].number, now)
                self._has_news = self._has_news or not self.raft.brought_nothing
            if not writes.begin_group():
                return

    def _begin_applying(self) -> None:
        if not self.applies.is_busy:
            self.applies.is_busy = True
            self._actions.append(_APPLY)

    def _on_results(self, index: LogIndex, checksum: int) -> None:
        self._has_news = True
        self.raft.on_results(index, checksum)

    def _maybe_save(self) -> None:
        if not self.applies.should_save():
            return
        if self._would_push_out_what_is_sent():
            self._must_save = self.applies.is_wanted  # when the transfer has ended
            return
        index = self.applies.applied_index
        term = self.raft.log.term_at(index)
        if term is None:
            return  # a snapshot from the leader is on its way in, and brings more than this
        configuration = self.raft.membership.at(index)
        chunks = self.applies.begin_save()
        self._actions.append(SaveSnapshot(index, term, configuration, chunks))

    def _would_push_out_what_is_sent(self) -> bool:
        """A snapshot that a follower is being sent stays, and so does the log after it, until the
        transfer ends or is given up: a storage keeps two, so one newer one may be taken meanwhile
        (hazards S4, P3)."""
        leadership = self.raft.leadership
        if leadership is None or self.applies.is_distrusted:
            return False
        sent_index = leadership.oldest_sent_snapshot(self.raft.now)
        return sent_index is not None and sent_index < self.applies.snapshot_index


def phase_of(node_id: NodeId, members: Iterable[NodeId]) -> float:
    """Where in the time between two snapshots a member takes its own: they are spread over it, so
    that not all are busy with theirs at once. Below 1; 0 for whoever is no member."""
    ordered = sorted(members)
    return ordered.index(node_id) / len(ordered) if node_id in ordered else 0.0


def voters_ignored(core: Raft, bootstrap: Recovered) -> Iterator[str]:
    """The log knows the members; the caller names those of a new cluster."""
    named, stored = bootstrap.configuration.voters, core.configuration
    if stored.index and named and set(named) != set(stored.voters):
        yield (
            f"the voters named to open_node are {', '.join(named)}, but the log says "
            f"{', '.join(stored.voters)} (configuration {stored.index}): the log counts; to "
            "change them, use node.change_voters"
        )
