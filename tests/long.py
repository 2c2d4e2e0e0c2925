"""The long runs: what CI does not do on every commit, and should be done now and then.

    python -m tests.long --list
    python -m tests.long                      # all of them, one after the other: some hours
    python -m tests.long kill-nine nemesis    # some

When: before a release, and after a change of what a run is about. Each is a command of its own;
this one knows with which arguments it is worth the time.

Rules of this file: a run that fails does not keep the next one from being run; in the end stands
what each came to. Exit code 1 if one failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent
JOBS: Final = str(os.cpu_count() or 1)
EXIT_INTERRUPTED: Final = 130


@attrs.frozen
class LongRun:
    """One of them."""

    name: str
    what: str
    words: tuple[str, ...]
    """After `python -m`."""
    minutes: int
    """On two quiet cores, about."""


RUNS: Final = (
    LongRun(
        "digests",
        "1,000 seeds of each tier do what they did",
        ("tests.sim.digests", "--jobs", JOBS),
        5,
    ),
    LongRun(
        "sim",
        "10,000 simulated clusters, each checked after every event",
        ("trioraft", "sim", "--seeds", "0:10000", "--jobs", "auto", "--recheck"),
        20,
    ),
    LongRun(
        "sim-tier-2",
        "2,000 clusters of real nodes in virtual time",
        ("trioraft", "sim", "--tier", "2", "--seeds", "0:2000", "--jobs", "auto"),
        5,
    ),
    LongRun(
        "fresh",
        "as many seeds of both tiers that nobody has tried yet",
        ("tests.fresh_seeds",),
        15,
    ),
    LongRun(
        "reads",
        "a million reads, where stale ones are likely",
        ("trioraft", "sim", "--directed", "reads", "--seeds", "0:450", "--jobs", "auto"),
        4,
    ),
    LongRun(
        "lines",
        "400 clusters on bad lines and slow disks, each trial with its bound",
        ("trioraft", "sim", "--directed", "lines", "--seeds", "0:400", "--jobs", "auto"),
        6,
    ),
    LongRun(
        "exhaustive",
        "small state spaces as a whole, and the bugs that show in them",
        ("tests.exhaustive", "--bugs"),
        5,
    ),
    LongRun(
        "planted",
        "every planted bug is found, and none where there is none",
        (
            *("tests.sim.planted", "--seeds", "0:2500", "--rated", "30"),
            *("--controls", "600", "--jobs", JOBS),
        ),
        20,
    ),
    LongRun(
        "scenarios",
        "every scenario, 1,000 seeds, under the leak check",
        ("tests.many_seeds", "--seeds", "0:1000", "--jobs", JOBS),
        30,
    ),
    LongRun(
        "thorough",
        "ten times as many random cases of log, storage and hostile messages",
        ("tests.thorough",),
        12,
    ),
    LongRun("kill-nine", "200 rounds of SIGKILL under load", ("tests.kill_nine",), 15),
    *(
        LongRun(
            f"services-{program}",
            f"50 rounds of SIGKILL of the example services on {program}",
            ("tests.any_program", program),
            5,
        )
        for program in ("aiohttp", "trio", "threads")
    ),
    LongRun(
        "nemesis",
        "ten minutes of servers killed, paused and restarted under clients",
        ("tests.kv_nemesis", "--seconds", "600"),
        12,
    ),
    LongRun(
        "network",
        "every fault of a network, in namespaces; etcd beside it where it is installed",
        ("tests.network_nemesis", "--markdown"),
        25,
    ),
    LongRun(
        "prometheus",
        "a real Prometheus over three servers: every query of the dashboard returns data",
        ("tests.prometheus",),
        1,
    ),
    LongRun(
        "fuzz-ports",
        "an hour of frames that are a little wrong, to real servers",
        ("tests.fuzz", "ports", "--minutes", "60"),
        60,
    ),
    LongRun(
        "fuzz-bytes",
        "an hour of bytes that are a little wrong, to whatever reads bytes",
        ("tests.fuzz", "decoders", "--minutes", "60"),
        60,
    ),
    LongRun(
        "odd",
        "the parts of the suite that look around them, in odd environments",
        ("tests.odd_environments",),
        75,
    ),
)
BY_NAME: Final = {run.name: run for run in RUNS}


@attrs.frozen
class Verdict:
    """How a run ended."""

    name: str
    code: int
    seconds: float

    def __str__(self) -> str:
        said = "well" if self.code == 0 else f"FAILED (exit code {self.code})"
        return f"{self.name:12} {said}, {self.seconds / 60:.1f} min"


def carry_out(run: LongRun) -> Verdict:
    """Run it, and let it say what it says."""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", *run.words], cwd=ROOT, check=False)
    return Verdict(run.name, done.returncode, time.monotonic() - begun)


def table(runs: Sequence[LongRun] = RUNS) -> str:
    """All of them, for a person."""
    lines = [f"{run.name:12} {run.minutes:3} min  {run.what}" for run in runs]
    return "\n".join([*lines, f"{'all':12} {sum(run.minutes for run in runs):3} min"])


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.long",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BY_NAME))
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: give some of {', '.join(BY_NAME)}")
    chosen = [run for run in RUNS if not options.names or run.name in options.names]
    if options.list:
        print(table(chosen))
        return 0
    verdicts: list[Verdict] = []
    try:
        for place, run in enumerate(chosen, 1):
            print(f"== {place} of {len(chosen)}: {run.name}, about {run.minutes} min", flush=True)
            print(f"   python -m {' '.join(run.words)}", flush=True)
            verdicts.append(carry_out(run))
            print(f"== {verdicts[-1]}", flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted")
    print("\n".join(["", *map(str, verdicts)]))
    if len(verdicts) < len(chosen):
        return EXIT_INTERRUPTED
    return 1 if any(verdict.code for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
