"""`trioraft sim` as a command: its options, its output, its exit code.

What is printed to standard output is the same for the same seeds, wherever they ran, but for the
speed; progress goes to standard error, and only to a terminal.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import attrs
import click

from ..core.errors import ConfigError
from ..scenario import Scenario, ScenarioError
from ..sim.directed import DIRECTED
from ..sim.judging import check_history
from ..sim.outcomes import RunOptions, RunOutcome
from ..sim.report import FailureReport, Summary, failure_json, failure_lines, raftlog_lines
from ..sim.shrink import RUNS_MAX, shrink
from ..sim.simulation import TIER
from ..sim.spread import differing_elsewhere, over_dask, over_processes
from ..sim.tiers import run_seed_of
from ..viz.analysis import analyse_log
from ..viz.page import write_pages
from . import scenarios
from .exits import EXIT_FAILURE, EXIT_USAGE, exiting
from .saying import complain, say, say_block, show_progress
from .signature import BadParameter, Exit, Option, command_of

NODES_MAX: Final = 15
TIER_OF_SCENARIOS: Final = 2
"""It can do all that a text can ask for, but for a pause."""
SHRUNK_MAX: Final = 3
"""Failing seeds that are shrunk and traced; of others only the command is shown."""
RECHECK_EVERY: Final = 100
PROGRESS_S: Final = 0.2

HELP: Final = """\
Run whole clusters in a deterministic simulation, through everything that goes wrong.

A seed draws a cluster, its options and a schedule of faults; a storm follows, then a majority is \
healed and must serve again. Every rule of Raft is checked after every event, and the clients' \
history for linearizability. Same seed, same run, byte for byte.

A failing seed is printed with the command that repeats it, the fewest faults with which it still \
fails, a raftlog of it for trioraft viz, and its picture.

With --scenario, a scenario is played instead, with every seed: other timeouts, other delays.

Example:  trioraft sim --seeds 0:1000 --nodes 5 --jobs auto

Example:  trioraft sim --scenario leader-disconnect --seeds 0:100

Exit code: 0 all seeds clean, 1 a seed failed, 2 a wrong option or a mistake in a scenario, 130 \
after Ctrl-C.
"""


@attrs.frozen
class _Task:
    """What is to be run, and where."""

    seeds: range
    tier: int
    options: RunOptions
    jobs: int
    dask: str | None
    directory: Path
    recheck: bool

    def outcomes(self) -> Iterator[RunOutcome]:
        """Of all seeds, in their order."""
        tier, options = self.tier, self.options
        if self.dask is not None:
            return over_dask(self.seeds, tier=tier, options=options, address=self.dask)
        return over_processes(self.seeds, tier=tier, options=options, jobs=self.jobs)


_Seeds: TypeAlias = Annotated[
    str, Option(metavar="A:B", help="Seeds A … B - 1; N alone stands for 0:N.")
]
_Nodes: TypeAlias = Annotated[
    int | None,
    Option(min=1, max=NODES_MAX, show_default=False, help="How many; by default each seed says."),
]
_Tier: TypeAlias = Annotated[
    int | None,
    Option(
        min=1,
        max=2,
        show_default=False,
        help="1: many cores. 2: real nodes, in virtual time. By default 1, and 2 for a scenario.",
    ),
]
_Scenario: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="NAME|FILE",
        show_default=False,
        shell_complete=scenarios.complete,
        help="Play this, instead of a storm of everything: a name that `trioraft demo --list` "
        "shows, or a file.",
    ),
]
_Directed: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="|".join(DIRECTED),
        show_default=False,
        help="Instead of a storm of everything. reads: each millisecond, by leases and by asking, "
        "under faults and clocks that make a stale one likely. disks: emptied, copied, exchanged "
        "and replaced. lines: narrow, long, lossy or dead, one after the other, and slow disks, "
        "each with a bound on the time until the cluster moves on.",
    ),
]
_Jobs: TypeAlias = Annotated[str, Option(metavar="N|auto", help="Processes; auto: one a CPU.")]
_Faults: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="1,2,…",
        show_default=False,
        help="Only these of the schedule, by number; none: without any.",
    ),
]
_Trace: TypeAlias = Annotated[
    Path | None,
    Option(
        metavar="DIRECTORY",
        show_default=False,
        help="Where the raftlogs and pictures of failing seeds go (by default here); of a "
        "single seed, in any case.",
    ),
]
_Recheck: TypeAlias = Annotated[
    bool, Option(help="Run 1 % of the seeds again in another process, and compare.")
]
_JsonFile: TypeAlias = Annotated[
    Path | None,
    Option("--json", metavar="FILE", show_default=False, help="Write the report there."),
]
_Dask: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="ADDRESS",
        show_default=False,
        help="Spread over this Dask cluster, as tcp://host:8786, instead of processes here.",
    ),
]


def command() -> click.Command:
    """The command."""
    return command_of(sim, "sim", HELP)


def sim(
    seeds: _Seeds = "0:100",
    nodes: _Nodes = None,
    tier: _Tier = None,
    directed: _Directed = None,
    scenario: _Scenario = None,
    jobs: _Jobs = "auto",
    faults: _Faults = None,
    trace: _Trace = None,
    recheck: _Recheck = False,
    json_file: _JsonFile = None,
    dask: _Dask = None,
) -> None:
    if tier is None:
        tier = TIER if scenario is None else TIER_OF_SCENARIOS
    options = RunOptions(
        nodes,
        _fault_numbers(faults),
        check_history=check_history,
        directed=_directed(directed, tier),
    )
    if scenario is not None:
        given = {"--nodes": nodes, "--faults": faults, "--directed": directed}
        options = attrs.evolve(options, scenario=_scenario(scenario, given))
    task = _Task(
        seeds=_seed_range(seeds),
        tier=tier,
        options=options,
        jobs=_job_count(jobs),
        dask=dask,
        directory=_directory(trace),
        recheck=recheck,
    )
    _check_writable(json_file)
    with exiting("trioraft sim", ConfigError), _mistakes():
        is_traced = trace is not None and len(task.seeds) == 1
        raise Exit(_run(task, json_file, is_traced=is_traced))


# -- the options -----------------------------------------------------------------------------


def _seed_range(text: str) -> range:
    first, _, last = text.rpartition(":")
    try:
        seeds = range(int(first or 0), int(last))
    except ValueError:
        raise _wrong("--seeds", f"{text!r} is no range; give A:B, or N for 0:N") from None
    if not seeds or seeds.start < 0:
        raise _wrong("--seeds", f"{text!r} is empty; give A:B with 0 <= A < B")
    return seeds


def _fault_numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if text == "none":
        return ()
    try:
        return tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        raise _wrong("--faults", f"{text!r} is no list of numbers; give 3,17 or none") from None


def _directed(name: str | None, tier: int) -> str | None:
    if name is not None and (name not in DIRECTED or tier != TIER):
        names = " or ".join(DIRECTED)
        raise _wrong("--directed", f"{name!r}: give {names}, in tier {TIER}")
    return name


def _scenario(name: str, given: Mapping[str, object]) -> Scenario:
    for option, value in given.items():
        if value is not None:
            raise _wrong(option, "a scenario says itself what happens, and to how many")
    return scenarios.read("trioraft sim", name)


@contextmanager
def _mistakes() -> Iterator[None]:
    """A scenario that asks for what this tier cannot do is a mistake in the command line."""
    try:
        yield
    except ScenarioError as error:
        complain(f"trioraft sim: {error}")
        raise Exit(EXIT_USAGE) from None


def _job_count(text: str) -> int:
    if text == "auto":
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise _wrong("--jobs", f"{text!r}: give a number from 1, or auto")


def _directory(path: Path | None) -> Path:
    if path is not None and not path.is_dir():
        raise _wrong("--trace", f"{str(path)!r} is no directory")
    return Path() if path is None else path


def _check_writable(path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise _wrong("--json", f"there is no directory {str(path.parent)!r}")


def _wrong(option: str, message: str) -> BadParameter:
    return BadParameter(message, param_hint=f"'{option}'")


# -- the run ---------------------------------------------------------------------------------


def _run(task: _Task, json_file: Path | None, *, is_traced: bool) -> int:
    run_seed_of(task.tier, task.options)  # a tier that is not there is said before anything starts
    summary, failures, kept = Summary(), list[FailureReport](), list[RunOutcome]()
    progress = _SeedProgress(len(task.seeds))
    try:
        for outcome in task.outcomes():
            summary.add(outcome)
            if task.recheck and (outcome.seed - task.seeds.start) % RECHECK_EVERY == 0:
                kept.append(outcome)
            if outcome.failure is not None:
                progress.clear()
                failures.append(_examine(outcome, task, is_first=len(failures) < SHRUNK_MAX))
                _print(failure_lines(failures[-1]))
            elif is_traced:
                progress.clear()
                for path in _write_trace(outcome.seed, task, task.options):
                    say(f"wrote {path}")
            progress.show(summary)
    finally:
        progress.clear()
        if summary.seeds and (scenario := task.options.scenario) is not None:
            say(_played(summary, scenario))
        elif summary.seeds:
            _print(summary.lines())
        if json_file is not None:
            _write_json(json_file, task, summary, failures)
    differing = differing_elsewhere(kept, task.options) if kept else []
    if kept:
        say(f"{len(kept)} seeds again in another process: {len(differing)} differ {differing}")
    return EXIT_FAILURE if failures or differing else 0


def _examine(outcome: RunOutcome, task: _Task, *, is_first: bool) -> FailureReport:
    """Find out what a failing seed needs to fail."""
    if not is_first:
        return FailureReport(outcome, _command(outcome.seed, task, task.options.only_faults), None)
    if task.options.scenario is not None:  # a text has no faults to leave out
        files = _write_trace(outcome.seed, task, task.options)
        return FailureReport(outcome, _command(outcome.seed, task, None), None, files)
    run_seed = run_seed_of(task.tier)
    shrunk = shrink(outcome, run_seed, task.options, runs_max=RUNS_MAX)
    options = attrs.evolve(task.options, only_faults=shrunk)
    files = _write_trace(outcome.seed, task, options)
    return FailureReport(outcome, _command(outcome.seed, task, shrunk), shrunk, files)


def _write_trace(seed: int, task: _Task, options: RunOptions) -> tuple[str, str]:
    """The raftlog, and a picture of it."""
    outcome = run_seed_of(task.tier, options)(seed, attrs.evolve(options, traced=True))
    path = task.directory / f"trioraft-sim-{task.tier}-{seed}.raftlog"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in raftlog_lines(outcome):
            file.write(line + "\n")
    return str(path), str(write_pages(analyse_log(path), path.with_suffix("")))


def _played(summary: Summary, scenario: Scenario) -> str:
    return (
        f"{scenario.name}: {summary.seeds} seeds, {summary.failed} failed; {summary.delivered} "
        f"messages delivered, {summary.elections} leaders, {summary.commits} entries committed"
    )


def _command(seed: int, task: _Task, faults: tuple[int, ...] | None) -> str:
    words = [f"trioraft sim --tier {task.tier} --seeds {seed}:{seed + 1} --jobs 1"]
    if task.options.scenario is not None:
        words.append(f"--scenario {shlex.quote(scenarios.called(task.options.scenario))}")
    if task.options.directed is not None:
        words.append(f"--directed {task.options.directed}")
    if task.options.nodes is not None:
        words.append(f"--nodes {task.options.nodes}")
    if faults is not None:
        words.append(f"--faults {','.join(map(str, faults)) or 'none'}")
    return " ".join(words)


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        say_block(line)  # a failure may be a traceback


def _write_json(path: Path, task: _Task, summary: Summary, failures: list[FailureReport]) -> None:
    report = {
        "tier": task.tier,
        "seeds": [task.seeds.start, task.seeds.stop],
        "nodes": task.options.nodes,
        "directed": task.options.directed,
        "summary": summary.as_json(),
        "failures": [failure_json(failure) for failure in failures],
    }
    path.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")


class _SeedProgress:
    """One line on a terminal that says how far it is; nothing anywhere else."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_shown = sys.stderr.isatty()
        self._begun_s = self._shown_s = time.monotonic()

    def show(self, summary: Summary) -> None:
        now = time.monotonic()
        if not self._is_shown or now - self._shown_s < PROGRESS_S:
            return
        self._shown_s = now
        rate = summary.seeds / (now - self._begun_s)
        text = f"{summary.seeds}/{self._total} seeds, {summary.failed} failed, {rate:.1f} seeds/s"
        show_progress(text)

    def clear(self) -> None:
        """Make room for something else."""
        if self._is_shown:
            show_progress("")
