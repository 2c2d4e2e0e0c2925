"""`trioraft demo` as a command: its options, its output, its exit code.

What the user got wrong is said in one message before anything starts, with exit code 2.
"""

from __future__ import annotations

import enum
import random
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import attrs
import click
import trio
from rich.console import Console

from ...core.errors import RaftError
from ...scenario import Scenario, ScenarioFailed, Step
from ...viz.analysis import analyse_log
from ...viz.reading import LogError
from .. import scenarios
from ..exits import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_TERMINATED, exiting
from ..saying import say, say_block, shown_text
from ..signature import Argument, BadParameter, Exit, Option, command_of
from . import lab as lab_scenes
from .report import print_report
from .run import Tale, open_log, run_demo, story_of
from .scene import check, has_sockets, tale_of
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

With a SCENARIO, that is what happens instead, and what is expected: one that comes with trioraft \
(--list), or a text of your own (docs/scenarios.md has every word).

Example:  trioraft demo --nodes 5 --seed 42 --log five.raftlog --viz pages

Example:  trioraft demo leader-disconnect

Exit code: 0 all well, 1 a leak or a failure, 2 a wrong option or a mistake in a scenario, 130 \
after Ctrl-C, 143 after SIGTERM.
"""
SLOW_ON_A_TERMINAL: Final = 5.0
"""So many times as slow is a scenario played for eyes."""
SLOW_MAX: Final = 100


def command() -> click.Command:
    """The command."""
    return command_of(demo, "demo", HELP)


_Scenario: TypeAlias = Annotated[
    str | None,
    Argument(
        metavar="[SCENARIO]",
        help="What happens: a name that --list shows, or a file.",
        shell_complete=scenarios.complete,
    ),
]
_ListAll: TypeAlias = Annotated[bool, Option("--list", help="List the scenarios, and play none.")]
_Show: TypeAlias = Annotated[
    bool, Option("--show", help="Print the scenario's text, and do not play.")
]
_Slow: TypeAlias = Annotated[
    int | None,
    Option(
        min=1,
        max=SLOW_MAX,
        metavar="N",
        show_default=False,
        help="Play a scenario so many times as slow, the nodes' patience included. By default "
        f"{SLOW_ON_A_TERMINAL:g} on a terminal, and 1 elsewhere.",
    ),
]
_Nodes: TypeAlias = Annotated[
    int | None,
    Option(
        min=1,
        max=NODES_MAX,
        show_default=False,
        help="How many nodes; by default 3. 3, 5 or 7 make sense. A scenario says it itself.",
    ),
]
_Lab: TypeAlias = Annotated[
    Path | None,
    Option(
        metavar="DIR",
        show_default=False,
        help="Play a scenario on the servers of `trioraft cluster N --lab --data DIR`, which runs.",
    ),
]
_Seed: TypeAlias = Annotated[
    int | None,
    Option(help="Seed of the random election timeouts; drawn if not given.", show_default=False),
]
_Log: TypeAlias = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        show_default=False,
        help="Where to write the log; replaced if it exists. By default "
        "trioraft-demo.raftlog (.jsonl, .log) in the current directory.",
    ),
]
_LogFormat: TypeAlias = Annotated[
    LogFormat, Option(help="raftlog has every message; the others are shorter.")
]
_Viz: TypeAlias = Annotated[
    Path | None,
    Option(
        metavar="DIR",
        show_default=False,
        help="Also draw a picture of the log: an HTML page in this directory.",
    ),
]


def demo(
    scenario: _Scenario = None,
    list_all: _ListAll = False,
    show: _Show = False,
    slow: _Slow = None,
    nodes: _Nodes = None,
    lab: _Lab = None,
    seed: _Seed = None,
    log: _Log = None,
    log_format: _LogFormat = LogFormat.RAFTLOG,
    viz: _Viz = None,
) -> None:
    if list_all:
        for line in scenarios.listed():
            say(line)
        raise Exit(0)
    played = None
    if scenario is not None:
        fits = check if lab is None else partial(lab_scenes.check, directory=lab)
        played = scenarios.read("trioraft demo", scenario, (lambda _: None) if show else fits)
    beside = {"--show": show, "--slow": slow, "--lab": lab}
    _refuse_beside(played, beside, nodes)
    if played is not None and show:
        say_block(played.text.rstrip("\n"))
        raise Exit(0)
    if played is not None and lab is not None:
        with exiting("trioraft demo", RaftError):
            raise Exit(_run_in_lab(played, lab))
    if seed is None:
        of_its_own = None if played is None else played.settings.seed
        seed = random.randrange(SEEDS) if of_its_own is None else of_its_own
    path = Path(_LOG_NAMES[log_format]) if log is None else log
    if viz is not None:
        _refuse_unusable(viz, log_format)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an odd encoding is no reason to fail
    with exiting("trioraft demo", RaftError, LogError):
        what = _Wanted(played, 3 if nodes is None else nodes, slow, seed)
        raise Exit(_run(what, path, log_format, viz))


def _refuse_beside(
    played: Scenario | None, beside: Mapping[str, object], nodes: int | None
) -> None:
    """Say which option does not go with what was named."""
    if played is None:
        for option, given in beside.items():
            if given:
                raise BadParameter("name a scenario; --list shows all.", param_hint=f"'{option}'")
    elif nodes is not None:
        raise BadParameter(
            f"{played.name} says itself how many there are: {played.settings.nodes}.",
            param_hint="'--nodes'",
        )


def _run_in_lab(scenario: Scenario, directory: Path) -> int:
    """Line by line as it is played; the laboratory's page shows the rest."""
    lines = scenario.text.splitlines()
    say(f"trioraft demo: {scenario.name} on the servers in {directory}")
    if scenario.about:
        say(scenario.about)
    told: list[int] = []

    def on_step(step: Step, at_s: float) -> None:
        if not told or told[-1] != step.line:
            told.append(step.line)
            say(f"{at_s:9.3f} s  line {step.line}: {lines[step.line - 1].strip()}")

    try:
        trio.run(lab_scenes.play_in_lab, scenario, directory, on_step)
    except ScenarioFailed as failure:
        say("scenario FAILED")
        say_block(str(failure))
        return EXIT_FAILURE
    say("all of it came true")
    return 0


@attrs.frozen
class _Wanted:
    """What is to be told."""

    scenario: Scenario | None
    nodes: int
    slow: int | None
    seed: int

    def title(self, factor: float) -> str:
        if self.scenario is None:
            return f"{_count(self.nodes)} over loopback TCP, seed {self.seed}"
        over = "loopback TCP" if has_sockets(self.scenario) else "a network in memory"
        pace = "" if factor == 1 else f", {factor:g} times as slow"
        name, size = self.scenario.name, self.scenario.settings.nodes
        return f"{name}: {_count(size)} over {over}, seed {self.seed}{pace}"

    def tale(self, factor: float, picture: str) -> Tale:
        if self.scenario is None:
            return story_of(self.nodes, self.seed)
        return tale_of(self.scenario.slowed(factor), self.seed, picture=picture)


def _count(nodes: int) -> str:
    return f"{nodes} node{'s' if nodes > 1 else ''}"


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


def _run(wanted: _Wanted, path: Path, log_format: LogFormat, viz: Path | None) -> int:
    console = Console()
    is_watched = console.is_interactive and sys.stdout.isatty()
    # isatty as well: FORCE_COLOR makes rich take a pipe for a terminal.
    factor = wanted.slow or (SLOW_ON_A_TERMINAL if is_watched else 1.0)
    drawn_by = _picture(path, log_format, None) or ""
    with ExitStack() as resources:
        try:
            log = resources.enter_context(open_log(path, log_format.value))
        except OSError as error:
            raise BadParameter(
                f"cannot write {str(path)!r}: {error.strerror}. Name another file with --log FILE.",
                param_hint="'--log'",
            ) from error
        tale = wanted.tale(factor, drawn_by)
        view = _view(console, wanted, factor, is_watched=is_watched)
        report = trio.run(partial(run_demo, tale, view=view, log=log))
    picture = _picture(path, log_format, viz)
    log_text = f"{path} ({log_format.value})"
    print_report(console, report, log=log_text, picture=picture, seed=wanted.seed)
    if report.leaks or report.failure:
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


def _view(console: Console, wanted: _Wanted, factor: float, *, is_watched: bool) -> DemoView:
    title = f"trioraft demo: {wanted.title(factor)}"
    if is_watched:
        timing = None if wanted.scenario is None else wanted.scenario.slowed(factor).settings.timing
        return LiveView(console, title, timing)
    console.print(shown_text(title), soft_wrap=True)
    if wanted.scenario is not None and wanted.scenario.about:
        console.print(shown_text(wanted.scenario.about), soft_wrap=True)
    return PlainView(console)
