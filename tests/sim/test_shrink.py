"""Shrinking: the fewest faults with which a run still fails."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from tests.sim.planted.voting import ForgetsItsVote
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.shrink import fewest, shrink
from trioraft.sim.simulation import run_seed


class Needs:
    """Fails as long as all of these are there; counts how often it is asked."""

    def __init__(self, *needed: int) -> None:
        self.needed = set(needed)
        self.runs = 0

    def __call__(self, faults: Sequence[int]) -> bool:
        self.runs += 1
        return self.needed <= set(faults)


@pytest.mark.parametrize("needed", [(), (3,), (0, 63), (5, 6, 7), (1, 20, 40, 60)])
def test_exactly_what_is_needed_is_left(needed: tuple[int, ...]) -> None:
    assert fewest(range(64), Needs(*needed)) == list(needed)


def test_nothing_is_run_twice_and_few_are() -> None:
    needs = Needs(17, 44)
    fewest(range(128), needs)
    assert needs.runs < 64


def test_a_spent_budget_leaves_the_smallest_that_was_seen_to_fail() -> None:
    needs = Needs(17, 44)
    left = fewest(range(128), needs, runs_max=6)
    assert needs.runs == 6
    assert {17, 44} <= set(left)
    assert len(left) < 128


def test_of_a_seed_with_a_broken_core_little_is_left() -> None:
    run_broken = partial(run_seed, make_core=ForgetsItsVote)
    options = RunOptions(nodes=3)
    outcome = run_broken(0, options)
    assert outcome.failure is not None
    kept = shrink(outcome, run_broken, options, runs_max=40)
    assert len(kept) < len(outcome.schedule)
    again = run_broken(0, RunOptions(nodes=3, only_faults=kept))
    assert again.failure_kind == outcome.failure_kind
