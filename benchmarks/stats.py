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
