"""The services of examples/any_program survive kill -9: a few rounds of `python -m
tests.any_program`, and the checks of it see what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.any_program.__main__ import (
    PROGRAMS,
    Load,
    check_count,
    check_ledger,
    check_reports,
    run,
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_three_services_are_killed_and_nothing_is_lost(program: str, tmp_path: Path) -> None:
    if program == "aiohttp":
        pytest.importorskip("aiohttp")
    outcome = run(program, 3, 1, directory=tmp_path)
    assert outcome.acknowledged > 0
    assert outcome.tokens > 0
    assert outcome.terms >= 2
    assert len(outcome.takeovers_s) >= 2


def load_of(acknowledged: list[int], maybe: int = 0) -> Load:
    load = Load({})
    load.acknowledged += acknowledged
    load.maybe = maybe
    return load


@pytest.mark.parametrize(
    ("load", "count"),
    [
        (load_of([1, 2, 3]), 2),
        (load_of([1, 2]), 3),
        (load_of([1, 1]), 2),
        (load_of([1, 5], maybe=1), 3),
    ],
)
def test_a_lost_or_doubled_increment_is_seen(load: Load, count: int) -> None:
    with pytest.raises(AssertionError):
        check_count(load, count)
    check_count(load_of([1, 3], maybe=2), 3)


@pytest.mark.parametrize(
    "lines",
    [
        ["+1 a", "+2 b", "-1 a"],
        ["+1 a", "-1 a", "+1 b", "-1 b"],
        ["+2 a", "-2 a", "+1 b"],
    ],
)
def test_two_holders_are_seen(lines: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_ledger(lines, [])
    check_ledger(["+1 a", "+3 b", "-3 b"], [3])  # a was killed
    with pytest.raises(AssertionError, match="not in the ledger"):
        check_ledger(["+1 a"], [1])


def test_two_doers_of_the_leader_s_job_are_seen() -> None:
    with pytest.raises(AssertionError, match="two leaders"):
        check_reports(["1 a 1", "1 b 2"])
    with pytest.raises(AssertionError, match="same number"):
        check_reports(["1 a 1", "2 b 1"])
    assert check_reports(["1 a 1", "2 b 2"]) == 2
