"""pytest plugin: `pytest --raftlog FILE` writes what the nodes of each test said, and
`--raftviz DIR` with it writes a page for each test that has nodes.

Rules of this file:

* It is imported at every start of pytest: it imports nothing of trioraft. What writes is in
  `trioraft.testing.raftlog_plugin`, and is loaded when the option is given.
* A path that cannot be written ends the run with one clear error.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

import pytest

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
        from trioraft.testing.raftlog_plugin import RaftlogWriter  # here: see the rules

        config.pluginmanager.register(RaftlogWriter(path, directory), _WRITER_NAME)
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
