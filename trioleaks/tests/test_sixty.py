"""Sixty planted leaks of every kind are found, each at its line, and none of their clean twins.

Rules of this file:

* The suite is run once, in a pytest of its own, with all its tests in one process, no plugin but
  those that it is about, and the verdicts read from its JSON report.
* Every miss is told at once: which leak, and what the check said instead.
* What the suite leaves behind ends with it: it has a group of processes of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from trioleaks import KINDS

SUITE = Path(__file__).parent / "suite" / "planted.py"
TIMEOUT_S = 300
LEAST = 60


@attrs.frozen
class Planted:
    """A leak that the suite plants."""

    test: str
    kind: str
    line: int
    """Where it is started."""


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
        if match := re.search(r"# <- ([a-z ]+)(: fixture)?$", text):
            if match[2]:
                pending = match[1], number
            else:
                found.append(Planted(test, match[1], number))
    return found


def verdicts(folder: Path) -> dict[str, dict[str, Any]]:
    """What the check says of each test of the suite that leaks, or could not be checked."""
    report, said = folder / "leaks.json", folder / "said.txt"
    plugins = ("pytest_trio.plugin", "trioleaks.plugin")
    command = [
        *(sys.executable, "-m", "pytest", str(SUITE), "-q", "--assert=plain", "--tb=no"),
        *(word for name in plugins for word in ("-p", name)),
        *("-c", os.devnull, "--rootdir", str(SUITE.parent), "-p", "no:cacheprovider"),
        *("-o", "trio_mode=true", "-o", "leaks_stuck_s=0.3", "-o", "leaks_grace_s=0.2"),
        *("-W", "default", "--leaks=error", f"--leaks-json={report}"),
    ]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with said.open("w") as output:  # no pipe: the processes that are left would keep it open
        ran = subprocess.Popen(
            command, cwd=folder, env=alone, stdout=output, stderr=output, start_new_session=True
        )
        try:
            ran.wait(TIMEOUT_S)
        finally:
            os.killpg(ran.pid, signal.SIGKILL)
            ran.wait()
    assert report.exists(), said.read_text("utf-8")
    tests = json.loads(report.read_text("utf-8"))["tests"]
    return {each["test"].rpartition("::")[2]: each for each in tests}


def names(prefix: str) -> list[str]:
    return re.findall(rf"def ({prefix}_\w+)", SUITE.read_text("utf-8"))


def is_found(leak: Planted, told: dict[str, Any] | None) -> bool:
    """Whether the check has told of it, and of no other kind or place first."""
    leaks: Iterable[dict[str, Any]] = () if told is None else told["leaks"]
    return any(
        each["kind"] == leak.kind and f"planted.py:{leak.line} in " in (each["started_at"] or "")
        for each in leaks
    )


def test_planted_leaks_are_found_at_their_lines_and_no_clean_twin(tmp_path: Path) -> None:
    told = verdicts(tmp_path)

    missed = {
        leak: told.get(leak.test) for leak in planted() if not is_found(leak, told.get(leak.test))
    }
    assert missed == {}
    assert {name: told[name] for name in names("test_twin") if name in told} == {}


def test_each_kind_is_planted_each_leak_has_a_twin_and_there_are_sixty() -> None:
    leaks = {name.removeprefix("test_leaks_") for name in names("test_leaks")}
    twins = {name.removeprefix("test_twin_") for name in names("test_twin")}
    assert len(planted()) == len(names("test_leaks")) >= LEAST
    assert len(leaks - twins) <= 1, leaks - twins
    assert {leak.kind for leak in planted()} == {kind.value for kind in KINDS}
