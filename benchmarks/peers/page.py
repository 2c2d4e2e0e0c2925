"""The plots of `benchmarks.peers`, and the page that holds them.

Rules of this file:

* One panel a level; a row for each load, a shape and a colour for each peer (Okabe and Ito's), a
  small mark for every round and a large one for their median.
* Rates and latencies are drawn on logarithmic scales: what counts is the ratio.
* The page is one file: the picture is in it, and nothing is fetched.
"""

from __future__ import annotations

import base64
import html
import io
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ..plots import PlotsUnavailable, check_available
from .cases import NAMES, Level, Load, Peer
from .report import TITLES, markdown
from .results import Results, Sample, p99, rate

COLOURS: Final = {
    Peer.TRIORAFT: "#0072B2",
    Peer.HASHICORP: "#D55E00",
    Peer.ETCD: "#009E73",
    Peer.PYSYNCOBJ: "#CC79A7",
}
MARKERS: Final = {Peer.TRIORAFT: "o", Peer.HASHICORP: "s", Peer.ETCD: "^", Peer.PYSYNCOBJ: "D"}
_WIDTH_IN: Final = 10.0
_ROW_IN: Final = 0.42
_AROUND_IN: Final = 1.3
"""What each panel needs beside its rows."""


def figure_of(results: Results) -> Any:
    """Every panel, one above the other.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
    """
    check_available()
    from matplotlib.figure import Figure

    panels = _panels(results)
    heights = [_AROUND_IN + _ROW_IN * len(loads) for _, _, loads, _ in panels]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights)), layout="constrained", dpi=150)
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (title, unit, loads, values) in zip(grid[:, 0], panels, strict=True):
        _draw(axes, results, loads, values)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(unit)
    return figure


Values = Callable[[Sample], Sequence[float]]


def _panels(results: Results) -> list[tuple[str, str, list[Load], Values]]:
    rates = [load for load in results.loads() if not load.is_judged_by_latency]
    panels: list[tuple[str, str, list[Load], Values]] = [
        (TITLES[level], "operations a second", loads, lambda sample: (rate(sample),))
        for level in (Level.LIBRARY, Level.SERVICE)
        if (loads := [load for load in rates if load.level is level])
    ]
    timed = [load for load in results.loads() if load.level is not Level.FAILOVER]
    if timed:
        panels.append(("99 of 100 calls", "ms at most", timed, lambda sample: (p99(sample),)))
    failovers = [load for load in results.loads() if load.level is Level.FAILOVER]
    if failovers:
        panels.append((TITLES[Level.FAILOVER], "ms", failovers, lambda sample: sample.trials_ms))
    return panels


def _draw(axes: Any, results: Results, loads: Sequence[Load], values: Values) -> None:
    drawn = set()
    for row, load in enumerate(loads):
        for peer in results.peers_of(load):
            found = [value for sample in results.of(load, peer) for value in values(sample)]
            look = {"color": COLOURS[peer], "marker": MARKERS[peer], "linestyle": "none"}
            label = NAMES[peer] if peer not in drawn else None
            drawn.add(peer)
            axes.plot(found, [-row] * len(found), markersize=3.5, alpha=0.5, **look)
            axes.plot([statistics.median(found)], [-row], markersize=8, label=label, **look)
    axes.set_xscale("log")
    axes.set_ylim(0.6 - len(loads), 0.6)
    axes.set_yticks([-float(row) for row in range(len(loads))])
    names = [load.name if load.level is not Level.FAILOVER else "" for load in loads]
    if len({load.level for load in loads}) > 1:
        names = [f"{load.level}: {load.name}" for load in loads]
    axes.set_yticklabels(names)
    axes.xaxis.set_major_formatter(lambda x, _position: f"{x:,.10g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(visible=True, axis="x", which="major", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)


def save_plot(results: Results, path: Path) -> None:
    """Draw the picture into a file; its suffix chooses the format.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
        OSError: it cannot be written.
    """
    figure_of(results).savefig(path)


_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>trioraft beside its peers</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
td, th {{ padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: left }}
img {{ max-width: 100% }}
</style>
<h1>trioraft beside its peers</h1>
{plot}
{body}
</html>
"""


def page(results: Results) -> str:
    """One HTML file with the picture and the tables; without the picture where there is no
    matplotlib."""
    try:
        drawn = io.BytesIO()
        figure_of(results).savefig(drawn, format="png")
        data = base64.b64encode(drawn.getvalue()).decode("ascii")
        plot = f'<img alt="rates and latencies of each peer" src="data:image/png;base64,{data}">'
    except PlotsUnavailable as error:
        plot = f"<p>{html.escape(str(error))}</p>"
    return _PAGE.format(plot=plot, body="\n".join(_html(markdown(results))))


def _html(text: str) -> list[str]:
    """Our own Markdown, which has tables, paragraphs, lists and nothing in them but emphasis."""
    lines: list[str] = []
    for block in text.strip().split("\n\n"):
        rows = block.split("\n")
        if rows[0].startswith("|"):
            cells = [row.strip("|").split("|") for row in rows if not row.startswith("|--")]
            lines.append("<table>")
            lines += ["<tr>" + "".join(f"<td>{_inline(c)}</td>" for c in row) for row in cells]
            lines.append("</table>")
        elif rows[0].startswith("* "):
            lines += ["<ul>", *(f"<li>{_inline(row[2:])}</li>" for row in rows), "</ul>"]
        else:
            lines.append(f"<p>{_inline(' '.join(rows))}</p>")
    return lines


def _inline(text: str) -> str:
    parts = html.escape(text.strip()).split("**")
    marked = "".join(f"<b>{part}</b>" if n % 2 else part for n, part in enumerate(parts))
    codes = marked.split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(codes))
