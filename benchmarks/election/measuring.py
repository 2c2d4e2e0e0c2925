"""Trials of any case, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from . import in_process, process_trials
from .cases import Setup, Trial


async def measure(setup: Setup, trials: int, note: Callable[[Trial], None]) -> None:
    """Run trials, one after the other.

    Args:
        setup: the case, the number of nodes, the timing, the seed.
        trials: how many.
        note: called after each, with its result; may take its time, nothing is measured then.

    Raises:
        NoElectionError: an election took absurdly long.
        ProcessError: a node's process failed.

    Cancelling it closes the cluster; what was noted stands.
    """
    where = process_trials if setup.case.has_processes else in_process
    await where.measure(setup, trials, note)
