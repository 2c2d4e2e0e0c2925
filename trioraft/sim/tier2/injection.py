"""Injection: carrying out what a schedule says, each fault by a task that takes it back in the end.

What a fault needs and cannot have it leaves alone, and counts nothing; what was counted really
happened. The tasks are cancelled when the storm is over: `heal` mends what they broke.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, final

import attrs
import trio
from trio.testing import MockClock

from ...core.errors import (
    ConfigError,
    ConfigurationConflict,
    DiskFull,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    TransferFailed,
)
from ...core.types import NodeId
from ...node.node import Node
from ..disk import Fate
from ..draw import LEADER, Fault, Kind, Pair, links_cut
from .clients import NodeClientPool
from .life import End, Life, World

SPREAD_S: Final = 0.01
"""Nodes that all crash do so within this long."""
STEPS_PER_LEVEL: Final = 4
"""The level of a crash in the middle, in steps of the node's tasks."""
LATE_S: Final = 0.05
REFUSALS: Final = (
    *(ConfigError, ConfigurationConflict, DiskFull, NodeDead, NotLeader, OutcomeUnknown),
    *(ProposalDropped, TransferFailed),
)
"""What an operator may be told."""

Restart = Callable[[NodeId], Awaitable[None]]


@final
class NodeFaultInjection:
    """The hand that makes things go wrong."""

    def __init__(
        self, world: World, pool: NodeClientPool, clock: MockClock, restart: Restart
    ) -> None:
        self._world = world
        self._pool = pool
        self._clock = clock
        self._restart = restart
        self._calm = world.network.faults
        self._link_faults: list[Fault] = []
        self._cut: dict[Pair, int] = {}
        self._table: Final[Mapping[Kind, Callable[[Fault], Awaitable[None]]]] = {
            Kind.DROP: self._begin_link_fault,
            Kind.DELAY: self._begin_link_fault,
            Kind.DUPLICATE: self._begin_link_fault,
            Kind.REORDER: self._begin_link_fault,
            Kind.PARTITION: self._cut_links,
            Kind.ONE_WAY: self._cut_links,
            Kind.BRIDGE: self._cut_links,
            Kind.RING: self._cut_links,
            Kind.CRASH: self._crash,
            Kind.CRASH_MID_READY: self._light_fuse,
            Kind.CRASH_ALL: self._crash_all,
            Kind.UNSYNCED_LOST: self._crash_in_write,
            Kind.TORN_TAIL: self._crash_in_write,
            Kind.SLOW_DISK: self._slow_disk,
            Kind.DISK_FULL: self._fill_disk,
            Kind.EIO: self._break_sync,
            Kind.CLOCK_JUMP: self._stall,
            Kind.CLIENT_LOSS: self._lose_answers,
            Kind.SNAPSHOT: self._take_snapshot,
            Kind.TRANSFER: self._transfer,
            Kind.MEMBERSHIP: self._change_members,
        }

    async def inject(self, fault: Fault) -> None:
        """Wait for its time, and do it."""
        await trio.sleep(fault.at_s)
        await self._world.check_roles()
        recording = self._world.recording
        recording.note("fault", fault.number)
        recording.remark(f"fault {fault.number}: {fault}")
        await self._table[fault.kind](fault)

    def heal(self) -> None:
        """Everything that tasks may have left broken when they were cancelled, but for lives."""
        self._link_faults.clear()
        self._cut.clear()
        self._pool.losses.clear()
        self._world.network.heal()
        self._world.network.faults = self._calm
        for node_disk in self._world.node_disks.values():
            node_disk.repair()
        for life in self._world.lives.values():
            life.steps_left = None

    # -- helpers ---------------------------------------------------------------------------

    def _count(self, kind: Kind | str) -> None:
        self._world.recording.count(kind)

    def _victim(self, fault: Fault) -> NodeId:
        if fault.victim != LEADER:
            return fault.victim
        leader = self._world.leader()
        nodes = self._world.draw.nodes
        return fault.rng().choice(nodes) if leader is None else leader.node_id

    def _living(self, fault: Fault) -> Life | None:
        life = self._world.lives.get(self._victim(fault))
        return None if life is None or not life.is_open else life

    async def _back_after(self, life: Life, away_s: float) -> None:
        await life.gone.wait()
        await trio.sleep(away_s)
        await self._restart(life.node_id)

    # -- the network -----------------------------------------------------------------------

    async def _begin_link_fault(self, fault: Fault) -> None:
        self._count(fault.kind)
        self._link_faults.append(fault)
        self._set_link_faults()
        await trio.sleep(fault.lasts_s)
        self._link_faults.remove(fault)
        self._set_link_faults()

    def _set_link_faults(self) -> None:
        faults = self._calm
        for fault in self._link_faults:
            match fault.kind:
                case Kind.DROP:
                    faults = attrs.evolve(faults, drop=fault.level)
                case Kind.DUPLICATE:
                    faults = attrs.evolve(faults, duplicate=fault.level)
                case Kind.REORDER:
                    faults = attrs.evolve(faults, late=(fault.level, LATE_S))
                case _:
                    low, high = self._calm.delay_s
                    slow = (low + fault.level, high + fault.level)
                    faults = attrs.evolve(faults, delay_s=slow)
        self._world.network.faults = faults

    async def _cut_links(self, fault: Fault) -> None:
        pairs = links_cut(fault, self._victim(fault), self._world.draw.nodes)
        if not pairs:
            return
        self._count(fault.kind)
        for pair in pairs:
            self._cut[pair] = self._cut.get(pair, 0) + 1
            self._world.network.cut(*pair)
        await trio.sleep(fault.lasts_s)
        for pair in pairs:
            self._cut[pair] -= 1
            if not self._cut[pair]:
                self._world.network.mend(*pair)

    # -- lives -----------------------------------------------------------------------------

    def _end(self, life: Life, fault: Fault) -> None:
        rng = fault.rng()
        end, fate = rng.choice(list(End)), self._world.draw.fate(rng)
        self._world.network.tell_lost = rng.random() < self._world.draw.hint
        if end is End.LEAVES:
            self._count("leave")
            life.leave()
        else:
            self._count(fault.kind)
            life.crash(fate, end)

    async def _crash(self, fault: Fault) -> None:
        life = self._living(fault)
        if life is not None:
            self._end(life, fault)
            await self._back_after(life, fault.lasts_s)

    async def _light_fuse(self, fault: Fault) -> None:
        life, rng = self._living(fault), fault.rng()
        if life is None:
            return
        life.fuse_fate = self._world.draw.fate(rng)
        life.fuse_end = rng.choice((End.KILLED, End.CANCELLED))
        life.steps_left = 1 + int(fault.level * STEPS_PER_LEVEL)
        await self._back_after(life, fault.lasts_s)

    async def _crash_all(self, fault: Fault) -> None:
        async with trio.open_nursery() as nursery:
            for number, life in enumerate(self._world.open_lives()):
                one = attrs.evolve(fault, salt=fault.salt + number)
                nursery.start_soon(self._crash_one_of_all, life, one)

    async def _crash_one_of_all(self, life: Life, fault: Fault) -> None:
        rng = fault.rng()
        await trio.sleep(rng.uniform(0.0, SPREAD_S))
        if life.is_open:
            self._end(life, fault)
            await self._back_after(life, rng.uniform(0.0, fault.lasts_s))

    async def _crash_in_write(self, fault: Fault) -> None:
        life = self._living(fault)
        if life is not None:
            is_torn = fault.kind is Kind.TORN_TAIL
            node_disk = self._world.node_disks[life.node_id]
            node_disk.crash_in_write = Fate.TORN if is_torn else Fate.LOST
            await self._back_after(life, fault.lasts_s)

    # -- disks -----------------------------------------------------------------------------

    async def _slow_disk(self, fault: Fault) -> None:
        node_disk = self._world.node_disks[self._victim(fault)]
        if node_disk.blocks:
            self._count(fault.kind)
            node_disk.slow_s = fault.level
            await trio.sleep(fault.lasts_s)
            node_disk.slow_s = 0.0

    async def _fill_disk(self, fault: Fault) -> None:
        disk = self._world.node_disks[self._victim(fault)].disk
        disk.is_full = True
        await trio.sleep(fault.lasts_s)
        disk.is_full = False

    async def _break_sync(self, fault: Fault) -> None:
        life = self._living(fault)
        if life is not None:
            self._world.node_disks[life.node_id].disk.fails_next = True
            await self._back_after(life, fault.lasts_s)

    async def _stall(self, fault: Fault) -> None:
        """The event loop stands still: timers and messages of all nodes come due together."""
        self._count(fault.kind)
        self._world.stalled_s += fault.level
        self._clock.jump(fault.level)
        await trio.lowlevel.checkpoint()

    async def _lose_answers(self, fault: Fault) -> None:
        self._pool.losses.append(fault.level)
        await trio.sleep(fault.lasts_s)
        self._pool.losses.remove(fault.level)

    # -- what operators do -----------------------------------------------------------------

    async def _operate(self, fault: Fault, act: Callable[[Node], Awaitable[object]]) -> None:
        """Ask a node for something; give up, at whatever await that is, when patience is lost."""
        life = self._living(fault)
        if life is None or life.node is None:
            return
        self._count(fault.kind)
        try:
            with trio.move_on_after(random.Random(fault.salt + 1).uniform(0.005, 1.0)):
                await act(life.node)
        except REFUSALS:
            return
        except Exception as error:  # noqa: BLE001 - of a dead machine nobody hears
            if not life.is_fenced:
                self._world.fail(error)

    async def _take_snapshot(self, fault: Fault) -> None:
        await self._operate(fault, lambda node: node.take_snapshot())

    async def _transfer(self, fault: Fault) -> None:
        rng = fault.rng()
        target = rng.choice([None, *self._world.draw.nodes])
        timeout_s = rng.choice((None, 0.05, 0.5))
        await self._operate(
            fault, lambda node: node.transfer_leadership(target, timeout_s=timeout_s)
        )

    async def _change_members(self, fault: Fault) -> None:
        rng, ids = fault.rng(), list(self._world.draw.nodes)
        roll, one = rng.random(), rng.choice(ids)
        voters = sorted(rng.sample(ids, rng.randint(1, len(ids))))
        if roll < 0.2:
            await self._operate(fault, lambda node: node.add_learner(one))
        elif roll < 0.4:
            await self._operate(fault, lambda node: node.remove(one))
        else:
            await self._operate(fault, lambda node: node.change_voters(voters))
