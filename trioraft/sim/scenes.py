"""Scenes, tier 1: a scenario on cores, on the simulator's heap of events.

Rules of this file:

* The player is a coroutine that awaits nothing but this backend: it is driven from one wait to the
  next by the agenda, and needs no event loop.
* Every rule that a run of tier 1 checks after every event is checked here too.
"""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Final, NoReturn, final

import attrs

from ..core.config import Limits
from ..core.errors import ConfigError, NotLeader, TransferFailed
from ..core.raft import Raft
from ..core.types import LogIndex, NodeId, Role
from ..scenario import Answer, Needs, NodeView, Scenario, ScenarioError, play, shipped_names
from ..scenario.model import PATIENCE_S_MIN
from .agenda import Agenda
from .disk import Fate
from .draw import EVERYONE, Draw, Kind
from .network import LinkFault
from .outcomes import RunOptions, RunOutcome, kind_of
from .process import Process
from .simulation import TIER, Simulation, outcome_of

WAIT_ROUNDS: Final = 20
"""Longest election timeouts that a wait lasts which says nothing else."""
NO_CLIENTS: Final = "the cores alone have none; `trioraft sim --tier 2` has, and so has the demo"
NO_NEWCOMERS: Final = "its nodes are all there from the beginning; `--tier 2` can"
MISSING: Final[Mapping[Needs, str]] = {
    Needs.COMMANDS: NO_CLIENTS,
    Needs.KV: NO_CLIENTS,
    Needs.ANSWERS: NO_CLIENTS,
    Needs.MEMBERS: NO_NEWCOMERS,
}


def run_seed(
    seed: int,
    options: RunOptions = RunOptions(),  # noqa: B008 - a frozen value
) -> RunOutcome:
    """Play the scenario of these options with this seed, on cores.

    Returns:
        What came of it. Whatever is not as expected is its failure, and is not raised.

    Raises:
        ScenarioError: the scenario asks for what cores cannot do.
    """
    begun_s = time.process_time()
    scenario = scenario_of(options)
    drawn = draw_for(scenario)
    simulation = Simulation(seed, options, drawn=drawn)
    failure, kind = None, ""
    try:
        simulation.start()
        _drive(scenario, HeapBackend(simulation, scenario))
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this seed has found
        failure, kind = error, kind_of(error)
    outcome = outcome_of(
        simulation.recording,
        drawn,
        simulation.checks,
        seed=seed,
        tier=TIER,
        failure=failure,
        failure_kind=kind,
        history=(),
        operations=0,
        virtual_s=simulation.agenda.now,
        recovery_s=0.0,
        begun_s=begun_s,
    )
    return attrs.evolve(outcome, drawn={})


def scenario_of(options: RunOptions) -> Scenario:
    """The one that is to be played.

    Raises:
        ConfigError: there is none.
    """
    if options.scenario is None:
        raise ConfigError("there is no scenario: give one in the options")
    return options.scenario


def picture_of(scenario: Scenario, seed: int, tier: int) -> str:
    """The command that draws a run."""
    called = scenario.name if scenario.name in shipped_names() else scenario.source
    return (
        f"trioraft sim --tier {tier} --scenario {shlex.quote(called)} --seeds {seed}:{seed + 1} "
        "--jobs 1 --trace ."
    )


def draw_for(scenario: Scenario) -> Draw:
    """A cluster in which nothing goes wrong but what the scenario says."""
    settings = scenario.settings
    return Draw(
        nodes=settings.ids,
        voters=settings.ids,
        timing=settings.timing,
        limits=Limits(),
        intensities={},
        faults=(),
        storm_s=0.0,
        delay_s=settings.delay_s,
        disk_s=(0.0, 0.0),
        apply_s=0.0,
        hint=1.0,
        clients=0,
        keys=1,
        think_s=0.0,
        patience_s=1.0,
        reads=0.0,
        barrier_reads=0.0,
        lease_reads=0.0,
        clock_rates=(1.0, 1.0),
        replaces_lost_disks=False,
        batch_s=0.0,
        warmup_commits=0,
    )


@final
@attrs.frozen
class _Wait:
    """What the player awaits: that this holds, or that it is so late."""

    until_s: float
    holds: Callable[[], bool]

    def __await__(self) -> Generator[_Wait, bool, bool]:
        came_true = yield self
        return came_true


def _drive(scenario: Scenario, backend: HeapBackend) -> None:
    playing: Coroutine[_Wait, bool | None, None] = play(scenario, backend)
    came_true: bool | None = None  # nothing was waited for yet
    while True:
        try:
            wait = playing.send(came_true)
        except StopIteration:
            return
        came_true = backend.agenda.run(wait.until_s, wait.holds)


@final
class HeapBackend:
    """The processes of a simulation, for the player."""

    name: Final = "the simulator's tier 1"
    missing: Mapping[Needs, str] = MISSING
    loses_messages: bool = False

    def __init__(self, simulation: Simulation, scenario: Scenario) -> None:
        self.agenda: Agenda = simulation.agenda
        self.picture: str = picture_of(scenario, simulation.seed, TIER)
        rounds_s = WAIT_ROUNDS * scenario.settings.timing.election_timeout_s[1]
        self.patience_s: float = max(PATIENCE_S_MIN, rounds_s)
        self._simulation = simulation
        self._processes = simulation.processes
        self._network = simulation.network
        self._recording = simulation.recording
        self._isolated: set[NodeId] = set()
        self._loss: LinkFault | None = None
        if scenario.settings.loss:
            self._lose(scenario.settings.loss)

    # -- time ----------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self.agenda.now

    async def sleep(self, duration_s: float) -> None:
        await _Wait(self.agenda.now + duration_s, lambda: False)

    async def until(self, holds: Callable[[], bool], limit_s: float) -> bool:
        return holds() or await _Wait(self.agenda.now + limit_s, holds)

    async def while_holds(self, holds: Callable[[], bool], duration_s: float) -> bool:
        return not await _Wait(self.agenda.now + duration_s, lambda: not holds())

    def views(self) -> Mapping[NodeId, NodeView]:
        return {node_id: _view(process) for node_id, process in self._processes.items()}

    # -- what is done to it --------------------------------------------------------------------

    async def disconnect(self, node_id: NodeId) -> None:
        if node_id not in self._isolated:
            self._isolated.add(node_id)
            self._network.cut(self._ways(node_id))

    async def reconnect(self, node_id: NodeId) -> None:
        if node_id in self._isolated:
            self._isolated.discard(node_id)
            self._network.mend(self._ways(node_id))

    async def cut(self, one: NodeId, other: NodeId) -> None:
        self._network.cut([(one, other), (other, one)])

    async def heal(self) -> None:
        self._isolated.clear()
        ids = self._processes
        self._network.mend_all((a, b) for a in ids for b in ids if a != b)

    def _ways(self, node_id: NodeId) -> list[tuple[NodeId, NodeId]]:
        others = [other for other in self._processes if other != node_id]
        return [(other, node_id) for other in others] + [(node_id, other) for other in others]

    async def crash(self, node_id: NodeId) -> None:
        self._recording.remark(f"Crash {node_id}")
        self._processes[node_id].crash(Fate.SURVIVES, "as the scenario says")

    async def restart(self, node_id: NodeId) -> None:
        self._recording.remark(f"Restart {node_id}")
        self._processes[node_id].start()

    async def pause(self, node_id: NodeId) -> None:
        self._processes[node_id].pause()

    async def resume(self, node_id: NodeId) -> None:
        self._processes[node_id].resume(timers_first=False)

    async def set_network(self, delay_s: tuple[float, float] | None, loss: float | None) -> None:
        if delay_s is not None:
            self._network.delay(delay_s)
        if loss is not None:
            self._lose(loss)

    def _lose(self, loss: float) -> None:
        if self._loss is not None:
            self._network.link_faults.remove(self._loss)
            self._loss = None
        if loss:
            rng = random.Random(f"{self._simulation.seed} loss")
            self._loss = LinkFault(Kind.DROP, loss, EVERYONE, rng)
            self._network.link_faults.append(self._loss)

    async def transfer(self, leader: NodeId, target: NodeId) -> None:
        def hand_over(core: Raft, now: float) -> None:
            try:
                core.transfer(target, now, patience_s=core.timing.election_timeout_s[1])
            except (NotLeader, TransferFailed):
                return  # what comes of it is for an expectation

        self._processes[leader].ask(hand_over)

    # -- what cores have not: the player never asks ------------------------------------------

    async def add(self, node_id: NodeId) -> None:
        _cannot()

    async def remove(self, node_id: NodeId) -> None:
        _cannot()

    async def propose(self, data: str, at: NodeId | None) -> Answer:
        _cannot()

    def applied(self) -> Mapping[NodeId, list[tuple[LogIndex, str]]]:
        return {}

    async def ask(
        self, client: str, through: NodeId | None, call: str, key: str, *values: str | None
    ) -> Answer:
        _cannot()

    def value_at(self, node_id: NodeId, key: str) -> str | None:
        _cannot()

    async def hold_answers(self, node_id: NodeId) -> None:
        _cannot()

    async def release_answers(self, node_id: NodeId) -> None:
        _cannot()


def _cannot() -> NoReturn:
    raise NotImplementedError(NO_CLIENTS)


def _view(process: Process) -> NodeView:
    core = process.core
    if core is None:
        return NodeView(process.node_id, None)
    role: Role = core.role
    return NodeView(
        process.node_id,
        role,
        core.term,
        core.leader_id,
        core.log.last_index,
        core.log.commit_index,
        core.removed_index is not None,
        core.configuration.voters,
        core.configuration.index,
    )
