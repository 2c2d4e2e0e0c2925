"""What `python -m tests.kv_nemesis` checks, shown to bite. The run itself takes longer than a test
may: CI starts it as a command."""

from __future__ import annotations

import pytest

from tests.kv_nemesis.clients import Record, check_log


def record_of(acknowledged: str, uncertain: str = "") -> Record:
    record = Record()
    record.appended["c"] = acknowledged.split()
    record.uncertain["c"] = set(uncertain.split())
    return record


@pytest.mark.parametrize(
    ("acknowledged", "uncertain", "log"),
    [
        ("", "", ""),
        ("1 2 3", "", "1;2;3;"),
        ("1 3", "2", "1;2;3;"),
        ("1 3", "2", "1;3;"),
        ("1 3", "2", "1;3;2;"),  # it was on its way for long
    ],
)
def test_what_may_be(acknowledged: str, uncertain: str, log: str) -> None:
    check_log("c", record_of(acknowledged, uncertain), log)


@pytest.mark.parametrize(
    ("acknowledged", "uncertain", "log", "said"),
    [
        ("1 2", "", "1;", "acknowledged and lost: \\['2'\\]"),
        ("1 2", "", "", "2 acknowledged and lost"),
        ("1 2", "", "1;2;2;", "appended twice: \\['2'\\]"),
        ("1", "2", "1;2;2;", "appended twice: \\['2'\\]"),
        ("1 2", "", "2;1;", "out of order"),
        ("1", "", "1;7;", "never appended: \\['7'\\]"),
    ],
)
def test_what_must_not_be(acknowledged: str, uncertain: str, log: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_log("c", record_of(acknowledged, uncertain), log)
