"""`trioraft demo` as a command: its options, its output, its exit code.

What the user got wrong is said in one message before anything starts, with exit code 2.
"""

from __future__ import annotations

import enum
import random
import shlex
import sys
from contextlib import ExitStack
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Final

import click
import trio
from rich.console import Console

from ...core.errors import RaftError
from ...viz.analysis import analyse_log
from ...viz.reading import LogError
from ..exits import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_TERMINATED, exiting
from ..saying import shown_text
from ..signature import BadParameter, Exit, Option, command_of
from .report import print_report
from .run import open_log, run_demo
from .views import DemoView, LiveView, PlainView

NODES_MAX: Final = 9
"""More do not fit on a terminal of 24 lines."""
SEEDS: Final = 1_000_000


class LogFormat(enum.StrEnum):
    """What the log looks like."""

    RAFTLOG = "raftlog"
    JSON = "json"
    CONSOLE = "console"


_LOG_NAMES: Final = {
    LogFormat.RAFTLOG: "trioraft-demo.raftlog",
    LogFormat.JSON: "trioraft-demo.jsonl",
    LogFormat.CONSOLE: "trioraft-demo.log",
}


HELP: Final = """\
Watch nodes elect a leader, lose it, elect another, and die without a trace.

Real nodes, over TCP on the loopback, all in this process. They elect a leader; it is \
disconnected; the others elect again; it is reconnected; all are killed. In the end: how long \
each step took, and what the leak check found. It takes less than 10 seconds.

Example:  trioraft demo --nodes 5 --seed 42 --log five.raftlog --viz pages

Exit code: 0 all well, 1 a leak or a failure, 2 a wrong option, 130 after Ctrl-C, 143 after \
SIGTERM.
"""


def command() -> click.Command:
    """The command."""
    return command_of(demo, "demo", HELP)


def demo(
    nodes: Annotated[
        int, Option(min=1, max=NODES_MAX, help="How many nodes. 3, 5 or 7 make sense.")
    ] = 3,
    seed: Annotated[
        int | None,
        Option(
            help="Seed of the random election timeouts; drawn if not given.", show_default=False
        ),
    ] = None,
    log: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            show_default=False,
            help="Where to write the log; replaced if it exists. By default "
            "trioraft-demo.raftlog (.jsonl, .log) in the current directory.",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, Option(help="raftlog has every message; the others are shorter.")
    ] = LogFormat.RAFTLOG,
    viz: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            show_default=False,
            help="Also draw a picture of the log: an HTML page in this directory.",
        ),
    ] = None,
) -> None:
    seed = random.randrange(SEEDS) if seed is None else seed
    path = Path(_LOG_NAMES[log_format]) if log is None else log
    if viz is not None:
        _refuse_unusable(viz, log_format)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an odd encoding is no reason to fail
    with exiting("trioraft demo", RaftError, LogError):
        raise Exit(_run(nodes, seed, path, log_format, viz))


def _refuse_unusable(directory: Path, log_format: LogFormat) -> None:
    """Say before the demo what drawing would say after it."""
    if log_format is LogFormat.CONSOLE:
        raise BadParameter(
            "a console log cannot be drawn; leave --log-format out.", param_hint="'--viz'"
        )
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    if not existing.is_dir():
        raise BadParameter(
            f"{str(existing)!r} is not a directory. Name another one with --viz DIR.",
            param_hint="'--viz'",
        )


def _run(nodes: int, seed: int, path: Path, log_format: LogFormat, viz: Path | None) -> int:
    console = Console()
    what = f"{nodes} node{'s' if nodes > 1 else ''} over loopback TCP, seed {seed}"
    with ExitStack() as resources:
        try:
            log = resources.enter_context(open_log(path, log_format.value))
        except OSError as error:
            raise BadParameter(
                f"cannot write {str(path)!r}: {error.strerror}. Name another file with --log FILE.",
                param_hint="'--log'",
            ) from error
        view = _view(console, what)
        report = trio.run(partial(run_demo, nodes=nodes, seed=seed, view=view, log=log))
    picture = _picture(path, log_format, viz)
    log_text = f"{path} ({log_format.value})"
    print_report(console, report, log=log_text, picture=picture, seed=seed)
    if report.leaks:
        return EXIT_FAILURE
    return {None: 0, "SIGTERM": EXIT_TERMINATED}.get(report.signal_name, EXIT_INTERRUPTED)


def _picture(path: Path, log_format: LogFormat, directory: Path | None) -> str | None:
    """Where the picture is, or how to get one; None if this log cannot be drawn."""
    if log_format is LogFormat.CONSOLE:
        return None
    if directory is None:
        return f"trioraft viz {shlex.quote(str(path))} --open"
    # Not at the top: it takes jinja2 a moment to load, and few ask for pages.
    from ...viz.page import write_pages

    return str(write_pages(analyse_log(path), directory))


def _view(console: Console, what: str) -> DemoView:
    # isatty as well: FORCE_COLOR makes rich take a pipe for a terminal.
    if console.is_interactive and sys.stdout.isatty():
        return LiveView(console, f"trioraft demo: {what}")
    console.print(shown_text(f"trioraft demo: {what}"), soft_wrap=True)
    return PlainView(console)
