"""`trioraft viz` as a command: its options, its output, its exit code.

With `--json`, standard output has the JSON and nothing else. A log that cannot be shown is one
message and exit code 2; the other logs are shown all the same.
"""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import click

from ..viz.analysis import analyse_log, analyse_logs
from ..viz.compare import Comparison, compared, comparison_plain, comparison_text
from ..viz.model import Run
from ..viz.reading import LogError
from ..viz.report import json_text, report, runs_json, summary
from .exits import EXIT_USAGE
from .saying import complain, say, say_block, say_json, show_progress
from .signature import Argument, Exit, Option, command_of

_T = TypeVar("_T")

OUT_DEFAULT: Final = "trioraft-viz"
PROGRESS_FROM_BYTES: Final = 8 << 20
"""Smaller logs are read before anybody wonders."""

HELP: Final = """\
Show what happened in a log: a picture of each run, and what was wrong.

Reads raftlogs (trioraft's, and those of eliben/raft, as they come out of a terminal), trioraft's \
JSON lines, and logs of etcd and of hashicorp/raft (Consul, Vault, Nomad) as far as they tell. \
Several logs of one node each are one run. Says what it found, and writes an HTML page for each run.

Example:  trioraft viz trioraft-demo.raftlog --open

Example:  trioraft viz vault-0.log vault-1.log vault-2.log --open

Example:  trioraft viz --compare before.raftlog after.raftlog --open

Exit code: 0 all logs were shown, 1 the pages could not be made, 2 a log that is none or a wrong \
option.
"""
"""Paragraphs of one line each: click fills lines, whatever the terminal's width."""


def command() -> click.Command:
    """The command."""
    return command_of(viz, "viz", HELP)


def viz(
    logs: Annotated[list[Path], Argument(metavar="LOG...", help="The logs to show.")],
    out: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            show_default=False,
            help=f"Where to write the pages; made if needed. By default {OUT_DEFAULT} in the "
            "current directory.",
        ),
    ] = None,
    open_page: Annotated[bool, Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[
        bool,
        Option(
            "--json",
            help="Print runs and findings as JSON. Pages are written only with --out or --open.",
        ),
    ] = False,
    compare: Annotated[
        bool,
        Option(
            "--compare",
            help="Lay the runs of two logs, BEFORE and AFTER, beside each other, and say how they "
            "differ. Runs of the same name belong together.",
        ),
    ] = False,
) -> None:
    if compare:
        _compare(logs, out, open_page=open_page, as_json=as_json)
        return
    runs, is_complete = _read(logs)
    if not runs:
        raise Exit(EXIT_USAGE)
    directory = Path(OUT_DEFAULT) if out is None else out
    is_wanted = out is not None or open_page or not as_json
    index = _write(runs, directory) if is_wanted else None
    if as_json:
        say_json(runs_json(runs))
    else:
        say_block(report(runs))
        say(summary(runs) + ("" if index is None else f"; pages: {index}"))
    if open_page and index is not None:
        _open(index)
    if not is_complete:
        raise Exit(EXIT_USAGE)


def _compare(logs: list[Path], out: Path | None, *, open_page: bool, as_json: bool) -> None:
    if len(logs) != 2:
        complain(
            f"trioraft viz: --compare takes two logs, BEFORE and AFTER, and {len(logs)} "
            f"{'was' if len(logs) == 1 else 'were'} given"
        )
        raise Exit(EXIT_USAGE)
    (before, is_complete), (after, is_complete_too) = (_read([log]) for log in logs)
    if not (is_complete and is_complete_too):
        raise Exit(EXIT_USAGE)
    comparisons = compared(before, after)
    directory = Path(OUT_DEFAULT) if out is None else out
    is_wanted = out is not None or open_page or not as_json
    pages: list[Path] = []
    if is_wanted:
        pages = _written(lambda: _comparison_pages(comparisons, directory), directory)
    if as_json:
        say_json(json_text({"comparisons": [comparison_plain(one) for one in comparisons]}))
    else:
        for one in comparisons:
            say_block(comparison_text(one))
    for page in pages:
        if not as_json:
            say(f"page: {page}")
    if open_page and pages:
        _open(pages[0])


def _comparison_pages(comparisons: list[Comparison], directory: Path) -> list[Path]:
    from ..viz.page import write_comparisons

    return write_comparisons(comparisons, directory)


def _open(page: Path) -> None:
    if not webbrowser.open(page.resolve().as_uri()):
        complain(f"trioraft viz: found no browser; open {page} in one")


def _read(logs: list[Path]) -> tuple[list[Run], bool]:
    """The runs of all logs, and whether every log could be read."""
    shown: dict[Path, _ReadProgress] = {path: _ReadProgress(path) for path in logs}
    try:
        return list(analyse_logs(logs, lambda path, size: shown[path].show(size))), True
    except LogError:
        pass  # which of them it is, and what the others have, is told one by one
    finally:
        for progress in shown.values():
            progress.clear()
    return _read_each(logs)


def _read_each(logs: list[Path]) -> tuple[list[Run], bool]:
    runs: list[Run] = []
    is_complete = True
    for path in logs:
        progress = _ReadProgress(path)
        try:
            runs += analyse_log(path, progress.show)
        except LogError as error:
            progress.clear()
            complain(f"trioraft viz: {error}")
            is_complete = False
        progress.clear()
    return runs, is_complete


def _write(runs: list[Run], directory: Path) -> Path:
    # Pages need jinja2, JSON does not: who wants only that need not wait for it.
    from ..viz.page import write_pages

    return _written(lambda: write_pages(runs, directory), directory)


def _written(write: Callable[[], _T], directory: Path) -> _T:
    try:
        return write()
    except OSError as error:
        reason = error.strerror or str(error)
        complain(
            f"trioraft viz: cannot write pages to {directory}: {reason}. "
            "Name another directory with --out DIR."
        )
        raise Exit(EXIT_USAGE) from None


class _ReadProgress:
    """How far the reading is, on a terminal's standard error; else nothing."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            self._size_bytes = path.stat().st_size
        except OSError:
            self._size_bytes = 0  # the reading will say what is wrong
        self._is_wanted = sys.stderr.isatty() and self._size_bytes >= PROGRESS_FROM_BYTES
        self._is_shown = False

    def show(self, read_bytes: int) -> None:
        if self._is_wanted:
            share = min(100, 100 * read_bytes // self._size_bytes)
            show_progress(f"reading {self._name}: {share} %")
            self._is_shown = True

    def clear(self) -> None:
        """Leave no trace."""
        if self._is_shown:
            show_progress("")
