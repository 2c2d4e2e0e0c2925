"""The report at the end: the table of steps, the totals, the verdict of the leak check."""

from __future__ import annotations

from typing import Final, final

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from trioleaks import KINDS, Leak, LeakKind

from ..saying import shown_text
from .board import Board, Step, StepState
from .views import milliseconds

_ALWAYS_COUNTED: Final = (LeakKind.TASK, LeakKind.THREAD, LeakKind.DESCRIPTOR)
"""Kinds that the verdict speaks of even when there are none left."""


@final
@attrs.frozen
class Report:
    """What a run of the demo came to."""

    board: Board
    took_s: float
    """How long all of it took, in seconds, pauses for the reader included."""
    leaks: tuple[Leak, ...]
    leak_report: str
    """The leak check's own words; empty when nothing leaked."""
    signal_name: str | None
    """What ended the run early, if anything did."""
    failure: str = ""
    """Which line of a scenario failed, and what was seen instead; empty when none did."""


def print_report(
    console: Console, report: Report, *, log: str, picture: str | None, seed: int
) -> None:
    """Print it.

    Args:
        console: where to.
        report: of a run.
        log: where the log is, and what it is, in words.
        picture: where the log's picture is, or the command that draws it; None: there is none.
        seed: that makes the timeouts the same again.
    """
    board = report.board
    console.print()
    console.print(_table(board))
    console.print()
    if report.signal_name is not None:
        _line(console, f"interrupted by {report.signal_name} after {report.took_s:.1f} s", "yellow")
    terms = f"{board.term} term{'' if board.term == 1 else 's'}"
    totals = f"{board.messages} messages, {terms}, {report.took_s:.1f} s"
    _line(console, f"{totals}; the same timeouts again: --seed {seed}")
    _line(console, f"log: {log}")
    if picture is not None:
        _line(console, f"picture: {picture}")
    if report.failure:
        _line(console, "scenario FAILED", "bold red")
        for line in report.failure.splitlines():
            _line(console, line)
    if report.leaks:
        _line(console, f"leak check FAILED: {verdict(report.leaks)}", "bold red")
        _line(console, report.leak_report)
    else:
        _line(console, f"leak check passed: {verdict(report.leaks)}", "bold green")


def verdict(leaks: tuple[Leak, ...]) -> str:
    """How much of each kind was left: `0 tasks, 0 threads, 0 descriptors left`."""
    counts = []
    for kind in KINDS:
        count = sum(1 for leak in leaks if leak.kind is kind)
        if count or kind in _ALWAYS_COUNTED:
            counts.append(f"{count} {kind.value}{'' if count == 1 else 's'}")
    return f"{', '.join(counts)} left"


def _table(board: Board) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("step", no_wrap=True)
    table.add_column("how long", justify="right", no_wrap=True)
    table.add_column("what happened")
    for step in board.steps:
        if step.state is not StepState.AHEAD:
            table.add_row(step.name, milliseconds(step.took_s), _outcome(step))
    return table


def _outcome(step: Step) -> str:
    return step.outcome if step.state is StepState.DONE else "not finished"


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(shown_text(text, style), soft_wrap=True)
