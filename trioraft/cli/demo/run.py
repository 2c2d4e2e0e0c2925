"""A run of the demo: the story, shown and logged, inside the leak check, open to Ctrl-C.

Rules of this file:

* Everything that is started is started inside `no_leaks`: nodes, view and signal watcher.
* SIGINT and SIGTERM cancel the story, not the leak check: its verdict is as true as ever. A second
  Ctrl-C, should the first not be enough, ends the process the usual way.
* A log can be read while it is written; what the leak check found belongs into it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

import attrs
import trio

from ...logs.loggers import EventLogger, Format, Raftlog, configure, open_raftlog, sink_logger
from ...logs.raftlog import RaftlogRun
from ...tasks.background import running_beside
from ...testing.leaks import Leak, LeakError, no_leaks
from .board import Board
from .report import Report
from .story import Story, step_names
from .views import DemoView

RUN_NAME = "trioraft_demo"
"""Of the one run in the raftlog."""


@final
@attrs.define
class DemoLog:
    """A log being written, in any of the formats of `trioraft.logs`."""

    logger: EventLogger
    """What nodes and story log to."""
    _raftlog: Raftlog | None = None
    _run: RaftlogRun | None = None

    def leaked(self, report: str) -> None:
        """The leak check failed."""
        if self._raftlog is None or self._run is None:
            self.logger.warning("Leaks", report=report)
        else:
            self._run.outcome = "FAIL"
            self._raftlog.note(report)

    def interrupted(self, by: str) -> None:
        """The run was ended early."""
        if self._raftlog is None or self._run is None:
            self.logger.info(f"Interrupted by {by}")
        else:
            self._run.outcome = "SKIP"
            self._raftlog.test_line(f"Interrupted by {by}")


@contextmanager
def open_log(path: Path, format: Format) -> Iterator[DemoLog]:
    """The log in a new file, replaced if it exists, closed at the end.

    Raises:
        OSError: it cannot be written.
    """
    if format == "raftlog":
        with open_raftlog(path) as raftlog, raftlog.run(RUN_NAME) as run:
            yield DemoLog(sink_logger(raftlog), raftlog, run)
        return
    with open(path, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as stream:
        yield DemoLog(configure(format, stream=stream))


SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""What ends the demo early."""


async def run_demo(*, nodes: int, seed: int, view: DemoView, log: DemoLog) -> Report:
    """Run the demo to its end, or to the first signal.

    Args:
        nodes: how many, from 1.
        seed: of the randomised timeouts.
        view: shows it.
        log: what nodes and story log to.

    Returns:
        What happened, leaks included: those are for the caller to judge.

    Raises:
        DemoError: the nodes did not elect in time.
        OSError: the loopback, the log or the view cannot be used.
    """
    began_s = trio.current_time()
    board = Board(
        map(str, range(nodes)), step_names(nodes), on_note=view.on_note, on_step=view.on_step
    )
    story = Story(board, seed=seed, tempo=view.tempo, logger=log.logger)
    interruption = _Interruption()
    leaks: tuple[Leak, ...] = ()
    leak_report = ""
    try:
        async with no_leaks():
            with interruption.scope:
                async with (
                    running_beside(interruption.watch, stop=interruption.stop, name="demo.signals"),
                    view.showing(board),
                ):
                    await story.run()
    except LeakError as error:
        leaks, leak_report = error.leaks, str(error)
        log.leaked(leak_report)
    if interruption.signal_name is not None:
        log.interrupted(interruption.signal_name)
    took_s = trio.current_time() - began_s
    return Report(board, took_s, leaks, leak_report, interruption.signal_name)


class _Interruption:
    """Turns the first signal into the cancellation of a scope."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.signal_name: str | None = None
        self._watching = trio.CancelScope()
        self.stop = self._watching.cancel

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for a signal; `started()` once it cannot be missed."""
        with self._watching, trio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                self.signal_name = signal.Signals(number).name
                self.scope.cancel()
                return
