"""Two runs beside each other: which belong together, what differs, where they can be aligned."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from tests.viz.script import Script, three_nodes
from tests.viz.test_command import viz
from trioraft.viz.compare import Row, compared, comparison_text, moments
from trioraft.viz.model import Run
from trioraft.viz.page.write import compare_page

DATA = Path(__file__).parent / "data"


def story(name: str = "TestStory", *, timeout_ms: int = 200) -> Run:
    """A leader is cut off at 300 ms; another one is elected after a timeout."""
    script = three_nodes()
    script.name = name
    script.reigns(202, 300, 0, 1, followers=(1, 2))
    script.test(300, "Disconnect 0")
    script.elected(252 + timeout_ms, 1, 2)
    script.test(260 + timeout_ms + 100, "Reconnect 0")
    return script.run()


def row(name: str, *, before: Run, after: Run) -> Row:
    (comparison,) = compared([before], [after])
    return next(row for row in comparison.rows if row.name == name)


def test_a_shorter_timeout_is_a_shorter_failover() -> None:
    found = row("failover, the longest", before=story(timeout_ms=400), after=story())
    # From the heartbeat at 252 ms, which takes 1 ms on its way, to the election, which takes 2.
    assert found.before == pytest.approx(401, abs=0.5)
    assert found.after == pytest.approx(201, abs=0.5)
    assert found.difference == "−200 ms (−50%)"


def test_what_is_the_same_says_so_and_what_is_not_known_is_no_zero() -> None:
    assert row("elections", before=story(), after=story()).difference == "same"
    found = row("committed up to", before=story(), after=committed())
    assert (found.before, found.after, found.difference) == (None, 3, "")


def committed() -> Run:
    script = three_nodes()
    script.say(300, 0, "commit index advances to 3")
    return script.run()


def test_runs_of_the_same_story_belong_together_whatever_the_language_calls_it() -> None:
    before = [story("TestOther"), story("TestFollowerComesBack")]
    after = [story("test_follower_comes_back"), story("test_something_else")]
    found = compared(before, after)
    assert [(one.before.name, one.after.name, one.is_guess) for one in found] == [
        ("TestFollowerComesBack", "test_follower_comes_back", False),
        ("TestOther", "test_something_else", True),
    ]
    assert "their names differ" in comparison_text(found[1])


def test_the_moments_to_align_by_are_those_that_a_run_has() -> None:
    found = moments(story())
    assert found["the first line"] == 0.0
    assert found["the first leader"] == pytest.approx(0.202)
    assert found["the first cut or crash"] == pytest.approx(0.3)
    assert found["the first change of leader"] == pytest.approx(0.454)
    assert "the first cut or crash" not in moments(committed())


def test_the_command_prints_the_table_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logs = write_two(tmp_path)
    result = viz("--compare", *logs, "--out", "pages")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "TestStory (before.log) and TestStory (after.log)"
    assert any(line.split()[:3] == ["failover,", "the", "longest"] for line in lines)
    assert lines[-1] == "page: pages/compare-001-TestStory.html"
    assert (tmp_path / "pages" / "compare-001-TestStory.html").exists()


def test_as_json_it_prints_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = viz("--compare", *write_two(tmp_path), "--json")
    (one,) = json.loads(result.stdout)["comparisons"]
    assert one["before"] == {"name": "TestStory", "source": "before.log"}
    by_name = {row["name"]: row for row in one["differences"]}
    assert by_name["elections"] == {
        "name": "elections",
        "unit": "count",
        "before": 2,
        "after": 2,
    }
    assert not (tmp_path / "trioraft-viz").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_other_than_two_logs_cannot_be_compared(count: int, tmp_path: Path) -> None:
    (before, _) = write_two(tmp_path)
    result = viz("--compare", *[tmp_path / before] * count)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--compare takes two logs, BEFORE and AFTER" in result.stderr


def test_the_page_escapes_what_a_log_says() -> None:
    evil = "</script><script>alert(1)</script>"
    (one,) = compared([attrs.evolve(story(), name=evil, source=evil)], [story()])
    html = compare_page(one)
    assert html.count("<script") == 4  # two runs, the moments, and ours
    assert evil not in html


def write_two(folder: Path) -> tuple[str, str]:
    """Two logs of the same story."""
    script: Script = three_nodes()
    script.test(300, "Disconnect 0")
    script.elected(500, 1, 2)
    text = "\n".join([f"=== RUN   {script.name}", *script.lines])
    for name in ("before.log", "after.log"):
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return "before.log", "after.log"
