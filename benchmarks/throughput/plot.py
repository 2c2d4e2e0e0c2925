"""The picture of `benchmarks.throughput`: a dot for every case, on a logarithmic scale.

Rules of this file:

* One panel for what is kept in memory and one for what is durable; a row for each load. The line
  between two dots of a row is what lies between the systems, and is labelled with the ratio.
* Systems are told apart by colour (Okabe and Ito's blue and vermilion) *and* by the shape of the
  dot, and every dot bears its number.
* matplotlib is imported when a picture is drawn, and never asks for a display.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from .cases import COMMAND_BYTES, NODES, Mode, System
from .measuring import Result
from .report import load_name, ratio_of

COLOURS: Final = {System.TRIORAFT: "#0072B2", System.PYSYNCOBJ: "#D55E00"}
MARKERS: Final = {System.TRIORAFT: "o", System.PYSYNCOBJ: "s"}
NAMES: Final = {System.TRIORAFT: "trioraft", System.PYSYNCOBJ: "PySyncObj"}
TITLES: Final = {
    False: "In memory",
    True: "Durable: acknowledged after fsync (SQLite, flushed journal)",
}
INK: Final = "#222222"
FAINT: Final = "#8C8C8C"

_WIDTH_IN, _HEAD_IN, _FOOT_IN, _ROW_IN, _BETWEEN_IN = 9.0, 1.05, 0.75, 0.46, 0.62
_LEFT, _RIGHT = 0.135, 0.965


def save_plot(results: Sequence[Result], path: Path) -> None:
    """Draw the results into a file; its suffix chooses the format.

    Args:
        results: at least one.
        path: replaced if it exists.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    panels = {
        is_durable: [result for result in results if result.case.is_durable is is_durable]
        for is_durable in (False, True)
    }
    panels = {is_durable: group for is_durable, group in panels.items() if group}
    rows = [len(_loads(group)) for group in panels.values()]
    panels_in = _ROW_IN * sum(rows) + _BETWEEN_IN * (len(rows) - 1)
    height_in = _HEAD_IN + panels_in + _FOOT_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=150, facecolor="white")
    grid = figure.add_gridspec(
        len(rows), 1, height_ratios=rows, left=_LEFT, right=_RIGHT,
        top=1 - _HEAD_IN / height_in, bottom=_FOOT_IN / height_in,
        hspace=_BETWEEN_IN / (panels_in - _BETWEEN_IN * (len(rows) - 1)) * len(rows),
    )  # fmt: skip
    limits = _limits(results)
    for number, (is_durable, group) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[number])
        _draw_panel(axes, group)
        _dress(axes, TITLES[is_durable], limits, is_last=number == len(rows) - 1)
    _write_head(figure, results, height_in)
    figure.savefig(path)


def _loads(group: Sequence[Result]) -> list[tuple[bool, Mode, int]]:
    return list(dict.fromkeys(result.case.peers for result in group))


def _limits(results: Sequence[Result]) -> tuple[float, float]:
    """The same for all panels, with room for the numbers."""
    speeds = [result.ops_per_s for result in results]
    return min(speeds) / 2.2, max(speeds) * 2.2


def _draw_panel(axes: Any, group: Sequence[Result]) -> None:
    loads = _loads(group)
    for row, load in enumerate(loads):
        y = -float(row)
        dots = [result for result in group if result.case.peers == load]
        slowest = min(dots, key=lambda result: result.ops_per_s)
        axes.axhline(y, color="#E6E6E6", linewidth=0.8, zorder=0)
        axes.plot([dot.ops_per_s for dot in dots], [y] * len(dots), color=FAINT, linewidth=1.6)
        for dot in dots:
            _draw_dot(axes, dot, y, is_left=dot is slowest and len(dots) > 1)
            ratio = ratio_of(dot, group)
            if ratio is not None:
                middle = dot.ops_per_s / ratio**0.5
                axes.annotate(
                    f"× {ratio:.3g}", (middle, y), xytext=(0, 3), textcoords="offset points",
                    ha="center", size=8.5, color=INK,
                )  # fmt: skip
    axes.set_ylim(0.6 - len(loads), 0.6)
    axes.set_yticks([-float(row) for row in range(len(loads))])
    names = {result.case.peers: load_name(result.case) for result in group}
    axes.set_yticklabels([names[load] for load in loads], color=INK)


def _draw_dot(axes: Any, result: Result, y: float, *, is_left: bool) -> None:
    system = result.case.system
    axes.plot(
        [result.ops_per_s], [y], marker=MARKERS[system], color=COLOURS[system], markersize=8,
        linestyle="none", zorder=3,
    )  # fmt: skip
    axes.annotate(
        _short(result.ops_per_s), (result.ops_per_s, y), xytext=(-8 if is_left else 8, 0),
        textcoords="offset points", ha="right" if is_left else "left", va="center", size=9,
        color=COLOURS[system],
    )  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f} k"


def _dress(axes: Any, title: str, limits: tuple[float, float], *, is_last: bool) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _position: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, loc="left", size=10.5, weight="bold", color=INK, pad=7)
    axes.grid(visible=True, which="major", axis="x", color="#E0E0E0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", which="both", colors=INK)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    if is_last:
        axes.set_xlabel("commands a second (logarithmic)", color=INK)


def _write_head(figure: Any, results: Sequence[Result], height_in: float) -> None:
    conditions = (
        f"{NODES} processes on one machine, TCP over the loopback, commands of {COMMAND_BYTES} "
        "bytes; the load runs in the leader's process."
    )
    figure.text(
        0.02, 1 - 0.26 / height_in, "Throughput of a cluster of three", size=15, weight="bold",
        color=INK, va="center",
    )  # fmt: skip
    figure.text(0.02, 1 - 0.51 / height_in, conditions, size=9, color=INK, va="center")
    left = 0.965
    for system in reversed([s for s in System if any(r.case.system is s for r in results)]):
        text = figure.text(
            left, 1 - 0.26 / height_in, f"{_SHAPES[system]} {NAMES[system]}", size=11,
            weight="bold", color=COLOURS[system], ha="right", va="center",
        )  # fmt: skip
        left -= 0.016 * len(text.get_text())


_SHAPES: Final = {System.TRIORAFT: "\N{BLACK CIRCLE}", System.PYSYNCOBJ: "\N{BLACK SQUARE}"}
