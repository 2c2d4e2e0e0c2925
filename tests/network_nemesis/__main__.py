"""The command: makes the lab, goes through the rows, checks what clients were told.

What is started first is only there to start the inside, and to end it: by ending its input, which
Ctrl-C does, and SIGTERM, and SIGKILL.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import trio

from .etcd import ETCD, Etcd
from .lab import Lab, command, why_not
from .measuring import Result, measure
from .members import Cluster, Ours
from .rows import ROWS, TIMINGS, Row

INSIDE: Final = "--inside"
"""First word of the command that runs in namespaces of its own."""
SECONDS: Final = 10.0
END_S: Final = 30.0
"""How long the inside may take to end by itself."""
EXIT_INTERRUPTED: Final = 130

OURS: Final = "trioraft"
COLUMNS: Final = ("writes/s", "longest gap", "elections", "after healing", "large values")
"""Of one cluster's part of the table."""


# --- the table ----------------------------------------------------------------------------------


def title(row: Row) -> str:
    """A row's name, with its timing."""
    return row.name if row.timing == "default" else f"{row.name}; timing {row.timing}"


def cells(result: Result | None) -> tuple[str, ...]:
    """A cluster's part of a row; None: it was not tried."""
    if result is None:
        return ("",) * len(COLUMNS)
    written = sum(big.is_written for big in result.big)
    return (
        f"{result.writes_s:.0f}",
        f"{result.gap_s:.1f} s",
        str(result.elections),
        "never" if result.healed_s is None else f"{result.healed_s:.1f} s",
        f"{written} of {len(result.big)}" if result.row.value_bytes else "",
    )


def markdown(results: Iterable[Result]) -> str:
    """The table as docs/networks.md has it: one line a fault, one part a cluster."""
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        found.setdefault(title(result.row), {})[result.cluster] = result
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    heads = [
        column if name == OURS else f"{name}: {column}" for name in names for column in COLUMNS
    ]
    lines = [("fault", *heads), ("---",) * (1 + len(heads))]
    for row, by_name in found.items():
        lines.append((row, *(cell for name in names for cell in cells(by_name.get(name)))))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(result: Result) -> str:
    """A row, as it is shown when it has come to its end."""
    row = dict(zip(COLUMNS, cells(result), strict=True))
    big = f", large values {row['large values']}" if row["large values"] else ""
    caught_up = "never" if result.caught_up_s is None else f"{result.caught_up_s:.1f} s"
    return (
        f"{title(result.row):52} {row['writes/s']:>4} writes/s, "
        f"gap {result.gap_s:5.2f} s at {result.gap_at_s:4.1f}, {result.elections:>2} elections, "
        f"{result.terms:>2} terms, write {row['after healing']:>6} after healing, "
        f"caught up {caught_up:>6}, load {result.load:.1f}{big}"
    )


# --- inside -------------------------------------------------------------------------------------


def clusters(
    rows: Sequence[Row], lab: Lab, directory: Path, options: argparse.Namespace
) -> Iterator[tuple[Cluster, list[Row]]]:
    """Each, with the rows that are tried on it."""
    for timing, size in dict.fromkeys((row.timing, row.members) for row in rows):
        chosen = [row for row in rows if (row.timing, row.members) == (timing, size)]
        here = directory / f"{timing.replace(' ', '-')}-{size}"
        if options.who in ("both", "trioraft"):
            (here / "ours").mkdir(parents=True)
            words, seed = TIMINGS[timing], str(options.seed)
            yield Ours(lab, here / "ours", size, options=words, seed=seed), chosen
        is_etcd_wanted = options.who in ("both", "etcd") and timing == "default"
        if is_etcd_wanted and shutil.which(ETCD) is not None:
            (here / "etcd").mkdir(parents=True)
            yield Etcd(lab, here / "etcd", size), chosen


async def run_rows(
    rows: Sequence[Row], directory: Path, options: argparse.Namespace, results: list[Result]
) -> list[str]:
    """All rows; returns what is not as it should be."""
    problems: list[str] = []
    with Lab(directory, max(row.members for row in rows), str(options.seed)) as lab:
        for cluster, chosen in clusters(rows, lab, directory, options):
            try:
                problems += await _run_cluster(chosen, cluster, options.seconds, results)
            finally:
                cluster.end()
    return problems


async def _run_cluster(
    rows: Sequence[Row], cluster: Cluster, seconds: float, results: list[Result]
) -> list[str]:
    problems: list[str] = []
    print(f"== {len(cluster.members)} members of {cluster.name}: {len(rows)} rows", flush=True)
    await cluster.start()
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cluster.call, stop)
        for row in rows:
            result = await measure(row, cluster, seconds * row.longer)
            results.append(result)
            print(plain(result), flush=True)
            for problem in result.problems:
                print(f"    {problem}", flush=True)
                if isinstance(cluster, Ours):
                    problems.append(f"{title(row)}: {problem}")
        stop.set()
    if isinstance(cluster, Ours):
        try:
            await cluster.check()
        except AssertionError as error:
            problems.append(str(error))
        else:
            print(f"{cluster.record.calls} calls ended in time, the longest in "
                  f"{cluster.record.longest_s:.2f} s; {len(cluster.record.history)} operations "
                  "linearizable", flush=True)  # fmt: skip
    return problems


async def _until_input_ends(work: Callable[[], Awaitable[list[str]]]) -> list[str] | None:
    """What comes of it; None: our input ended before."""
    problems: list[str] | None = None

    async def watch() -> None:
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            while await stdin.receive_some():
                pass
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        problems = await work()
        nursery.cancel_scope.cancel()
    return problems


def inside(options: argparse.Namespace) -> int:
    """The rows, the table, the exit code."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="network-nemesis-") as name:
        directory = Path(options.keep or name)
        directory.mkdir(parents=True, exist_ok=True)
        work = partial(run_rows, chosen_rows(options.only), directory, options, results)
        problems = trio.run(_until_input_ends, work)
    if options.markdown:
        print(markdown(results))
    if problems is None:
        return EXIT_INTERRUPTED
    print("\n".join(["", "NOT AS IT SHOULD BE", *problems] if problems else ["all is well"]))
    return 1 if problems else 0


# --- outside ------------------------------------------------------------------------------------


def chosen_rows(only: Sequence[str]) -> list[Row]:
    """Those whose group is one of these, or whose name has one of these in it; of none, all."""
    return [
        row
        for row in ROWS
        if not only or any(word == row.group or word in row.name for word in only)
    ]


def outside(words: Sequence[str], options: argparse.Namespace) -> int:
    """Run the inside until it ends, or we are to end."""
    print(f"seed {options.seed}, {options.seconds:g} s a row", flush=True)
    process = subprocess.Popen(
        command([sys.executable, "-m", "tests.network_nemesis", INSIDE, *words,
                 "--seed", str(options.seed)]),
        stdin=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    old = signal.signal(signal.SIGTERM, _interrupted)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.stdin.close()
        print("interrupted: ending what was started", flush=True)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        return EXIT_INTERRUPTED
    finally:
        process.kill()  # and all that is inside with it
        process.wait()
        signal.signal(signal.SIGTERM, old)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.network_nemesis",
        description="Servers in network namespaces, and a network between them that is broken.",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD",
                        help="rows of this group, or with this in their name")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long a fault lasts")
    parser.add_argument("--seed", type=int, default=None, help="of the switch and the clients")
    parser.add_argument("--who", choices=("both", "trioraft", "etcd"), default="both",
                        help="whose members; etcd only where it is installed")  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="the table at the end")
    parser.add_argument("--keep", metavar="DIR", help="leave the members' logs and data there")
    parser.add_argument("--list", action="store_true", help="say what rows there are")
    options = parser.parse_args(words)
    if options.seed is None:
        options.seed = random.randrange(1_000_000)
    if not options.seconds > 0:
        parser.error("--seconds: give more than 0")
    if not chosen_rows(options.only):
        parser.error(f"no row has any of {', '.join(options.only)}; see --list")
    return options


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    is_inside = words[:1] == [INSIDE]
    options = parse(words[1:] if is_inside else words)
    if is_inside:
        return inside(options)
    if options.list:
        print("\n".join(f"{row.group:7} {row.name}" for row in chosen_rows(options.only)))
        return 0
    reason = why_not()
    if reason is not None:
        print(f"network nemesis skipped: {reason}")
        return 0
    return outside(words, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
