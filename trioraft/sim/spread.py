"""Spread: many seeds over processes.

Rules of this file:

* Outcomes come back in the order of the seeds, wherever they ran, so that reports are the same.
* Whoever stops taking outcomes ends the work: no process outlives its iterator.
* What travels back is small: no traces, no histories; a failing seed is run again for those.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import attrs

from .outcomes import RunOptions, RunOutcome
from .tiers import run_seed_of

CHUNK_MAX: Final = 16
"""Seeds that a process takes at a time."""


def run_chunk(seeds: range, *, tier: int, options: RunOptions) -> list[RunOutcome]:
    """A stretch of seeds, one after the other."""
    run_seed = run_seed_of(tier)
    return [attrs.evolve(run_seed(seed, options), trace=(), history=()) for seed in seeds]


def in_chunks(seeds: range, jobs: int) -> Iterator[range]:
    """All seeds, in stretches small enough that all processes end at about the same time."""
    size = max(1, min(CHUNK_MAX, len(seeds) // (4 * jobs)))
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]


def over_processes(
    seeds: range, *, tier: int, options: RunOptions, jobs: int
) -> Iterator[RunOutcome]:
    """Outcomes of all seeds, from so many processes; from this one if `jobs` is 1."""
    run = partial(run_chunk, tier=tier, options=options)
    if jobs == 1:
        for seed in seeds:
            yield from run(range(seed, seed + 1))
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_ignore_ctrl_c) as pool:
        for outcomes in pool.imap(run, in_chunks(seeds, jobs)):
            yield from outcomes


def differing_elsewhere(outcomes: Sequence[RunOutcome], options: RunOptions) -> list[int]:
    """Run these again in another process with another hash seed; returns the seeds whose runs were
    not the same, byte for byte."""
    with _other_hash_seed(), multiprocessing.get_context("spawn").Pool(1, _ignore_ctrl_c) as pool:
        jobs = [(range(o.seed, o.seed + 1), o.tier, options) for o in outcomes]
        again = pool.starmap(_run_again, jobs, chunksize=1)
    return [a.seed for a, b in zip(outcomes, again, strict=True) if a.digest != b.digest]


def _run_again(seeds: range, tier: int, options: RunOptions) -> RunOutcome:
    return run_chunk(seeds, tier=tier, options=options)[0]


@contextmanager
def _other_hash_seed() -> Iterator[None]:
    """Processes that are started here order their sets differently from this one."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "2" if before == "1" else "1"
    try:
        yield
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


def _ignore_ctrl_c() -> None:
    """The process that started this one sees to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
