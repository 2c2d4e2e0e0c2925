"""What `pytest --raftlog FILE` writes, and `--raftviz DIR` with it: the options are declared in
`trioraft_pytest.raftlog`, which is light.

Rules of this file:

* One run a test: `=== RUN   name`, the entries, `--- PASS: name (0.31s)` (or FAIL, or SKIP). A
  test without nodes is written too.
* Entries come from `trioraft.logs.current_sink()` only; this plugin sets it around each test, set
  up and tear down included. Trio's tasks inherit it.
* The file is opened by the first test.
* A worker of pytest-xdist writes a file of its own: FILE.gw0, FILE.gw1, …, and pages into
  DIR/gw0, DIR/gw1, ….
* Pages are made when all tests are over, from the file. That they cannot be made is said, and
  changes no test's outcome.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..logs.loggers import Raftlog, open_raftlog, use_sink
from ..logs.raftlog import RaftlogRun


class RaftlogWriter:
    """Writes one raftlog, from the first test to the end of the session, and then its pages."""

    def __init__(self, path: Path, pages: Path | None) -> None:
        self._path = path
        self._pages = pages
        self._said = ""
        self._raftlog: Raftlog | None = None
        self._run: RaftlogRun | None = None
        self._resources = ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Open the file before the first test: it is no leak of that one."""
        if session.items and not session.config.option.collectonly:
            self._opened()

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
