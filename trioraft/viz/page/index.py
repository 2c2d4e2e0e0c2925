"""The list of runs: what one row says, and its small picture of the roles.

Rules of this file: values only, which `static/index.html` lays out; the picture is bounded, however
many roles a run has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from ..model import SEVERITIES, Role, Run

SPARK_WIDTH: Final = 180
SPARK_ROW_HEIGHT: Final = 9
SPARK_ROWS_MAX: Final = 9
TERMS_SHOWN_MAX: Final = 12

_SIGNS: Final = {"error": "✗", "warning": "!", "info": "i"}
# How high a role stands in its row: the second channel beside the colour.
_HEIGHTS: Final[Mapping[Role, int]] = {
    "Follower": 1,
    "PreCandidate": 4,
    "Candidate": 5,
    "Leader": 8,
    "Dead": 0,
}


@attrs.frozen
class Bar:
    """One rectangle of a spark, in pixels."""

    role: Role
    x: int
    y: float
    width: int
    height: int


@attrs.frozen
class Spark:
    """The roles of each node over time, in a few pixels."""

    bars: tuple[Bar, ...]
    height: int


@attrs.frozen
class Row:
    """One run in the list."""

    run: Run
    file: str
    """Its page, beside the index."""
    findings: tuple[tuple[str, str, int], ...]
    """(severity, sign, how many), worst first, without those of which there are none."""
    leaders: tuple[tuple[int, str | None], ...]
    """Term and leader, of the first terms."""
    terms_left_out: int
    lasted: str
    spark: Spark | None


def row_of(run: Run, file: str) -> Row:
    """What the list says of a run whose page is `file`."""
    counts = Counter(finding.severity for finding in run.findings)
    return Row(
        run=run,
        file=file,
        findings=tuple((name, _SIGNS[name], counts[name]) for name in SEVERITIES if counts[name]),
        leaders=tuple((term.number, term.leader) for term in run.terms[:TERMS_SHOWN_MAX]),
        terms_left_out=max(len(run.terms) - TERMS_SHOWN_MAX, 0),
        lasted=duration_text(run.duration_s * 1000),
        spark=_spark(run),
    )


def duration_text(duration_ms: float) -> str:
    """A duration for a person: `850 µs`, `12.3 ms`, `1.25 s`, `4 min 10 s`."""
    if duration_ms < 0.9995:
        return f"{duration_ms * 1000:.0f} µs"
    if duration_ms < 999.5:  # from here on, three digits are a second
        return f"{duration_ms:.3g} ms"
    if duration_ms < 120_000:
        return f"{duration_ms / 1000:.3g} s"
    minutes, seconds = divmod(round(duration_ms / 1000), 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def lead(runs: Sequence[Run]) -> str:
    """The sentence above the list."""
    failed = sum(run.status == "FAIL" for run in runs)
    findings = sum(len(run.findings) for run in runs)
    return (
        f"{_counted(len(runs), 'run')}, {failed} of them failed; {_counted(findings, 'finding')}."
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _spark(run: Run) -> Spark | None:
    if not run.nodes:
        return None
    bars: list[Bar] = []
    for row, node in enumerate(run.nodes[:SPARK_ROWS_MAX]):
        tallest: list[Role] = ["Dead"] * SPARK_WIDTH
        for span in node.roles:
            first = _pixel(span.start_s, run.duration_s)
            for x in range(first, max(_pixel(span.end_s, run.duration_s), first + 1)):
                # A short candidacy must not disappear behind the long role after it.
                if _HEIGHTS[span.role] >= _HEIGHTS[tallest[x]]:
                    tallest[x] = span.role
        bars += _bars(tallest, (row + 0.5) * SPARK_ROW_HEIGHT)
    return Spark(tuple(bars), min(len(run.nodes), SPARK_ROWS_MAX) * SPARK_ROW_HEIGHT)


def _pixel(at_s: float, duration_s: float) -> int:
    share = at_s / duration_s if duration_s > 0 else at_s
    return min(max(int(share * SPARK_WIDTH), 0), SPARK_WIDTH - 1)


def _bars(roles: Sequence[Role], middle: float) -> list[Bar]:
    """Equal neighbours become one rectangle."""
    bars: list[Bar] = []
    start = 0
    for x in range(1, len(roles) + 1):
        if x < len(roles) and roles[x] == roles[start]:
            continue
        role = roles[start]
        height = _HEIGHTS[role]
        if height:
            bars.append(Bar(role, start, middle - height / 2, x - start, height))
        start = x
    return bars
