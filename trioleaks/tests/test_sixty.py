"""Sixty planted leaks of every kind are found, each at its line, and none of their clean twins.

Rules of this file: the suite is run once, in a pytest of its own, with all its tests in one process
and the verdicts read from its JSON report.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest

SUITE = Path(__file__).parent / "suite" / "planted.py"
TIMEOUT_S = 300
LEAST = 60


@attrs.frozen
class Planted:
    """A leak that the suite plants."""

    test: str
    kind: str
    line: int | None
    """Where it is started; None if that cannot be known."""


def planted() -> list[Planted]:
    """Every test of the suite that leaks, with the marker in it, or in its fixture."""
    found: list[Planted] = []
    pending: tuple[str, int] | None = None
    test = ""
    for number, text in enumerate(SUITE.read_text("utf-8").splitlines(), start=1):
        if match := re.search(r"def (test_leaks_\w+)", text):
            test = match[1]
            if pending is not None:
                found.append(Planted(test, *pending))
                pending = None
        if match := re.search(r"# (.*)<- ([a-z ]+)(: fixture)?$", text):
            if match[3]:
                pending = match[2], number
            else:
                found.append(Planted(test, match[2], None if match[1] else number))
    return found


@functools.cache
def verdicts() -> dict[str, dict[str, Any]]:
    """What the check says of each test of the suite that leaks, or could not be checked."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "leaks.json"
        command = [
            *(sys.executable, "-m", "pytest", str(SUITE), "-q", "-p", "no:cacheprovider"),
            *("-o", "trio_mode=true", "-o", "leaks_stuck_s=0.5", "-o", "raft_leak_check=false"),
            *("-o", "addopts=", "-W", "default", "--leaks=error", f"--leaks-json={report}"),
        ]
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert report.exists(), ended.stdout + ended.stderr
        tests = json.loads(report.read_text("utf-8"))["tests"]
    return {each["test"].rpartition("::")[2]: each for each in tests}


def names(prefix: str) -> list[str]:
    return re.findall(rf"def ({prefix}_\w+)", SUITE.read_text("utf-8"))


@pytest.mark.parametrize("leak", [pytest.param(each, id=each.test) for each in planted()])
def test_a_planted_leak_is_found_at_its_line(leak: Planted) -> None:
    told = verdicts().get(leak.test)
    assert told is not None, "not found"
    same = [each for each in told["leaks"] if each["kind"] == leak.kind]
    assert same, told["leaks"]
    if leak.line is not None:
        assert f"planted.py:{leak.line} in " in (same[0]["started_at"] or "unknown")


@pytest.mark.parametrize("name", names("test_twin"))
def test_a_clean_twin_is_silent(name: str) -> None:
    assert verdicts().get(name) is None


def test_each_leak_has_a_twin_and_there_are_sixty() -> None:
    leaks = {name.removeprefix("test_leaks_") for name in names("test_leaks")}
    twins = {name.removeprefix("test_twin_") for name in names("test_twin")}
    assert len(planted()) == len(names("test_leaks")) >= LEAST
    assert len(leaks - twins) <= 1, leaks - twins
