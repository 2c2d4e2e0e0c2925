"""Process: one node's program: a member, its disk and state machine, how it lives and dies, and
the setting that all nodes of a simulated cluster share.

* It runs the very `Member` that a node runs, on a heap of events instead of under Trio. A crash may
  come before any of its actions. What a life had planned is void once it has ended.
* While a process is paused the world goes on, and what comes in waits. When it wakes it finds all
  of it at once, and its timers long due.
* A process that cannot start (`CorruptStorage`) stays away: it never comes back as if new.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Protocol

import attrs

from ..core.config import Limits, Timing
from ..core.errors import (
    ApplyFailed,
    BadMessage,
    CorruptStorage,
    DiskFull,
    InvariantViolation,
    NotLeader,
    PeerRefused,
    ProposalDropped,
    RaftError,
    ResourceExhausted,
    ResultsDiverged,
    StorageError,
)
from ..core.events import TraceEvent
from ..core.features import FEATURES, lacking
from ..core.messages import AppendEntries, InstallSnapshot, Introduction, Message
from ..core.raft import Raft
from ..core.ready import ChunkRequest, SnapshotChunk, Write
from ..core.types import (
    Configuration,
    EntryKind,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    SnapshotMeta,
)
from ..member.actions import (
    AdmitClients,
    Apply,
    Compact,
    Install,
    Runner,
    SaveSnapshot,
    StorageStep,
)
from ..member.identity import encode_identity, opened
from ..member.lineage import Lineage
from ..member.member import OUTCOME_WAIT_TIMEOUTS, Member
from ..member.reads import ReadBatch
from ..member.results import restore
from .agenda import Agenda, NodeClock
from .checks import Checks
from .clients import Asked, Reply, Request
from .directed import READ_BY_ASKING, READ_BY_LEASE, timing_of
from .disk import Disk, Fate
from .draw import Draw, Kind
from .machine import Machine
from .network import SimulatedNetwork
from .outcomes import RunRecording


class MakeCore(Protocol):
    """Makes a core: `Raft`, or a broken one that shall be found out."""

    def __call__(
        self,
        node_id: NodeId,
        recovered: Recovered,
        timing: Timing,
        limits: Limits,
        rng: random.Random,
        *,
        tracing: bool = False,
        features: Collection[str] = ...,
    ) -> Raft:
        """A node's core, not started; what it can do, if not all."""


def _nobody_cares(*_: object) -> None:
    """What is carried out in another history is checked against nothing."""


@attrs.define(eq=False)
class Setting:
    """What all nodes of one simulated cluster share. What may differ between two implementations
    under test, the core and the disk, is made by functions that a caller may replace."""

    seed: int
    draw: Draw
    agenda: Agenda
    recording: RunRecording
    network: SimulatedNetwork
    checks: Checks
    make_core: MakeCore
    sessions_max: int = 64
    odd: set[NodeId] = attrs.field(factory=set)
    """Who has, or had, a disk that is an older copy or of another cluster."""

    def is_odd(self, node_id: NodeId) -> bool:
        """Whether others may refuse this node."""
        return node_id in self.odd

    def bootstrap_of(self, node_id: NodeId) -> Configuration:
        """Who is in the cluster, to a new node: a voter knows, and whoever joins knows nobody."""
        voters = self.draw.voters
        return Configuration(voters if node_id in voters else ())


MakeDisk = Callable[[], Disk]


CLUSTER_ID: Final = "simulation"
NEVER: Final = float("inf")
LATE_S: Final = 1e-6
"""A timer fires a little late: an early one would do nothing, and be set again for ever."""
READ_CHUNK_S: Final = 0.0005
HINT_S: Final = 0.001
"""After about that long a peer notices that a connection closed."""
ADMIT_S: Final = 0.0001
"""How long a new leader lets its clients in: a turn of a scheduler."""
RETRY_S: Final = 0.1
"""How long a full disk is left alone."""
ROLLED_BACK: Final = "rolled_back"
ROLLED_BACK_REFUSED: Final = "rolled_back_refused"
NOT_READ: Final = "entries_not_read"
"""Counted where lives are of different releases."""
READS_MAX: Final = 32
"""Batches of reads that wait; beyond it the oldest is given up, as its callers would do."""


class _Died(Exception):  # noqa: N818 - not an error: an end
    """The process ends here, in the middle of whatever it was doing."""


class Process:
    """One node, over all its lives."""

    def __init__(self, node_id: NodeId, setting: Setting, disk: Disk) -> None:
        self.node_id = node_id
        self.setting = setting
        self.disk: Disk = disk
        self.rng: random.Random = random.Random(f"{setting.seed} node {node_id}")
        rates = setting.draw.clock_rates
        rate = self.rng.choice(rates) if setting.draw.probe_s else self.rng.uniform(*rates)
        self.clock: NodeClock = NodeClock(self.rng.uniform(0.0, 1e6), rate)
        self.member: Member | None = None
        """None: it does not live."""
        self.life: int = 0
        self.features: tuple[str, ...] = ()
        """What the release of its present life can do."""
        self.is_paused: bool = False
        self.is_refused: bool = False
        """It could not start: its disk is not what it wrote, or not its own."""
        self.first_voters: tuple[NodeId, ...] | None = None
        """Whom its operator names as the first voters, if not the same as everybody."""
        self.is_healed = False
        """An operator cares for it: lost disks are replaced."""
        self.on_death: Callable[[Process], None] = lambda _process: None
        self.slow_s: float = 0.0
        """By how much its disk is slower than usual."""
        self.fuse: int | None = None
        """So many actions from now it crashes."""
        self.crash_in_write: Fate | None = None
        """At the next write that is under way it crashes, and this becomes of it."""
        self._agenda = setting.agenda
        self._checks = setting.checks
        self._recording = setting.recording
        self._asleep_since_s: float | None = None
        self._has_slept = False  # and the member has not been told
        self._wake_s = NEVER
        self._batch_s = setting.draw.batch_s
        self._lineage: Lineage | None = None
        self.met_openings: dict[Incarnation, int] = {}
        """The latest opening of each disk that spoke to it, in whatever life."""
        self._inbox: list[tuple[Message, Introduction]] = []
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._readers: dict[ReadBatch, list[tuple[Request, LogIndex]]] = {}

    # -- life and death --------------------------------------------------------------------

    @property
    def core(self) -> Raft | None:
        """The core of its member."""
        return None if self.member is None else self.member.raft

    @property
    def is_up(self) -> bool:
        """Whether it lives, paused or not."""
        return self.member is not None

    @property
    def applied_index(self) -> LogIndex:
        """Where its state machine stands."""
        return 0 if self.member is None else self.member.applies.applied_index

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self.clock.local(self._agenda.now)

    def start(self) -> None:
        """Begin a life with what the disk holds."""
        if self.is_up or self.is_refused:
            return
        before, last_index = self.disk.hard_state, self.disk.last_index
        try:
            recovered = self.disk.recover(Configuration(()))
        except CorruptStorage as error:
            self.is_refused = True
            self._recording.note("refused", self.node_id)
            self._recording.remark(f"{self.node_id} refuses to start: {error}")
            return
        if self.disk.is_rotten:
            raise RaftError(f"{self.node_id!r} started from a disk that is not what it wrote")
        self.life += 1
        self.features = self._drawn_features()
        self._recording.note("start", self.node_id)
        if self.life > 1:
            self._checks.on_restart(self.node_id)
        recovered = self._identify(recovered)
        draw = self.setting.draw
        traced = self._recording.traced
        timing = timing_of(draw, self.node_id, self.life)
        raft = self.setting.make_core(
            self.node_id,
            recovered,
            timing,
            draw.limits,
            self.rng,
            tracing=traced,
            features=self.features,
        )
        self._checks.check_recovered(raft, before, last_index)
        # Every node has another setting, and they must not differ by it (hazard E2).
        sessions_max = self.setting.sessions_max + int(self.node_id)
        is_ours = not self.disk.is_foreign
        self.machine: Machine = Machine(
            self._checks.on_executed if is_ours else _nobody_cares,
            sessions_max=sessions_max,
            state_bytes=draw.state_bytes,
        )
        checksum: int | None = 0
        if recovered.snapshot is not None:
            checksum = self._restore(recovered.snapshot)
        runner = Runner(
            send=self._send,
            store=self._store,
            apply=self._apply,
            save_snapshot=self._save_snapshot,
            read_chunk=self._read_chunk,
            admit_clients=self._admit_clients,
            tell=self._tell,
        )
        raft.replaces_lost_disks = draw.replaces_lost_disks or self.is_healed
        self.member = Member(
            raft, self.machine, draw.limits, runner, self._lineage, checksum=checksum
        )
        self._input(self.member.start, self.now)

    @property
    def is_earlier(self) -> bool:
        """Whether this life is one of a release that can do no feature."""
        return self.is_up and not self.features

    def _drawn_features(self) -> tuple[str, ...]:
        """What the release of this life can do. One that can nothing does not open a disk on which
        something is on; then a later one is started again."""
        draw, setting = self.setting.draw, self.setting
        rng = random.Random(f"{setting.seed} release of {self.node_id} in life {self.life}")
        if not rng.random() < draw.earlier_releases or self.is_healed:
            self._checks.able.add(self.node_id)
            return tuple(FEATURES)
        if any(configuration.features for configuration in self.disk.configurations()):
            self._recording.count(ROLLED_BACK_REFUSED)
            return tuple(FEATURES)
        self._recording.count(ROLLED_BACK)
        return ()

    def change_disk(self, disk: Disk) -> None:
        """It is away, and comes back with this disk."""
        self._checks.on_disk_changed(self.node_id, disk)
        self.disk = disk
        self.is_refused = False

    def _identify(self, recovered: Recovered) -> Recovered:
        """Whose disk this is, durable before anybody hears of it."""
        voters = self.first_voters
        if voters is None:
            voters = self.setting.bootstrap_of(self.node_id).voters
        identity = opened(
            recovered.identity,
            cluster_id=CLUSTER_ID,
            node_id=self.node_id,
            voters=voters,
            others=(),
            rng=self.rng,
        )
        self.disk.begin(Write(None, (), None, encode_identity(identity)))
        self.disk.sync()
        self._lineage = Lineage(
            self.node_id,
            cluster_id=CLUSTER_ID,
            identity=identity,
            voters=voters,
            others=(),
            addresses={},
            # Said only where it matters: what others' digests were made with had no such word.
            features=self.features if self.setting.draw.earlier_releases else (),
        )
        return attrs.evolve(
            recovered, configuration=identity.base({}), incarnation=identity.incarnation
        )

    def crash(self, fate: Fate, cause: str) -> None:
        """End here and now; whatever was not durable is gone, or not."""
        if self.member is None:
            return
        self.member = None
        self.is_paused = self._has_slept = False
        self._asleep_since_s = None
        self.fuse = self.crash_in_write = None
        self._wake_s = NEVER
        self._backlog.clear()
        self._inbox.clear()
        self._readers.clear()
        left = self.disk.crash(fate, self.rng)
        if left is Fate.LOST:
            self._recording.count(Kind.UNSYNCED_LOST)
        elif left is Fate.TORN:
            self._recording.count(Kind.TORN_TAIL)
        self._recording.note("crash", self.node_id)
        self._recording.remark(f"{self.node_id} crashes: {cause}")
        self.on_death(self)

    def pause(self) -> None:
        """Stand still: a frozen machine, a long collection of garbage."""
        if self.is_up:
            self.is_paused = True
            self._recording.remark(f"{self.node_id} is paused")

    def suspend(self) -> None:
        """The machine sleeps: as a pause, but its clock stands still as well."""
        if self.is_up and not self.is_paused:
            self.pause()
            self._asleep_since_s = self._agenda.now

    def resume(self, *, timers_first: bool) -> None:
        """Go on, and find everything at once."""
        if not self.is_paused:
            return
        self.is_paused = False
        if self._asleep_since_s is not None:
            slept_s = self.now - self.clock.local(self._asleep_since_s)
            self.clock.jump(-slept_s, self._agenda.now)
            self._asleep_since_s, self._has_slept, self._wake_s = None, True, NEVER
        self._recording.remark(f"{self.node_id} goes on")
        backlog, self._backlog = self._backlog, []
        self._input(self._catch_up, backlog, timers_first)

    def _catch_up(
        self, backlog: list[tuple[Callable[..., None], tuple[Any, ...]]], timers_first: bool
    ) -> None:
        is_one_by_one = self._has_slept  # whoever reads first on waking need not know the news
        if timers_first:
            self._on_time()
            self._run()
        for action, arguments in backlog:
            action(*arguments)
            if is_one_by_one:
                self._run()
        if not timers_first:
            self._on_time()

    # -- inputs ----------------------------------------------------------------------------

    def _input(self, action: Callable[..., None], *arguments: Any) -> None:
        """Whatever comes in; then what the member wants done, and the checks."""
        if self.member is None:
            return
        if self.is_paused:
            self._backlog.append((action, arguments))
            return
        try:
            action(*arguments)
            member = self._run()
        except _Died as death:
            self.crash(*death.args)
            return
        except (ApplyFailed, ResultsDiverged) as failed:
            self._recording.remark(f"{self.node_id} dies: {failed}")
            if isinstance(failed.__cause__, MemoryError):
                self._recording.count(Kind.MACHINE_ERROR)
            else:
                self._checks.on_failed(self.node_id, failed)
            self.crash(Fate.SURVIVES, type(failed).__name__)
            return
        except StorageError as error:  # two others say that its disk is an older copy
            if not self.disk.is_older:
                raise
            self.crash(Fate.SURVIVES, str(error))
            self.is_refused = True
            return
        if not self.disk.is_foreign:
            self._checks.observe(member.raft)
        self._checks.check_waiting(member, self.now)
        self._arm(member)

    def _run(self) -> Member:
        """As a node does it: it looks whether it slept before it carries anything out."""
        member = self._running()
        if self._has_slept:
            self._has_slept = False
            member.on_woken(self.now)
        member.run(self.now)
        return member

    def _running(self) -> Member:
        if self.member is None:
            raise _Died(Fate.SURVIVES, "dead")
        return self.member

    def receive(self, message: Message, origin: Introduction) -> None:
        """A message arrives."""
        if self.member is not None:
            self._recording.delivered += 1
            self._recording.note("message", message)
            if not self._batch_s:
                self._input(self._step, message, origin)
                return
            self._inbox.append((message, origin))
            if len(self._inbox) == 1:
                self.later(self._batch_s, self._step_all)

    def _step(self, message: Message, origin: Introduction) -> None:
        number = origin.opening[0]
        if number > self.met_openings.get(origin.incarnation, 0):
            self.met_openings[origin.incarnation] = number
        try:
            self._running().receive(message, self.now, origin)
        except PeerRefused:  # as the handshake of a connection would end
            is_wrong = self.setting.is_odd(message.sender) or self.setting.is_odd(self.node_id)
            is_wrong |= self._cannot_take_part(origin)
            own = None if self._lineage is None else self._lineage.identity
            if own is not None and not own.formed and origin.formed:
                # By late words of disks that are gone it has agreed on a record with nobody:
                # whoever cares for it empties it.
                self.setting.odd.add(self.node_id)
                self.disk.is_foreign = True
            elif not is_wrong:
                raise
            self._recording.count("refused")
        except BadMessage:
            if not (self.is_earlier and _is_of_features(message)):
                raise
            self._recording.count(NOT_READ)  # its connection ends, and is refused from then on

    def _cannot_take_part(self, origin: Introduction) -> bool:
        core = self.core
        if core is None:
            return False
        on = core.membership.at(core.log.commit_index).features
        return bool(lacking(on, origin.features))

    def _step_all(self) -> None:
        """What arrived meanwhile, as one batch: the member is run once."""
        inbox, self._inbox = self._inbox, []
        for message, origin in inbox:
            self._step(message, origin)

    def lose_peer(self, peer: NodeId) -> None:
        """A connection with this peer closed."""
        self._input(lambda: self._running().on_peer_lost(peer, self.now))

    def ask(self, action: Callable[[Raft, float], None]) -> None:
        """An operator asks the core for something."""
        self._input(lambda: action(self._running().raft, self.now))

    def take_snapshot(self) -> None:
        """An operator wants a snapshot now."""
        self._input(lambda: self._running().want_snapshot(_WantsSnapshot()))

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """An input of this very life, after so long."""
        self._agenda.after(delay_s, self._come_back, self.life, action)

    def _come_back(self, life: int, action: Callable[[], None]) -> None:
        if life == self.life:
            self._input(action)

    # -- clients ---------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """A client asks for something; nobody asks a node that was recovered by force."""
        if not self.disk.is_foreign:
            self._input(self._take, request)

    def _take(self, request: Request) -> None:
        self._recording.note("request", self.node_id, request.operation)
        member = self._running()
        if request.command is None:
            self._read(member, request)
            return
        asked = Asked(self.node_id, request, self._checks, self._patience(self.now))
        self._checks.on_asked(request.command)
        try:
            if request.forward and member.raft.leadership is None:
                asked.will_be_forwarded()
                member.forward(request.command, asked, self.now)
                self._recording.count("forwarded")
            else:
                member.propose(request.command, asked, self.now)
        except NotLeader as error:
            self._checks.on_not_taken(request.command)
            request.reply(request, Reply(is_refused=True, leader_id=error.leader_id))
        except ProposalDropped:
            self._checks.on_not_taken(request.command)
            request.reply(request, Reply(is_refused=True))

    def _patience(self, asked_s: float) -> Callable[[Asked], bool]:
        """Whether a proposal of this moment, and this life, may not be given up for unknown yet:
        no snapshot covers it, and not all the time is over that a deposed leader waits."""
        life, timing = self.life, timing_of(self.setting.draw, self.node_id, self.life)
        wait_s = OUTCOME_WAIT_TIMEOUTS * timing.election_timeout_s[1]

        def is_early(asked: Asked) -> bool:
            member = self.member
            if member is None or life != self.life or member.raft.role is Role.DEAD:
                return False
            snapshot = member.raft.snapshot
            is_covered = snapshot is not None and snapshot.index >= asked.index
            return not is_covered and self.now < asked_s + wait_s

        return is_early

    def _read(self, member: Member, request: Request) -> None:
        batch = member.reads.join(lease=request.lease)
        if batch not in self._readers:
            self._readers[batch] = []
            batch.wake = partial(self._answer, batch)
        self._readers[batch].append((request, self._checks.commit_index))
        if len(self._readers) > READS_MAX:
            oldest = next(iter(self._readers))
            del self._readers[oldest]
            member.leave_reads(oldest)

    def _answer(self, batch: ReadBatch) -> None:
        for request, committed in self._readers.pop(batch, ()):
            if batch.is_refused:
                request.reply(request, Reply(is_refused=True))
                continue
            self._checks.on_read(self.node_id, batch.index, self.applied_index, committed)
            request.reply(request, Reply(self.machine.registers.get(request.key)))

    def probe(self, *, lease: bool) -> None:
        """Somebody wants to read here who does not care what: it must not be stale."""
        how = READ_BY_LEASE if lease else READ_BY_ASKING
        count = self._recording.count
        self._input(
            self._take, Request(0, None, lease=lease, reply=lambda _request, _reply: count(how))
        )

    # -- timers ----------------------------------------------------------------------------

    def _wake(self, life: int, when_s: float) -> None:
        if life == self.life and when_s == self._wake_s:
            self._wake_s = NEVER
            self._recording.note("wake", self.node_id)
            self._input(self._on_time)

    def _on_time(self) -> None:
        member, now = self._running(), self.now
        member.on_timeout(now)
        member.on_heartbeat_due(now)

    def _arm(self, member: Member) -> None:
        due, beat = member.deadline, member.raft.heartbeat_deadline
        if due is None or (beat is not None and beat < due):
            due = beat
        if due is None:
            return
        when_s = max(self.clock.when(due), self._agenda.now) + LATE_S
        if when_s < self._wake_s:
            self._wake_s = when_s
            self._agenda.at(when_s, self._wake, self.life, when_s)

    def run_clock_at(self, rate: float) -> None:
        """From now on its seconds are shorter, or longer."""
        self.clock.run_at(rate, self._agenda.now)
        self._clock_changed()

    def jump_clock(self, by_s: float) -> None:
        """Its clock skips this much."""
        self.clock.jump(by_s, self._agenda.now)
        self._clock_changed()

    def _clock_changed(self) -> None:
        """Timers are due at another moment than was thought."""
        if self.member is not None and not self.is_paused:
            self._wake_s = NEVER
            self._arm(self.member)

    # -- actions ---------------------------------------------------------------------------

    def _may_crash(self) -> None:
        """Something is about to be done: a crash may come first."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self._recording.count(Kind.CRASH_MID_READY)
                raise _Died(self.rng.choice(list(Fate)), "between two actions")

    def _tell(self, event: TraceEvent) -> None:
        self._recording.event(self.node_id, event)

    def _send(self, message: Message) -> None:
        self._may_crash()
        if not (self.disk.is_foreign or self.disk.is_older):  # what it promises, nobody believes
            self._checks.on_sent(message)
        if self._lineage is None:
            raise InvariantViolation(f"{self.node_id!r} speaks before it knows whose disk it has")
        said = self._lineage.introduction(message.receiver)
        origin = message if isinstance(message, Introduction) else said
        self.setting.network.send(message, origin)

    def _admit_clients(self, _: AdmitClients) -> None:
        self.later(ADMIT_S, lambda: self._running().go_on())

    def _store(self, step: StorageStep) -> None:
        """It takes its time, may find no room (then it is tried again) or fail (then it dies)."""
        self._may_crash()
        if self.disk.is_full:
            self._recording.count(Kind.DISK_FULL)
            self._running().on_disk_full(self.now)
            self.later(RETRY_S, partial(self._store, step))
            return
        if isinstance(step, Write):
            self.disk.begin(step)
            if self.crash_in_write is not None:
                raise _Died(self.crash_in_write, "in the middle of a write")
        delay_s = self.rng.uniform(*self.setting.draw.disk_s) + self.slow_s
        if delay_s:
            self.later(delay_s, partial(self._stored, step))
        else:
            self._stored(step)

    def _stored(self, step: StorageStep) -> None:
        if self.disk.fails_next:
            self._disk_failed()
        next_offset = None
        match step:
            case Write():
                self.disk.sync()
            case Install(meta, identity):
                self.disk.install(meta, identity)
                self._recording.count("snapshot_installed")
            case SnapshotChunk():
                next_offset = self.disk.receive(step)
            case Compact(base_index, base_term):
                self.disk.compact(base_index, base_term)
        self._running().on_stored(self.now, next_offset=next_offset)

    def _disk_failed(self) -> None:
        """EIO: it is not known what is stored; the process ends, and acknowledges nothing."""
        self.disk.fails_next = False
        self._recording.count(Kind.EIO)
        raise _Died(self.rng.choice(list(Fate)), "the disk failed")

    def _apply(self, _: Apply) -> None:
        self._may_crash()
        if self.setting.draw.apply_s:
            self.later(self.setting.draw.apply_s, self._apply_next)
        else:
            self._apply_next()

    def _apply_next(self) -> None:
        member = self._running()
        head = member.applies.head
        if isinstance(head, SnapshotMeta):
            member.on_restored(head, self._restore(head))
        else:
            for entry in () if head is None or self.disk.is_foreign else head:
                on = self._running().raft.membership.at(entry.index).features
                self._checks.on_apply(self.node_id, entry, on)
            member.apply_next()
        if member.applies.queue:
            self.later(self.setting.draw.apply_s, self._apply_next)

    def _restore(self, meta: SnapshotMeta) -> int | None:
        content = self.disk.read_snapshot(meta)
        if content is None:
            raise InvariantViolation(f"the snapshot of {meta.index} is to be restored, and gone")
        return restore(self.machine, [content])

    def _save_snapshot(self, save: SaveSnapshot) -> None:
        """It takes a while, and the view is read only then: entries have gone on being applied."""
        self.later(self.rng.uniform(0.0, 0.02) + self.slow_s, partial(self._saved, save))

    def _saved(self, save: SaveSnapshot) -> None:
        self._may_crash()
        member = self._running()
        content = b"".join(save.chunks)
        if not self.disk.is_foreign:
            self._checks.on_state(self.node_id, save.index, zlib.crc32(content))
        if self.disk.is_full:
            member.on_snapshot_unsaved(DiskFull("no room (on purpose)"), self.now)
            return
        meta = self.disk.save_snapshot(save.index, save.term, save.configuration, content)
        self._recording.count("snapshot_saved")
        member.on_snapshot_saved(meta, self.now)

    def _read_chunk(self, request: ChunkRequest) -> None:
        self._may_crash()
        self.later(READ_CHUNK_S, partial(self._chunk_read, request))

    def _chunk_read(self, request: ChunkRequest) -> None:
        member = self._running()
        content = self.disk.read_snapshot(request.meta)
        if content is None:
            member.on_snapshot_gone(request)
            return
        self._recording.count("chunk_sent")
        end = request.offset + request.size_bytes
        member.on_chunk_read(request, content[request.offset : end], self.now)

    # -- what it is ------------------------------------------------------------------------

    def leads(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.core is not None and self.core.role is Role.LEADER

    def known_configurations(self) -> list[Configuration]:
        """Every one that it goes by, or may come back with."""
        found = self.disk.configurations()
        if self.core is not None:
            found.append(self.core.membership.at(self.core.log.commit_index))
            found.append(self.core.configuration)
            leadership = self.core.leadership
            if leadership is not None and leadership.change is not None:
                found.append(leadership.change.goal)  # it will go on to that
        return [configuration for configuration in found if configuration.voters]

    @property
    def lineage(self) -> Lineage | None:
        """Whose disk it has; None before it was ever started."""
        return self._lineage

    def problems(self) -> dict[NodeId, str]:
        """Whom it waits for before it may campaign, and why."""
        return {} if self._lineage is None else self._lineage.problems()

    def effective_configurations(self) -> list[Configuration]:
        """Those by which it may still count: the committed one, and what follows in its log."""
        core = self.core
        if core is None:
            return self.disk.configurations()[-2:]
        membership, last_index = core.membership, core.log.last_index
        found = {membership.at(core.log.commit_index).index, membership.current.index}
        configurations = [membership.at(index) for index in sorted(found | {last_index})]
        leadership = core.leadership
        if leadership is not None and leadership.change is not None:
            configurations.append(leadership.change.goal)
        return [configuration for configuration in configurations if configuration.voters]

    def state(self) -> str:
        """In a few words, for a failure."""
        core = self.core
        if core is None:
            return f"{self.node_id} {'refuses to start' if self.is_refused else 'is down'}"
        where = f"log {core.log.summary()}, commit {core.log.commit_index}"
        paused = ", paused" if self.is_paused else ""
        return f"{self.node_id} {core.role.value} of term {core.term}, {where}{paused}"


class _WantsSnapshot:
    """An operator who does not wait for it."""

    wanted_index: LogIndex = 0

    def resolve(self, index: LogIndex) -> None:
        """It is there."""

    def fail(self, error: ResourceExhausted | None) -> None:
        """It is not."""


def _is_of_features(message: Message) -> bool:
    """Whether an earlier release does not read it. (A snapshot never gets to one: it would come
    over a connection, by whose handshake its sender knows. Here it was on its way already.)"""
    if isinstance(message, InstallSnapshot):
        return bool(message.meta.configuration.features)
    return isinstance(message, AppendEntries) and any(
        entry.kind > EntryKind.CONFIGURATION for entry in message.entries
    )
