"""What is said of a list of measurements: percentiles, a summary, a cumulative distribution.

Rules of this file:

* No unit is known here: what comes in, comes out; the caller's names say `_s` or `_ms`.
* A percentile lies on the straight line between its two neighbours, as most tools have it.
* Nothing is dropped, weighted or smoothed. An empty list is an error, not a zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs


def percentile(values: Iterable[float], percent: float) -> float:
    """The value below which `percent` per cent of the measurements lie.

    Args:
        values: at least one, in any order.
        percent: 0 … 100; 0 is the smallest value, 50 the median, 100 the largest.

    Raises:
        ValueError: no values, or `percent` out of range.
    """
    return _percentile_of_sorted(sorted(values), percent)


def _percentile_of_sorted(ordered: Sequence[float], percent: float) -> float:
    if not ordered:
        raise ValueError("a percentile of no values was asked for: measure at least once")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent!r}: give 0 … 100")
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = math.ceil(position)
    if below == above:
        return ordered[below]
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@attrs.frozen
class Summary:
    """A list of measurements in eight numbers, in the unit of the measurements."""

    n: int
    """How many there were."""
    min: float
    p50: float
    """The median."""
    mean: float
    p90: float
    p99: float
    max: float

    def __str__(self) -> str:
        return (
            f"n={self.n} min={self.min:g} p50={self.p50:g} mean={self.mean:g} "
            f"p90={self.p90:g} p99={self.p99:g} max={self.max:g}"
        )


def summarize(values: Iterable[float]) -> Summary:
    """Summarise measurements.

    Raises:
        ValueError: there are none.
    """
    ordered = sorted(values)
    return Summary(
        n=len(ordered),
        min=_percentile_of_sorted(ordered, 0),
        p50=_percentile_of_sorted(ordered, 50),
        mean=math.fsum(ordered) / len(ordered),
        p90=_percentile_of_sorted(ordered, 90),
        p99=_percentile_of_sorted(ordered, 99),
        max=_percentile_of_sorted(ordered, 100),
    )


def cumulative(
    values: Iterable[float], *, cut: float = math.inf
) -> tuple[list[float], list[float]]:
    """The cumulative distribution, as the corners of a staircase to be drawn "post".

    Args:
        values: at least one, in any order.
        cut: measurements of this size and above were cut short: they count, but never finished.

    Returns:
        the finished values in order, the smallest twice, and at each one how many per cent of
        all measurements are at most that large: 0 first, and 100 last unless some were cut.
        Two empty lists if none finished.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a distribution of no values was asked for: measure at least once")
    finished = [value for value in ordered if value < cut]
    if not finished:
        return [], []
    shares = [100 * rank / len(ordered) for rank in range(len(finished) + 1)]
    return [finished[0], *finished], shares


def percent_at_most(values: Iterable[float], bound: float) -> float:
    """How many per cent of the measurements are at most `bound`.

    Raises:
        ValueError: there are no values.
    """
    hits = [value <= bound for value in values]
    if not hits:
        raise ValueError("a share of no values was asked for: measure at least once")
    return 100 * sum(hits) / len(hits)


@attrs.frozen
class Interval:
    """A median, and between which values it lies for certain enough."""

    median: float
    low: float
    high: float
    confidence: float
    """How often such an interval holds the true median, 0 … 1: less than was asked for where there
    are too few measurements."""

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}–{self.high:.3g})"


def median_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """The median, and an interval for it that assumes nothing of how the values are spread.

    It lies between the k-th value from below and from above: the true median is outside only if
    fewer than k of n values fell on one side of it, which is a matter of throwing coins.

    Args:
        values: at least one, in any order.
        confidence: how certain it is to be, 0 … 1.

    Raises:
        ValueError: there are no values, or `confidence` is out of range.
    """
    ordered = sorted(values)
    if not 0 <= confidence < 1:
        raise ValueError(f"confidence is {confidence!r}: give 0 or more, and less than 1")
    median, n = _percentile_of_sorted(ordered, 50), len(ordered)
    rank, outside = 1, 2 * 0.5**n
    while rank < (n + 1) // 2:
        more = outside + 2 * math.comb(n, rank) * 0.5**n
        if more > 1 - confidence:
            break
        rank, outside = rank + 1, more
    return Interval(median, ordered[rank - 1], ordered[n - rank], max(0.0, 1 - outside))
