"""Spread: many seeds over processes, or over an existing Dask cluster.

Outcomes come back in the order of the seeds, wherever they ran, so that reports are the same.
Whoever stops taking outcomes ends the work: no process outlives its iterator.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import attrs

from ..core.errors import ConfigError
from .outcomes import RunOptions, RunOutcome
from .tiers import run_seed_of

CHUNK_MAX: Final = 16
"""Seeds that a process takes at a time."""


def run_chunk(seeds: range, *, tier: int, options: RunOptions) -> list[RunOutcome]:
    """A stretch of seeds, one after the other. What travels back is small: no traces, no histories;
    a failing seed is run again for those."""
    run_seed = run_seed_of(tier, options)
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


CHUNKS_AHEAD: Final = 4
"""Chunks per thread of the cluster that wait there."""
CONNECT_TIMEOUT: Final = "10s"


def over_dask(
    seeds: range, *, tier: int, options: RunOptions, address: str
) -> Iterator[RunOutcome]:
    """Outcomes of all seeds, from the workers of an existing Dask cluster. They need this very
    version of trioraft.

    Raises:
        ConfigError: it cannot be reached, or `trioraft[dask]` is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ConfigError("--dask needs: pip install 'trioraft[dask]'") from error
    connect: Any = Client  # it has no types
    try:
        client = connect(address, timeout=CONNECT_TIMEOUT)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler at {address!r}: {error}") from error
    run = partial(run_chunk, tier=tier, options=options)
    with client:
        threads = max(1, sum(client.nthreads().values()))
        chunks, waiting = in_chunks(seeds, threads), []
        for chunk in chunks:
            waiting.append(client.submit(run, chunk, pure=False))
            if len(waiting) >= CHUNKS_AHEAD * threads:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
