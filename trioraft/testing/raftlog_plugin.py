"""pytest plugin: `pytest --raftlog FILE` writes what the nodes of each test said, and
`--raftviz DIR` with it writes a page for each test that has nodes.

Rules of this file:

* One run a test: `=== RUN   name`, the entries, `--- PASS: name (0.31s)` (or FAIL, or SKIP). A
  test without nodes is written too.
* Entries come from `trioraft.logs.current_sink()` only; this plugin sets it around each test, set
  up and tear down included. Trio's tasks inherit it.
* Without the option, nothing of this file runs. With it, the file is opened by the first test, and
  a path that cannot be written ends the run with one clear error.
* A worker of pytest-xdist writes a file of its own: FILE.gw0, FILE.gw1, …, and pages into
  DIR/gw0, DIR/gw1, ….
* Pages are made when all tests are over, from the file. That they cannot be made is said, and
  changes no test's outcome.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from ..logs.loggers import Raftlog, open_raftlog, use_sink
from ..logs.raftlog import RaftlogRun

_WRITER_NAME: Final = "trioraft-raftlog-writer"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--raftlog FILE` and `--raftviz DIR`."""
    group = parser.getgroup("trioraft")
    group.addoption(
        "--raftlog",
        metavar="FILE",
        default=None,
        help="write what the Raft nodes of each test log to FILE, for the visualiser of "
        "eliben/raft (FILE.gw0, FILE.gw1, … with pytest-xdist)",
    )
    group.addoption(
        "--raftviz",
        metavar="DIR",
        default=None,
        help="with --raftlog: write a page for each test that has nodes into DIR",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start writing, if the option is given.

    Raises:
        pytest.UsageError: the path cannot be a file, or not here.
    """
    option, pages = config.getoption("--raftlog"), config.getoption("--raftviz")
    if option is not None:
        worker: dict[str, str] = getattr(config, "workerinput", {})
        here, worker_id = config.invocation_params.dir, worker.get("workerid", "")
        path = Path(here, f"{option}.{worker_id}" if worker else option)
        _refuse_unusable(path)
        directory = None if pages is None else Path(here, pages, worker_id)
        if directory is not None:
            _refuse_unusable_directory(directory)
        config.pluginmanager.register(_Writer(path, directory), _WRITER_NAME)
    elif pages is not None:
        raise pytest.UsageError("--raftviz shows what --raftlog wrote: give --raftlog FILE too")


def _refuse_unusable(path: Path) -> None:
    """Say early what opening the file would say after all tests were collected."""
    if path.is_dir():
        raise pytest.UsageError(f"--raftlog {path}: that is a directory; name a file")
    if not path.parent.is_dir():
        raise pytest.UsageError(f"--raftlog {path}: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise pytest.UsageError(f"--raftlog {path}: it is not allowed to write there")


def _refuse_unusable_directory(path: Path) -> None:
    """Say early what writing the pages would say when all tests are over."""
    if importlib.util.find_spec("jinja2") is None:
        raise pytest.UsageError("--raftviz needs jinja2: pip install 'trioraft[cli]'")
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir():
        raise pytest.UsageError(f"--raftviz {path}: {existing} is not a directory")
    if not os.access(existing, os.W_OK):
        raise pytest.UsageError(f"--raftviz {path}: it is not allowed to write there")


class _Writer:
    """Writes one raftlog, from the first test to the end of the session, and then its pages."""

    def __init__(self, path: Path, pages: Path | None) -> None:
        self._path = path
        self._pages = pages
        self._said = ""
        self._raftlog: Raftlog | None = None
        self._run: RaftlogRun | None = None
        self._resources = ExitStack()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Make the test a run, and its nodes' lines the run's."""
        raftlog = self._opened()
        with raftlog.run(item.name) as self._run, use_sink(raftlog):
            try:
                return (yield)
            finally:
                self._run = None

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Learn how the test went; why it failed (a leak, say) is put into the log."""
        run, raftlog = self._run, self._raftlog
        if run is None or raftlog is None:
            return  # a worker's report, on its way through the controller
        if report.failed:
            run.outcome = "FAIL"
            raftlog.note(report.longreprtext)
        elif report.skipped and run.outcome == "PASS":
            run.outcome = "SKIP"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the pages."""
        if self._pages is not None and self._raftlog is not None:
            self._said = _write_pages(self._path, self._pages)

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the pages are, or why there are none."""
        if self._said:
            terminalreporter.write_line(self._said)

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        """Close the file."""
        self._resources.close()

    def _opened(self) -> Raftlog:
        if self._raftlog is None:
            try:
                self._raftlog = self._resources.enter_context(open_raftlog(self._path))
            except OSError as error:
                raise pytest.UsageError(f"--raftlog {self._path}: {error.strerror}") from error
        return self._raftlog


def _write_pages(log: Path, directory: Path) -> str:
    """Pages of all runs in which a node said something; says what came of it."""
    # Not at the top: who does not want pages need not have what makes them.
    from ..viz.analysis import analyse_log
    from ..viz.page import write_pages
    from ..viz.reading import LogError

    try:
        runs = [run for run in analyse_log(log) if run.nodes]
        index = write_pages(runs, directory)
    except (LogError, OSError) as error:
        return f"raftviz: no pages: {error}"
    return f"raftviz: {len(runs)} runs: {index}"
