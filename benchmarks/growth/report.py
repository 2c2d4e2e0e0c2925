"""What `benchmarks.growth` found: one table, one picture, and what each thing weighs.

Rules of this file:

* A ratio is to none (or the least that there can be) of the same round and process; what is told is
  the median of the rounds' ratios.
* A weight is how much the memory of the process that has the state grew with the largest step, for
  each: the median over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ..plots import LINE_STYLES, check_available
from .cases import CURVES, FLAT_MAX, Curve, Point

BEGIN: Final = "<!-- python -m benchmarks.growth --update: begin -->"
END: Final = "<!-- python -m benchmarks.growth --update: end -->"
WORTH_WEIGHING: Final = 100
"""Of fewer, a page more or less of memory is too much to tell."""


def rounds_of(points: Sequence[Point], curve: Curve, count: int) -> list[Point]:
    """What was measured of it."""
    return [point for point in points if (point.curve, point.count) == (curve.key, count)]


def counts_of(points: Sequence[Point], curve: Curve) -> list[int]:
    """At which counts anything was measured."""
    return [count for count in curve.counts if rounds_of(points, curve, count)]


def ratio(points: Sequence[Point], curve: Curve, count: int) -> float | None:
    """How many times what it costs with none a proposal costs: CPU time, or the median latency
    where that is what counts; None where there is no none."""

    def figure(point: Point) -> float:
        return point.p50_ms if curve.by_latency else point.cpu_us

    none = {point.round: figure(point) for point in rounds_of(points, curve, curve.counts[0])}
    ratios = [
        figure(point) / none[point.round]
        for point in rounds_of(points, curve, count)
        if none.get(point.round)
    ]
    return statistics.median(ratios) if ratios else None


def weight_bytes(points: Sequence[Point], curve: Curve) -> float | None:
    """What one weighs; None where that was not measured."""
    grown = [point for point in points if point.curve == curve.key and point.grown]
    largest = max((point.grown for point in grown), default=0)
    if not curve.weighs or largest < WORTH_WEIGHING:
        return None
    return statistics.median(p.grown_bytes / p.grown for p in grown if p.grown == largest)


def steep(points: Sequence[Point]) -> list[str]:
    """What should be flat and is not, in words."""
    found = []
    for curve in CURVES:
        for count in counts_of(points, curve) if curve.is_flat else ():
            times = ratio(points, curve, count)
            if times is not None and times > FLAT_MAX:
                what = "p50" if curve.by_latency else "CPU"
                found.append(f"{count:,} {curve.name}: {times:.2f} times the {what} of none")
    return found


def markdown(points: Sequence[Point], load_average: float) -> str:
    """The tables.

    Args:
        points: all that were measured.
        load_average: the machine's, at the most.
    """
    rounds = 1 + max(point.round for point in points)
    lines = [
        "| what grows | how many | CPU µs a proposal | to none | p50 ms |",
        "|---|---|---|---|---|",
    ]
    for curve in CURVES:
        for at, count in enumerate(counts_of(points, curve)):
            of = rounds_of(points, curve, count)
            name = f"{curve.name}{' (server)' if curve.is_served else ''}" if at == 0 else ""
            times = ratio(points, curve, count)
            lines.append(
                f"| {name} | {count:,} | {statistics.median(p.cpu_us for p in of):,.0f} | "
                f"{'' if times is None or at == 0 else f'{times:.2f}'} | "
                f"{statistics.median(p.p50_ms for p in of):.2f} |"
            )
    lines += [
        "",
        f"Medians of {rounds} rounds; *to none*: CPU time, for status watches the median latency. "
        f"Load average of the machine meanwhile: up to {load_average:.1f}.",
        "",
    ]
    weights = [*_weights(points)]
    if weights:
        lines += ["| one more | resident bytes |", "|---|---|", *weights, ""]
    return "\n".join(lines)


def _weights(points: Sequence[Point]) -> Iterator[str]:
    for curve in CURVES:
        weight = weight_bytes(points, curve)
        if weight is not None:
            yield f"| {curve.weighs} | {weight:,.0f} |"


def updated(text: str, block: str) -> str:
    """A page with this block between the marks instead of what stood there.

    Raises:
        ValueError: the page has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"give a file with {BEGIN!r} and after it {END!r}")
    return f"{before}{BEGIN}\n\n{block.strip()}\n\n{END}{after}"


def _limits(ratios: Sequence[float]) -> tuple[float, float]:
    """So wide that what is flat is seen to be."""
    return min(0.7, *ratios) / 1.1, max(1.5, *ratios) * 1.1


def save_plot(points: Sequence[Point], path: Path) -> None:
    """Draw all curves into one picture: the cost to none, against the number.

    Raises:
        PlotsUnavailable: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check_available()
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 5.5), layout="constrained", dpi=150)
    axes: Any = figure.add_subplot()
    drawn = [curve for curve in CURVES if counts_of(points, curve)]
    for number, curve in enumerate(drawn):
        at = [(max(count, 0.3), ratio(points, curve, count)) for count in counts_of(points, curve)]
        known = [(x, y) for x, y in at if y]  # of a moment, CPU time may be none
        axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            label=curve.name.replace("`", ""),
            color=colormaps["viridis"](0.85 * number / max(1, len(drawn) - 1)),
            linestyle=LINE_STYLES[number % len(LINE_STYLES)],
            marker="o",
            markersize=3.5,
        )
    axes.axhline(FLAT_MAX, color="0.6", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda x, _position: f"{x:,.0f}" if x >= 1 else "none")
    axes.set_yticks([0.5, 0.8, 1, 1.2, 1.5, 2, 3, 5, 10])
    axes.yaxis.set_major_formatter(lambda y, _position: f"{y:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_ylim(*_limits([y for line in axes.lines for y in line.get_ydata()]))
    axes.set_xlabel("how many there are")
    axes.set_ylabel("cost of a proposal, to none")
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    figure.savefig(path)
