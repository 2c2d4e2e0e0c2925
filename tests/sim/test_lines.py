"""Runs that are directed at lines: what is tried, the bounds, and that exceeding one is a failure.

What they find when a rule is left out stands in docs/planted-bugs.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from tests.sim.planted.liveness import IsAsImpatientAsItIsSet
from trioraft.cli.application import application
from trioraft.core.messages import (
    AppendEntries,
    InstallSnapshot,
    Introduction,
    Message,
    RequestVote,
)
from trioraft.core.raft import Raft
from trioraft.core.types import Configuration, Entry, EntryKind, SnapshotMeta
from trioraft.machines.sessions import encode_open
from trioraft.sim import lines
from trioraft.sim.agenda import Agenda
from trioraft.sim.disk import Fate
from trioraft.sim.draw import EVERYONE, STORM_KINDS, Draw, Fault, Kind
from trioraft.sim.judging import check_history
from trioraft.sim.lines import (
    LINES,
    STORIES,
    Costs,
    Strain,
    draw_lines,
    progress_bound_s,
    strain_of,
)
from trioraft.sim.machine import RegisterOperation, Registers, encode_operation
from trioraft.sim.network import QUEUE_S, LinkFault, SimulatedNetwork
from trioraft.sim.outcomes import RunOptions, RunRecording
from trioraft.sim.shrink import shrink
from trioraft.sim.simulation import Simulation, run_seed
from trioraft.sim.trials import ProgressWatch

OPTIONS = RunOptions(directed=LINES, check_history=check_history)
SLICE = (4, 7, 11)
"""Between them they come to everything that is tried."""
DOCS = Path(__file__).parents[2] / "docs" / "simulation.md"
ran = cache(run_seed)


def test_after_everything_that_is_tried_the_cluster_moves_on_in_time() -> None:
    waits = {}
    for seed in SLICE:
        outcome = ran(seed, OPTIONS)
        assert outcome.failure is None
        assert all(wait.took_s <= wait.bound_s for wait in outcome.waits.values())
        waits.update(outcome.waits)
        assert len(outcome.waits) >= len(set(outcome.drawn["trials"]))
    tried = {name for seed in range(60) for name in _names(draw_lines(seed))}
    assert tried - set(waits) == set()
    assert {"narrow: reading", "long, healed", "back: learning"} <= set(waits)
    assert "snapshot on a narrow line: catching up" in waits


def _names(drawn: Draw) -> list[str]:
    return [trial.name for trial in drawn.trials]


def test_a_run_is_the_same_again() -> None:
    assert run_seed(SLICE[1], OPTIONS).digest == ran(SLICE[1], OPTIONS).digest


def test_every_kind_is_drawn_and_the_last_trial_is_healed() -> None:
    draws = [draw_lines(seed) for seed in range(len(STORIES))]
    also_in_storms = {Kind.NARROW, Kind.SLOW_DISK, Kind.DEAD_LINKS, Kind.CRASH}
    directed_only = {Kind.BOTTLENECK, Kind.LONG, Kind.LOSS, Kind.LIVE_ROT}
    directed_only |= {Kind.ADD_LEARNER, Kind.REMOVE}
    drawn_kinds = {fault.kind for drawn in draws for fault in drawn.faults}
    assert drawn_kinds == also_in_storms | directed_only
    for drawn in draws:
        assert [fault.number for fault in drawn.faults] == list(range(len(drawn.faults)))
        assert drawn.trials[-1].heals
    assert any(not trial.heals for drawn in draws for trial in drawn.trials[:-1])
    assert not directed_only & set(STORM_KINDS)


def test_nobody_is_away_where_the_others_are_no_majority() -> None:
    for seed in range(20):
        drawn = draw_lines(seed, 2)
        away = {fault.victim for fault in drawn.faults if fault.kind is Kind.CRASH}
        assert away <= set(drawn.nodes) - set(drawn.voters)


# -- what exceeds its bound ------------------------------------------------------------------


def test_what_exceeds_its_bound_fails_and_is_shrunk() -> None:
    run_broken = partial(run_seed, make_core=IsAsImpatientAsItIsSet)
    seed = next(seed for seed in range(100) if _begins_with_a_long_line(draw_lines(seed)))
    outcome = run_broken(seed, OPTIONS)
    assert outcome.failure is not None
    assert re.search(r"trial 'long': nothing .* within \d+\.\d\d s; wrong is at", outcome.failure)
    assert outcome.failure_kind == "TooSlowError in _await_progress"
    assert shrink(outcome, run_broken, OPTIONS, runs_max=12) == (0,)


def _begins_with_a_long_line(drawn: Draw) -> bool:
    return drawn.trials[0].name == "long" and drawn.command_bytes == 500


@pytest.mark.parametrize(
    ("bound", "kind", "seed"),
    [
        ("progress_bound_s", "_await_progress", 3),
        ("read_bound_s", "_await_read", 3),
        ("catching_up_bound_s", "_await_joined", 3),
        ("learning_bound_s", "_await_learnt", 8),
    ],
)
def test_each_bound_is_asked_of_a_run(
    bound: str, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"trioraft.sim.trials.{bound}", lambda *_: 1e-6)
    outcome = run_seed(seed, OPTIONS)
    assert outcome.failure_kind == f"TooSlowError in {kind}"


def test_a_leader_that_does_not_stay_is_no_progress() -> None:
    impatient = attrs.evolve(draw_lines(4), patience_s=0.25)
    simulation = Simulation(4, OPTIONS, drawn=impatient)
    agenda, checks = simulation.agenda, simulation.checks
    simulation.start()
    assert agenda.run(5.0, lambda: checks.commit_index > 20)
    watch = ProgressWatch(checks, simulation.processes, agenda, stays_s=1.0)
    assert agenda.run(agenda.now + 0.5, lambda: watch.has_moved_on() or watch.moved_s is not None)
    first = simulation.processes[checks.leaders[max(checks.leaders)]]
    first.crash(Fate.SURVIVES, "killed")
    killed_s = agenda.now
    assert agenda.run(killed_s + 9.0, watch.has_moved_on)
    assert watch.moved_s is not None
    assert killed_s < watch.moved_s <= agenda.now - 1.0  # that of its successor counts


def _propose(core: Raft, now: float) -> None:
    core.propose(encode_open(bytes(16)), now)


def test_what_was_asked_for_before_is_no_progress() -> None:
    simulation = Simulation(4, OPTIONS)
    agenda, checks = simulation.agenda, simulation.checks
    simulation.start()
    assert agenda.run(5.0, lambda: checks.commit_index > 20)
    for client in simulation.clients:
        client.retire()
    leader = simulation.processes[checks.leaders[max(checks.leaders)]]
    leader.ask(_propose)
    watch = ProgressWatch(checks, simulation.processes, agenda, stays_s=0.0)
    before = checks.commit_index
    assert not agenda.run(agenda.now + 2.0, watch.has_moved_on)
    assert checks.commit_index > before


def test_the_command_says_what_came_closest_to_its_bound() -> None:
    words = ("sim", "--directed", "lines", "--seeds", "3:4", "--jobs", "1")
    result = CliRunner().invoke(application(), words)
    assert result.exit_code == 0
    assert re.search(r"^  long +\d+\.\d\d of +\d+\.\d\d s +\d+%$", result.output, re.M)
    assert "reads answered" not in result.output


# -- the bounds ------------------------------------------------------------------------------

CALM = Strain()
TABLE: Sequence[tuple[str, Kind, Strain]] = (
    ("dead, or a leader killed", Kind.CRASH, CALM),
    ("long, 0.6 s there and back", Kind.LONG, Strain(long_s=0.3)),
    ("slow disk, 0.4 s", Kind.SLOW_DISK, Strain(slow_s=0.4)),
    ("long and slow disk", Kind.LONG, Strain(long_s=0.3, slow_s=0.4)),
    ("lossy, 1 %", Kind.LOSS, Strain(loss=0.01)),
    ("narrow, 8 kB/s", Kind.NARROW, Strain(bulk_per_s=8_000.0)),
    ("bottleneck, 0.66 MB/s", Kind.BOTTLENECK, Strain(bytes_per_s=655_360.0)),
)


def _of_small_commands() -> Draw:
    drawn = next(d for d in map(draw_lines, range(100)) if d.command_bytes == 500)
    return attrs.evolve(drawn, delay_s=(0.001, 0.010), disk_s=(0.0, 0.010))


@pytest.mark.parametrize(("name", "kind", "strain"), TABLE)
def test_the_docs_show_the_bounds(name: str, kind: Kind, strain: Strain) -> None:
    drawn, begun = _of_small_commands(), [_fault(kind)]
    bound_s = progress_bound_s(drawn, strain, CALM, begun)
    healed_s = progress_bound_s(drawn, CALM, strain)
    row = re.search(
        rf"^\| {re.escape(name)} \| (.*) s \| (.*) \| (.*) \|$",
        DOCS.read_text(encoding="utf-8"),
        re.M,
    )
    assert row is not None
    said = [float(part) for part in row.groups()]
    assert said == [Costs.of(drawn, strain).widest_s, round(bound_s, 1), round(healed_s, 1)]


def _fault(kind: Kind, level: float = 0.0) -> Fault:
    return Fault(0, 0.0, kind, EVERYONE, 0.0, level, 0)


def test_what_is_wrong_at_the_same_time_adds_up() -> None:
    faults = [_fault(Kind.LONG, 0.2), _fault(Kind.SLOW_DISK, 0.3), _fault(Kind.SLOW_DISK, 0.4)]
    assert strain_of(faults) == Strain(long_s=0.2, slow_s=0.4)
    assert strain_of([_fault(Kind.NARROW, 9.0), _fault(Kind.NARROW, 5.0)]).bulk_per_s == 5.0
    drawn = _of_small_commands()
    worse = [Strain(long_s=0.2), Strain(long_s=0.2, slow_s=0.4), Strain(0.2, 0.4, loss=0.01)]
    bounds = [progress_bound_s(drawn, s, CALM, [_fault(Kind.LONG)]) for s in worse]
    assert bounds == sorted(bounds)
    assert lines.read_bound_s(drawn, worse[0]) < lines.read_bound_s(drawn, worse[2])


# -- the lines themselves --------------------------------------------------------------------

HELLO = Introduction("0", "1", 0, 1)
META = SnapshotMeta(10, 1, Configuration(("0", "1")), 1000, 0)
BULK = tuple(Entry(index, 1, bytes(980), EntryKind.COMMAND) for index in range(1, 11))


def _entries(number: int) -> AppendEntries:
    return AppendEntries("0", "1", 1, number, 1, BULK, 0)


def _beat() -> AppendEntries:
    return AppendEntries("0", "1", 1, 0, 0, (), 0)


@attrs.define
class _Line:
    """One line, with what is wrong with it; everything that arrives, and when."""

    agenda: Agenda = attrs.field(factory=Agenda)
    arrived: list[tuple[float, Message]] = attrs.field(factory=list)

    def network(self, *faults: Fault) -> SimulatedNetwork:
        recording = RunRecording(self.agenda, traced=False)
        network = SimulatedNetwork(
            self.agenda, recording, 1, "01", (0.001, 0.001), self._take, patience_s=0.15
        )
        network.link_faults = [LinkFault(f.kind, f.level, f.victim, f.rng()) for f in faults]
        return network

    def _take(self, message: Message, _: Introduction) -> None:
        self.arrived.append((round(self.agenda.now, 3), message))

    def run(self) -> list[tuple[float, Message]]:
        self.agenda.run(self.agenda.now + 100.0, lambda: False)
        return self.arrived


def test_on_a_narrow_line_what_is_small_goes_first_and_beyond_the_host_it_does_not() -> None:
    arrivals = []
    for kind in (Kind.NARROW, Kind.BOTTLENECK):
        line = _Line()
        network = line.network(_fault(kind, 10_060.0))
        for message in (_entries(0), _beat(), InstallSnapshot("0", "1", 1, META, 0, b"")):
            network.send(message, HELLO)
        arrivals.append([at_s for at_s, _ in line.run()])
    assert arrivals[0] == [0.001, 1.001, 1.007]
    assert arrivals[1] == [1.001, 1.007, 1.013]


def test_what_is_dropped_takes_no_place_in_a_queue() -> None:
    line = _Line()
    network = line.network(_fault(Kind.NARROW, 1_006.0))
    for number in range(4):
        network.send(_entries(number), HELLO)  # ten seconds each
    line.agenda.at(15.0, network.send, _entries(4), HELLO)
    assert [at_s for at_s, _ in line.run()] == [10.001, QUEUE_S + 0.001, 30.001]


def test_what_is_lost_comes_late_and_so_does_all_behind_it() -> None:
    line = _Line()
    network = line.network(_fault(Kind.LOSS, 0.3))
    for number in range(40):
        network.send(_entries(number), HELLO)
    arrived = line.run()
    numbers = [m.prev_log_index for _, m in arrived if isinstance(m, AppendEntries)]
    assert numbers == list(range(40))
    assert arrived[-1][0] > 0.2


def test_a_long_line_is_longer_and_its_connections_are_made_as_slowly() -> None:
    line = _Line()
    network = line.network(_fault(Kind.LONG, 0.25))
    network.send(_beat(), HELLO)
    assert [at_s for at_s, _ in line.run()] == [0.251]
    network.let_die([("0", "1"), ("1", "0")])
    begun_s = line.agenda.now
    network.send(RequestVote("0", "1", 2, 0, 0), HELLO)
    assert line.run()[-1][0] == round(begun_s + 4 * 0.251, 3)


def test_padding_and_ballast_change_nothing_else() -> None:
    done: list[tuple[int, int]] = []
    registers = Registers(lambda number, index: done.append((number, index)), 500)
    data = encode_operation(RegisterOperation(7, "put", 1, argument=9), 300)
    assert len(data) > 300
    registers.apply(3, data)
    content = registers.snapshot()
    assert len(content) > 500
    other = Registers(lambda number, index: None, 500)
    other.restore([content])
    assert (done, other.get(1)) == ([(7, 3)], 9)
