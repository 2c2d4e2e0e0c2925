"""The benchmark of reading logs, on a small one: what it makes is a log, and is read whole.

Rules of this file: nothing is asserted about time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.viz.parse import lines, measure
from trioraft.viz.analysis import analyse_lines


def test_every_line_of_the_made_log_is_understood() -> None:
    made = list(lines(5_000))
    assert len(made) == 5_000
    (run,) = analyse_lines(made, "big.raftlog")
    assert len(run.entries) == len(made) - 1  # but for the header
    assert run.unparsed == 0
    assert run.findings == ()
    requests = [message for message in run.messages if not message.is_reply]
    assert sum(message.fate == "delivered" for message in requests) >= len(requests) - 1
    assert {message.family for message in requests} == {"heartbeat", "entries"}


def test_it_says_how_fast_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "big.raftlog"
    path.write_text("".join(lines(2_000)), encoding="utf-8")
    measure(path, 2_000)
    assert capsys.readouterr().out.startswith("2,000 lines read in ")
