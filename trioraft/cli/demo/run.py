"""A run of the demo: the story, shown and logged, inside the leak check, open to Ctrl-C.

Rules of this file:

* Everything that is started is started inside `no_leaks`: nodes, view and signal watcher.
* SIGINT and SIGTERM cancel the story, not the leak check: its verdict is as true as ever. A second
  Ctrl-C, should the first not be enough, ends the process the usual way.
"""

from __future__ import annotations

import signal
from typing import Final, final

import trio

from ...tasks.background import running_beside
from ...testing.leaks import Leak, LeakError, no_leaks
from .board import Board
from .log import DemoLog
from .report import Report
from .story import Story, step_names
from .view import DemoView

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
    story = Story(board, seed=seed, pace=view.pace, logger=log.logger)
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


@final
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
