"""What a view of the demo is: the plain one writes a line for everything that happens, the live one
draws a row a node, the story in words and the last events, ten times a second.

Drawing blocks the Trio thread, and with it every node, so it is rare, cheap and in a task of its
own: `FRAME_S` and a few milliseconds a frame, well below a heartbeat.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Protocol, final

import attrs
import trio
from rich.console import Console, RenderableType
from rich.containers import Lines
from rich.live import Live
from rich.text import Text

from ...core.config import Timing
from ...core.types import Role
from ...tasks.background import running_beside
from ..saying import shown_text
from .board import Board, BoardRow, Note, Step, StepState
from .story import Tempo

PLAIN_TEMPO: Final = Tempo(announce_s=0.0, linger_s=0.2)
"""Nobody watches a pipe: only long enough that a few heartbeats are seen."""
GATHER_S: Final = 0.5
"""How old a line is when it is written, in seconds: what a stalled process has to tell comes late,
and lines are written in order of time."""


class DemoView(Protocol):
    """Shows the demo while it runs."""

    @property
    def tempo(self) -> Tempo:
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
    def tempo(self) -> Tempo:
        return PLAIN_TEMPO

    def on_step(self, step: Step) -> None:
        self._add(trio.current_time(), f"{step.name}: {step.text}")

    def on_note(self, note: Note) -> None:
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
                self._flush(trio.current_time() - GATHER_S)

    def _add(self, at_s: float, line: str) -> None:
        self._lines.append((at_s, line))
        self._has_lines.set()

    def _flush(self, until_s: float = math.inf) -> None:
        lines = sorted(self._lines, key=lambda each: each[0])
        self._lines = [each for each in lines if each[0] > until_s]
        if not self._lines:
            self._has_lines = trio.Event()
        for at_s, line in lines:
            if at_s <= until_s:
                self._console.print(shown_text(line), soft_wrap=True)


# -- the live view -------------------------------------------------------------------------

FRAME_S: Final = 0.1
"""Time between two frames."""
LIVE_TEMPO: Final = Tempo(announce_s=0.7, linger_s=0.8)
"""Two lines can be read in the time from a step's announcement to the next."""
EVENTS_MAX: Final = 8
"""Most events that are shown, however high the terminal is."""
WIDTH_MAX: Final = 100
"""Wider than this, lines are hard to follow."""
NARRATION_LINES: Final = 2
"""Lines that every step's text gets; on 80 columns none needs more."""
BAR_CELLS: Final = 8


@attrs.frozen
class _Look:
    sign: str
    style: str


@attrs.frozen
class _Column:
    name: str
    cells: int
    from_width: int = 0
    """Narrower terminals do without."""


# 80 columns in all; the sign and "PreCandidate" are the widest role, "cut off" needs its room.
_COLUMNS: Final = (
    _Column("node", 11),
    _Column("role", 14),
    _Column("term", 4),
    _Column("leader", 6),
    _Column("silence", 15, from_width=55),
    _Column("because", 25, from_width=80),
)

_ROLE_LOOKS: Final[Mapping[Role | None, _Look]] = {
    None: _Look("○", "dim"),
    Role.FOLLOWER: _Look("●", "cyan"),
    Role.PRE_CANDIDATE: _Look("◐", "yellow"),
    Role.CANDIDATE: _Look("◑", "bold yellow"),
    Role.LEADER: _Look("★", "bold green"),
    Role.DEAD: _Look("✖", "red"),
}
_STEP_LOOKS: Final[Mapping[StepState, _Look]] = {
    StepState.AHEAD: _Look("○", "dim"),
    StepState.NOW: _Look("▶", "bold"),
    StepState.DONE: _Look("✔", "green"),
}
_ASCII_SIGNS: Final = str.maketrans("○●◐◑★✖▶✔━─✂\N{NO-BREAK SPACE}", "oo??*x>+#-x ")
"""For terminals that cannot show the signs."""
NO_BREAK_SPACE: Final = "\N{NO-BREAK SPACE}"


@final
class LiveView:
    """For terminals: a picture that redraws itself, and leaves nothing behind.

    Args:
        console: a terminal.
        title: stands above everything.
        timing: the nodes'; the bars' scale.
    """

    def __init__(self, console: Console, title: str, timing: Timing | None = None) -> None:
        self._console = console
        self._title = title
        self._patience_s = (timing or Timing()).election_timeout_s[1]
        self._is_unicode = console.encoding.startswith("utf")

    @property
    def tempo(self) -> Tempo:
        return LIVE_TEMPO

    def on_step(self, step: Step) -> None:
        """The next frame shows it."""

    def on_note(self, note: Note) -> None:
        """The next frame shows it."""

    @asynccontextmanager
    async def showing(self, board: Board) -> AsyncIterator[None]:
        """Draw the board until the block is left; then the terminal is as it was."""
        scope = trio.CancelScope()
        drawing = partial(self._draw, board, scope)
        async with running_beside(drawing, stop=scope.cancel, name="demo.view"):
            yield

    async def _draw(
        self,
        board: Board,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with (
            scope,
            Live(
                console=self._console,
                auto_refresh=False,  # no thread: frames are drawn here
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            ) as live,
        ):
            task_status.started()
            while True:
                if not board.is_measuring:
                    live.update(self.frame(board, trio.current_time()), refresh=True)
                await trio.sleep(FRAME_S)  # a picture has a frame rate; it waits for nothing

    # -- one frame -------------------------------------------------------------------------

    def frame(self, board: Board, now_s: float) -> RenderableType:
        """The picture at this moment, no larger than the terminal."""
        width = min(self._console.width, WIDTH_MAX)
        headline, nodes = self._headline(board, now_s, width), self._nodes(board, now_s, width)
        upper = Lines(
            [
                headline,
                *self._steps(board).wrap(self._console, width),
                Text(),
                *self._narration(board, width),
                Text(),
                *nodes,
                Text(),
            ]
        )
        count = min(EVENTS_MAX, self._console.height - len(upper) - 1)
        if count < 0:
            return Lines([headline, *nodes])
        # Each node's events come in order, but not those of several nodes.
        notes = sorted(board.notes, key=lambda note: note.at_s)[-count:] if count else []
        upper.extend(self._event(board, note, width) for note in notes)
        upper.extend(Text() for _ in range(count - len(notes)))
        return upper

    def _headline(self, board: Board, now_s: float, width: int) -> Text:
        clock = f" {now_s - board.started_s:.1f} s"
        line = self._fitted(Text(self._title, style="bold"), max(1, width - len(clock)))
        return line.append(clock, style="dim")

    def _steps(self, board: Board) -> Text:
        words = []
        for step in board.steps:
            look = _STEP_LOOKS[step.state]
            name = step.name.replace(" ", NO_BREAK_SPACE)
            words.append(Text(f"{look.sign}{NO_BREAK_SPACE}{name}", style=look.style))
        return self._shown(Text("  ").join(words))

    def _narration(self, board: Board, width: int) -> list[Text]:
        """What happens in the present step; as high for all steps, so that nothing jumps."""
        begun = [step for step in board.steps if step.state is not StepState.AHEAD]
        lines = list(Text(begun[-1].text).wrap(self._console, width)) if begun else []
        lines += [Text()] * (NARRATION_LINES - len(lines))
        if begun and begun[-1].outcome:
            outcome = f"{milliseconds(begun[-1].took_s)}: {begun[-1].outcome}"
            return [*lines, self._fitted(Text(outcome, style="green"), width)]
        return [*lines, Text()]

    def _nodes(self, board: Board, now_s: float, width: int) -> list[Text]:
        """The table, by hand: rich's own takes as long as all the rest, several times over."""
        columns = [column for column in _COLUMNS if width >= column.from_width]
        header = [Text(column.name, style="bold") for column in columns]
        lines = [self._joined(columns, header), Text("─" * width, style="dim")]
        for row in board.rows.values():
            lines.append(self._joined(columns, self._cells(row, now_s)))
        return [self._shown(self._fitted(line, width)) for line in lines]

    def _joined(self, columns: Sequence[_Column], cells: Sequence[Text]) -> Text:
        fitted = (
            self._fitted(cell, column.cells)
            for column, cell in zip(columns, cells, strict=False)  # not started: no more to say
        )
        return Text(" ").join(fitted)

    def _cells(self, row: BoardRow, now_s: float) -> tuple[Text, ...]:
        status = row.status
        role = None if status is None else status.role
        look = _ROLE_LOOKS[role]
        name = Text(row.node_id)
        if row.is_cut and role is not Role.DEAD:
            name.append(" ✂ cut off", style="bold red")
        word = "not started" if role is None else role.value
        role_cell = Text(f"{look.sign} {word}", style=look.style)
        if status is None:
            return (name, role_cell)
        leader = "itself" if role is Role.LEADER else status.leader_id or "-"
        return (
            name,
            role_cell,
            Text(f"{status.term:4d}"),
            Text(leader),
            self._activity(row, status.role, now_s),
            Text(str(status.last_role_change)),
        )

    def _activity(self, row: BoardRow, role: Role, now_s: float) -> Text:
        """A leader's heartbeats; of everybody else, how long there was silence."""
        if role is Role.DEAD:
            return Text()
        if role is Role.LEADER:
            return Text(f"{row.heartbeats} heartbeats", style="green")
        silent_s = max(0.0, now_s - row.patience_since_s)
        share = min(1.0, silent_s / self._patience_s)
        full = round(share * BAR_CELLS)
        bar = Text("━" * full, style="yellow" if share > 1 / 2 else "cyan")
        bar.append("─" * (BAR_CELLS - full), style="dim")
        return bar.append(f" {silent_s * 1000:3.0f} ms", style="default")

    def _event(self, board: Board, note: Note, width: int) -> Text:
        line = Text(f"{note.at_s - board.started_s:7.3f} s  ", style="dim")
        style = "default" if note.role is None else _ROLE_LOOKS[note.role].style
        if note.node_id is None:
            style = "bold"
        line.append(note.sentence(), style=f"not dim {style}")
        # Not to the edge: the terminal writes ^C behind the last line, and must not wrap there.
        return self._fitted(line, width - 2, pad=False)

    def _fitted(self, line: Text, cells: int, *, pad: bool = True) -> Text:
        """Exactly this wide, or (not padded) at most."""
        line.truncate(cells, overflow="ellipsis" if self._is_unicode else "crop", pad=pad)
        return line

    def _shown(self, line: Text) -> Text:
        """With signs that this terminal can show; all of them are as wide as their stand-ins."""
        if not self._is_unicode:
            line.plain = line.plain.translate(_ASCII_SIGNS)
        return line


def milliseconds(took_s: float | None) -> str:
    """A duration as the demo writes it."""
    if took_s is None:
        return "-"
    if took_s < 0.010:
        return f"{took_s * 1000:.1f} ms"
    return f"{took_s * 1000:.0f} ms"
