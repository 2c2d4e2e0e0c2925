"""`python -m benchmarks.election`: its options, its progress, what it writes.

Rules of this file:

* It measures in real time: real sockets on the loopback, no virtual clock.
* Nothing else happens while a trial runs: the progress bar is drawn between trials, never by a
  thread of its own.
* What cannot work is said in one line, before anything is measured (exit 2). Ctrl-C prints what
  was measured so far (exit 130).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, final

import attrs
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trioraft import ConfigError, Timing

from .. import stats
from ..commands import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ending_on_interrupt,
    machine,
    table_console,
    why_no_plot,
    why_not_writable,
)
from ..processes import ProcessError
from .cases import Case, Setup, Trial
from .measuring import measure
from .plot import save_plot
from .report import Result, print_table
from .watch import NoElectionError

NODES_MIN: Final = 3
"""With fewer, what is left without the leader is no majority."""
NODES_MAX: Final = 15
"""They share one process: with more, that is what would be measured."""

NODES: Final = (3, 5, 7)
PROCESSES: Final = (3,)

_EXAMPLES: Final = """\
cases:
  bootstrap    from all nodes opened, their timers running, to the first leader
  disconnect   the leader is cut off silently: no connection closes, nothing arrives
  crash        the leader's node dies: its connections close
with a process for each node, TCP and SQLite:
  kill         kill -9 of the leader's process, to the next proposal that succeeds
  transfer     transfer_leadership under load, from the call to the next proposal that succeeds
  rolling      each node gets SIGTERM and is started again, under load: the longest time between
               two calls that succeeded

best:
  The theoretical best of a trial is the least of what the followers' election timers had left
  when the leader was lost, plus one round trip. The table shows its median over the trials.
  A leadership that is handed over waits for no timer.

examples:
  python -m benchmarks.election
  python -m benchmarks.election --case disconnect --nodes 3 --trials 100
  python -m benchmarks.election --case kill --trials 200
  python -m benchmarks.election --case crash --case kill --no-fast-failover
  python -m benchmarks.election --election-timeout-ms 50 100 --heartbeat-ms 15
  python -m benchmarks.election --json election.json --plot election.png
"""


@attrs.frozen
class Options:
    """What was asked for, checked."""

    cases: tuple[Case, ...]
    nodes: tuple[int, ...] | None
    """None: what is usual for each case."""
    trials: int
    seed: int
    timing: Timing
    json_path: Path | None
    plot_path: Path | None

    def setups(self) -> list[Setup]:
        """Every case with every number of nodes."""
        return [
            Setup(case, nodes, self.timing, self.seed)
            for case in self.cases
            for nodes in self.nodes or (PROCESSES if case.has_processes else NODES)
        ]


# -- options -----------------------------------------------------------------------------------


@final
class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is for `--help`."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"benchmarks.election: {message}\n")


def parse(argv: Sequence[str] | None) -> Options:
    """Read and check the command line.

    Raises:
        SystemExit: with 2 and one line on standard error, or with 0 after `--help`.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    low_ms, high_ms = args.election_timeout_ms
    try:
        timing = Timing(
            election_timeout_s=(low_ms / 1000, high_ms / 1000),
            heartbeat_interval_s=args.heartbeat_ms / 1000,
            fast_failover=args.fast_failover,
        )
    except ConfigError as error:
        parser.error(str(error))
    for path, complaint in ((args.json, why_not_writable), (args.plot, why_no_plot)):
        if path is not None and (said := complaint(path)) is not None:
            parser.error(said)
    return Options(
        cases=tuple(dict.fromkeys(args.case or Case)),
        nodes=tuple(dict.fromkeys(args.nodes)) if args.nodes else None,
        trials=args.trials,
        seed=args.seed,
        timing=timing,
        json_path=args.json,
        plot_path=args.plot,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m benchmarks.election",
        description="Measure how long a cluster is without a leader, in real time over TCP on the\n"
        "loopback, and compare it with the theoretical best.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nodes", type=_number(NODES_MIN, NODES_MAX), nargs="+", action="extend", metavar="N",
        help="sizes of the cluster (default: 3 5 7; 3 where each node has a process)")  # fmt: skip
    add("--trials", type=_number(1, 100_000), default=50, metavar="N",
        help="elections for each case and size (default: 50)")  # fmt: skip
    add("--case", type=_case, action="append", metavar="CASE",
        help="one of those below; may be repeated (default: all)")  # fmt: skip
    add("--election-timeout-ms", type=float, nargs=2, default=(150.0, 300.0),
        metavar=("LOW", "HIGH"), help="range of election timeouts (default: 150 300)")  # fmt: skip
    add("--heartbeat-ms", type=float, default=50.0, metavar="MS",
        help="heartbeat interval (default: 50)")  # fmt: skip
    add("--no-fast-failover", dest="fast_failover", action="store_false",
        help="let followers wait for their timers although the connection closed")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of timeouts and phases (default: 0)")
    add("--json", type=Path, metavar="FILE", help="write the results as JSON")
    add("--plot", type=Path, metavar="FILE.png", help="draw the distributions")
    return parser


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text) if text.strip().isdecimal() else None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return value

    return number


def _case(text: str) -> Case:
    try:
        return Case(text)
    except ValueError:
        known = ", ".join(case.value for case in Case)
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {known}") from None


# -- measuring ---------------------------------------------------------------------------------

Advance: TypeAlias = Callable[[Setup], None]


@final
@attrs.define
class Measurement:
    """What was measured so far."""

    trials: dict[Setup, list[Trial]] = attrs.field(factory=dict)
    was_interrupted: bool = False

    @property
    def results(self) -> list[Result]:
        """Setups of which there is at least one trial."""
        return [Result(setup, tuple(trials)) for setup, trials in self.trials.items() if trials]


async def run(options: Options, measurement: Measurement, advance: Advance) -> None:
    """Measure everything that was asked for; Ctrl-C ends it between two events, tidily.

    Args:
        options: what to measure.
        measurement: gets each trial as it ends.
        advance: called after each trial.

    Raises:
        NoElectionError: an election took absurdly long.
    """
    with trio.CancelScope() as scope:
        async with ending_on_interrupt(scope):
            for setup in options.setups():
                trials = measurement.trials.setdefault(setup, [])

                def note(trial: Trial, setup: Setup = setup, trials: list[Trial] = trials) -> None:
                    trials.append(trial)
                    advance(setup)

                await measure(setup, options.trials, note)
    measurement.was_interrupted = scope.cancelled_caught


@contextmanager
def _progress(options: Options, measurement: Measurement, console: Console) -> Iterator[Advance]:
    """A bar on a terminal; elsewhere a line when a setup is done."""
    if console.is_terminal:
        total = len(options.setups()) * options.trials
        columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
            task = progress.add_task("opening the cluster", total=total)

            def draw(setup: Setup) -> None:
                progress.update(task, advance=1, description=_name(setup), refresh=True)

            yield draw
        return

    def say(setup: Setup) -> None:
        trials = measurement.trials[setup]
        if len(trials) == options.trials:
            median_ms = stats.percentile(Result(setup, tuple(trials)).took_ms, 50)
            console.print(f"{_name(setup)}: {len(trials)} trials, median {median_ms:.1f} ms")

    yield say


def _name(setup: Setup) -> str:
    return f"{setup.case.value}, {setup.nodes} nodes"


# -- the command -------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = parse(argv)
    measurement = Measurement()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with _progress(options, measurement, errors) as advance:
            trio.run(partial(run, options, measurement, advance))
        _deliver(options, measurement)
    except KeyboardInterrupt:  # before the first trial, or after the last
        measurement.was_interrupted = True
    except (NoElectionError, ProcessError, OSError) as error:
        print(f"benchmarks.election: {error}", file=sys.stderr)
        return EXIT_FAILED
    if measurement.was_interrupted:
        print("benchmarks.election: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _deliver(options: Options, measurement: Measurement) -> None:
    results = measurement.results
    if results:
        print_table(results, table_console())
    if options.json_path is not None:
        text = json.dumps(_document(options, measurement), indent=2, ensure_ascii=False)
        options.json_path.write_text(text + "\n", encoding="utf-8")
    if options.plot_path is not None and results:
        save_plot(results, options.plot_path)


def _document(options: Options, measurement: Measurement) -> dict[str, Any]:
    timing = options.timing
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    return {
        "results": [result.summary() for result in measurement.results],
        "settings": {
            "election_timeout_ms": [round(bound * 1000, 3) for bound in timing.election_timeout_s],
            "heartbeat_ms": round(timing.heartbeat_interval_s * 1000, 3),
            "fast_failover": timing.fast_failover,
            "trials": options.trials,
            "seed": options.seed,
            "network": "tcp over the loopback; kill, transfer, rolling: a process and SQLite for "
            "each node; others: all nodes in one process",
        },
        "machine": machine() | {"load_average": None if math.isnan(load) else round(load, 2)},
        "interrupted": measurement.was_interrupted,
    }
