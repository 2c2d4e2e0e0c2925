"""docs/networks.md: what it says to choose is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trioraft import Timing
from trioraft.cli.values import parse_duration_range_s, parse_duration_s

PAGE = (Path(__file__).parent.parent / "docs/networks.md").read_text(encoding="utf-8")
CHOICES = re.findall(
    r"`Timing\.for_round_trip\((.*?)\)` \| `--election-timeout (\S+) --heartbeat (\S+)`", PAGE
)


def test_the_page_has_choices() -> None:
    assert len(CHOICES) >= 6


@pytest.mark.parametrize(("words", "timeouts", "heartbeat"), CHOICES)
def test_what_the_page_says_to_choose(words: str, timeouts: str, heartbeat: str) -> None:
    round_trip, *more = words.split(", ")
    named = {name: float(value) for name, value in (word.split("=") for word in more)}
    timing = Timing.for_round_trip(float(round_trip), **named)
    assert parse_duration_range_s(timeouts) == pytest.approx(timing.election_timeout_s)
    assert parse_duration_s(heartbeat) == pytest.approx(timing.heartbeat_interval_s)


def test_the_defaults_are_good_for_what_the_page_says() -> None:
    assert "up to 37 ms" in PAGE
    assert 0.037 < Timing().round_trip_s_max < 0.038
