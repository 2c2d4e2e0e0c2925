"""Cumulative distributions as pictures, for every benchmark that has any.

Rules of this file:

* matplotlib is imported when a picture is drawn, never before, and draws without a display.
* A series is told apart by colour *and* by line style. The colours run from dark to light in
  the order of the series, on a map that colour-blind readers see as everyone does.
* Each row of panels has one key, at its end, in the order of the series and with every median.
* A measurement that was cut short is not drawn as finished: its line ends below 100 per cent.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from . import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN: Final = 5.8
"""Width of one panel, in inches."""
KEY_WIDTH_IN: Final = 2.6
"""What the key at the end of a row needs, in inches."""
HEIGHT_IN: Final = 4.0
"""Height of one panel, in inches."""
DPI: Final = 150
FIGURE_SPACE: Final = "\N{FIGURE SPACE}"

LINE_STYLES: Final[tuple[Any, ...]] = (
    "-",
    (0, (6, 1.5)),
    (0, (3, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.2, 1.2, 1.2, 1.2, 1.2)),
)


class PlotsUnavailable(Exception):  # noqa: N818 - reads as what it says: plots are unavailable
    """matplotlib is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "plots need matplotlib, which is not installed here: install the extra "
            "trioraft[bench], or go on without a plot"
        )


MARK_TEXT_PLACES: Final = {
    "right": ((9, -9), "left"),
    "left": ((-8, 4), "right"),
    "above": ((0, 7), "center"),
}
"""Offset of a mark's text in points, and how it is aligned."""


@attrs.frozen
class Series:
    """One line of a panel."""

    label: str
    values: Sequence[float]


@attrs.frozen
class Mark:
    """A point that someone else measured, to hold ours against."""

    x: float
    percent: float
    text: str
    side: Literal["right", "left", "above"] = "right"
    """Where the text finds room."""


@attrs.frozen
class Panel:
    """One set of axes."""

    title: str
    series: Sequence[Series]
    x_label: str
    x_limits: tuple[float, float]
    x_log: bool = False
    cut: float = math.inf
    """Measurements of this size and above were cut short."""
    marks: Sequence[Mark] = ()


def check_available() -> None:
    """Find out now rather than after minutes of measuring.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotsUnavailable


def draw_cdfs(
    path: Path,
    rows: Sequence[Sequence[Panel]],
    *,
    title: str,
    key_title: str,
    note: str = "",
) -> None:
    """Draw panels of cumulative distributions into a PNG; its directory is made if need be.

    Args:
        path: where to; an existing file is replaced.
        rows: the panels, row by row; each row has the same number, and its panels the same
            labels in the same order.
        title: above all.
        key_title: above the key of each row, whose lines say the label and each panel's median.
        note: below all, in small print.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check_available()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = len(rows[0])
    size_in = (WIDTH_IN * columns + KEY_WIDTH_IN, HEIGHT_IN * len(rows))
    # A Figure of its own, not pyplot: no global state, and no display is ever asked for.
    layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.03)
    figure = Figure(figsize=size_in, layout=layout)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_row, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(axes_row, panels, strict=True):
            _draw_panel(axes, panel)
        axes_row[0].set_ylabel("elections finished, %")
        _draw_key(axes_row[-1], panels, key_title)
    figure.suptitle(title, fontsize=14, fontweight="bold", x=0.008, ha="left")
    if note:
        figure.supxlabel(note, fontsize=9, color="0.35", x=0.008, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    right = min(panel.x_limits[1], panel.cut)
    for number, series in enumerate(panel.series):
        xs, ys = stats.cumulative(series.values, cut=panel.cut)
        # On to the right edge, so that a line that is full, or ends below, is seen to be so.
        xs.append(max(right, xs[-1]) if xs else right)
        ys.append(ys[-1] if ys else 0.0)
        axes.step(
            xs,
            ys,
            where="post",
            color=_colour(number, len(panel.series)),
            linestyle=LINE_STYLES[number % len(LINE_STYLES)],
            linewidth=1.8,
            clip_on=True,
        )
    for mark in panel.marks:
        _draw_mark(axes, mark)
    _dress(axes, panel)


def _draw_mark(axes: Axes, mark: Mark) -> None:
    axes.plot(
        [mark.x],
        [mark.percent],
        marker="o",
        markersize=7,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=1.4,
        linestyle="none",
        zorder=5,
        clip_on=False,
    )
    offset, alignment = MARK_TEXT_PLACES[mark.side]
    axes.annotate(
        mark.text,
        (mark.x, mark.percent),
        xytext=offset,
        ha=alignment,
        textcoords="offset points",
        fontsize=9,
        annotation_clip=False,
    )


def _dress(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter

    if panel.x_log:
        axes.set_xscale("log")
    axes.set_xlim(*panel.x_limits)
    axes.set_ylim(0, 101.5)
    axes.set_title(panel.title, loc="left", fontsize=11, pad=20)
    axes.set_xlabel(panel.x_label)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _position: f"{x:,.0f}"))
    axes.grid(visible=True, which="major", color="0.88", linewidth=0.8)
    axes.grid(visible=True, which="minor", axis="x", color="0.94", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_key(axes: Axes, panels: Sequence[Panel], title: str) -> None:
    """One line a series: its look, its label, and its median in each panel of the row."""
    from matplotlib.lines import Line2D

    labels = [series.label for series in panels[0].series]
    handles = [
        Line2D(
            [],
            [],
            color=_colour(number, len(labels)),
            linestyle=LINE_STYLES[number % len(LINE_STYLES)],
            linewidth=1.8,
        )
        for number in range(len(labels))
    ]
    medians = [
        _padded([_median(panel, number) for number in range(len(labels))]) for panel in panels
    ]
    texts = ["   ".join(column) for column in zip(_padded(labels), *medians, strict=True)]
    key = axes.legend(
        handles,
        texts,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        fontsize=9.5,
        title_fontsize=9.5,
        handlelength=3.4,
        labelspacing=0.7,
        frameon=False,
    )
    key.set_alignment("left")


def _median(panel: Panel, number: int) -> str:
    median = stats.percentile(panel.series[number].values, 50)
    if median >= panel.cut:
        return f"> {panel.cut:,.0f}"
    return f"{median:,.0f}" if median >= 10 else f"{median:.2g}"


def _padded(texts: Sequence[str]) -> list[str]:
    """Right-aligned with a space that is as wide as a digit."""
    width = max(len(text) for text in texts)
    return [text.rjust(width, FIGURE_SPACE) for text in texts]


def _colour(number: int, count: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    # The lightest fifth of the map is too pale on white.
    red, green, blue, alpha = colormaps["viridis"](0.82 * number / max(1, count - 1))
    return float(red), float(green), float(blue), float(alpha)
