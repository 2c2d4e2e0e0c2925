"""What `python -m tests.kv_nemesis` checks, shown to bite. The run itself takes longer than a test
may: CI starts it as a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kv_nemesis.__main__ import check_history
from tests.kv_nemesis.clients import Record, check_log
from trioraft.testing import Transactions


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


# -- what all clients saw ------------------------------------------------------------------


def test_a_good_history_is_no_trouble(tmp_path: Path) -> None:
    check_history(Record(), tmp_path)


def test_two_who_hold_the_lock_are_trouble(tmp_path: Path) -> None:
    record = Record()
    record.violations.append("c1 has what c2 has")
    with pytest.raises(AssertionError, match="c1 has what c2 has"):
        check_history(record, tmp_path)


def test_a_torn_transaction_is_trouble_and_is_kept(tmp_path: Path) -> None:
    record = Record()
    for call, result in (
        (Transactions.Do(writes={"x": "1", "y": "1"}), (True, ())),
        (Transactions.Do(reads=("x", "y")), (True, ("1", None))),
    ):
        with record.transactions.operation("c", call) as operation:
            operation.ok(result)
    with pytest.raises(AssertionError, match="kv-nemesis-transactions"):
        check_history(record, tmp_path)
    assert (tmp_path / "kv-nemesis-transactions.jsonl").exists()
