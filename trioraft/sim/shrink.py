"""Shrink: the fewest faults of a schedule with which a seed still fails (delta debugging)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs

from .outcomes import RunOptions, RunOutcome, RunSeed

RUNS_MAX: Final = 400
"""How often a seed is run again to shrink its schedule."""

StillFails: TypeAlias = Callable[[Sequence[int]], bool]


class _BudgetSpentError(Exception):
    """No more runs."""


@attrs.define
class _Budget:
    still_fails: StillFails
    left: int
    seen: dict[tuple[int, ...], bool] = attrs.field(factory=dict)

    def fails(self, faults: Sequence[int]) -> bool:
        """Whether these alone still make it fail."""
        key = tuple(faults)
        if key not in self.seen:
            if not self.left:
                raise _BudgetSpentError
            self.left -= 1
            self.seen[key] = self.still_fails(key)
        return self.seen[key]


def fewest(
    faults: Sequence[int], still_fails: StillFails, *, runs_max: int = RUNS_MAX
) -> list[int]:
    """A smallest part of `faults` that still fails.

    Args:
        faults: numbers in a schedule; all of them together fail.
        still_fails: runs a part.
        runs_max: how often at most; then it is the smallest that was seen to fail.
    """
    budget, smallest = _Budget(still_fails, runs_max), list(faults)
    try:
        if not smallest or budget.fails([]):
            return []
        parts = 2
        while len(smallest) > 1:
            size = -(-len(smallest) // parts)
            chunks = [smallest[i : i + size] for i in range(0, len(smallest), size)]
            smaller = _first_that_fails(chunks, smallest, budget)
            if smaller is not None:
                parts = 2 if smaller in chunks else max(2, parts - 1)
                smallest = smaller
            elif parts >= len(smallest):
                break
            else:
                parts = min(len(smallest), 2 * parts)
    except _BudgetSpentError:
        failing = [list(key) for key, fails in budget.seen.items() if fails]
        return min([*failing, smallest], key=len)
    return smallest


def _first_that_fails(
    chunks: list[list[int]], all_of_them: list[int], budget: _Budget
) -> list[int] | None:
    for chunk in chunks:
        if budget.fails(chunk):
            return chunk
    for chunk in chunks if len(chunks) > 2 else []:
        rest = [fault for fault in all_of_them if fault not in chunk]
        if budget.fails(rest):
            return rest
    return None


def shrink(
    outcome: RunOutcome, run_seed: RunSeed, options: RunOptions, *, runs_max: int = RUNS_MAX
) -> tuple[int, ...]:
    """The fewest faults with which this failing seed fails in the same way.

    Args:
        outcome: of the failing run.
        run_seed: its tier.
        options: with which it failed.
        runs_max: how often it may be run again.
    """

    def still_fails(faults: Sequence[int]) -> bool:
        again = attrs.evolve(options, only_faults=tuple(faults), traced=False)
        return run_seed(outcome.seed, again).failure_kind == outcome.failure_kind

    faults = [fault.number for fault in outcome.schedule if options.injects(fault.number)]
    return tuple(fewest(faults, still_fails, runs_max=runs_max))
