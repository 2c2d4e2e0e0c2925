"""A run of the demo: the story, shown and logged, inside the leak check, open to Ctrl-C.

Rules of this file:

* Everything that is started is started inside `no_leaks`: nodes, view and signal watcher.
* SIGINT and SIGTERM cancel the story, not the leak check: its verdict is as true as ever. A second
  Ctrl-C, should the first not be enough, ends the process the usual way.
* A log can be read while it is written; what the leak check found belongs into it.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

import attrs
import trio

from ...core.types import NodeId
from ...logs.loggers import EventLogger, Format, Raftlog, configure, open_raftlog, sink_logger
from ...logs.raftlog import RaftlogRun
from ...scenario import ScenarioFailed
from ...tasks.background import running_beside
from ...testing.leaks import Leak, LeakError, no_leaks
from .board import Board
from .report import Report
from .story import Story, Tempo, step_names
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

    def failed(self, failure: str) -> None:
        """The scenario expected something else."""
        if self._raftlog is None or self._run is None:
            self.logger.warning("Scenario failed", failure=failure)
        else:
            self._run.outcome = "FAIL"
            self._raftlog.note(failure)

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


@final
@attrs.frozen
class Tale:
    """What is told: the demo's own story, or a scenario."""

    ids: tuple[NodeId, ...]
    steps: tuple[str, ...]
    """Their names, for the board."""
    tell: Callable[[Board, Tempo, EventLogger], Awaitable[None]]


def story_of(nodes: int, seed: int) -> Tale:
    """The demo's own."""

    async def tell(board: Board, tempo: Tempo, logger: EventLogger) -> None:
        await Story(board, seed=seed, tempo=tempo, logger=logger).run()

    return Tale(tuple(map(str, range(nodes))), step_names(nodes), tell)


async def run_demo(tale: Tale, *, view: DemoView, log: DemoLog) -> Report:
    """Run the demo to its end, or to the first signal.

    Args:
        tale: what is told.
        view: shows it.
        log: what nodes and story log to.

    Returns:
        What happened, leaks included: those are for the caller to judge.

    Raises:
        DemoError: the nodes did not elect in time.
        ScenarioError: the scenario asks for what real sockets cannot do.
        OSError: the loopback, the log or the view cannot be used.
    """
    began_s = trio.current_time()
    board = Board(tale.ids, tale.steps, on_note=view.on_note, on_step=view.on_step)
    interruption = _Interruption()
    leaks: tuple[Leak, ...] = ()
    leak_report = failure = ""
    try:
        async with no_leaks():
            with interruption.scope:
                async with (
                    running_beside(interruption.watch, stop=interruption.stop, name="demo.signals"),
                    view.showing(board),
                ):
                    await tale.tell(board, view.tempo, log.logger)
    except ScenarioFailed as error:
        failure = str(error)
        log.failed(failure)
    except LeakError as error:
        leaks, leak_report = error.leaks, str(error)
        log.leaked(leak_report)
    if interruption.signal_name is not None:
        log.interrupted(interruption.signal_name)
    took_s = trio.current_time() - began_s
    return Report(board, took_s, leaks, leak_report, interruption.signal_name, failure)


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
