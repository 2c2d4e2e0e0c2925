"""Process: one node's program: a core, its disk and state machine, and how it lives and dies.

Rules of this file:

* The fields of a Ready are honoured in their order, one effect at a time, and a crash may come
  before any of them. What a life had planned is void once it has ended.
* While a process is paused the world goes on, and what comes in waits. When it wakes it finds all
  of it at once, and its timers long due.
* A process that cannot start (`CorruptStorage`) stays away: it never comes back as if new.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any, Final

from ..core.errors import CorruptStorage, RaftError
from ..core.messages import Message
from ..core.raft import Raft
from ..core.ready import ChunkRequest, Ready, SnapshotChunk
from ..core.types import Configuration, Entry, LogIndex, NodeId, Role, SnapshotMeta
from .applier import Applier
from .clock import NodeClock
from .disk import Disk, Fate
from .faults import Kind
from .machine import Machine
from .server import Request, Server
from .setting import Setting
from .writer import Writer

NEVER: Final = float("inf")
LATE_S: Final = 1e-6
"""A timer fires a little late: an early one would do nothing, and be set again for ever."""
READ_CHUNK_S: Final = 0.0005
SENDING_PATIENCE: Final = 4
"""So many times as many entries make a node take a snapshot while it sends one, as in
`trioraft.node.applying`."""
HINT_S: Final = 0.001
"""After about that long a peer notices that a connection closed."""


class _Died(Exception):  # noqa: N818 - not an error: an end
    """The process ends here, in the middle of whatever it was doing."""


class Process:
    """One node, over all its lives."""

    def __init__(self, node_id: NodeId, setting: Setting, disk: Disk) -> None:
        self.node_id = node_id
        self.setting = setting
        self.disk = disk
        self.rng = random.Random(f"{setting.seed} node {node_id}")
        rate = self.rng.uniform(*setting.draw.clock_rates)
        self.clock = NodeClock(self.rng.uniform(0.0, 1e6), rate)
        self.core: Raft | None = None
        self.life = 0
        self.is_paused = False
        self.is_refused = False
        """It could not start: its disk is not what it wrote."""
        self.on_death: Callable[[Process], None] = _nobody_minds
        self.slow_s = 0.0
        """By how much its disk is slower than usual."""
        self.fuse: int | None = None
        """So many effects from now it crashes."""
        self.crash_in_write: Fate | None = None
        """At the next write that is under way it crashes, and this becomes of it."""
        self._agenda = setting.agenda
        self._checks = setting.checks
        self._recording = setting.recording
        self._is_acting = False
        self._wake_s = NEVER
        self._batch_s = setting.draw.batch_s
        self._inbox: list[Message] = []
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    # -- life and death --------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether it lives, paused or not."""
        return self.core is not None

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
            recovered = self.disk.recover(self.setting.bootstrap_of(self.node_id))
        except CorruptStorage as error:
            self.is_refused = True
            self._recording.note("refused", self.node_id)
            self._recording.remark(f"{self.node_id} refuses to start: {error}")
            return
        if self.disk.is_rotten:
            raise RaftError(f"{self.node_id!r} started from a disk that is not what it wrote")
        self.life += 1
        self._recording.note("start", self.node_id)
        if self.life > 1:
            self._checks.on_restart(self.node_id)
        draw = self.setting.draw
        core = self.setting.make_core(
            self.node_id,
            recovered,
            draw.timing,
            draw.limits,
            self.rng,
            tracing=self._recording.traced,
        )
        self._checks.check_recovered(core, before, last_index)
        self.writer = Writer(self.disk, self, self._agenda, self.rng, draw.disk_s)
        self.writer.extra_s = self.slow_s
        machine = Machine(self._checks.on_executed, sessions_max=self.setting.sessions_max)
        self.applier = Applier(machine, self.disk, self, draw.apply_s)
        if recovered.snapshot is not None:
            self.applier.restore_first(recovered.snapshot)
        self.server = Server(self.node_id, self._checks)
        self._is_saving = False
        self.core = core
        self._input(core.start, self.now)

    def crash(self, fate: Fate, cause: str) -> None:
        """End here and now; whatever was not durable is gone, or not."""
        if self.core is None:
            return
        self.core = None
        self.is_paused = False
        self.fuse = self.crash_in_write = None
        self._is_acting = False
        self._wake_s = NEVER
        self._backlog.clear()
        self._inbox.clear()
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
        if self.core is not None:
            self.is_paused = True
            self._recording.remark(f"{self.node_id} is paused")

    def resume(self, *, timers_first: bool) -> None:
        """Go on, and find everything at once."""
        if not self.is_paused:
            return
        self.is_paused = False
        self._recording.remark(f"{self.node_id} goes on")
        backlog, self._backlog = self._backlog, []
        self._input(self._catch_up, backlog, timers_first)

    def _catch_up(
        self, backlog: list[tuple[Callable[..., None], tuple[Any, ...]]], timers_first: bool
    ) -> None:
        if timers_first:
            self._on_time()
        self._is_acting = True  # it looks at what the core wants when all is handed over
        try:
            for action, arguments in backlog:
                action(*arguments)
        finally:
            self._is_acting = False
        if not timers_first:
            self._on_time()

    # -- inputs ----------------------------------------------------------------------------

    def _input(self, action: Callable[..., None], *arguments: Any) -> None:
        """Whatever comes in; then what the core wants done, and the checks."""
        if self.core is None:
            return
        if self.is_paused:
            self._backlog.append((action, arguments))
            return
        try:
            action(*arguments)
            self._act()
        except _Died as death:
            fate, cause = death.args
            self.crash(fate, cause)

    def receive(self, message: Message) -> None:
        """A message arrives."""
        if self.core is not None:
            self._recording.delivered += 1
            self._recording.note("message", message)
            if not self._batch_s:
                self._input(self._step, message)
                return
            self._inbox.append(message)
            if len(self._inbox) == 1:
                self.later(self._batch_s, self._step_all)

    def _step(self, message: Message) -> None:
        self._running().step(message, self.now)

    def _step_all(self) -> None:
        """What arrived meanwhile, as one batch: the core is asked what to do once."""
        inbox, self._inbox = self._inbox, []
        for message in inbox:
            self._step(message)

    def lose_peer(self, peer: NodeId) -> None:
        """A connection with this peer closed."""
        self._input(self._lose_peer, peer)

    def _lose_peer(self, peer: NodeId) -> None:
        self._running().on_peer_lost(peer, self.now)

    def ask(self, action: Callable[[Raft, float], None]) -> None:
        """An operator asks the core for something."""
        self._input(self._ask, action)

    def _ask(self, action: Callable[[Raft, float], None]) -> None:
        action(self._running(), self.now)

    def take(self, request: Request) -> None:
        """A client asks for something."""
        self._input(self._take, request)

    def _take(self, request: Request) -> None:
        self._recording.note("request", self.node_id, request.operation)
        self.server.take(request, self._running(), self.now)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """An input of this very life, after so long."""
        self._agenda.after(delay_s, self._come_back, self.life, action)

    def _come_back(self, life: int, action: Callable[[], None]) -> None:
        if life == self.life:
            self._input(action)

    def _wake(self, life: int, when_s: float) -> None:
        if life == self.life and when_s == self._wake_s:
            self._wake_s = NEVER
            self._recording.note("wake", self.node_id)
            self._input(self._on_time)

    def _on_time(self) -> None:
        core, now = self._running(), self.now
        core.on_timeout(now)
        core.on_heartbeat_due(now)

    def _running(self) -> Raft:
        if self.core is None:
            raise _Died(Fate.SURVIVES, "dead")
        return self.core

    # -- inputs to effects -----------------------------------------------------------------

    def _act(self) -> None:
        if self._is_acting:
            return
        core = self._running()
        self._is_acting = True
        try:
            while (ready := core.ready()) is not None:
                self._carry_out(ready)
        finally:
            self._is_acting = False
        self._checks.observe(core)
        self._arm(core)

    # -- timers ----------------------------------------------------------------------------

    def _arm(self, core: Raft) -> None:
        due, beat = core.deadline, core.heartbeat_deadline
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

    def slow_down(self, by_s: float) -> None:
        """Its disk takes so much longer; 0: as ever."""
        self.slow_s = by_s
        if self.core is not None:
            self.writer.extra_s = by_s

    def make_room(self) -> None:
        """Its disk is not full any more."""
        self.disk.is_full = False

    def _clock_changed(self) -> None:
        """Timers are due at another moment than was thought."""
        if self.core is not None and not self.is_paused:
            self._wake_s = NEVER
            self._arm(self.core)

    def _carry_out(self, ready: Ready) -> None:
        for event in ready.events:
            self._recording.event(self.node_id, event)
        if ready.awaits_persist:
            self.effect()
            self.writer.put(ready)
        for message in ready.messages:
            self._send(message)
        for request in ready.chunk_requests:
            self.effect()
            self._agenda.after(
                READ_CHUNK_S, self._come_back, self.life, lambda r=request: self._read_chunk(r)
            )
        if ready.committed:
            self.effect()
            self.applier.put(ready.committed)
        if ready.reads:
            self.server.on_ready(ready, self.applier)

    def _send(self, message: Message) -> None:
        self.effect()
        self._checks.on_sent(message)
        self.setting.network.send(message)

    def effect(self) -> None:
        """Something is about to be done: a crash may come first."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self._recording.count(Kind.CRASH_MID_READY)
                raise _Died(self.rng.choice(list(Fate)), "between two effects")

    # -- the disk --------------------------------------------------------------------------

    def write_begun(self) -> None:
        """A write is on its way and not durable."""
        if self.crash_in_write is not None:
            raise _Died(self.crash_in_write, "in the middle of a write")

    def write_failed(self) -> None:
        """EIO: it is not known what is stored; the process ends, and acknowledges nothing."""
        self.disk.fails_next = False
        self._recording.count(Kind.EIO)
        raise _Died(self.rng.choice(list(Fate)), "the disk failed")

    def on_durable(self, readies: list[Ready]) -> None:
        """Promises may leave."""
        for ready in readies:
            for message in ready.messages_after_persist:
                self._send(message)
        self.effect()
        self._running().on_persisted(readies[-1].number, self.now)
        self._recording.note("durable", self.node_id)

    def on_installed(self, meta: SnapshotMeta) -> None:
        """The stored log stands at this snapshot: so must the state machine."""
        self.effect()
        self._recording.count("snapshot_installed")
        self.applier.put(meta)

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int) -> None:
        """Part of a snapshot is stored."""
        self.effect()
        self._running().on_chunk_stored(chunk, next_offset, self.now)

    def on_disk_full(self) -> None:
        """Nothing can be promised until there is room."""
        self._recording.count(Kind.DISK_FULL)
        self._running().on_disk_full(self.now)

    def _read_chunk(self, request: ChunkRequest) -> None:
        core = self._running()
        content = self.disk.read_snapshot(request.meta)
        if content is None:
            core.on_snapshot_gone(request)
            return
        end = request.offset + core.limits.snapshot_chunk_bytes
        self._recording.count("chunk_sent")
        core.send_chunk(request, content[request.offset : end], self.now)

    # -- the state machine -----------------------------------------------------------------

    def on_result(self, entry: Entry, result: Any) -> None:
        """An entry was applied here."""
        self._checks.on_apply(self.node_id, entry)
        self.server.on_result(entry, result)

    def on_applied(self, index: LogIndex) -> None:
        """The state machine stands at this index."""
        core = self._running()
        core.on_applied(index)
        self.server.on_applied(self.applier)
        leadership, since = core.leadership, self.applier.entries_since_snapshot
        is_sending = leadership is not None and leadership.is_sending_snapshot
        patience = SENDING_PATIENCE if is_sending else 1
        if since >= patience * core.limits.snapshot_entries:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Take a view of the state now; it is durable a little later."""
        core, index = self._running(), self.applier.applied_index
        saved = 0 if core.snapshot is None else core.snapshot.index
        term = core.log.term_at(index)
        if self._is_saving or index <= saved or term is None:
            return
        self._is_saving = True
        self.applier.entries_since_snapshot = 0
        content = self.applier.machine.snapshot()
        self._checks.on_state(self.node_id, index, zlib.crc32(content))
        configuration = core.membership.at(index)
        delay_s = self.rng.uniform(0.0, 0.02) + self.slow_s

        def save() -> None:
            self._is_saving = False
            if not self.disk.is_full:
                meta = self.disk.save_snapshot(index, term, configuration, content)
                self._on_saved(meta)

        self.later(delay_s, save)

    def _on_saved(self, meta: SnapshotMeta) -> None:
        self.effect()
        core = self._running()
        keep_after = 0 if core.snapshot is None else core.snapshot.index
        self._recording.count("snapshot_saved")
        core.on_snapshot_saved(meta, self.now, keep_after=keep_after)

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

    def state(self) -> str:
        """In a few words, for a failure."""
        core = self.core
        if core is None:
            return f"{self.node_id} {'refuses to start' if self.is_refused else 'is down'}"
        where = f"log {core.log.summary()}, commit {core.log.commit_index}"
        paused = ", paused" if self.is_paused else ""
        return f"{self.node_id} {core.role.value} of term {core.term}, {where}{paused}"


def _nobody_minds(process: Process) -> None:
    """What a death means to others, unless somebody says."""
