"""Simulation of many groups: real processes of `open_groups` in virtual time, from one seed.

Groups fall asleep and wake while processes crash at any step, lines are cut and lose messages, and
disks take their time. What must hold of each group is checked at every step; in the end everything
is healed, every group has to answer in every process, to fall asleep everywhere, and to answer once
more with the process gone that led it. In every other seed leaders have leases, and are read by
them.

Rules of this file:

* A crash fences first: from that step on nothing of the process reaches its disks or the wire.
* Commands are never the same twice, and a machine answers with how many it has applied: so a group
  is linearizable exactly if each command stands once in one order, at the place that was answered,
  and after all whose answers were there before it was asked for.
* Every machine is compared with that one order at each command, whether its node was opened anew,
  restored, or woken: one that was woken at another place than it stands at is found at once.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar, final

import attrs
import trio
from trio.abc import Instrument
from trio.lowlevel import Task
from trio.testing import MockClock

from ...core.config import Limits, Timing
from ...core.errors import InvariantViolation, RaftError, StorageError
from ...core.invariants import ClusterInvariants
from ...core.messages import Introduction, Message
from ...core.raft import Raft
from ...core.types import (
    Address,
    Entry,
    HardState,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
)
from ...groups.group import Group, GroupPhase
from ...groups.host import Groups, open_group, open_groups
from ...node.storage_calls import DISK_NUMBERS, RUN_BLOCKING
from ...storage.base import Storage
from ...storage.memory import MemoryStorage
from ...testing.leaks import no_leaks
from ...transport.base import Transport, TransportEvent, TransportOwner
from ...transport.memory import MemoryNetwork, NetworkFaults
from ..simulation import NotAliveError
from .life import chance
from .scheduler import deterministic

T = TypeVar("T")

IDS: Final = ("a", "b", "c")
GROUPS: Final = ("x", "y", "z")
CLIENTS: Final = 3
STORM_S: Final = 30.0
HIBERNATE_AFTER_S: Final = 0.6
CALL_S: Final = 3.0
"""How long a client waits for one call during the storm."""
ALIVE_S: Final = 20.0
"""How long anything may take once all is healed."""
AGAIN_S: Final = 0.05
RUN_S: Final = 600.0
LEASES: Final = Timing(lease_clock_drift_max=0.01, fast_failover=False)
CRASH_STEPS_MAX: Final = 400
"""A crash comes after so many steps of the process at most."""
BREAKS_OFF: Final = 0.004
"""How many writes of a shared log are broken off."""


@final
class Order:
    """The one order of one group's commands, and what was answered."""

    def __init__(self) -> None:
        self.commands: list[tuple[LogIndex, bytes]] = []
        self.acknowledged: int = 0
        """So many commands certainly are in it: the highest place that was answered."""
        self.invariants: Final = ClusterInvariants()
        self._known: set[bytes] = set()

    def check(self, place: int, index: LogIndex, data: bytes) -> None:
        """A machine applies its command number `place`, from 0."""
        if place < len(self.commands):
            if self.commands[place] != (index, data):
                raise InvariantViolation(
                    f"a machine applies {data!r} at {index} as number {place}, where others have "
                    f"applied {self.commands[place]}"
                )
            return
        if data in self._known:
            raise InvariantViolation(f"{data!r} is applied twice, at {index} again")
        self._known.add(data)
        self.commands.append((index, data))

    def answered(self, place: int, data: bytes, before: int) -> None:
        """A client was told that its command is number `place`, from 1; `before` were certain when
        it asked."""
        if place > len(self.commands) or self.commands[place - 1][1] != data:
            raise InvariantViolation(f"{data!r} was answered with {place}, where it does not stand")
        if place <= before:
            raise InvariantViolation(f"{data!r} stands at {place}, before {before} that were there")
        self.acknowledged = max(self.acknowledged, place)


@final
class Commands:
    """A group's state machine in one process: how many commands, compared with the one order."""

    def __init__(self, order: Order, world: GroupsSimulation) -> None:
        self.count: int = 0
        self._order = order
        self._world = world

    def apply(self, index: LogIndex, data: bytes) -> int:
        """See `StateMachine.apply`."""
        try:
            self._order.check(self.count, index, data)
        except InvariantViolation as error:
            self._world.fail(error)
        self.count += 1
        return self.count

    def snapshot(self) -> bytes:
        """See `StateMachine.snapshot`."""
        return b"%d" % self.count

    def restore(self, chunks: Iterable[bytes]) -> None:
        """See `StateMachine.restore`."""
        self.count = int(b"".join(chunks))


@final
class Mount:
    """One group's storage in one life of its process: it blocks, in virtual time, and once it is
    fenced it changes nothing any more."""

    notices: Sequence[str] = ()

    def __init__(self, disk: MemoryStorage, life: ProcessLife) -> None:
        self.blocking: bool = True
        self._disk = disk
        self._life = life
        if life.shared is not None:
            self.together = life.shared

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """See `Storage.open`."""
        self._disk.close()  # a life that crashed has not
        return self._disk.open(cluster_id=cluster_id, node_id=node_id)

    def close(self) -> None:
        """See `Storage.close`."""
        if not self._life.is_fenced:
            self._disk.close()

    def __getattr__(self, name: str) -> Any:
        """All others are the disk's, unless the machine is dead: what it does then, nobody sees."""
        call = getattr(self._disk, name)

        def unless_fenced(*args: Any, **kw: Any) -> Any:
            if self._life.is_fenced:
                raise OSError("this process is dead (on purpose)")
            return call(*args, **kw)

        return unless_fenced

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        """See `Storage.append`."""
        if not self._life.is_fenced:
            self._disk.append(hard_state, entries, replace_from, identity)

    def install_snapshot(self, meta: Any, identity: bytes | None = None) -> None:
        """See `Storage.install_snapshot`."""
        if not self._life.is_fenced:
            self._disk.install_snapshot(meta, identity)


@final
class SharedDisk:
    """Where all groups of one life of a process write together, one transaction at a time. Now and
    then one is broken off, for want of memory: it stays open, and nothing of it is kept."""

    def __init__(self, life: ProcessLife, rng: random.Random) -> None:
        self.is_broken_off: bool = False
        self._life = life
        self._rng = rng

    def write_together(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        """See `Together.write_together`."""
        self.check()
        if self.is_broken_off:
            return [None for _ in calls]  # in the transaction that is open, and never committed
        if self._rng.random() < BREAKS_OFF and self._life.is_in_a_storm:
            self.is_broken_off = True
            raise MemoryError("a write was broken off (on purpose)")
        outcomes: list[BaseException | None] = []
        for call in calls:
            call()
            outcomes.append(None)
        return outcomes

    def check(self) -> None:
        """Refuse everything after a transaction that was broken off.

        Raises:
            StorageError: one was.
        """
        if self.is_broken_off:
            raise StorageError("a write was broken off earlier (on purpose)")


@final
class Storages:
    """A `GroupStorages` of one life of a process, over disks that outlive it."""

    blocking = False
    is_volatile = False

    def __init__(self, disks: dict[str, MemoryStorage], life: ProcessLife) -> None:
        self._disks = disks
        self._life = life

    def open(self, *, cluster_id: str, node_id: NodeId) -> None:
        """See `GroupStorages.open`."""

    def storage_of(self, group: str) -> Storage:
        """See `GroupStorages.storage_of`."""
        return Mount(self._disks.setdefault(group, MemoryStorage()), self._life)

    def close(self) -> None:
        """See `GroupStorages.close`."""


@final
class Wire:
    """A process's end of the network, and its owner's; a fenced one neither sends nor hears."""

    def __init__(self, inner: Transport, life: ProcessLife) -> None:
        self._inner = inner
        self._life = life
        self._owner: TransportOwner

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._inner.node_id

    @property
    def given_peers(self) -> Collection[NodeId]:
        """See `Transport.given_peers`."""
        return ()

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Transport.run`."""
        self._owner = owner
        await self._inner.run(self, cluster_id=cluster_id, limits=limits, task_status=task_status)

    def send(self, message: Message) -> None:
        """See `Transport.send`."""
        if not self._life.is_fenced:
            self._inner.send(message)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """See `Transport.set_peer`."""

    def address_of(self, peer: NodeId) -> Address | None:
        """See `Transport.address_of`."""
        return None

    @property
    def timing(self) -> Timing:
        """See `TransportOwner`, as all that follows."""
        return self._owner.timing

    def introduction(self, peer: NodeId) -> Introduction:
        """What this process says of itself."""
        return self._owner.introduction(peer)

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        """None."""
        return self._owner.disk_of(peer)

    def on_introduction(self, said: Introduction) -> None:
        """Another one is there."""
        self._owner.on_introduction(said)

    def on_message(self, message: Message, origin: Introduction) -> None:
        """A frame."""
        if not self._life.is_fenced:
            self._owner.on_message(message, origin)

    def on_batch_end(self) -> None:
        """All that had come."""
        if not self._life.is_fenced:
            self._owner.on_batch_end()

    def on_peer_lost(self, peer: NodeId) -> None:
        """A connection ended."""
        if not self._life.is_fenced:
            self._owner.on_peer_lost(peer)

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        """Nothing."""

    def addresses_told_of(self, peer: NodeId) -> Collection[Address]:
        """None."""
        return ()

    def on_transport_event(self, event: TransportEvent) -> None:
        """Something that belongs into the log."""
        self._owner.on_transport_event(event)


@final
class ProcessLife:
    """One incarnation of a process, with a member of every group."""

    def __init__(self, node_id: NodeId, number: int, world: GroupsSimulation) -> None:
        self.node_id = node_id
        self.name: str = f"{node_id}.{number}"
        self.is_fenced: bool = False
        self.steps_left: int | None = None
        self.groups: Groups | None = None
        self.open: dict[str, Group] = {}
        self.gone: trio.Event = trio.Event()
        self._world = world
        self._leave = trio.Event()
        self._scope = trio.CancelScope()
        self._rng = world.chance("life", self.name)
        self.shared: SharedDisk | None = None
        if world.shares_log:
            self.shared = SharedDisk(self, world.chance("shared", self.name))

    @property
    def is_in_a_storm(self) -> bool:
        """Whether anything may fail."""
        return self._world.storms

    @property
    def is_open(self) -> bool:
        """Whether it can be asked for something."""
        return len(self.open) == len(GROUPS) and not self.is_fenced and not self._leave.is_set()

    def crash(self) -> None:
        """End here and now, wherever its tasks stand."""
        if not self.is_fenced:
            self.is_fenced = True
            if self.groups is not None:
                self.groups._host.stop()
            self._scope.cancel()

    def leave(self) -> None:
        """End in order."""
        self._leave.set()

    async def run(self) -> None:
        """Live, and see that nothing is left in the end."""
        RUN_BLOCKING.set(self._run_blocking)
        DISK_NUMBERS.set(self._world.chance("disk", self.name))
        try:
            async with no_leaks():
                with self._scope:
                    await self._live()
        except Exception as error:  # noqa: BLE001 - of a dead process nobody sees the exit code
            if not self.is_fenced:
                self._world.fail(error)
        finally:
            self.is_fenced = True
            self.gone.set()

    async def _live(self) -> None:
        world = self._world
        wire = Wire(world.network.transport(self.node_id), self)
        async with AsyncExitStack() as stack:
            self.groups = await stack.enter_async_context(
                open_groups(
                    self.node_id,
                    storage=Storages(world.disks[self.node_id], self),
                    transport=wire,
                    timing=world.timing,
                    limits=Limits(snapshot_entries=20, snapshot_tail_entries=5),
                    hibernate_after_s=HIBERNATE_AFTER_S,
                    rng=world.chance("process", self.name),
                )
            )
            if self.shared is not None:
                await self._live_apart(self.groups)
                return
            for name in GROUPS:
                machine = Commands(world.orders[name], world)
                self.open[name] = await stack.enter_async_context(
                    open_group(self.groups, name, voters=IDS, machine=machine)
                )
            await self._leave.wait()

    async def _live_apart(self, groups: Groups) -> None:
        """Each group by itself: when one ends of a write that was broken off, the others do not."""
        async with trio.open_nursery() as nursery:
            for name in GROUPS:
                await nursery.start(self._hold, groups, name)

    async def _hold(self, groups: Groups, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        machine = Commands(self._world.orders[name], self._world)
        has_started = False
        try:
            async with open_group(groups, name, voters=IDS, machine=machine) as group:
                self.open[name] = group
                has_started = True
                task_status.started()
                await self._leave.wait()
        except Exception:
            if self.shared is None or not self.shared.is_broken_off or self.is_fenced:
                raise
            if self.steps_left is None:  # the machine goes on for a while
                self._world.counts.broken_off += 1
                self.steps_left = self._rng.randrange(1, CRASH_STEPS_MAX)
            if not has_started:
                task_status.started()

    async def _run_blocking(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        """As a worker thread would, in virtual time."""
        async with limiter:
            await trio.sleep(0 if self.is_fenced else self._rng.uniform(0, 0.004))
            result = call()
            await trio.sleep(0 if self.is_fenced else self._rng.uniform(0, 0.004))
        return result

    def before_step(self) -> None:
        """One of its tasks is about to go on."""
        if self.steps_left is not None and not self.is_fenced:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.steps_left = None
                self._world.counts.crashes += 1
                self.crash()


@attrs.define
class Counts:
    """What happened in a run: a run in which nothing did proves nothing."""

    crashes: int = 0
    partitions: int = 0
    slept: int = 0
    """Nodes that ended because their group was quiet."""
    woken: int = 0
    """Nodes that were opened with a machine that was in memory."""
    answered: int = 0
    broken_off: int = 0
    """Writes of a shared log."""
    lease_reads: int = 0


@attrs.frozen
class GroupsOutcome:
    """What came of a seed."""

    seed: int
    failure: Exception | None
    counts: Counts
    steps: int


@final
class _Steps(Instrument):
    """Notes, checks and crashes between any two steps of a task."""

    def __init__(self, world: GroupsSimulation) -> None:
        self.steps: int = 0
        self._world = world
        self._life_of: dict[Task, ProcessLife] = {}
        self._seen: dict[tuple[NodeId, str], tuple[Raft, object]] = {}

    def adopt(self, life: ProcessLife) -> None:
        """The task that calls this, and all that it will start, is this life."""
        self._life_of[trio.lowlevel.current_task()] = life

    def task_spawned(self, task: Task) -> None:
        """A life's tasks start more of them."""
        nursery = task.parent_nursery
        life = None if nursery is None else self._life_of.get(nursery.parent_task)
        if life is not None:
            self._life_of[task] = life

    def task_exited(self, task: Task) -> None:
        """It takes no more steps."""
        self._life_of.pop(task, None)

    def before_task_step(self, task: Task) -> None:
        """This task goes on, now."""
        self.steps += 1
        life = self._life_of.get(task)
        if life is not None:
            life.before_step()

    def after_task_step(self, task: Task) -> None:
        """It gave way again: look at what it did."""
        world = self._world
        if world.failure is not None:
            return
        life = self._life_of.get(task)
        try:
            for each in world.lives.values() if life is None else (life,):
                if not each.is_fenced:
                    self._look_at(each)
        except Exception as error:  # noqa: BLE001 - Trio would only log it
            world.fail(error)

    def _look_at(self, life: ProcessLife) -> None:
        groups = () if life.groups is None else life.groups
        for group in groups:
            raft = None if group.runner is None else group.runner.raft
            if raft is None:
                continue
            log = raft.log
            marks = (log.last_index, log.commit_index, log.applied_index, log.base_index)
            mark = (raft.term, raft.voted_for, raft.role, *marks)
            key = (life.node_id, group.name)
            before, seen = self._seen.get(key, (None, None))
            if before is raft and seen == mark:
                continue
            invariants = self._world.orders[group.name].invariants
            if before is not raft and before is not None:
                invariants.on_restart(life.node_id)
                self._world.counts.woken += group.hosting_at is not None
            self._seen[key] = (raft, mark)
            invariants.observe(raft)


class GroupsSimulation:
    """One run. All that happens follows from the seed."""

    def __init__(self, seed: int, *, shares_log: bool = False) -> None:
        self.seed = seed
        self.shares_log: bool = shares_log
        self.storms: bool = True
        self.failure: Exception | None = None
        self.counts: Counts = Counts()
        self.has_leases: bool = seed % 2 == 1
        self.timing: Timing = LEASES if self.has_leases else Timing()
        self.network: MemoryNetwork = MemoryNetwork(self.chance("network"), (0.0005, 0.004))
        self.disks: dict[NodeId, dict[str, MemoryStorage]] = {node: {} for node in IDS}
        self.orders: dict[str, Order] = {name: Order() for name in GROUPS}
        self.lives: dict[NodeId, ProcessLife] = {}
        self._scope = trio.CancelScope()
        self._steps = _Steps(self)
        self._lived = 0
        self._commands = 0
        self._nursery: trio.Nursery | None = None

    def chance(self, *names: object) -> random.Random:
        """The seed's source of chance for whatever these names say."""
        return chance(self.seed, "groups", *names)

    def fail(self, error: Exception) -> None:
        """Something is wrong: the run ends here."""
        if self.failure is None:
            self.failure = error
        self._scope.cancel()

    def run(self) -> GroupsOutcome:
        """All of it."""
        clock = MockClock(autojump_threshold=0.0)
        with deterministic(f"groups {self.seed}"):
            trio.run(self._main, clock=clock, instruments=[self._steps])
        return GroupsOutcome(self.seed, self.failure, self.counts, self._steps.steps)

    async def _main(self) -> None:
        with self._scope, trio.move_on_after(RUN_S) as patience:
            try:
                async with trio.open_nursery() as self._nursery:
                    await self._phases()
                    for life in self.lives.values():
                        life.leave()
                    for life in self.lives.values():
                        await life.gone.wait()
            except* Exception as group:  # noqa: BLE001 - it is what this seed has found
                self.fail(group.exceptions[0])
        if patience.cancelled_caught:
            self.fail(NotAliveError(f"it hangs: not over after {RUN_S:g} s"))

    async def _phases(self) -> None:
        for node_id in IDS:
            self._start(node_id)
        async with trio.open_nursery() as storm:
            for number in range(CLIENTS):
                storm.start_soon(self._client, number)
            storm.start_soon(self._crash_and_restart)
            storm.start_soon(self._disturb)
            await trio.sleep(STORM_S)
            storm.cancel_scope.cancel()
        self.storms = False
        self.network.heal()
        self.network.faults = NetworkFaults((0.0005, 0.004))
        for node_id in IDS:
            await self._bring_back(node_id)
        async with self._in_time("answered in every process"):
            for name in GROUPS:
                for life in self.lives.values():
                    await self._until_answered(life, name)
        async with self._in_time("fallen asleep everywhere"):
            await self._until_all_asleep()
        rng = self.chance("woken")
        async with self._in_time("answered when all slept"):
            for name in GROUPS:
                await self._until_answered(self.lives[rng.choice(IDS)], name)
        async with self._in_time("fallen asleep again"):
            await self._until_all_asleep()
        if self.has_leases:
            await self._wake_a_leader_alone()
        await self._lose_a_leader()

    @asynccontextmanager
    async def _in_time(self, what: str) -> AsyncIterator[None]:
        with trio.move_on_after(ALIVE_S) as patience:
            yield
        if patience.cancelled_caught:
            told = "; ".join(
                f"{life.name} {group.status}"
                for life in self.lives.values()
                for group in life.open.values()
            )
            raise NotAliveError(f"all is healed, and {ALIVE_S:g} s later not {what}: {told}")

    # -- processes -------------------------------------------------------------------------

    def _start(self, node_id: NodeId) -> None:
        if self._nursery is not None:
            self._lived += 1
            life = self.lives[node_id] = ProcessLife(node_id, self._lived, self)
            self._nursery.start_soon(self._live, life)

    async def _live(self, life: ProcessLife) -> None:
        self._steps.adopt(life)
        await life.run()

    async def _bring_back(self, node_id: NodeId) -> None:
        life = self.lives[node_id]
        life.steps_left = None
        if life.shared is not None and life.shared.is_broken_off:
            life.crash()
        if life.is_fenced:
            await life.gone.wait()
            self._start(node_id)

    async def _crash_and_restart(self) -> None:
        rng = self.chance("crashes")
        while True:
            await trio.sleep(rng.uniform(0.2, 4.0))
            node_id = rng.choice(IDS)
            if not self.lives[node_id].is_fenced:
                self.lives[node_id].steps_left = rng.randrange(1, CRASH_STEPS_MAX)
            await trio.sleep(rng.uniform(0.1, 3.0))
            if self.lives[node_id].is_fenced:
                await self._bring_back(node_id)

    async def _disturb(self) -> None:
        rng = self.chance("lines")
        while True:
            await trio.sleep(rng.uniform(0.5, 4.0))
            self.counts.partitions += 1
            alone = rng.choice(IDS)
            match rng.randrange(3):
                case 0:
                    self.network.partition([alone], [node for node in IDS if node != alone])
                case 1:
                    self.network.cut(alone, rng.choice([node for node in IDS if node != alone]))
                case _:
                    late = (0.1, rng.uniform(0.0, 0.5))
                    delays_s = (0.0005, 0.004)
                    self.network.faults = NetworkFaults(delays_s, 0.1, 0.1, late)
            await trio.sleep(rng.uniform(0.1, 3.0))
            self.network.heal()
            self.network.faults = NetworkFaults((0.0005, 0.004))

    # -- clients ---------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        rng = self.chance("client", number)
        while True:
            await trio.sleep(rng.choice((rng.uniform(0, 0.1), rng.uniform(0.5, 3.0))))
            life = self.lives[rng.choice(IDS)]
            if life.is_open:
                with trio.move_on_after(CALL_S):
                    await self._call(life, rng.choice(GROUPS), reads=rng.random() < 0.3)

    async def _call(self, life: ProcessLife, name: str, *, reads: bool) -> bool:
        """One call, in whatever state the group is there. Returns whether it was answered."""
        order, group = self.orders[name], life.open[name]
        before = order.acknowledged
        try:
            if reads:
                lease = self.has_leases and group.status.leader_id == life.node_id
                await group.read_barrier(lease=lease)
                machine = group.machine
                if not life.is_fenced and machine.count < before:
                    self.fail(InvariantViolation(f"{before} were there, and a read sees fewer"))
                self.counts.lease_reads += lease
            else:
                self._commands += 1
                data = f"{name} {self._commands}".encode()
                place = await group.forward(data)
                if not life.is_fenced:
                    order.answered(place, data, before)
                    self.counts.answered += 1
        except InvariantViolation as error:
            if not life.is_fenced:
                self.fail(error)
            return False
        except (RaftError, OSError, MemoryError):
            return False  # a process that died, or an outcome that nobody knows
        return not life.is_fenced

    async def _until_answered(self, life: ProcessLife, name: str) -> None:
        while not (  # noqa: ASYNC110 - nobody tells a client when to try again
            life.is_open and await self._call(life, name, reads=False)
        ):
            await trio.sleep(AGAIN_S)

    async def _until_all_asleep(self) -> None:
        def awake() -> Iterator[Group]:
            for life in self.lives.values():
                yield from (
                    group
                    for group in life.open.values()
                    if not life.is_fenced and group.phase is not GroupPhase.ASLEEP
                )

        while any(awake()):  # noqa: ASYNC110 - of three processes at the same time
            await trio.sleep(AGAIN_S)
        self.counts.slept += len(GROUPS) * len(IDS)

    async def _wake_a_leader_alone(self) -> None:
        """Everybody sleeps, a leader is cut off, and the others go on: whatever it held when it
        fell asleep, a read there must not be answered by it."""
        rng = self.chance("alone")
        name = rng.choice(GROUPS)
        leader = self.lives["a"].open[name].status.leader_id
        others = [node for node in IDS if node != leader]
        self.network.partition([str(leader)], others)
        async with self._in_time("answered with the leader cut off"):
            await self._until_answered(self.lives[rng.choice(others)], name)
        with trio.move_on_after(CALL_S):
            await self._call(self.lives[str(leader)], name, reads=True)
        self.network.heal()
        async with self._in_time("fallen asleep when the leader was back"):
            await self._until_all_asleep()

    async def _lose_a_leader(self) -> None:
        """Everybody sleeps, and the process that led a group goes: it answers all the same."""
        rng = self.chance("last")
        name = rng.choice(GROUPS)
        leader = self.lives["a"].open[name].status.leader_id
        if leader is None:
            raise NotAliveError(f"group {name} sleeps, and nobody has led it")
        self.network.tell_lost = rng.random() < 0.5
        self.lives[leader].crash()
        await self.lives[leader].gone.wait()
        async with self._in_time("answered with the leader's process gone"):
            for node_id in IDS:
                if node_id != leader:
                    await self._until_answered(self.lives[node_id], name)


def run_groups_seed(seed: int, *, shares_log: bool = False) -> GroupsOutcome:
    """Run one seed of many groups.

    Args:
        seed: any whole number.
        shares_log: the groups of a process write together.

    Returns:
        What came of it. Whatever a run raises is its failure, and is not raised.
    """
    simulation = GroupsSimulation(seed, shares_log=shares_log)
    try:
        return simulation.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this seed has found
        simulation.fail(error)
    return GroupsOutcome(seed, simulation.failure, simulation.counts, 0)
