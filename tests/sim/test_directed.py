"""Runs that are directed at reads: they read a lot, meet what they are for, and find nothing.

What they find when a rule is left out stands in docs/planted-bugs.md.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import attrs
from click.testing import CliRunner

from trioraft.cli.application import application
from trioraft.sim.directed import (
    HABITS,
    READ_BY_ASKING,
    READ_BY_LEASE,
    READS,
    draw_reads,
    timing_of,
)
from trioraft.sim.judging import check_history
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.simulation import Simulation, run_seed

OPTIONS = RunOptions(nodes=3, directed=READS, check_history=check_history)
ran = cache(run_seed)


def test_thousands_of_reads_are_answered_and_none_is_stale() -> None:
    happened: Counter[str] = Counter()
    for seed in range(2):
        outcome = ran(seed, OPTIONS)
        assert outcome.failure is None
        happened.update(outcome.injected)
    assert happened[READ_BY_LEASE] > 2000
    assert happened[READ_BY_ASKING] > 300
    assert len(happened.keys() & set(HABITS)) > 3


def test_a_run_is_the_same_again() -> None:
    assert run_seed(1, OPTIONS).digest == ran(1, OPTIONS).digest


def test_what_makes_a_stale_read_likely_is_drawn() -> None:
    draws = [draw_reads(seed) for seed in range(60)]
    lives = [life for drawn in draws for lives in drawn.timings.values() for life in lives]
    assert any(life.lease_clock_drift_max is None for life in lives)
    assert any(len(set(drawn.timings.values())) > 1 for drawn in draws)  # they differ
    assert any(len(set(life)) > 1 for drawn in draws for life in drawn.timings.values())
    assert {kind for drawn in draws for kind in drawn.intensities} == set(HABITS)
    two = next(drawn for drawn in draws if len(drawn.timings["0"]) == 2)
    first, second = two.timings["0"]
    assert [timing_of(two, "0", life) for life in (1, 2, 3)] == [first, second, first]


def test_clocks_run_at_the_ends_of_what_they_may() -> None:
    rates: set[float] = set()
    for seed in range(20):
        simulation = Simulation(seed, OPTIONS)
        drift = simulation.draw.clock_rates[1] - 1.0
        rates.update((p.clock.rate - 1.0) / drift for p in simulation.processes.values())
    assert {round(rate, 6) for rate in rates} == {-1.0, 1.0}


def test_a_machine_that_sleeps_has_a_clock_that_stands_still() -> None:
    simulation = Simulation(0, attrs.evolve(OPTIONS, only_faults=()))
    simulation.start()
    simulation.agenda.run(1.0, lambda: False)
    process = simulation.processes["0"]
    before_s = process.now
    process.suspend()
    simulation.agenda.run(2.0, lambda: False)
    assert process.now > before_s  # nobody looks
    process.resume(timers_first=False)
    assert abs(process.now - before_s) < 1e-6
    simulation.agenda.run(3.0, lambda: False)
    assert process.now - before_s > 0.5


def test_the_command_says_how_many_reads_there_were() -> None:
    words = ("sim", "--directed", "reads", "--seeds", "0:1", "--nodes", "2", "--jobs", "1")
    result = CliRunner().invoke(application(), words)
    assert result.exit_code == 0
    assert "reads answered" in result.output
    for wrong in (("--directed", "writes"), ("--directed", "reads", "--tier", "2")):
        result = CliRunner().invoke(application(), ["sim", *wrong])
        assert result.exit_code == 2
        assert "--directed" in result.output
