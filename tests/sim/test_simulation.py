"""The simulator itself: the same run from the same seed, faults that really happen, a recovery that
is really asked for, and broken cores that are found out."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import attrs
import pytest

from tests.sim.planted.durability import PromisesTooSoon
from tests.sim.planted.liveness import ProtectsNoLeader, StaysDown
from tests.sim.planted.reading import ReadsWithoutAsking
from tests.sim.planted.voting import ForgetsItsVote
from trioraft.sim.draw import HABITS, STORM_KINDS, Kind, draw, schedule
from trioraft.sim.judging import check_history
from trioraft.sim.outcomes import RunOptions, RunOutcome
from trioraft.sim.process import MakeCore
from trioraft.sim.simulation import Simulation, run_seed

CHECKED = RunOptions(check_history=check_history)
SLICE = 30
"""Seeds that the suite runs: one for each kind of fault that is on for sure in it."""
DIGESTS = """
import sys
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.simulation import run_seed
for seed in range(3):
    print(run_seed(seed, RunOptions(nodes=5)).digest)
"""


def digests_of_another_process(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    here = [run_seed(seed, RunOptions(nodes=5)).digest for seed in range(3)]
    assert len(set(here)) == len(here)
    assert digests_of_another_process(hash_seed="1") == here


def test_looking_changes_nothing() -> None:
    seen = run_seed(4, RunOptions(traced=True, check_history=check_history))
    assert seen.trace
    assert seen.digest == run_seed(4).digest


def test_a_slice_of_seeds_is_clean_and_every_fault_happens() -> None:
    happened: Counter[str] = Counter()
    for seed in range(SLICE):
        outcome = run_seed(seed, CHECKED)
        assert outcome.failure is None, f"seed {seed}: {outcome.failure}"
        assert outcome.commits >= outcome.drawn["warmup_commits"]
        happened.update(outcome.injected.keys())
    assert [kind.value for kind in STORM_KINDS if not happened[kind]] == []
    assert happened["snapshot_installed"]  # a follower that was behind came back by one


def test_a_fault_that_is_off_does_not_happen() -> None:
    options = draw(7)
    faults = [kind.value for kind in Kind if kind not in options.intensities]
    outcome = run_seed(7)
    consequences = {Kind.SNAPSHOT_ROT, Kind.TORN_TAIL, Kind.UNSYNCED_LOST}  # of other crashes
    assert not [
        kind for kind in faults if outcome.injected.get(kind, 0) and kind not in consequences
    ]


def test_without_faults_little_happens() -> None:
    outcome = run_seed(3, RunOptions(nodes=3, only_faults=()))
    assert outcome.failure is None
    quiet = {"snapshot_saved", "chunk_sent", "snapshot_installed"}
    assert set(outcome.injected) <= quiet


def test_a_schedule_follows_from_its_seed_and_covers_every_kind() -> None:
    intensities = dict.fromkeys(Kind, 0.5)
    nodes = ("0", "1", "2")
    first = schedule(random.Random(1), intensities, nodes, 5.0)
    assert first == schedule(random.Random(1), intensities, nodes, 5.0)
    assert first != schedule(random.Random(2), intensities, nodes, 5.0)
    assert {fault.kind for fault in first} == set(STORM_KINDS) == set(HABITS)
    assert [fault.number for fault in first] == list(range(len(first)))


def test_every_option_is_printed() -> None:
    options = draw(11)
    described = options.described()
    named = {field.name for field in attrs.fields(type(options))} - {"faults"}
    assert set(described) == named


@pytest.mark.parametrize(
    ("broken", "rule", "first"),
    [
        pytest.param(ForgetsItsVote, "hazard V1", 0, id="the vote is not stored"),
        pytest.param(PromisesTooSoon, "durable are", 0, id="promises leave too soon"),
        pytest.param(ReadsWithoutAsking, "a stale read", 17, id="reads are not confirmed"),
        pytest.param(StaysDown, "healed", 0, id="nobody campaigns"),
        pytest.param(ProtectsNoLeader, "rose from", 2190, id="deaf nodes depose leaders"),
    ],
)
def test_a_broken_core_is_found_out(broken: MakeCore, rule: str, first: int) -> None:
    """`first` is a seed from which on it does not take long."""
    found = _first_failure(broken, range(first, first + 60))
    assert found is not None
    assert rule in str(found.failure)
    assert run_seed(found.seed, CHECKED).failure is None  # it is the core, not the seed


def _first_failure(make_core: MakeCore, seeds: range) -> RunOutcome | None:
    for seed in seeds:
        outcome = run_seed(seed, CHECKED, make_core=make_core)
        if outcome.failure is not None:
            return outcome
    return None


def test_recovery_counts_only_with_the_last_write_and_read() -> None:
    simulation = Simulation(2, RunOptions(nodes=3))
    simulation.run()
    last_put, last_get = simulation.pool.history_of(len(simulation.clients))
    assert (last_put.kind, last_get.kind) == ("put", "get")
    assert last_get.result is not None
    assert simulation.recovery_s > 0
