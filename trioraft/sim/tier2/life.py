"""The world of one simulated cluster of real nodes, and each life of a node in it: from
`open_node` to the moment when nothing of it is left.

* Whatever finds something wrong, wherever it runs, says so to `World.fail` and nowhere else: an
  exception in a state machine would be a command's result, and one in an instrument a log line. The
  first failure counts, and ends the run.
* A crash fences first: from that very step on, nothing of this life reaches the disk or the wire,
  and no client believes a word of it. Then it is ended, in one of the ways in which programs end.
* Every life ends in a leak check, however it ended.
* Nothing sleeps out a tick: a life that was killed is gone within the moment; one that was
  cancelled, or leaves, may take the time of a leadership transfer and no longer.
"""

from __future__ import annotations

import enum
import random
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, final

import attrs
import trio
import trio.testing

from ...core.config import Limits, Timing
from ...core.errors import CorruptStorage, DiskFull, InvariantViolation, SnapshotGone, StorageError
from ...core.events import TraceEvent
from ...core.messages import Introduction, Message
from ...core.raft import Raft
from ...core.ready import SnapshotChunk, Write
from ...core.types import (
    Address,
    Configuration,
    Entry,
    HardState,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    SnapshotMeta,
    Term,
)
from ...node.node import Node, open_node
from ...node.storage_calls import DISK_NUMBERS, RUN_BLOCKING
from ...testing.leaks import LeakError, check_roles, no_leaks
from ...transport.base import Transport, TransportEvent, TransportOwner
from ...transport.memory import MemoryNetwork
from ..agenda import Agenda
from ..checks import Checks
from ..disk import Disk, Fate
from ..draw import Draw, Kind
from ..machine import Machine, Registers
from ..outcomes import RunRecording, kind_of

T = TypeVar("T")

READ_BYTES: Final = 97
"""A snapshot is read in pieces of this size, so that none ends where one would like."""


@final
@attrs.define(eq=False)
class World:
    """The world of one run."""

    seed: int
    draw: Draw
    network: MemoryNetwork
    recording: RunRecording
    checks: Checks
    disks: Mapping[NodeId, Disk]
    node_disks: dict[NodeId, NodeDisk]
    watch: Agenda
    """Tells the recording what time it is; nothing is ever put on it."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around everything that runs."""
    failure: Exception | None = None
    failure_kind: str = ""
    """By which two failures are the same one: the rule that was broken, without its values."""
    lives: dict[NodeId, Life] = attrs.field(factory=dict)
    """The present or last one of each node."""
    stalled_s: float = 0.0
    """How long time has been standing still for everyone, in all."""
    executed: dict[int, LogIndex] = attrs.field(factory=dict)
    """Every operation that a state machine has carried out, and where."""
    _milestones: list[tuple[Callable[[], bool], trio.Event]] = attrs.field(factory=list)

    def fail(self, error: Exception) -> None:
        """Something is wrong: the run ends here."""
        if self.failure is None:
            self.failure = error
            self.failure_kind = kind_of(error, sys._getframe(1).f_code.co_name)
            self.recording.note("fail", type(error).__name__)
        self.scope.cancel()

    def cut_short(self) -> None:
        """The run ends: a node that is broken may be shielded from being cancelled."""
        for life in self.lives.values():
            life.cut_short()

    def rng(self, *names: object) -> random.Random:
        """A source of chance of its own for whatever these names say."""
        return chance(self.seed, *names)

    # -- looking ---------------------------------------------------------------------------

    def open_lives(self) -> list[Life]:
        """Those that can be asked for something."""
        return [life for life in self.lives.values() if life.is_open]

    def leader(self) -> Life | None:
        """Whoever leads the newest term, as far as nodes believe so."""
        leading = [
            (life.node.status.term, life)
            for life in self.open_lives()
            if life.node is not None and life.node.status.role is Role.LEADER
        ]
        return max(leading, key=lambda found: found[0])[1] if leading else None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds after a step of a node."""
        if not condition():
            reached = trio.Event()
            self._milestones.append((condition, reached))
            await reached.wait()

    async def check_roles(self) -> None:
        """Every node has just the tasks that its role owns, once all have had their turn."""
        await trio.testing.wait_all_tasks_blocked()
        nodes = [life.node for life in self.open_lives() if life.node is not None]
        try:
            check_roles(expected={f"raft[{node.id}]": node.expected_tasks() for node in nodes})
        except LeakError as error:
            self.fail(error)

    def look(self) -> None:
        """A node took a step: whoever waits for something may have it now."""
        if self._milestones:
            reached = [milestone for milestone in self._milestones if milestone[0]()]
            for milestone in reached:
                self._milestones.remove(milestone)
                milestone[1].set()


def chance(seed: int, *names: object) -> random.Random:
    """The seed's source of chance for whatever these names say."""
    return random.Random(" ".join(map(str, (seed, "tier 2", *names))))


@final
@attrs.define(eq=False)
class NodeDisk:
    """One node's disk over all its lives, and what is wrong with it at the moment."""

    disk: Disk
    rng: random.Random
    disk_s: tuple[float, float]
    """Range of how long a call takes; (0, 0): the storage does not block."""
    slow_s: float = 0.0
    """How much longer it takes now."""
    busy_until_s: float = 0.0
    """When the calls that have begun are done: one that began while it was slow takes its time."""
    crash_in_write: Fate | None = None
    """The next write ends in a crash, and this becomes of it."""
    is_new: bool = True
    snapshot_index: LogIndex = 0
    """Of the newest snapshot; what lies under it is never replaced."""

    @property
    def blocks(self) -> bool:
        """Whether calls take time."""
        return self.disk_s != (0.0, 0.0)

    @property
    def time_s(self) -> float:
        """How long a call may take at the moment."""
        return self.disk_s[1] + self.slow_s

    def repair(self) -> None:
        """Whole, empty enough and as fast as ever."""
        self.slow_s, self.crash_in_write = 0.0, None
        self.disk.is_full = self.disk.fails_next = False


class MountOwner(Protocol):
    """A life, as its mount sees it."""

    def crash(self, fate: Fate) -> None:
        """End, now."""

    def on_disk_failed(self) -> None:
        """The disk has failed (EIO): a node that lives on is wrong."""


@final
class Mount:
    """A `Storage`: one life's view of its node's disk. It blocks, as the real ones do, but in
    virtual time, or does not (`disk_s` of the draw is 0).

    A write is begun, takes its time, and is durable at the end; any other call is done at one
    moment of the time that it takes. Once fenced it changes nothing any more.
    """

    notices: Sequence[str] = ()

    def __init__(self, node_disk: NodeDisk, owner: MountOwner, recording: RunRecording) -> None:
        self.blocking: bool = node_disk.blocks
        self.slowest_call_s: float = 0.0
        self._node_disk = node_disk
        self._disk = node_disk.disk
        self._owner = owner
        self._recording = recording
        self._is_fenced = False
        self._has_failed = False
        self._is_gone = trio.Event()  # fenced or failed: nobody waits for this disk any more
        self._has_begun = False
        self._is_open = False

    def fence(self, fate: Fate) -> None:
        """From now on nothing of this life reaches the disk; this becomes of a write under way."""
        if self._is_fenced:
            return
        self._is_fenced = True
        met = None if self._has_failed else self._disk.crash(fate, self._node_disk.rng)
        if met in (Fate.LOST, Fate.TORN):
            self._recording.count(Kind.TORN_TAIL if met is Fate.TORN else Kind.UNSYNCED_LOST)
        self._is_gone.set()

    # -- how calls are run -----------------------------------------------------------------

    async def run_blocking(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        """What `storage_calls.RUN_BLOCKING` asks for: as a worker thread would, in virtual time."""
        async with limiter:
            before_s, after_s = self._drawn_s(), self._drawn_s()
            done_s = trio.current_time() + before_s + after_s
            self._node_disk.busy_until_s = max(self._node_disk.busy_until_s, done_s)
            self.slowest_call_s = max(self.slowest_call_s, before_s + after_s)
            await self._pass(before_s)
            self._has_begun = False
            result = call()
            is_write = self._has_begun
            await self._pass(after_s)
            if is_write:
                self._sync()
        return result

    def _drawn_s(self) -> float:
        node_disk = self._node_disk
        return (node_disk.rng.uniform(*node_disk.disk_s) + node_disk.slow_s) / 2

    async def _pass(self, time_s: float) -> None:
        with trio.move_on_after(time_s):
            await self._is_gone.wait()

    def _sync(self) -> None:
        if self._is_fenced or self._has_failed:
            return
        if self._node_disk.crash_in_write is not None:
            fate, self._node_disk.crash_in_write = self._node_disk.crash_in_write, None
            self._owner.crash(fate)
            return
        if self._disk.fails_next:
            self._disk.fails_next = False
            self._has_failed = True
            self._disk.crash(self._node_disk.rng.choice(list(Fate)), self._node_disk.rng)
            self._is_gone.set()
            self._recording.count(Kind.EIO)
            self._owner.on_disk_failed()
            raise StorageError("the disk failed (on purpose): what is stored is unknown")
        self._disk.sync()

    def _is_writable(self) -> bool:
        """Whether a call may change the disk; raises if it is to be told that it may not."""
        if self._is_fenced:
            return False
        self._refuse(not self._is_open, "it is not open")
        if self._has_failed:
            raise StorageError("the disk failed earlier (on purpose)")
        if self._disk.is_full:
            self._recording.count(Kind.DISK_FULL)
            raise DiskFull("no room (on purpose): nothing of this call is stored")
        return True

    def _refuse(self, is_wrong: bool, why: str) -> None:
        """Whoever calls like this is mistaken: no storage takes it, and no test may hide it."""
        if is_wrong:
            raise StorageError(f"the node calls its storage wrongly: {why}")

    # -- the storage -----------------------------------------------------------------------

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """See `Storage.open`."""
        if self._is_fenced:
            raise StorageError("this life of the node is over")
        self._is_open = True
        if self._node_disk.is_new:
            self._node_disk.is_new = False
            return None
        disk = self._disk
        before = disk.hard_state, disk.last_index, disk.identity
        recovered = disk.recover(Configuration(()))
        if before != (disk.hard_state, disk.last_index, disk.identity):
            raise InvariantViolation(f"{node_id!r} came back with less than was durable")
        if recovered.snapshot is None:
            return recovered
        self._node_disk.snapshot_index = recovered.snapshot.index
        return attrs.evolve(recovered, configuration=recovered.snapshot.configuration)

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """See `Storage.append`."""
        if not self._is_writable():
            return
        self._check_fits(entries, replace_from)
        self._disk.begin(Write(hard_state, tuple(entries), replace_from, identity))
        self._has_begun = True
        if not self.blocking:
            self._sync()

    def _check_fits(self, entries: Sequence[Entry], replace_from: LogIndex | None) -> None:
        disk = self._disk
        if replace_from is None:
            self._refuse(bool(entries), "entries, and nowhere to put them")
            return
        indexes = [entry.index for entry in entries]
        is_gap = indexes != list(range(replace_from, replace_from + len(entries)))
        self._refuse(is_gap, f"entries {indexes} from {replace_from} on")
        fits = disk.base_index < replace_from <= disk.last_index + 1
        held = f"a log that holds {disk.base_index + 1} to {disk.last_index}"
        self._refuse(not fits, f"entries from {replace_from} on do not continue {held}")
        newest = self._node_disk.snapshot_index
        self._refuse(replace_from <= newest, f"{replace_from} lies under snapshot {newest}")

    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        """See `Storage.compact`."""
        if self._is_writable() and base_index > self._disk.base_index:
            is_right = self._disk.holds(base_index, base_term)
            is_covered = base_index <= self._node_disk.snapshot_index
            self._refuse(
                not (is_right and is_covered), f"no snapshot of {base_index}, term {base_term}"
            )
            self._disk.compact(base_index, base_term)

    def write_snapshot(
        self, index: LogIndex, term: Term, configuration: Configuration, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """See `Storage.write_snapshot`."""
        content = b"".join(chunks)
        if not self._is_writable():
            return SnapshotMeta(index, term, configuration, len(content), zlib.crc32(content))
        self._refuse(
            not 0 < index <= self._disk.last_index, f"a snapshot of {index}, which is not stored"
        )
        self._recording.count("snapshot_saved")
        self._node_disk.snapshot_index = max(self._node_disk.snapshot_index, index)
        return self._disk.save_snapshot(index, term, configuration, content)

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `Storage.read_snapshot`."""
        content = self._content(meta)
        for start in range(0, len(content), READ_BYTES):
            yield content[start : start + READ_BYTES]
        if zlib.crc32(content) != meta.checksum:
            raise CorruptStorage(f"the snapshot of entries up to {meta.index} is damaged")

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """See `Storage.read_chunk`."""
        return self._content(meta)[offset : offset + bytes_max]

    def _content(self, meta: SnapshotMeta) -> bytes:
        content = self._disk.read_snapshot(meta)
        if content is None:
            raise SnapshotGone(f"the snapshot of entries up to {meta.index} is not stored any more")
        return content

    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """See `Storage.receive_chunk`."""
        if not self._is_writable():
            return offset
        return self._disk.receive(SnapshotChunk("", meta, offset, data))

    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        """See `Storage.install_snapshot`."""
        if self._is_writable():
            is_old = meta.index < self._disk.base_index
            self._refuse(is_old, f"snapshot {meta.index} would move the log back")
            self._disk.install(meta, identity)
            self._node_disk.snapshot_index = max(self._node_disk.snapshot_index, meta.index)
            self._recording.count("snapshot_installed")

    def close(self) -> None:
        """See `Storage.close`."""
        self._is_open = False


SESSIONS_MAX: Final = 64
_DIGEST_BYTES: Final = 4


@final
class WatchedMachine:
    """Tier 1's registers and sessions as the `StateMachine` of a life, and watched. Its state
    includes a checksum of all commands that led to it.

    Nothing is raised here that is no result of a command: a node would take it for one. What is
    wrong goes to the world.
    """

    def __init__(self, owner: Life, world: World) -> None:
        self._owner = owner
        self._world = world
        self._machine = Machine(self._on_executed, sessions_max=SESSIONS_MAX + int(owner.node_id))
        self._digest = 0

    @property
    def registers(self) -> Registers:
        """The values now."""
        return self._machine.registers

    def apply(self, index: LogIndex, data: bytes) -> Any:
        """See `StateMachine.apply`."""
        self._digest = zlib.crc32(data, self._digest)
        if not self._owner.is_fenced:
            try:
                self._check(index, data)
            except InvariantViolation as error:
                self._world.fail(error)
        return self._machine.apply(index, data)

    def prepare_command(self, data: bytes) -> bytes:
        """See `Preparing`."""
        return self._machine.prepare_command(data)

    def is_result(self, error: Exception) -> bool:
        """See `Judge`."""
        return self._machine.is_result(error)

    def _check(self, index: LogIndex, data: bytes) -> None:
        node_id, world = self._owner.node_id, self._world
        entry = world.disks[node_id].entry_at(index)
        if entry is None or entry.data != data:
            raise InvariantViolation(
                f"{node_id!r} applies {data!r} at {index}; durable there is {entry}"
            )
        world.checks.on_apply(node_id, entry, ())
        world.checks.on_state(node_id, index, self._digest)

    def _on_executed(self, operation: int, index: LogIndex) -> None:
        if self._owner.is_fenced:
            return
        self._world.executed.setdefault(operation, index)
        try:
            self._world.checks.on_executed(operation, index)
        except InvariantViolation as error:
            self._world.fail(error)

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return self._digest.to_bytes(_DIGEST_BYTES, "big") + b"".join(self._machine.snapshot())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """See `StateMachine.restore`."""
        content = b"".join(chunks)
        self._digest = int.from_bytes(content[:_DIGEST_BYTES], "big")
        self._machine.restore([content[_DIGEST_BYTES:]])


@final
class Wire:
    """A life's end of the network, a `Transport` around another. A fenced one sends nothing.

    A promise is checked against the disk at the moment at which it leaves; what left before the
    fence is on its way, and arrives.
    """

    def __init__(self, inner: Transport, owner: Life, world: World) -> None:
        self._inner = inner
        self._owner = owner
        self._world = world
        self._scope = trio.CancelScope()

    def break_down(self) -> None:
        """Fail, now: what a node cannot survive, whatever it is shielded from."""
        self._scope.cancel()

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._inner.node_id

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Transport.run`."""
        with self._scope:
            await self._inner.run(
                _Receiver(owner, self._owner, self._world),
                cluster_id=cluster_id,
                limits=limits,
                task_status=task_status,
            )
        raise OSError("the network is gone: the run was cut short")

    @property
    def given_peers(self) -> Collection[NodeId]:
        """See `Transport.given_peers`."""
        return self._inner.given_peers

    def send(self, message: Message) -> None:
        """See `Transport.send`."""
        if self._owner.is_fenced:
            return
        try:
            self._world.checks.on_sent(message)
        except InvariantViolation as error:
            self._world.fail(error)
        self._inner.send(message)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """See `Transport.set_peer`."""
        self._inner.set_peer(peer, address)

    def address_of(self, peer: NodeId) -> Address | None:
        """See `Transport.address_of`."""
        return self._inner.address_of(peer)


@final
class _Receiver:
    """The node, unless its life is over."""

    def __init__(self, owner: TransportOwner, life: Life, world: World) -> None:
        self._owner = owner
        self._life = life
        self._recording = world.recording

    @property
    def timing(self) -> Timing:
        return self._owner.timing

    def introduction(self, peer: NodeId) -> Introduction:
        return self._owner.introduction(peer)

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        return self._owner.disk_of(peer)

    def on_introduction(self, said: Introduction) -> None:
        if not self._life.is_fenced:
            self._owner.on_introduction(said)

    def on_message(self, message: Message, origin: Introduction) -> None:
        if not self._life.is_fenced:
            self._recording.delivered += 1
            self._recording.note("message", message)
            self._owner.on_message(message, origin)

    def on_batch_end(self) -> None:
        if not self._life.is_fenced:
            self._owner.on_batch_end()

    def on_peer_lost(self, peer: NodeId) -> None:
        if not self._life.is_fenced:
            self._owner.on_peer_lost(peer)

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        if not self._life.is_fenced:
            self._owner.on_seen_at(peer, address)

    def addresses_told_of(self, peer: NodeId) -> Collection[Address]:
        return self._owner.addresses_told_of(peer)

    def on_transport_event(self, event: TransportEvent) -> None:
        if not self._life.is_fenced:
            self._owner.on_transport_event(event)


AT_ONCE_S: Final = 1e-6
"""How long what takes no time may take."""
LEAVING_TIMEOUTS: Final = 3
"""How many of the longest election timeouts leaving may take; it is meant to take one."""
DISK_CALLS_AFTER_LEAVING: Final = 4
"""How many calls of its storage a node may still make, beside the one that is on its way."""
CLUSTER_ID: Final = "simulation"


class NotGoneError(InvariantViolation):
    """Something of a dead node is still there."""


class End(enum.Enum):
    """How a life ends."""

    KILLED = "killed"
    """`Node.kill`, in the middle of whatever it does."""
    CANCELLED = "cancelled"
    """Whoever opened it was cancelled: it leaves a network that is gone."""
    LEAVES = "leaves"
    """Its user leaves the `async with`. No crash: disk and network serve it to the end."""


@final
class Life:
    """One incarnation of a node."""

    def __init__(self, node_id: NodeId, number: int, world: World) -> None:
        self.node_id = node_id
        self.number = number
        self.name: str = f"{node_id}.{number}"
        self.is_fenced: bool = False
        self.steps_left: int | None = None
        """So many steps of its tasks more, and it crashes; None: it does not."""
        self.fuse_end = End.KILLED
        self.fuse_fate = Fate.SURVIVES
        self.node: Node | None = None
        self.machine: WatchedMachine = WatchedMachine(self, world)
        self.gone: trio.Event = trio.Event()
        self._world = world
        self._mount = Mount(world.node_disks[node_id], self, world.recording)
        self._wire = Wire(world.network.transport(node_id), self, world)
        self._leave = trio.Event()
        self._scope = trio.CancelScope()
        self._is_ending = trio.Event()
        self._limit_s = AT_ONCE_S
        self._waits_for_disk = False
        self._busy_s = 0.0
        """How long the calls of its storage still took that were under way when it left."""
        self._is_failing = False

    @property
    def is_open(self) -> bool:
        """Whether it can be asked for something."""
        return self.node is not None and not self.is_fenced and not self._is_ending.is_set()

    @property
    def is_ending(self) -> bool:
        """Whether it is on its way out, or gone."""
        return self._is_ending.is_set()

    @property
    def core(self) -> Raft | None:
        """The core, for checks that look inside: no public value says what is in a log."""
        return None if self.node is None else self.node._runner.raft

    # -- living ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Live, and see that nothing is left in the end."""
        try:
            async with no_leaks():
                with self._scope:
                    await self._live()
        except LeakError as error:
            self._world.fail(error)
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing of it is left; another life may begin."""
        self.is_fenced = True
        self._mount.fence(Fate.SURVIVES)
        self._is_ending.set()
        self.gone.set()

    async def _live(self) -> None:
        world = self._world
        RUN_BLOCKING.set(self._mount.run_blocking)  # in this life's own context
        DISK_NUMBERS.set(world.rng("disk", self.name))
        try:
            async with open_node(
                self.node_id,
                voters=world.draw.voters if self.node_id in world.draw.voters else (),
                machine=self.machine,
                storage=self._mount,
                transport=self._wire,
                cluster_id=CLUSTER_ID,
                timing=world.draw.timing,
                limits=world.draw.limits,
                rng=world.rng("node", self.name),
                logger=TraceTap(world) if world.recording.traced else None,
            ) as node:
                self.node = node
                await self._leave.wait()
        except Exception as error:  # noqa: BLE001 - of a dead machine nobody sees the exit code
            if not self.is_fenced and not (self._is_failing and isinstance(error, StorageError)):
                world.fail(error)

    async def watch_its_end(self) -> None:
        """See that it is gone in time, once it is to end."""
        await self._is_ending.wait()
        world, begun_s = self._world, trio.current_time() - self._world.stalled_s
        # While everything stands still nobody can leave, and that time does not count.
        while (until_s := begun_s + world.stalled_s + self._allowed_s()) > trio.current_time():
            with trio.move_on_at(until_s):
                await self.gone.wait()
                return
        await trio.testing.wait_all_tasks_blocked()  # whoever was due with us goes first
        if self.gone.is_set():
            return
        self._world.fail(
            NotGoneError(f"node {self.name} was to end, and is not gone {self._limit_s:g} s later")
        )

    def _allowed_s(self) -> float:
        """Who leaves writes to its end what has begun to be written, and closes its storage: as
        long as the disk takes for that, which may have been slow for a part of it only."""
        if not self._waits_for_disk or self.is_fenced:
            return self._limit_s
        slowest_s = max(self._mount.slowest_call_s, self._world.node_disks[self.node_id].time_s)
        return self._limit_s + self._busy_s + DISK_CALLS_AFTER_LEAVING * slowest_s

    # -- ending ----------------------------------------------------------------------------

    def before_step(self) -> None:
        """One of its tasks is about to go on, from whatever `await` it stands at."""
        if self.steps_left is not None and not self.is_fenced:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.steps_left = None
                self._world.recording.count(Kind.CRASH_MID_READY)
                self.crash(self.fuse_fate, self.fuse_end)

    def crash(self, fate: Fate, end: End = End.KILLED) -> None:
        """End here and now, wherever its tasks stand.

        Args:
            fate: of a write that is under way.
            end: `KILLED` or `CANCELLED`.
        """
        if self.is_fenced:
            return
        recording = self._world.recording
        recording.note("crash", self.name, end.value)
        recording.remark(f"crash: {end.value}", self.node_id)
        self.is_fenced = True
        self._mount.fence(fate)
        if end is End.CANCELLED or self.node is None:
            self._limit_s = self._leaving_s()
            self._scope.cancel()
        else:
            self.node.kill()
            self._leave.set()
        self._is_ending.set()

    def leave(self) -> None:
        """End in order; one that is still being opened leaves as soon as it is."""
        if not self.is_fenced and not self.is_ending:
            self._world.recording.note("leave", self.name)
            self._world.recording.remark("leaves", self.node_id)
            self._limit_s = self._leaving_s()
            self._waits_for_disk = True
            disk = self._world.node_disks[self.node_id]
            self._busy_s = max(0.0, disk.busy_until_s - trio.current_time())
            self._mount.slowest_call_s = 0.0  # from here on
            self._leave.set()
            self._is_ending.set()

    def cut_short(self) -> None:
        """The whole run is over, and nobody minds how."""
        if self.node is not None:
            self.node.kill()
        self._wire.break_down()

    def _leaving_s(self) -> float:
        """Who leaves waits for answers, and these may take long: as patience is stretched."""
        draw = self._world.draw
        slow = {Kind.SLOW_DISK, Kind.DISK_FULL, Kind.CLOCK_JUMP, Kind.DELAY}
        if draw.intensities.keys() & slow:
            return LEAVING_TIMEOUTS * draw.timing.widening_max * draw.timing.election_timeout_s[1]
        return LEAVING_TIMEOUTS * draw.timeout_s

    def on_disk_failed(self) -> None:
        """EIO: from here on the node must be on its way out, and loudly."""
        self._world.recording.remark("its disk fails", self.node_id)
        self._is_failing = True
        self._is_ending.set()


@final
class TraceTap:
    """An `EventLogger` that keeps the events themselves."""

    def __init__(self, world: World) -> None:
        self._recording = world.recording

    def debug(self, event: str, *args: Any, **kw: Any) -> None:
        """Keep what the core tells."""
        trace = kw["trace"]
        if isinstance(trace, TraceEvent):
            self._recording.event(kw["node"], trace)

    def info(self, event: str, *args: Any, **kw: Any) -> None:
        self.debug(event, *args, **kw)

    def warning(self, event: str, *args: Any, **kw: Any) -> None:
        self.debug(event, *args, **kw)
