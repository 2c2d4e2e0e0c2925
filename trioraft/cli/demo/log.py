"""The demo's log file, in any of the formats of `trioraft.logs`.

Rules of this file: a log can be read while it is written; what the leak check found belongs into
it, whatever its format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, final

import attrs

from ...logs.loggers import (
    EventLogger,
    Format,
    Raftlog,
    configure,
    open_raftlog,
    sink_logger,
)
from ...logs.raftlog import RaftlogRun

RUN_NAME = "trioraft_demo"
"""Of the one run in the raftlog."""


class DemoLog(Protocol):
    """A log being written."""

    logger: EventLogger
    """What nodes and story log to."""

    def leaked(self, report: str) -> None:
        """The leak check failed."""

    def interrupted(self, by: str) -> None:
        """The run was ended early."""


@contextmanager
def open_log(path: Path, format: Format) -> Iterator[DemoLog]:
    """The log in a new file, replaced if it exists, closed at the end.

    Raises:
        OSError: it cannot be written.
    """
    if format == "raftlog":
        with open_raftlog(path) as raftlog, raftlog.run(RUN_NAME) as run:
            yield _RaftlogFile(sink_logger(raftlog), raftlog, run)
        return
    with open(path, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as stream:
        yield _LinesFile(configure(format, stream=stream))


@final
@attrs.define
class _RaftlogFile:
    logger: EventLogger
    _raftlog: Raftlog
    _run: RaftlogRun

    def leaked(self, report: str) -> None:
        self._run.outcome = "FAIL"
        self._raftlog.note(report)

    def interrupted(self, by: str) -> None:
        self._run.outcome = "SKIP"
        self._raftlog.test_line(f"Interrupted by {by}")


@final
@attrs.define
class _LinesFile:
    logger: EventLogger

    def leaked(self, report: str) -> None:
        self.logger.warning("Leaks", report=report)

    def interrupted(self, by: str) -> None:
        self.logger.info(f"Interrupted by {by}")
