"""Rules of this file: what `benchmarks.stats` says is checked against the standard library, and
by hand where that has nothing to say."""

from __future__ import annotations

import random
import statistics

import pytest

from benchmarks import stats


def test_percentiles_lie_on_the_line_between_neighbours() -> None:
    values = [40.0, 10.0, 30.0, 20.0]
    assert stats.percentile(values, 0) == 10
    assert stats.percentile(values, 50) == 25
    assert stats.percentile(values, 90) == pytest.approx(37)
    assert stats.percentile(values, 100) == 40


def test_percentiles_are_those_of_the_standard_library() -> None:
    rng = random.Random(1)
    values = [rng.expovariate(1.0) for _ in range(137)]
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for percent, cut in enumerate(cuts, start=1):
        assert stats.percentile(values, percent) == pytest.approx(cut)


def test_one_value_is_all_of_its_percentiles() -> None:
    assert {stats.percentile([7.0], percent) for percent in (0, 1, 50, 99, 100)} == {7.0}


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="give 0 … 100"):
        stats.percentile([1.0], percent)


def test_a_summary_in_numbers_and_in_words() -> None:
    summary = stats.summarize([4.0, 1.0, 2.0, 3.0])
    assert (summary.n, summary.min, summary.p50, summary.mean) == (4, 1, 2.5, 2.5)
    assert (summary.p90, summary.p99, summary.max) == pytest.approx((3.7, 3.97, 4))
    assert str(summary) == "n=4 min=1 p50=2.5 mean=2.5 p90=3.7 p99=3.97 max=4"


def test_a_cumulative_distribution_starts_at_none_and_ends_at_all() -> None:
    xs, ys = stats.cumulative([3.0, 1.0, 1.0, 2.0])
    assert xs == [1, 1, 1, 2, 3]
    assert ys == [0, 25, 50, 75, 100]


def test_what_was_cut_counts_but_never_finished() -> None:
    xs, ys = stats.cumulative([3.0, 1.0, 9.0, 9.0], cut=9.0)
    assert xs == [1, 1, 3]
    assert ys == [0, 25, 50]
    assert stats.cumulative([9.0], cut=9.0) == ([], [])


def test_the_share_at_most_a_bound_counts_the_bound() -> None:
    assert stats.percent_at_most([1.0, 2.0, 3.0, 4.0], 2.0) == 50


def test_nothing_is_said_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        stats.percentile([], 50)
    with pytest.raises(ValueError, match="no values"):
        stats.summarize([])
    with pytest.raises(ValueError, match="no values"):
        stats.cumulative([])
    with pytest.raises(ValueError, match="no values"):
        stats.percent_at_most([], 1.0)


def test_the_interval_of_a_median_has_as_many_values_outside_as_it_may() -> None:
    few = stats.median_interval([3.0, 1.0, 2.0])
    assert (few.median, few.low, few.high) == (2, 1, 3)
    assert few.confidence == pytest.approx(0.75), "three values cannot be more certain"
    # As tables of the sign test have it: of 10, the second from either side; of 20, the sixth.
    ten = stats.median_interval(map(float, range(1, 11)))
    assert (ten.low, ten.high, round(ten.confidence, 4)) == (2, 9, 0.9785)
    twenty = stats.median_interval(map(float, range(1, 21)))
    assert (twenty.low, twenty.high, round(twenty.confidence, 4)) == (6, 15, 0.9586)
    one = stats.median_interval([7.0])
    assert (one.low, one.high, one.confidence) == (7, 7, 0)


def test_an_interval_holds_the_median_as_often_as_it_says() -> None:
    rng = random.Random(2)
    hits = 0
    for _ in range(2000):
        interval = stats.median_interval(rng.expovariate(1.0) for _ in range(9))
        hits += interval.low <= 0.6931 <= interval.high
    assert interval.confidence == pytest.approx(0.961, abs=0.001)
    assert hits / 2000 == pytest.approx(interval.confidence, abs=0.015)


def test_an_interval_of_nothing_and_an_impossible_certainty_are_errors() -> None:
    with pytest.raises(ValueError, match="at least once"):
        stats.median_interval([])
    with pytest.raises(ValueError, match="less than 1"):
        stats.median_interval([1.0], confidence=1.0)
