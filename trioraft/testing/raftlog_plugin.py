"""pytest plugin: `pytest --raftlog FILE` writes what the nodes of each test said.

Rules of this file:

* One run a test: `=== RUN   name`, the entries, `--- PASS: name (0.31s)` (or FAIL, or SKIP). A
  test without nodes is written too.
* Entries come from `trioraft.logs.current_sink()` only; this plugin sets it around each test, set
  up and tear down included. Trio's tasks inherit it.
* Without the option, nothing of this file runs. With it, the file is opened by the first test, and
  a path that cannot be written ends the run with one clear error.
* A worker of pytest-xdist writes a file of its own: FILE.gw0, FILE.gw1, ….
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from ..logs import Raftlog, open_raftlog, use_sink
from ..raftlog import Run

_WRITER_NAME: Final = "trioraft-raftlog-writer"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--raftlog FILE`."""
    parser.getgroup("trioraft").addoption(
        "--raftlog",
        metavar="FILE",
        default=None,
        help="write what the Raft nodes of each test log to FILE, for the visualiser of "
        "eliben/raft (FILE.gw0, FILE.gw1, … with pytest-xdist)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start writing, if the option is given.

    Raises:
        pytest.UsageError: the path cannot be a file, or not here.
    """
    option = config.getoption("--raftlog")
    if option is not None:
        worker: dict[str, str] = getattr(config, "workerinput", {})
        name = f"{option}.{worker['workerid']}" if worker else option
        path = Path(config.invocation_params.dir, name)
        _refuse_unusable(path)
        config.pluginmanager.register(_Writer(path), _WRITER_NAME)


def _refuse_unusable(path: Path) -> None:
    """Say early what opening the file would say after all tests were collected."""
    if path.is_dir():
        raise pytest.UsageError(f"--raftlog {path}: that is a directory; name a file")
    if not path.parent.is_dir():
        raise pytest.UsageError(f"--raftlog {path}: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise pytest.UsageError(f"--raftlog {path}: it is not allowed to write there")


class _Writer:
    """Writes one raftlog, from the first test to the end of the session."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raftlog: Raftlog | None = None
        self._run: Run | None = None
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
