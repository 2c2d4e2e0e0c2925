"""Trials of any case, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import in_process, process_trials
from .cases import Setup, Trial


async def measure(
    setup: Setup, trials: int, note: Callable[[Trial], None], directory: Path | None = None
) -> None:
    """Run trials, one after the other.

    Args:
        setup: the case, the number of nodes, the timing, the seed.
        trials: how many.
        note: called after each, with its result; may take its time, nothing is measured then.
        directory: where disks are put, if nodes have any; default: among temporary files.

    Raises:
        NoElectionError: an election took absurdly long.
        ProcessError: a node's process failed.

    Cancelling it closes the cluster; what was noted stands.
    """
    if setup.case.has_processes:
        await process_trials.measure(setup, trials, note, directory)
    else:
        await in_process.measure(setup, trials, note)
