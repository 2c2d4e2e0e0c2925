"""Tell every scenario many times, in virtual time, under the leak check.

    python -m tests.many_seeds                          # 1000 seeds of each, on all cores
    python -m tests.many_seeds --seeds 0:100 --scenario disconnect_loop
    python -m tests.many_seeds --seeds 7:8 --scenario leader_disconnect --mode unreliable

Rules of this file: seeds take turns with the modes, so that a thousand of them tell each scenario
in each mode; a failure prints the one command that replays it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import attrs
import trio
from trio.testing import MockClock

from tests.scenarios import coordination, elections, kv, membership, replication
from trioraft.testing.cluster import open_cluster
from trioraft.testing.leaks import no_leaks

CHUNK = 25
GROUPS: Final[dict[str, dict[str, Any]]] = {
    "elections": elections.SCENARIOS,
    "replication": replication.SCENARIOS,
    "membership": membership.SCENARIOS,
    "kv": kv.SCENARIOS,
    "coordination": coordination.SCENARIOS,
}
SCENARIOS: Final = {name: story for group in GROUPS.values() for name, story in group.items()}


@attrs.frozen
class Mode:
    """What is wrong with the network."""

    name: str
    options: dict[str, Any]


MODES: Final = (
    Mode("calm", {}),
    Mode("collisions", {"collisions": True}),
    Mode("unreliable", {"unreliable": True}),
)
"""The seeds' two stress modes, and none."""


@attrs.frozen
class Failure:
    """A run that went wrong."""

    scenario: str
    seed: int
    mode: str
    error: str

    def __str__(self) -> str:
        return (
            f"{self.error}\nreplay: python -m tests.many_seeds --seeds {self.seed}:{self.seed + 1} "
            f"--scenario {self.scenario} --mode {self.mode}\n"
        )


def tell(scenario: str, seed: int, mode: Mode) -> Failure | None:
    """One run of one scenario."""

    async def under_leak_check() -> None:
        async with no_leaks():
            await SCENARIOS[scenario](partial(open_cluster, seed=seed, **mode.options))

    try:
        trio.run(under_leak_check, clock=MockClock(autojump_threshold=0))
    except Exception:  # noqa: BLE001 - reported with its seed, and the run fails in the end
        return Failure(scenario, seed, mode.name, traceback.format_exc())
    return None


def tell_chunk(task: tuple[str, range, str | None]) -> list[Failure]:
    """A stretch of seeds of one scenario, in a worker process."""
    scenario, seeds, mode_name = task
    failures = []
    for seed in seeds:
        mode = MODES[seed % len(MODES)]
        if mode_name is not None:
            mode = next(mode for mode in MODES if mode.name == mode_name)
        failure = tell(scenario, seed, mode)
        if failure is not None:
            failures.append(failure)
    return failures


def tasks(
    names: list[str], seeds: range, mode: str | None
) -> Iterator[tuple[str, range, str | None]]:
    """All runs, in stretches."""
    for start in range(seeds.start, seeds.stop, CHUNK):
        for name in names:
            yield name, range(start, min(start + CHUNK, seeds.stop)), mode


def seed_range(text: str) -> range:
    """ "A:B", the seeds A … B − 1, or "N" for 0:N."""
    first, _, last = text.rpartition(":")
    try:
        seeds = range(int(first or 0), int(last))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range; give A:B, or N for 0:N") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is an empty range; give A:B with A < B")
    return seeds


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.many_seeds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=seed_range, default=range(1000), metavar="A:B")
    parser.add_argument("--group", choices=sorted(GROUPS), help="only these scenarios")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS))
    parser.add_argument("--mode", choices=[mode.name for mode in MODES])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    options = parser.parse_args(argv)
    names = options.scenario or list(GROUPS.get(options.group, SCENARIOS))
    todo = list(tasks(names, options.seeds, options.mode))
    runs = len(names) * len(options.seeds)
    begun = time.monotonic()
    done = failed = 0
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        results = pool.imap(tell_chunk, todo)
        for task, failures in zip(todo, results, strict=True):
            done += len(task[1])
            failed += len(failures)
            for failure in failures:
                print(f"\n{failure}")
            if sys.stdout.isatty() or done == runs:
                print(f"\r{done}/{runs} runs, {failed} failed", end="", flush=True)
    print(f"; {len(names)} scenarios, {time.monotonic() - begun:.0f} s, {options.jobs} jobs")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
