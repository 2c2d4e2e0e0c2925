"""Three processes with SQLite, killed at any time: a few rounds of `python -m tests.kill_nine`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill_nine.__main__ import check, run


@pytest.mark.parametrize("is_shared", [False, True], ids=["of its own", "shared"])
def test_what_was_acknowledged_survives(is_shared: bool, tmp_path: Path) -> None:
    acknowledged, applied = run(rounds=6, seed=7, directory=tmp_path, is_shared=is_shared)
    assert applied >= acknowledged > 0


@pytest.mark.parametrize(
    ("logs", "says"),
    [
        ({"0": ["a/1", "a/2"], "1": ["a/1", "a/2"], "2": ["a/1"]}, "differ"),
        ({"0": ["a/1", "a/1", "a/2"]}, "twice"),
        ({"0": ["a/1"]}, "lost"),
        ({"0": ["a/2", "a/1"]}, "before an earlier"),
    ],
)
def test_the_check_finds_what_it_should(logs: dict[str, list[str]], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check(["a/1", "a/2"], logs)
