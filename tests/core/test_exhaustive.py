"""Small state spaces, looked at as a whole; the larger ones are run by `python -m tests.long`."""

from __future__ import annotations

import pytest

from tests.exhaustive.__main__ import explored, main
from tests.exhaustive.spaces import SPACES

SMALL = [name for name, bounds in SPACES.items() if bounds.in_suite]
PLANTED = [(name, bug) for name in SMALL for bug in SPACES[name].bugs]


@pytest.mark.parametrize("name", SMALL)
def test_no_interleaving_breaks_a_rule(name: str) -> None:
    report = explored(SPACES[name])
    assert report.failure is None, "\n".join(report.path)
    assert report.is_whole
    assert report.states > 200


@pytest.mark.parametrize(("name", "bug"), PLANTED)
def test_a_planted_bug_shows(name: str, bug: str) -> None:
    report = explored(SPACES[name], bug)
    assert report.failure is not None
    assert "committed" in report.failure
    assert report.path


def test_a_space_that_is_too_large_is_not_taken_for_right() -> None:
    assert not explored(SPACES["a deposed leader reads"], states_max=100).is_whole


def test_the_command_says_what_was_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a lease", "--bugs"]) == 0
    output = capsys.readouterr().out
    assert "a lease (3 nodes, timeouts 1, ticks 4): " in output
    assert "lasts_a_little_too_long: 1 would read by its lease at 1" in output
