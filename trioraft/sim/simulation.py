"""Simulation, tier 1: a cluster of cores from one seed, through a storm and out of it.

* Three phases. Calm, until enough is committed that a run is not vacuous; the storm of the seed's
  schedule; then recovery: a majority is healed and must serve again, within a bound.
* A run is clean if no check ever failed, the last write and read succeeded, every healed node
  has applied all that was committed, and the clients' history is in order.
* Nothing is drawn from a shared source: every part has a chance of its own, named by the seed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Final

from ..core.errors import InvariantViolation
from ..core.messages import Introduction, Message
from ..core.raft import Raft
from ..core.types import Configuration, NodeId
from .agenda import Agenda
from .checks import Checks, incarnation_of, is_majority
from .clients import ClientPool, Request, SimulatedClient
from .directed import DIRECTED, HAND_OVER_EVERY, hand_over_if_impatient
from .disk import Disk, Fate
from .draw import Draw, draw
from .injection import FaultInjection
from .lines import ASKER_PATIENCE_S
from .machine import GET, PUT, RegisterOperation
from .network import SimulatedNetwork
from .outcomes import ClientCall, RunOptions, RunOutcome, RunRecording, ScheduledFault, kind_of
from .process import HINT_S, MakeCore, MakeDisk, Process, Setting
from .trials import Trials

WAYS: Final = ("down", "cut off", "deaf", "mute", "no room", "as it is")
"""What may become of a node that is not healed."""
STEADY_TIMEOUTS: Final = 12
"""For so many election timeouts a recovered cluster is watched."""
STEADY_TERMS_MAX: Final = 3
"""So many terms may begin meanwhile (a leadership transfer, a leader that is taken out), and no
more."""
STEADY_TIMEOUT_MIN_S: Final = 0.1
"""With shorter election timeouts a slow disk or link alone may cost a leader."""
RECOVERY_TIMEOUTS_MAX: Final = 100
"""How many of the longest election timeouts a healed majority may take until all is well."""


def heal(
    processes: Mapping[NodeId, Process],
    network: SimulatedNetwork,
    recording: RunRecording,
    draw: Draw,
    rng: random.Random,
    make_disk: MakeDisk,
) -> tuple[tuple[NodeId, ...], bool]:
    """Heal a majority of every configuration that any node may still go by, and break the rest.

    A broken node hears all of the healed ones or none, and so do they: a leader that reaches only
    some of its followers is one that Raft keeps, and no progress can be asked of the others.

    Returns:
        Who is whole now; and whether nobody else can lead, so that leadership should be steady.
    """
    healed = _choose(processes, draw, rng)
    recording.note("heal", *healed)
    recording.remark(f"{', '.join(healed)} are healed, and nobody else")
    network.link_faults.clear()
    ids, is_steady = list(processes), draw.timing.election_timeout_s[0] >= STEADY_TIMEOUT_MIN_S
    is_steady &= draw.timeout_s == draw.timing.election_timeout_s[1]
    network.mend_all((a, b) for a in ids for b in ids if a != b)
    for node_id in ids:
        process = processes[node_id]
        process.is_healed = True
        if process.core is not None:
            process.core.replaces_lost_disks = True
        if node_id in healed:
            _make_whole(process, make_disk)
        else:
            others = [other for other in ids if other != node_id]
            is_steady &= _break(process, network, others, draw, rng)
    return healed, is_steady and _is_guarded(draw)


def _choose(
    processes: Mapping[NodeId, Process], draw: Draw, rng: random.Random
) -> tuple[NodeId, ...]:
    configurations = [Configuration(draw.voters)]
    for process in processes.values():  # every one that may still count, in a log or on a disk
        configurations += process.known_configurations()
    candidates = [node for node, process in processes.items() if not process.disk.is_rotten]
    rng.shuffle(candidates)
    chosen: list[NodeId] = []
    for node in candidates:
        if all(_has_majority(configuration, chosen, processes) for configuration in configurations):
            break
        chosen.append(node)
    return tuple(sorted(chosen))


def _has_majority(
    configuration: Configuration, chosen: list[NodeId], processes: Mapping[NodeId, Process]
) -> bool:
    """Of the disks that it names; the bootstrap configuration of a draw names none."""

    def counts(node: NodeId) -> bool:
        disk, named = processes[node].disk, configuration.disk_of(node)
        is_own = named in (0, incarnation_of(disk)) and not disk.is_older and not disk.is_foreign
        return node in chosen and is_own

    return is_majority(configuration, counts)


def _make_whole(process: Process, make_disk: MakeDisk) -> None:
    if process.disk.is_older or process.disk.is_foreign:
        process.crash(Fate.SURVIVES, "its disk is not its own, and is emptied")
        process.change_disk(make_disk())
    if process.is_earlier:
        process.crash(Fate.SURVIVES, "it is upgraded")
    process.disk.fails_next = False
    process.fuse = process.crash_in_write = None
    if process.is_up:
        process.machine.registers.error = None
    process.disk.is_full = False
    process.slow_s = 0.0
    process.run_clock_at(1.0)
    process.resume(timers_first=False)
    process.start()


def _break(
    process: Process,
    network: SimulatedNetwork,
    others: list[NodeId],
    draw: Draw,
    rng: random.Random,
) -> bool:
    """As it is, or worse; returns whether it can lead no more.

    Without pre-vote and check-quorum a node that is half cut off disturbs the others for ever, and
    rightly so: it is what they are for (dissertation 6.2, 9.6).
    """
    node_id = process.node_id
    inwards = [(other, node_id) for other in others]
    outwards = [(node_id, other) for other in others]
    how = rng.choice(WAYS) if _is_guarded(draw) else "down"
    if how == "down":
        process.crash(Fate.SURVIVES, "stays away")
    if how in ("cut off", "deaf"):
        network.cut(inwards)
    if how in ("cut off", "mute"):
        network.cut(outwards)
    if how == "no room":
        process.disk.is_full = True  # for good: whoever leads there has to let somebody else
    return how != "as it is"


def transfer_s(draw: Draw) -> float:
    """How long an entry takes to reach a node that lacks many, through windows this small. A single
    voter commits without waiting for its learners, so these may be far behind."""
    round_trip_s = 2 * (draw.delay_s[1] + draw.batch_s) + draw.disk_s[1] + draw.apply_s
    return round_trip_s / (draw.limits.append_entries_max * draw.limits.inflight_messages_max)


def _is_guarded(draw: Draw) -> bool:
    return draw.timing.pre_vote and draw.timing.check_quorum


TIER: Final = 1
WARMUP_TIMEOUTS_MAX: Final = 200
"""While nothing is wrong so many election timeouts must do for the first commits."""
PROBES_BY_ASKING: Final = 8
"""One read of so many goes by a round."""
LAST_VALUE: Final = -1
"""What the last write writes: nobody else writes it."""


class NotAliveError(InvariantViolation):
    """Nothing is wrong but that nothing moves."""


class WrongHistoryError(InvariantViolation):
    """What the clients saw cannot be."""


class Simulation:
    """One run. All that happens follows from the seed and the options."""

    def __init__(
        self,
        seed: int,
        options: RunOptions,
        *,
        make_core: MakeCore = Raft,
        make_disk: MakeDisk = Disk,
        drawn: Draw | None = None,
    ) -> None:
        self.seed = seed
        self.options = options
        self.draw: Draw = drawn or _draw_for(seed, options)
        self.agenda: Agenda = Agenda()
        self.recording: RunRecording = RunRecording(self.agenda, traced=options.traced)
        nodes = self.draw.nodes
        disks = {node: make_disk() for node in nodes}
        self.checks: Checks = Checks(disks)
        self.network: SimulatedNetwork = SimulatedNetwork(
            self.agenda,
            self.recording,
            seed,
            nodes,
            self.draw.delay_s,
            self._deliver,
            patience_s=self.draw.timing.election_timeout_s[0],
        )
        setting = Setting(
            seed, self.draw, self.agenda, self.recording, self.network, self.checks, make_core
        )
        self.processes: dict[NodeId, Process] = {
            node: Process(node, setting, disks[node]) for node in nodes
        }
        for process in self.processes.values():
            process.on_death = self._tell_of_death
        self.pool: ClientPool = ClientPool(self.agenda, self.recording, self.draw, self._ask)
        self.clients: list[SimulatedClient] = [
            SimulatedClient(number, self.pool, seed, nodes, command_bytes=self.draw.command_bytes)
            for number in range(self.draw.clients)
        ]
        self.injection: FaultInjection = FaultInjection(
            self.processes,
            self.pool,
            self.network,
            self.agenda,
            self.recording,
            self.draw,
            make_disk,
        )
        self._make_disk = make_disk
        self.recovery_s: float = 0.0
        self._is_recovering = False
        self._rng_of_probes = random.Random(f"{seed} probes")
        self._rng = random.Random(f"{seed} simulation")

    # -- the phases ------------------------------------------------------------------------

    def run(self) -> None:
        """All of it.

        Raises:
            RaftError: a rule was broken; the message says which.
        """
        self.start()
        self._warm_up()
        if self.draw.trials:
            self._try_one_after_the_other()
        else:
            self._storm()
        self._recover()
        self._check_history()

    def _storm(self) -> None:
        for fault in self.draw.faults:
            if self.options.injects(fault.number):
                self.agenda.after(fault.at_s, self.injection.inject, fault)
        self.agenda.run(self.agenda.now + self.draw.storm_s, lambda: False)

    def _try_one_after_the_other(self) -> None:
        Trials(
            self.seed,
            self.draw,
            self.options,
            agenda=self.agenda,
            injection=self.injection,
            checks=self.checks,
            processes=self.processes,
            network=self.network,
            pool=self.pool,
            recording=self.recording,
        ).run()

    def start(self) -> None:
        """Every node and every client begins."""
        for process in self.processes.values():
            process.start()
        for client in self.clients:
            client.begin()
        if self.draw.probe_s:
            self._probe(0)

    def _probe(self, number: int) -> None:
        """Whoever takes itself for the leader reads; now and then anybody does, by asking."""
        by_asking = number % PROBES_BY_ASKING == 0
        for process in self.processes.values():
            if process.leads() and not process.is_paused:
                process.probe(lease=not by_asking)
                if number % HAND_OVER_EVERY == 0:
                    process.ask(hand_over_if_impatient)
        if by_asking:
            self._rng_of_probes.choice(list(self.processes.values())).probe(lease=False)
        if not self._is_recovering:
            self.agenda.after(self.draw.probe_s, self._probe, number + 1)

    def _warm_up(self) -> None:
        patience_s = WARMUP_TIMEOUTS_MAX * self.draw.timeout_s
        wanted = self.draw.warmup_commits
        checks = self.checks
        if not self.agenda.run(patience_s, lambda: checks.commit_index >= wanted):
            raise NotAliveError(
                f"{wanted} entries were not committed within {patience_s:.1f} s with nothing wrong"
            )

    def _recover(self) -> None:
        self._is_recovering = True
        self.injection.stop()
        self.pool.link_faults.clear()
        healed, is_steady = heal(
            self.processes, self.network, self.recording, self.draw, self._rng, self._make_disk
        )
        begun_s = self.agenda.now
        last = SimulatedClient(
            len(self.clients),
            self.pool,
            self.seed,
            self.draw.nodes,
            patience_s=ASKER_PATIENCE_S if self.draw.trials else None,
        )
        last.will(
            RegisterOperation(next(self.pool.numbers), PUT, 0, argument=LAST_VALUE),
            RegisterOperation(next(self.pool.numbers), GET, 0),
        )
        last.retire()
        last.begin()
        timeout_s = self.draw.timeout_s
        until_s = begun_s + RECOVERY_TIMEOUTS_MAX * timeout_s
        if not self.agenda.run(until_s, lambda: last.is_idle):
            raise NotAliveError(
                f"of {', '.join(healed)}, which are healed, nobody has served the last write and "
                f"read within {RECOVERY_TIMEOUTS_MAX} election timeouts: {self._states()}"
            )
        for client in self.clients:
            client.retire()  # where lines are narrow they ask for more than is ever caught up with
        goal = self.checks.commit_index
        longest = max(p.core.log.last_index for p in self.processes.values() if p.core is not None)
        until_s += longest * transfer_s(self.draw)
        if not self.agenda.run(until_s, lambda: self._have_applied(healed, goal)):
            raise NotAliveError(
                f"of {', '.join(healed)}, which are healed, not all have applied entry {goal} "
                f"within {until_s - begun_s:.1f} s: {self._states()}"
            )
        self.recovery_s = self.agenda.now - begun_s
        if not self.agenda.run(until_s, self._is_settled):
            raise NotAliveError(
                f"{until_s - begun_s:.1f} s after healing the cluster still goes by a joint "
                f"configuration: {self._states()} (hazard M3)"
            )
        if is_steady:
            self._check_steady(healed, timeout_s)

    def _check_steady(self, healed: Sequence[NodeId], timeout_s: float) -> None:
        """Whoever is deaf, mute, or was taken out, disturbs nobody (dissertation 6.2, 9.6)."""
        before = self._term(healed)
        self.agenda.run(self.agenda.now + STEADY_TIMEOUTS * timeout_s, lambda: False)
        after = self._term(healed)
        if after - before > STEADY_TERMS_MAX:
            raise NotAliveError(
                f"in {STEADY_TIMEOUTS} election timeouts without faults the term of "
                f"{', '.join(healed)} rose from {before} to {after}: {self._states()}"
            )

    def _term(self, nodes: Sequence[NodeId]) -> int:
        cores = [self.processes[node].core for node in nodes]
        return max((core.term for core in cores if core is not None), default=0)

    def _have_applied(self, healed: Sequence[NodeId], goal: int) -> bool:
        """Members have; whoever was taken out, or never let in, need not."""
        for node in healed:
            process = self.processes[node]
            if process.core is None:
                return False
            if process.applied_index < goal and self._is_member(node):
                return False
        return True

    def _is_member(self, node: NodeId) -> bool:
        leader = self._leader()
        return leader is None or node in leader.configuration.members

    def _is_settled(self) -> bool:
        """No change of members was left half done."""
        leader = self._leader()
        return leader is not None and not leader.configuration.outgoing

    def _leader(self) -> Raft | None:
        leaders = [p.core for p in self.processes.values() if p.core is not None and p.leads()]
        return max(leaders, key=lambda core: core.term, default=None)

    def _check_history(self) -> None:
        check = self.options.check_history
        problem = None if check is None else check(self.pool.history)
        if problem is not None:
            raise WrongHistoryError(problem)

    def _states(self) -> str:
        return "; ".join(process.state() for process in self.processes.values())

    # -- who reaches whom ------------------------------------------------------------------

    def _deliver(self, message: Message, origin: Introduction) -> None:
        self.processes[message.receiver].receive(message, origin)

    def _ask(self, node_id: NodeId, request: Request) -> None:
        self.processes[node_id].take(request)

    def _tell_of_death(self, dead: Process) -> None:
        """Its connections close; whoever can still hear that does so soon, perhaps."""
        for other in self.processes.values():
            is_told = self._rng.random() < self.draw.hint
            if other is dead or not is_told or not other.is_up:
                continue
            if self.network.is_open(dead.node_id, other.node_id):
                delay_s = HINT_S * (1.0 + self._rng.random())
                self.agenda.after(delay_s, other.lose_peer, dead.node_id)


def _draw_for(seed: int, options: RunOptions) -> Draw:
    if options.directed is None:
        return draw(seed, options.nodes)
    return DIRECTED[options.directed](seed, options.nodes)


def run_seed(
    seed: int,
    options: RunOptions = RunOptions(),  # noqa: B008 - a frozen value
    *,
    make_core: MakeCore = Raft,
    make_disk: MakeDisk = Disk,
) -> RunOutcome:
    """Run one seed of tier 1.

    Args:
        seed: any whole number.
        options: what to run with it.
        make_core: makes the nodes' cores; a broken one shall be found out.
        make_disk: likewise for disks.

    Returns:
        What came of it. Whatever a run raises is its failure, and is not raised.
    """
    begun_s = time.process_time()
    simulation = Simulation(seed, options, make_core=make_core, make_disk=make_disk)
    failure, kind = None, ""
    try:
        simulation.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this seed has found
        failure, kind = error, kind_of(error)
    return outcome_of(
        simulation.recording,
        simulation.draw,
        simulation.checks,
        seed=seed,
        tier=TIER,
        failure=failure,
        failure_kind=kind,
        history=simulation.pool.history,
        operations=simulation.pool.completed,
        virtual_s=simulation.agenda.now,
        recovery_s=simulation.recovery_s,
        begun_s=begun_s,
    )


def outcome_of(
    recording: RunRecording,
    drawn: Draw,
    checks: Checks,
    *,
    seed: int,
    tier: int,
    failure: Exception | None,
    failure_kind: str,
    history: Sequence[ClientCall],
    operations: int,
    virtual_s: float,
    recovery_s: float,
    begun_s: float,
) -> RunOutcome:
    """What came of a run that is over; `begun_s` is its first moment of processor time."""
    text = None if failure is None else f"{type(failure).__name__}: {failure}"
    if text is not None:
        recording.remark(text)
    return RunOutcome(
        seed=seed,
        tier=tier,
        failure=text,
        failure_kind=failure_kind,
        drawn=drawn.described(),
        schedule=tuple(ScheduledFault(f.number, str(f)) for f in drawn.faults),
        injected=dict(sorted(recording.injected.items())),
        delivered=recording.delivered,
        commits=checks.commit_index,
        elections=len(checks.leaders),
        operations=operations,
        virtual_s=round(virtual_s, 6),
        recovery_timeouts=round(recovery_s / drawn.timing.election_timeout_s[1], 3),
        digest=recording.digest(),
        cpu_s=time.process_time() - begun_s,
        waits=dict(recording.waits),
        trace=recording.lines,
        history=tuple(history),
    )
