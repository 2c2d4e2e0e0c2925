"""python -m benchmarks.throughput: what three processes carry, and beside them PySyncObj.

Rules of this file:

* It only asks for what `measuring` measures, case by case, and tells of it. Nothing is
  drawn while a case runs.
* What cannot work is said in one line before anything is measured (exit 2). Ctrl-C prints what
  was measured so far (exit 130), and so does a node that fails (exit 1).
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import attrs
import trio

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
except ModuleNotFoundError as error:
    raise SystemExit(
        f"{error.name} is not installed here: install the extra trioraft[bench]"
    ) from None

from ..commands import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    ending_on_interrupt,
    table_console,
    why_no_plot,
    why_not_writable,
)
from ..processes import ProcessError
from .cases import STORAGES, Case, Collector, Kind, Mode, Storage, System, cases_of
from .measuring import Settings, endure, measure, restart
from .plot import save_plot
from .report import Measured, document, print_tables

QUICK_SECONDS: Final = 0.5
QUICK_ENTRIES: Final = 100_000
SECONDS_MIN: Final = 0.05

USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""What all mistakes in a command line have in common; typer has no public name for it."""

PYSYNCOBJ_MISSING: Final = (
    "PySyncObj is not installed here; to measure it beside trioraft, install the extra "
    "trioraft[bench]"
)

Job: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]
"""What it is called, and what measures it."""


@attrs.frozen
class Options:
    """What was asked for, checked."""

    kinds: tuple[Kind, ...]
    cases: tuple[Case, ...]
    storages: tuple[Storage, ...]
    entries: int
    settings: Settings
    json_path: Path | None
    plot_path: Path | None


# -- the command line --------------------------------------------------------------------------

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES: Final = """
Examples:

  all of it, three minutes:   python -m benchmarks.throughput

  a glance:                   python -m benchmarks.throughput --quick

  one case:                   python -m benchmarks.throughput --mode tasks --concurrency 64

  a million entries:          python -m benchmarks.throughput --case endurance --case restart

  to keep:                    python -m benchmarks.throughput --json t.json --plot t.png
"""


Kinds = Annotated[
    list[Kind] | None,
    typer.Option(
        metavar="CASE",
        help="throughput, endurance or restart; may be repeated.",
        show_default="throughput",
    ),
]
Systems = Annotated[
    list[System] | None,
    typer.Option(
        metavar="NAME", help="trioraft or pysyncobj; may be repeated.", show_default="both"
    ),
]
Storages = Annotated[
    list[Storage] | None,
    typer.Option(
        metavar="NAME",
        help="memory, sqlite or journal (PySyncObj's); may be repeated.",
        show_default="all",
    ),
]
Modes = Annotated[
    list[Mode] | None,
    typer.Option(
        metavar="NAME",
        help="tasks (each awaits propose), window (one task submits) or open (so many a second).",
        show_default="tasks and window",
    ),
]
Concurrencies = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        max=100_000,
        metavar="N",
        help="Tasks, size of the window, or commands a second; may be repeated.",
        show_default="tasks 1, 64, 1000; window 64, 1000, 10000; open 2000",
    ),
]
Seconds = Annotated[
    float, typer.Option(min=SECONDS_MIN, max=3600, help="How long each case is measured.")
]
Entries = Annotated[
    int, typer.Option(min=1000, max=100_000_000, help="Length of the log in endurance, restart.")
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help=f"{QUICK_SECONDS:g} s for each case, {QUICK_ENTRIES:,} entries."),
]
Directory = Annotated[
    Path, typer.Option("--dir", help="Where durable storages are put: the disk matters.")
]
Garbage = Annotated[
    Collector,
    typer.Option(
        "--gc",
        metavar="NAME",
        help="Python's garbage collection in the nodes: default, freeze or off.",
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the numbers here.")
]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw them here.")
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Profile the leader in the one case that is chosen."),
]
OfFollower = Annotated[bool, typer.Option("--profile-follower", help="Profile a follower instead.")]


@app.command(epilog=EXAMPLES)
def throughput(
    case: Kinds = None,
    system: Systems = None,
    storage: Storages = None,
    mode: Modes = None,
    concurrency: Concurrencies = None,
    seconds: Seconds = 3.0,
    entries: Entries = 1_000_000,
    quick: Quick = False,
    directory: Directory = Path(),
    collector: Garbage = Collector.DEFAULT,
    json_path: JsonFile = None,
    plot_path: PlotFile = None,
    profile: ProfileFile = None,
    profile_follower: OfFollower = False,
) -> None:
    """How many commands a second do three processes agree on, and how long does each take?

    Each case runs in three fresh processes that talk over the loopback; the load runs in the
    leader's process. Where PySyncObj is installed, it is measured right after trioraft.
    """
    systems = _systems(system)
    storages = tuple(dict.fromkeys(storage or Storage))
    kinds = tuple(dict.fromkeys(case or [Kind.THROUGHPUT]))
    settings = Settings(
        seconds=QUICK_SECONDS if quick else seconds,
        directory=directory.absolute(),
        collector=collector,
        profile=None if profile is None else profile.absolute(),
        profiles_follower=profile_follower,
    )
    options = Options(
        kinds,
        tuple(cases_of(systems, storages, mode or [Mode.TASKS, Mode.WINDOW], concurrency)),
        tuple(one for one in STORAGES[System.TRIORAFT] if one in storages),
        QUICK_ENTRIES if quick else entries,
        settings,
        json_path,
        plot_path,
    )
    _check(options)
    raise typer.Exit(_run(options))


def _systems(asked: Sequence[System] | None) -> list[System]:
    systems = list(dict.fromkeys(asked or (System.TRIORAFT, System.PYSYNCOBJ)))
    if System.HASHICORP in systems:
        raise typer.BadParameter("hashicorp/raft is measured by python -m benchmarks.peers")
    if System.PYSYNCOBJ in systems and importlib.util.find_spec("pysyncobj") is None:
        if asked and systems == [System.PYSYNCOBJ]:
            raise typer.BadParameter(PYSYNCOBJ_MISSING)
        _say(f"left out: {PYSYNCOBJ_MISSING}")
        systems.remove(System.PYSYNCOBJ)
    return systems


def _check(options: Options) -> None:
    if Kind.THROUGHPUT in options.kinds and not options.cases:
        raise typer.BadParameter(
            "there is no such case: trioraft has memory and sqlite, PySyncObj memory and journal"
        )
    if Kind.ENDURANCE in options.kinds and not options.storages:
        raise typer.BadParameter("endurance is of trioraft, with --storage memory or sqlite")
    settings = options.settings
    if not (settings.directory.is_dir() and os.access(settings.directory, os.W_OK)):
        raise typer.BadParameter(
            f"--dir is {str(settings.directory)!r}: give a directory that can be written"
        )
    for path, complaint in (
        (options.json_path, why_not_writable),
        (options.plot_path, why_no_plot),
        (settings.profile, why_not_writable),
    ):
        if path is not None and (said := complaint(path)) is not None:
            raise typer.BadParameter(said)
    if settings.profile is not None and (
        options.kinds != (Kind.THROUGHPUT,)
        or [case.system for case in options.cases] != [System.TRIORAFT]
    ):
        raise typer.BadParameter(
            "--profile is for one case of trioraft: choose it with --system, --storage, --mode "
            "and --concurrency"
        )


def _say(text: str) -> None:
    print(f"benchmarks.throughput: {text}", file=sys.stderr, flush=True)


# -- measuring ---------------------------------------------------------------------------------


def _jobs(options: Options, measured: Measured) -> Iterator[Job]:
    """Everything to be done, in order."""
    settings = options.settings
    for kind in options.kinds:
        match kind:
            case Kind.THROUGHPUT:
                for case in options.cases:
                    yield str(case), partial(_measure, case, settings, measured)
            case Kind.ENDURANCE:
                for storage in options.storages:
                    name = f"endurance, {storage}, {options.entries:,} entries"
                    yield name, partial(_endure, storage, options, measured)
            case Kind.RESTART:
                for with_snapshots in (False, True):
                    log = "cut by snapshots" if with_snapshots else "whole log"
                    name = f"restart, {log}, {options.entries:,} entries"
                    yield name, partial(_restart, options, measured, with_snapshots)


async def _measure(case: Case, settings: Settings, measured: Measured) -> None:
    measured.results.append(await measure(case, settings))


async def _endure(storage: Storage, options: Options, measured: Measured) -> None:
    measured.endurance.append(await endure(storage, options.entries, options.settings))


async def _restart(options: Options, measured: Measured, with_snapshots: bool) -> None:
    measured.restarts.append(
        await restart(options.entries, options.settings, with_snapshots=with_snapshots)
    )


async def _measure_all(
    jobs: Sequence[Job], measured: Measured, begin: Callable[[str], None]
) -> None:
    """Do every job; Ctrl-C ends it between two events, tidily."""
    with trio.CancelScope() as scope:
        async with ending_on_interrupt(scope):
            for name, job in jobs:
                begin(name)
                await job()
    measured.was_interrupted = scope.cancelled_caught


@contextmanager
def _progress(jobs: Sequence[Job]) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, elsewhere a line; drawn only when a job begins."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield lambda name: console.print(name, markup=False)
        return
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("starting", total=len(jobs), completed=-1)
        yield lambda name: progress.update(task, advance=1, description=name, refresh=True)


def _run(options: Options) -> int:
    measured = Measured()
    jobs = list(_jobs(options, measured))
    code = 0
    try:
        with _progress(jobs) as begin:
            trio.run(_measure_all, jobs, measured, begin)
    except KeyboardInterrupt:  # before or after what handles it better
        measured.was_interrupted = True
    except (ProcessError, OSError) as error:
        _say(str(error))
        code = EXIT_FAILED
    try:
        _deliver(options, measured)
    except OSError as error:
        _say(str(error))
        code = EXIT_FAILED
    if measured.was_interrupted:
        _say("interrupted")
        return EXIT_INTERRUPTED
    return code


def _deliver(options: Options, measured: Measured) -> None:
    console = table_console()
    print_tables(measured, console)
    if measured.results and options.settings.profile is not None:
        console.print(
            "Profiled, with long election timeouts: these are not the product's figures. Next: "
            f"python -m pstats {options.settings.profile}",
            soft_wrap=True,
        )
    if options.json_path is not None:
        text = json.dumps(document(measured, options.settings), indent=1, ensure_ascii=False)
        options.json_path.write_text(text + "\n", encoding="utf-8")
    if options.plot_path is not None and measured.results:
        save_plot(measured.results, options.plot_path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code. Mistakes are told in one line."""
    try:
        code = app(argv, prog_name="python -m benchmarks.throughput", standalone_mode=False)
    except USAGE_ERROR as error:
        message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        _say(" ".join(message.split()))
        return EXIT_USAGE
    return int(code or 0)
