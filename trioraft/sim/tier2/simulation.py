"""Simulation, tier 2: real nodes in one Trio run, in virtual time, from one seed.

Three phases, as in tier 1, but that everything is healed. In the end every node is ended too, and
nothing of the run may be left.
"""

from __future__ import annotations

import time
from typing import Final

import trio
from trio.testing import MockClock

from ...core.types import NodeId
from ...transport.memory import MemoryNetwork
from ..agenda import Agenda
from ..checks import Checks
from ..disk import Disk, Fate
from ..draw import draw_tier2
from ..machine import GET, PUT, RegisterOperation
from ..outcomes import RunOptions, RunOutcome, RunRecording
from ..simulation import (
    LAST_VALUE,
    RECOVERY_TIMEOUTS_MAX,
    WARMUP_TIMEOUTS_MAX,
    NotAliveError,
    WrongHistoryError,
    outcome_of,
)
from .clients import NodeClient, NodeClientPool
from .injection import NodeFaultInjection
from .life import End, Life, NodeDisk, World, chance
from .scheduler import Scheduler, deterministic

TIER: Final = 2
WHOLE_RUN_S: Final = 600.0
"""Virtual seconds after which nothing is waited for any more: a deadline of last resort."""


class NodeSimulation:
    """One run. All that happens follows from the seed and the options."""

    def __init__(self, seed: int, options: RunOptions) -> None:
        self.seed = seed
        self.options = options
        self.recovery_s: float = 0.0
        self.now_s: float = 0.0
        watch = Agenda()
        drawn = draw_tier2(seed, options.nodes)
        disks = {node: Disk() for node in drawn.nodes}
        self.clock: MockClock = MockClock(autojump_threshold=0.0)
        self.world: World
        self.world = world = World(
            seed=seed,
            draw=drawn,
            network=MemoryNetwork(chance(seed, "network"), drawn.delay_s),
            recording=RunRecording(watch, traced=options.traced),
            checks=Checks(disks),
            disks=disks,
            node_disks={
                node: NodeDisk(disk, chance(seed, "disk", node), drawn.disk_s)
                for node, disk in disks.items()
            },
            watch=watch,
        )
        self.scheduler: Scheduler = Scheduler(world, self.clock)
        self.pool: NodeClientPool = NodeClientPool(world)
        self.injection: NodeFaultInjection = NodeFaultInjection(
            world, self.pool, self.clock, self._start
        )
        self._nursery: trio.Nursery | None = None
        self._lived = 0

    def run(self) -> None:
        """All of it; what was wrong is in the world's `failure`."""
        with deterministic(self.seed):
            trio.run(self._main, clock=self.clock, instruments=[self.scheduler])
        check = self.options.check_history
        if check is not None and self.world.failure is None:
            problem = check(self.pool.history)
            if problem is not None:
                self.world.fail(WrongHistoryError(problem))

    # -- the phases ------------------------------------------------------------------------

    async def _main(self) -> None:
        world = self.world
        with world.scope, trio.move_on_after(WHOLE_RUN_S) as patience:
            try:
                async with trio.open_nursery() as self._nursery:
                    await self._phases(self._nursery)
            except* Exception as group:  # noqa: BLE001 - it is what this seed has found
                world.fail(_alone(group))
        self.now_s = trio.current_time()
        if patience.cancelled_caught:
            world.fail(NotAliveError(f"it hangs: not over after {WHOLE_RUN_S:g} s"))

    async def _phases(self, nursery: trio.Nursery) -> None:
        world, pool = self.world, self.pool
        for node_id in world.draw.nodes:
            await self._start(node_id)
        for number in range(world.draw.clients):
            nursery.start_soon(NodeClient(number, pool).run)
        await self._warm_up()
        async with trio.open_nursery() as storm:
            for fault in world.draw.faults:
                if self.options.injects(fault.number):
                    storm.start_soon(self.injection.inject, fault)
            await trio.sleep(world.draw.storm_s)
            storm.cancel_scope.cancel()
        await self._recover()
        await world.check_roles()
        await self._end()
        nursery.cancel_scope.cancel()

    async def _start(self, node_id: NodeId) -> None:
        """A new life for this node, unless it has one."""
        world, nursery = self.world, self._nursery
        before = world.lives.get(node_id)
        if nursery is None or (before is not None and not before.gone.is_set()):
            return
        if before is not None:
            world.checks.on_restart(node_id)
        self._lived += 1
        life = world.lives[node_id] = Life(node_id, self._lived, world)
        world.recording.note("start", life.name)
        world.recording.remark("starts", node_id)
        nursery.start_soon(self._live, life, name=f"life[{life.name}]")
        nursery.start_soon(life.watch_its_end, name=f"watch[{life.name}]")

    async def _live(self, life: Life) -> None:
        self.scheduler.adopt(life)
        await life.run()

    async def _warm_up(self) -> None:
        world = self.world
        wanted = world.draw.warmup_commits
        patience_s = WARMUP_TIMEOUTS_MAX * world.draw.timeout_s
        with trio.move_on_after(patience_s) as patience:
            await world.until(lambda: world.checks.commit_index >= wanted)
        if patience.cancelled_caught:
            raise NotAliveError(
                f"{wanted} entries were not committed within {patience_s:.1f} s with nothing wrong"
            )

    async def _recover(self) -> None:
        world = self.world
        world.recording.note("heal")
        world.recording.remark("all is healed")
        self.injection.heal()
        timeout_s = world.draw.timeout_s
        begun_s = trio.current_time()
        last = NodeClient(world.draw.clients, self.pool)
        step = "brought all nodes back"
        with trio.move_on_after(RECOVERY_TIMEOUTS_MAX * timeout_s) as patience:
            await self._bring_all_back()
            step = "served the last write and read"
            await last.open()
            numbers = self.pool.numbers
            await last.carry_out(
                RegisterOperation(next(numbers), PUT, 0, LAST_VALUE), by_barrier=False
            )
            await last.carry_out(RegisterOperation(next(numbers), GET, 0), by_barrier=True)
            goal = world.checks.commit_index
            step = f"applied entry {goal} everywhere"
            await world.until(lambda: self._have_all_applied(goal))
        if patience.cancelled_caught:
            raise NotAliveError(
                f"all is healed, and {RECOVERY_TIMEOUTS_MAX} election timeouts later the cluster "
                f"has not {step}: {self._states()}"
            )
        self.recovery_s = trio.current_time() - begun_s

    async def _bring_all_back(self) -> None:
        for node_id in self.world.draw.nodes:
            life = self.world.lives[node_id]
            if not life.is_open:
                if life.is_ending:
                    await life.gone.wait()
                await self._start(node_id)

    def _have_all_applied(self, goal: int) -> bool:
        """Members have; whoever was taken out, or never let in, need not."""
        leader = self.world.leader()
        if leader is None or leader.node is None:
            return False
        members = leader.node.status.configuration.members
        open_lives = {life.node_id: life for life in self.world.open_lives()}
        return all(
            member in open_lives and _applied(open_lives[member]) >= goal for member in members
        )

    async def _end(self) -> None:
        """The nodes end too, in turns of every kind."""
        rng = self.world.rng("end")
        for life in self.world.lives.values():
            end = rng.choice(list(End))
            if end is End.LEAVES:
                life.leave()
            else:
                life.crash(Fate.SURVIVES, end)
        for life in self.world.lives.values():
            await life.gone.wait()

    def _states(self) -> str:
        return "; ".join(
            f"{life.name} {'-' if life.node is None else life.node.status}"
            for life in self.world.lives.values()
        )


def _applied(life: Life) -> int:
    return 0 if life.node is None else life.node.status.applied_index


def _alone(error: Exception) -> Exception:
    """The one error in a group of one, however deep; anything else as it is."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def run_seed(
    seed: int,
    options: RunOptions = RunOptions(),  # noqa: B008 - a frozen value
) -> RunOutcome:
    """Run one seed of tier 2.

    Args:
        seed: any whole number.
        options: what to run with it.

    Returns:
        What came of it. Whatever a run raises is its failure, and is not raised.
    """
    begun_s = time.process_time()
    simulation = NodeSimulation(seed, options)
    try:
        simulation.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this seed has found
        simulation.world.fail(error)
    world = simulation.world
    return outcome_of(
        world.recording,
        world.draw,
        world.checks,
        seed=seed,
        tier=TIER,
        failure=world.failure,
        failure_kind=world.failure_kind,
        history=simulation.pool.history,
        operations=simulation.pool.completed,
        virtual_s=simulation.now_s,
        recovery_s=simulation.recovery_s,
        begun_s=begun_s,
    )
