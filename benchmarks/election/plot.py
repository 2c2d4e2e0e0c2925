"""The picture of `benchmarks.election`: every trial a dot, and below it the best it could be.

Rules of this file:

* One panel a case, one row a cluster size. Above a row's line stand the elections as measured,
  below it hangs the theoretical best of each: where the two halves mirror each other, time is
  lost nowhere.
* Two colours that every eye tells apart (Okabe and Ito's blue and vermilion); what they mean is
  also said by position and by words, so there is no legend to look up.
* Each panel has its own scale; it is logarithmic, and says so, where times differ tenfold.
* matplotlib is imported when a picture is drawn, and never asks for a display.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from .cases import Case
from .report import Result

MEASURED: Final = "#0072B2"
BEST: Final = "#D55E00"
INK: Final = "#222222"
FAINT: Final = "#8C8C8C"

BINS: Final = 110
"""Columns of dots over a panel's width."""
HALF_ROW: Final = 0.38
"""Height of the tallest column of dots; a row is 1 high."""
DOT_STEP_MAX: Final = 0.085
"""Distance of dots in a column, unless the column would be too tall for its row."""
LOG_RATIO: Final = 10
"""From which ratio of the longest to the shortest time on a panel is logarithmic."""

_WIDTH_IN, _HEAD_IN, _FOOT_IN, _ROW_IN, _BETWEEN_IN = 10.0, 1.65, 0.65, 0.95, 0.80
_LEFT, _RIGHT = 0.08, 0.76

_TITLES: Final = {
    Case.BOOTSTRAP: "Bootstrap: all nodes have just been opened",
    Case.DISCONNECT: "Leader disconnected silently: every connection stays open",
    Case.CRASH: "Leader's node dies: its connections close",
    Case.KILL: "Leader's process killed (kill -9): until a proposal succeeds",
    Case.TRANSFER: "Leadership handed over under load: until a proposal succeeds",
    Case.ROLLING: "All nodes restarted in turn under load: longest gap between two calls",
}


def save_plot(results: Sequence[Result], path: Path) -> None:
    """Draw the results into a file; its suffix chooses the format.

    Args:
        results: at least one.
        path: replaced if it exists.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    groups = [group for case in Case if (group := [r for r in results if r.setup.case is case])]
    rows = [len(group) for group in groups]
    panels_in = _ROW_IN * sum(rows) + _BETWEEN_IN * (len(rows) - 1)
    height_in = _HEAD_IN + panels_in + _FOOT_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=150, facecolor="white")
    grid = figure.add_gridspec(
        len(groups),
        1,
        height_ratios=rows,
        left=_LEFT,
        right=_RIGHT,
        top=1 - _HEAD_IN / height_in,
        bottom=_FOOT_IN / height_in,
        hspace=_BETWEEN_IN / (_ROW_IN * sum(rows) / len(rows)),
    )
    _write_head(figure, results[0], height_in)
    for number, group in enumerate(groups):
        _draw_panel(figure.add_subplot(grid[number]), group)
    figure.text(
        (_LEFT + _RIGHT) / 2, 0.18 / height_in, "milliseconds without a leader", color=INK,
        size=9.5, ha="center",
    )  # fmt: skip
    figure.savefig(path)


def _write_head(figure: Any, result: Result, height_in: float) -> None:
    timing = result.setup.timing
    low, high = (bound_s * 1000 for bound_s in timing.election_timeout_s)
    hint = "" if timing.fast_failover else ", fast failover off"
    conditions = (
        f"Election timeout {low:g}–{high:g} ms, heartbeat {timing.heartbeat_interval_s * 1000:g} "
        f"ms{hint}. TCP over the loopback; the last three with processes and SQLite."
    )
    measured = "Above each line: every election, as it was measured."
    best = "Below it: the best each could have been, its first timer to run out + one round trip."
    for left, from_top_in, text, size, weight, color in (
        (_LEFT, 0.30, "How long a cluster is without a leader", 15.0, "bold", INK),
        (_LEFT, 0.57, conditions, 9.0, "normal", INK),
        (_LEFT, 0.84, measured, 9.5, "bold", MEASURED),
        (_LEFT, 1.05, best, 9.5, "bold", BEST),
    ):
        figure.text(
            left, 1 - from_top_in / height_in, text, size=size, weight=weight, color=color,
            va="center",
        )  # fmt: skip


# -- panels ------------------------------------------------------------------------------------


@attrs.frozen
class _Scale:
    """Where a panel's columns of dots stand."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> _Scale:
        low, high = min(times_ms), max(times_ms)
        if low > 0 and high / low >= LOG_RATIO:
            margin = (high / low) ** 0.03
            return cls(low / margin, high * margin, is_log=True)
        margin = max(0.03 * (high - low), 0.1)
        return cls(low - margin, high + margin, is_log=False)

    def column(self, time_ms: float) -> int:
        """The column of dots that this time belongs to."""
        low, high, time = self._flat(self.low), self._flat(self.high), self._flat(time_ms)
        return int((time - low) / (high - low) * BINS)

    def middle(self, column: int) -> float:
        """Where that column stands, in milliseconds."""
        low, high = self._flat(self.low), self._flat(self.high)
        place = low + (high - low) * (column + 0.5) / BINS
        return math.exp(place) if self.is_log else place

    def _flat(self, time_ms: float) -> float:
        return math.log(time_ms) if self.is_log else time_ms


def _draw_panel(axes: Any, group: Sequence[Result]) -> None:
    """The rows of one case, the smallest cluster on top."""
    times_ms = [time for result in group for time in (*result.took_ms, *result.best_ms)]
    scale = _Scale.of(times_ms)
    halves = [
        tuple(Counter(map(scale.column, times)) for times in (result.took_ms, result.best_ms))
        for result in group
    ]
    tallest = max(max(columns.values()) for pair in halves for columns in pair if columns)
    step = min(DOT_STEP_MAX, HALF_ROW / tallest)
    for row, (result, (took, best)) in enumerate(zip(group, halves, strict=True)):
        y = -float(row)
        axes.axhline(y, color=FAINT, linewidth=0.6, zorder=1)
        _draw_dots(axes, scale, took, y, step, MEASURED)
        if best:
            _draw_dots(axes, scale, best, y, -step, BEST)
        _draw_numbers(axes, result, y)
    _dress(axes, scale, group)


def _draw_dots(
    axes: Any, scale: _Scale, columns: Counter[int], y: float, step: float, color: str
) -> None:
    places = [
        (scale.middle(column), y + (number + 0.75) * step)
        for column, count in columns.items()
        for number in range(count)
    ]
    axes.scatter(*zip(*places, strict=True), s=13, color=color, linewidths=0, zorder=3)


def _draw_numbers(axes: Any, result: Result, y: float) -> None:
    """The medians, as needles through the dots and as words beside the row."""
    row = result.summary()
    needles = [(row["p50"], 1), *([(row["best"], -1)] if "best" in row else [])]
    for value, side in needles:
        axes.plot([value, value], [y, y + side * 0.44], color=INK, linewidth=1.1, zorder=4)
    best = ""
    if "best" in row:
        best = f"best {row['best']:.1f} ms: {row['p50'] - row['best']:+.1f} ms"
    splits = f"{row['split_votes']} of {row['n']} split their votes" if row["split_votes"] else ""
    for place, text, color in (
        (0.24, f"median {row['p50']:.1f}, p99 {row['p99']:.0f} ms", MEASURED),
        (0.0, splits, INK),
        (-0.24, best, BEST),
    ):
        axes.text(
            1.02, y + place, text, color=color, size=9.5, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip


def _dress(axes: Any, scale: _Scale, group: Sequence[Result]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    title = _TITLES[group[0].setup.case] + (" (logarithmic scale)" if scale.is_log else "")
    axes.set_title(title, loc="left", size=10.5, weight="bold", color=INK, pad=7)
    if scale.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _position: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(scale.low, scale.high)
    axes.set_ylim(0.5 - len(group), 0.5)
    axes.set_yticks([-float(row) for row in range(len(group))])
    axes.set_yticklabels([f"{result.setup.nodes} nodes" for result in group], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", which="both", colors=INK)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
