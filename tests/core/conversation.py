"""Cores talking to each other, written down so that a test reads like a conversation.

Rules of this file:

* An `Actor` is one member with its disk, run by hand: inputs are verbs (`hears`, `times_out`,
  `proposes`), effects are lines (`says`). Time is a number that only the test moves.
* The disk writes at once, or when told (`disk_waits`, `persist`), or never (`crash`).
* A `Conversation` is several actors on a first-in, first-out network; `lost` links swallow.
* After every input all invariants are checked.
"""

from __future__ import annotations

import random
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from trioraft.core import messages
from trioraft.core.config import Limits, Timing
from trioraft.core.events import TraceEvent
from trioraft.core.features import FEATURES, command_of
from trioraft.core.invariants import ClusterInvariants
from trioraft.core.messages import Message
from trioraft.core.raft import Raft
from trioraft.core.ready import ChunkRequest, Ready
from trioraft.core.reconfiguration import Change, MembershipChange
from trioraft.core.transfer import Transfer
from trioraft.core.types import (
    Configuration,
    Entry,
    HardState,
    LogIndex,
    NodeId,
    Role,
    Term,
)
from trioraft.member.actions import Apply, Runner, SaveSnapshot, StorageStep
from trioraft.member.member import Member

from .disk import Disk

THREE = ("1", "2", "3")
FIVE = ("1", "2", "3", "4", "5")


def entries_of(*terms: Term, first: LogIndex = 1) -> tuple[Entry, ...]:
    """A log by the terms of its entries, as the paper draws it: `entries_of(1, 1, 4)`."""
    return tuple(
        Entry(index, term, f"{term}.{index}".encode()) for index, term in enumerate(terms, first)
    )


def terms_of(raft: Raft) -> tuple[Term, ...]:
    """The log of a core, from its first index, as `entries_of` takes it."""
    log = raft.log
    return tuple(log.term_at(index) or 0 for index in range(log.first_index, log.last_index + 1))


def text(block: str) -> str:
    """An expected transcript, written indented."""
    return textwrap.dedent(block).strip()


def between(transcript: str, *pair: NodeId) -> str:
    """Only what these two said to each other."""
    a, b = pair
    lines = transcript.splitlines()
    return "\n".join(x for x in lines if x.split()[0] in (f"{a}->{b}", f"{b}->{a}"))


def render(message: Message) -> str:
    """One line: who to whom, what, and the fields that decide. `log` is (term, index)."""
    head = f"{message.sender}->{message.receiver} {type(message).__name__} term={message.term}"
    match message:
        case messages.RequestVote():
            tail = f"log=({message.last_log_term},{message.last_log_index})"
        case messages.RequestPreVote():
            log = f"({message.last_log_term},{message.last_log_index})"
            tail = f"next={message.next_term} log={log}"
        case messages.RequestVoteReply():
            tail = "granted" if message.vote_granted else "refused"
        case messages.RequestPreVoteReply():
            verdict = "granted" if message.vote_granted else "refused"
            tail = f"next={message.next_term} {verdict}"
        case messages.AppendEntries():
            terms = ",".join(str(entry.term) for entry in message.entries)
            prev = f"prev=({message.prev_log_term},{message.prev_log_index})"
            tail = f"{prev} entries=[{terms}] commit={message.leader_commit}"
        case messages.AppendEntriesReply() if message.success:
            tail = f"match={message.match_index}"
        case messages.AppendEntriesReply():
            hint = f"({message.conflict_term},{message.conflict_index})"
            tail = f"rejected={message.rejected_index} conflict={hint}"
        case messages.InstallSnapshot():
            meta = f"snapshot=({message.meta.term},{message.meta.index})"
            tail = f"{meta} offset={message.offset} bytes={len(message.data)}"
        case messages.InstallSnapshotReply():
            meta = f"snapshot=({message.meta.term},{message.meta.index})"
            tail = f"{meta} next={message.next_offset} installed={message.installed}"
        case messages.TimeoutNow():
            tail = ""
        case messages.RequestReadIndex():
            tail = "asked"  # its number is drawn
        case messages.RequestReadIndexReply():
            tail = f"index={message.read_index}"
        case messages.ResultsCheck():
            tail = f"index={message.index} checksum={message.checksum}"
    return f"{head} {tail}".rstrip()


class Checks(Protocol):
    """Who looks at an actor after each of its inputs; `ClusterInvariants`, unless told."""

    def observe(self, raft: Raft) -> None:
        """After an input."""

    def on_sent(self, message: Message) -> None:
        """A message has left."""

    def on_restart(self, node_id: NodeId) -> None:
        """A new life begins."""


class Actor:
    """One core, its disk, and what it says."""

    def __init__(
        self,
        node_id: NodeId,
        voters: Sequence[NodeId] = THREE,
        *,
        term: Term = 0,
        voted_for: NodeId | None = None,
        log: Iterable[Entry] = (),
        timing: Timing | None = None,
        limits: Limits | None = None,
        seed: int = 0,
        now: float = 0.0,
        checks: Checks | None = None,
        tracing: bool = True,
        features: Sequence[str] = tuple(FEATURES),
    ) -> None:
        self.node_id = node_id
        self.features = features
        """What its release can do; another one after the next restart, if a test says so."""
        self.configuration = Configuration(tuple(voters))
        self.timing = timing or Timing()
        self.limits = limits or Limits()
        self.rng = random.Random(f"{seed}/{node_id}")
        self.disk = Disk(HardState(term, voted_for), list(log))
        self.disk_waits = False
        self.saves_by_itself = False  # snapshots; otherwise a test takes them
        self.checks: Checks = checks or ClusterInvariants()
        self.tracing = tracing
        self.now = now
        self.outbox: deque[Message] = deque()
        self.applied: list[Entry] = []
        self.applied_index = 0
        self.events: list[TraceEvent] = []
        self.reads: dict[int, LogIndex] = {}
        """Reads that may be answered, by number: the index that must be applied for it."""
        self._step: StorageStep | None = None  # on its way to the disk
        self.member = self._begin()

    @property
    def raft(self) -> Raft:
        """The core of the member."""
        return self.member.raft

    @property
    def unwritten(self) -> list[Ready]:
        """What is not durable yet, the oldest first."""
        return self.member.writes.unwritten

    def _begin(self) -> Member:
        recovered = self.disk.recovered(self.configuration)
        self._step = None
        self._restore()
        raft = _OverheardRaft(
            self.node_id,
            recovered,
            self.timing,
            self.limits,
            self.rng,
            tracing=self.tracing,
            features=self.features,
        )
        raft.reads = self.reads
        runner = Runner(
            send=self._say,
            store=self._store,
            apply=self._apply,
            save_snapshot=self._save,
            read_chunk=self._send_chunk,
            admit_clients=lambda _: self.member.go_on(),
            tell=self.events.append,
        )
        member = Member(raft, _NoMachine(), self.limits, runner)
        member.start(self.now)
        return member

    def _restore(self) -> None:
        snapshots = self.disk.snapshots
        self.applied = self.disk.restored()
        self.applied_index = snapshots[-1][0].index if snapshots else 0

    # -- inputs ----------------------------------------------------------------------------

    def hears(self, *heard: Message) -> None:
        """Messages arrive."""
        for message in heard:
            self.does(partial(self.raft.step, message, self.now))

    def times_out(self) -> None:
        """Time passes up to the deadline, and it is acted on."""
        deadline = self.raft.deadline
        if deadline is None:
            raise AssertionError(f"{self.node_id} waits for nothing")
        self.now = max(self.now, deadline)
        self.does(lambda: self.raft.on_timeout(self.now))

    def beats(self) -> None:
        """Time passes up to the heartbeat deadline, and it is acted on."""
        deadline = self.raft.heartbeat_deadline
        if deadline is None:
            raise AssertionError(f"{self.node_id} does not lead")
        self.now = max(self.now, deadline)
        self.does(lambda: self.raft.on_heartbeat_due(self.now))

    def proposes(self, *commands: bytes) -> None:
        """Clients give commands; they are in the core before it is asked what to do."""

        def propose() -> None:
            for command in commands:
                self.raft.propose(command, self.now)

        self.does(propose)

    def asks_to_read(self, *, lease: bool = False) -> int:
        """A client wants to read here; the number of the read."""
        numbers: list[int] = []
        self.does(lambda: numbers.append(self.raft.read(self.now, lease=lease)))
        return numbers[0]

    def hands_over(self, to: NodeId | None = None, *, patience_s: float = 0.3) -> Transfer:
        """Leadership is to be transferred."""
        begun: list[Transfer] = []
        self.does(lambda: begun.append(self.raft.transfer(to, self.now, patience_s=patience_s)))
        return begun[0]

    def changes(
        self, change: Change, *, expected_index: LogIndex | None = None
    ) -> MembershipChange:
        """The members are to change."""
        begun: list[MembershipChange] = []
        self.does(
            lambda: begun.append(
                self.raft.change_members(change, self.now, expected_index=expected_index)
            )
        )
        return begun[0]

    def loses(self, peer: NodeId) -> None:
        """The connection with this peer closes."""
        self.does(lambda: self.raft.on_peer_lost(peer, self.now))

    def takes_snapshot(self) -> None:
        """The state machine is saved, and the log may be cut."""
        log = self.raft.log
        index = log.applied_index
        term = log.term_at(index) or 0
        configuration = self.raft.membership.at(index)
        meta = self.disk.save_snapshot(index, term, configuration, self.applied)
        self.member.applies.saved(index)
        self.does(lambda: self.raft.on_snapshot_saved(meta, self.now))

    def does(self, action: Callable[[], object]) -> None:
        """Any input; then everything that the core wants done, and the checks.

        The actions are carried out even if the input raises, as the node does.
        """
        try:
            action()
        finally:
            self._run()

    def _run(self) -> None:
        self.member.run(self.now)
        self.checks.observe(self.raft)

    # -- the disk --------------------------------------------------------------------------

    def persist(self, count: int | None = None) -> None:
        """The disk finishes so many writes, the oldest first, and what waited for them is done;
        all that there are, if None."""
        while self._step is not None and count != 0:
            self._stored(self._step)
            self._run()
            count = None if count is None else count - 1

    def crash_and_restart(self) -> None:
        """Only what was durable comes back; what was not said is never said."""
        self.checks.on_restart(self.node_id)
        self.member = self._begin()
        self._run()

    def _store(self, step: StorageStep) -> None:
        self._step = step
        if not self.disk_waits:
            self._stored(step)

    def _stored(self, step: StorageStep) -> None:
        self._step = None
        self.member.on_stored(self.now, next_offset=self.disk.write(step))

    def _apply(self, _: Apply) -> None:
        member = self.member
        while member.applies.queue:
            meta = member.to_restore
            if meta is not None:
                self._restore()
                member.on_restored(meta)
                continue
            head = member.applies.head
            for entry in head if isinstance(head, tuple) else ():
                if self.disk.entry_at(entry.index) != entry:
                    raise AssertionError(f"{entry} is to be applied and is not durable")
                self.applied.append(entry)
                self.applied_index = entry.index
            member.apply_next()

    def _save(self, save: SaveSnapshot) -> None:
        if not self.saves_by_itself:
            raise AssertionError(f"a snapshot of {save.index} is taken, and no test asked for it")
        meta = self.disk.save_snapshot(save.index, save.term, save.configuration, self.applied)
        self.member.on_snapshot_saved(meta, self.now)

    def _send_chunk(self, request: ChunkRequest) -> None:
        data = self.disk.read_chunk(request.meta, request.offset, request.size_bytes)
        if data is None:
            self.member.on_snapshot_gone(request)
        else:
            self.member.on_chunk_read(request, data, self.now)

    def _say(self, message: Message) -> None:
        self.checks.on_sent(message)
        self.outbox.append(message)

    # -- what came of it -------------------------------------------------------------------

    def is_now(self, role: Role) -> bool:
        """Whether it has this role at the moment."""
        return self.raft.role is role

    def says(self) -> str:
        """Everything said since the last call, a line a message."""
        lines = [render(message) for message in self.outbox]
        self.outbox.clear()
        return "\n".join(lines)

    def applied_commands(self) -> list[bytes]:
        """What reached the state machine: commands only."""
        commands = (command_of(entry) for entry in self.applied)
        return [command for command in commands if command is not None]


class _OverheardRaft(Raft):
    """A core whose answers to reads a test can see."""

    reads: dict[int, LogIndex]

    def ready(self) -> Ready | None:
        ready = super().ready()
        for read in () if ready is None else ready.reads:
            self.reads[read.number] = read.index
        return ready


class _NoMachine:
    """What is applied is seen by the actor."""

    def apply(self, index: LogIndex, data: bytes) -> None:
        """Nothing."""

    def snapshot(self) -> bytes:
        """Tests take them by hand: `Actor.takes_snapshot`."""
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Likewise."""


class Conversation:
    """Several actors, one clock, one network that keeps the order and loses what it is told to."""

    def __init__(self, *actors: Actor) -> None:
        self.actors = {actor.node_id: actor for actor in actors}
        self.checks = ClusterInvariants()
        for actor in actors:
            actor.checks = self.checks
        self.lost: set[tuple[NodeId, NodeId]] = set()
        """Directed links that swallow what is sent over them."""
        self._lines: list[str] = []

    @classmethod
    def of(cls, *node_ids: NodeId, seed: int = 0, timing: Timing | None = None) -> Conversation:
        """A fresh cluster."""
        return cls(*(Actor(node, node_ids, seed=seed, timing=timing) for node in node_ids))

    def __getitem__(self, node_id: NodeId) -> Actor:
        return self.actors[node_id]

    def cut_off(self, *node_ids: NodeId) -> None:
        """These nodes reach each other, nobody else, and nobody else reaches them."""
        inside = set(node_ids)
        for a in self.actors:
            for b in self.actors:
                if (a in inside) != (b in inside):
                    self.lost.add((a, b))

    def heal(self) -> None:
        """Every link works again."""
        self.lost.clear()

    def talk(self, rounds: int | None = None) -> None:
        """Deliver what has been said: so many rounds, or until nobody has anything to say."""
        while rounds is None or rounds > 0:
            said = [m for actor in self.actors.values() for m in actor.outbox]
            for actor in self.actors.values():
                actor.outbox.clear()
            if not said:
                return
            for message in said:
                self._deliver(message)
            rounds = None if rounds is None else rounds - 1

    def _deliver(self, message: Message) -> None:
        lost = (message.sender, message.receiver) in self.lost
        self._lines.append(render(message) + (" (lost)" if lost else ""))
        receiver = self.actors.get(message.receiver)
        if lost or receiver is None:
            return
        receiver.now = max(receiver.now, self.actors[message.sender].now)
        receiver.hears(message)

    def pass_time(self, seconds: float) -> None:
        """All clocks move; nothing is acted on by itself."""
        now = max(actor.now for actor in self.actors.values()) + seconds
        for actor in self.actors.values():
            actor.now = now

    def elect(self, node_id: NodeId) -> Actor:
        """Let this node lose patience until it leads; everyone else answers."""
        self.pass_time(self[node_id].timing.election_timeout_s[0])
        for _ in range(10):
            self[node_id].times_out()
            self.talk()
            if self[node_id].raft.role is Role.LEADER:
                return self[node_id]
        raise AssertionError(f"{node_id} is not elected:\n{self.transcript()}")

    def transcript(self) -> str:
        """What was said and delivered since the last call."""
        lines, self._lines = self._lines, []
        return "\n".join(lines)
