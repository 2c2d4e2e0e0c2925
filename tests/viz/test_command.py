"""`trioraft viz` from outside: what it prints where, what it writes, how it ends.

Rules of this file: once the real command in a process of its own, to see that it is there and what
standard output holds; else the command in this process, which is the same code in less time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from tests.viz.script import Script, three_nodes
from trioraft.cli.application import application
from trioraft.viz.analysis import analyse_lines, analyse_log
from trioraft.viz.report import report, runs_json, summary

DATA = Path(__file__).parent / "data"


@attrs.frozen
class Result:
    returncode: int
    stdout: str
    stderr: str


def viz(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(application(), ["viz", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Result(result.exit_code, result.stdout, result.stderr)


def viz_in_its_own_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trioraft", "viz", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "error::ResourceWarning"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_has_the_promised_shape_and_standard_output_nothing_else(tmp_path: Path) -> None:
    result = viz_in_its_own_process("--json", DATA / "follower_comes_back.txt", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    printed = json.loads(result.stdout)
    assert list(printed) == ["runs"]
    assert len(printed["runs"]) == 2
    for run in printed["runs"]:
        findings = run.pop("findings")
        assert run == {
            "name": "TestElectionFollowerComesBack",
            "status": "PASS",
            "nodes": ["0", "1", "2"],
            "entries": 152,
            "unparsed": 0,
            "terms": {
                "1": {"leader": "0", "candidates": ["0"]},
                "2": {"leader": None, "candidates": ["1"]},
                "3": {"leader": None, "candidates": ["1"]},
                "4": {"leader": "1", "candidates": ["1"]},
            },
            "failovers_ms": [0.678],
            "failovers": run["failovers"],
        }
        (failover,) = run["failovers"]
        assert 0 < failover.pop("waited_ms") < 60  # the old leader's heartbeats came until then
        assert failover == {
            "from": "0",
            "to": "1",
            "terms": [1, 4],
            "is_heartbeat_known": True,
        }
        assert [finding["kind"] for finding in findings] == ["disruptive-rejoin", "split-vote"]
        for finding in findings:
            assert list(finding) == ["kind", "severity", "terms", "nodes", "detail"]
    assert list(tmp_path.iterdir()) == []  # no pages unless they are asked for


def test_the_report_and_the_pages(here: Path) -> None:
    (here / "pages").mkdir()
    (here / "pages" / "mine.txt").write_text("mine", encoding="utf-8")
    result = viz(DATA / "heartbeat_of_3_s.txt", "--out", "pages")
    assert (result.returncode, result.stderr) == (0, "")
    assert "TestElectionFollowerComesBack: no verdict, 3 nodes, 139 entries" in result.stdout
    assert "  warning: missed-heartbeats\n" in result.stdout
    assert "see lines 38, 41, 54" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 run, 2 errors, 5 warnings; pages: pages/index.html"
    assert (here / "pages" / "index.html").exists()
    assert (here / "pages" / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_log_that_is_none_is_one_message_and_leaves_the_others_alone(here: Path) -> None:
    (here / "empty.log").write_bytes(b"")
    sample = DATA / "heartbeat_of_3_s.txt"
    result = viz("empty.log", sample, "missing.log", "--json")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "trioraft viz: empty.log is empty: there is no log to show",
        "trioraft viz: cannot read missing.log: No such file or directory",
    ]
    assert len(json.loads(result.stdout)["runs"]) == 1


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"nothing\n"])
def test_without_any_log_nothing_is_written(content: bytes, here: Path) -> None:
    (here / "a.log").write_bytes(content)
    result = viz("a.log", "--out", "pages")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert not (here / "pages").exists()


def test_pages_that_cannot_be_written_are_one_message(here: Path) -> None:
    (here / "file").write_text("mine", encoding="utf-8")
    result = viz(DATA / "heartbeat_of_3_s.txt", "--out", "file")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "cannot write pages to file" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (here / "file").read_text(encoding="utf-8") == "mine"


def test_the_page_is_opened(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def note(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    assert viz(DATA / "heartbeat_of_3_s.txt", "--open").returncode == 0
    assert opened == [(here / "trioraft-viz" / "index.html").as_uri()]


def test_without_a_browser_the_page_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _url: False)
    result = viz(DATA / "heartbeat_of_3_s.txt", "--open", "--json")
    assert result.returncode == 0
    assert "found no browser; open trioraft-viz/index.html" in result.stderr
    json.loads(result.stdout)


# --- words ----------------------------------------------------------------------------------


def test_a_skipped_run_has_no_status_in_json() -> None:
    script = three_nodes()
    script.lines.append("--- SKIP: TestStory (0.1s)")
    (run,) = json.loads(runs_json([script.run()]))["runs"]
    assert run["status"] is None


def test_what_a_log_says_does_not_reach_the_terminals_controls() -> None:
    script = Script("Test\x1b[2JStory")
    script.say(0, 0, "listening at \x1b]0;owned\x07")
    assert "\x1b" not in report([script.run()])


def test_of_many_runs_only_those_to_worry_about_are_shown() -> None:
    calm = three_nodes()
    calm.reigns(202, 400, 0, 1, followers=(1, 2))
    bad = three_nodes()
    bad.name = "TestBad"
    bad.leader(220, 2, 1)
    runs = [*[calm.run()] * 40, bad.run()]
    text = report(runs)
    assert "TestBad" in text
    assert "40 more runs, with nothing to worry about" in text
    assert "TestStory" not in text
    assert summary(runs).startswith("41 runs, ")


def test_a_long_reign_is_read_whole_and_kept_small() -> None:
    script = three_nodes()
    script.reigns(202, 202 + 50 * 3000, 0, 1, followers=(1, 2))
    lines = script.lines
    (run,) = analyse_lines(lines, "long.log")
    assert len(run.entries) == len(lines) > 18_000
    assert len({id(entry.text) for entry in run.entries}) < 100  # equal texts are kept once
    assert all(message.fate == "delivered" for message in run.messages if not message.is_reply)
    assert run.findings == ()


def test_a_log_of_several_runs_is_one_list() -> None:
    runs = [*analyse_log(DATA / "follower_comes_back.txt")] * 2
    assert len(json.loads(runs_json(runs))["runs"]) == 4
