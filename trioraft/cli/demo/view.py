"""What a view is, and the plain one: a line for everything that happens.

Rules of this file: a view shows the board and changes nothing; what it cannot write (a closed
pipe, a full disk) ends the demo with that error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, final

import trio
from rich.console import Console
from rich.text import Text

from ...tasks.background import running_beside
from .board import Board, Note, Step
from .story import Pace

PLAIN_PACE: Final = Pace(announce_s=0.0, linger_s=0.2)
"""Nobody watches a pipe: only long enough that a few heartbeats are seen."""
GATHER_S: Final = 0.02
"""How long lines are gathered, in seconds, to be written in order."""


class DemoView(Protocol):
    """Shows the demo while it runs."""

    @property
    def pace(self) -> Pace:
        """How long this view needs things to stay."""

    def on_step(self, step: Step) -> None:
        """A step begins."""

    def on_note(self, note: Note) -> None:
        """Something happened."""

    def showing(self, board: Board) -> AbstractAsyncContextManager[None]:
        """Show the board for as long as the block takes."""


@final
class PlainView:
    """For pipes, files and dumb terminals: one line a step, one line a note, in order of time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[tuple[float, str]] = []
        self._has_lines = trio.Event()
        self._started_s = 0.0

    @property
    def pace(self) -> Pace:
        """See `DemoView`."""
        return PLAIN_PACE

    def on_step(self, step: Step) -> None:
        """Say what begins."""
        self._add(trio.current_time(), f"{step.name}: {step.text}")

    def on_note(self, note: Note) -> None:
        """Say what happened."""
        since_start_s = note.at_s - self._started_s
        self._add(note.at_s, f"  {since_start_s:6.3f} s  {note.sentence()}")

    @asynccontextmanager
    async def showing(self, board: Board) -> AsyncIterator[None]:
        """Write lines until the block is left, and then what is still to be said."""
        self._started_s = board.started_s
        scope = trio.CancelScope()
        async with running_beside(partial(self._write, scope), stop=scope.cancel, name="demo.view"):
            yield
        self._flush()

    async def _write(
        self,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        with scope:
            while True:
                await self._has_lines.wait()
                # Each node's events come in order, but not those of several nodes: gather first.
                await trio.sleep(GATHER_S)
                self._flush()

    def _add(self, at_s: float, line: str) -> None:
        self._lines.append((at_s, line))
        self._has_lines.set()

    def _flush(self) -> None:
        lines, self._lines, self._has_lines = self._lines, [], trio.Event()
        for _, line in sorted(lines, key=lambda each: each[0]):
            self._console.print(Text(line), soft_wrap=True)
