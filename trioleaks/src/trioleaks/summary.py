"""What a whole run of tests comes to: by creation site, as JSON, and what could not be checked.

Rules of this file:

* It is fed by the tests' reports, which xdist brings from other processes.
* It is loaded at every start of pytest: the standard library's lightest, and no more.
* No test is silently green: one that was not checked is counted, and named with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from . import baseline, settings
from .baseline import Told

NAMED_MAX = 20
"""Tests named for one reason why they were not checked, and sites of leaks that are shown."""


class Summary:
    """Gathers what reports say of leaks, and tells it when all tests are over."""

    def __init__(self, config: pytest.Config) -> None:
        """Make one; see that what is to be written can be.

        Raises:
            pytest.UsageError: options do not go together.
        """
        self._config = config
        self._results: list[Told] = []
        self._said: list[str] = []
        self._is_asked = settings.of_config(config).mode != "off"
        self._is_worker = hasattr(config, "workerinput")
        wants_baseline = config.getoption("--leaks-baseline") or config.getini("leaks_baseline")
        if config.getoption("--leaks-update") and not wants_baseline:
            raise pytest.UsageError(
                "--leaks-update writes a baseline: give --leaks-baseline FILE too"
            )
        self._see_folder("--leaks-json")
        if config.getoption("--leaks-update"):
            self._see_folder("--leaks-baseline")

    def _see_folder(self, option: str) -> None:
        """Refuse now what could not be written when all tests have run."""
        named = self._config.getoption(option)
        if named and not Path(self._config.invocation_params.dir, named).parent.is_dir():
            raise pytest.UsageError(f"{option} {named}: there is no such folder to write into")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what the report of a test's tear-down says; with xdist it comes from afar."""
        told = getattr(report, "trioleaks", None)
        if told is not None:
            self._results.append(told)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the baseline and the JSON report, in one process of several."""
        if self._is_worker:
            return
        config = self._config
        if config.getoption("--leaks-update"):
            count = baseline.of_config(config).write(self._results)
            self._said.append(f"baseline written: {count} entries")
        named = config.getoption("--leaks-json")
        if named:
            import json  # here: few runs want it

            path = Path(config.invocation_params.dir, named)
            path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
            self._said.append(f"report written: {path}")

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell what was checked, what leaks and what could not be checked."""
        if not self._results and not self._said:
            if self._is_asked and not self._config.option.collectonly:
                terminalreporter.write_line("leaks: no test ran Trio, so none was checked")
            return
        leaking = [each for each in self._results if each["leaks"]]
        unchecked = [each for each in self._results if each["unchecked"]]
        if leaking or unchecked:
            terminalreporter.section("leaks of Trio tests")
        checked = sum(1 for each in self._results if each["runs"] and not each["unchecked"])
        line = f"leaks: {checked} Trio tests checked, {len(leaking)} leak"
        terminalreporter.write_line(f"{line}, {len(unchecked)} not checked" if unchecked else line)
        old = sum(each["old"] for each in self._results)
        if old:
            terminalreporter.write_line(f"  let be, for the baseline knows them: {old}")
        for said in (*by_site(leaking), *_reasons(unchecked), *self._said):
            terminalreporter.write_line(said)

    def as_json(self) -> Told:
        """All of it, for programs."""
        return {
            "version": 1,
            "checked": sum(1 for each in self._results if each["runs"] and not each["unchecked"]),
            "tests": [each for each in self._results if each["leaks"] or each["unchecked"]],
            "sites": [
                {"kind": kind, "started_at": place, "tests": tests}
                for (kind, place), tests in sites(self._results).items()
            ],
        }


def sites(results: Iterable[Told]) -> dict[tuple[str, str], list[str]]:
    """The tests that leak what was started in one place, most tests first."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for result in results:
        for leak in result["leaks"]:
            place = _place(leak) or f"an unknown place ({leak['name']})"
            found.setdefault((leak["kind"], place), {})[result["test"]] = None
    ordered = sorted(found.items(), key=lambda each: -len(each[1]))
    return {key: list(tests) for key, tests in ordered}


_FRAMEWORKS = (
    "anyio",
    "blockbuster",
    "pytest",
    "_pytest",
    "pluggy",
    "hypothesis",
    "outcome",
    "sniffio",
)
_TEST_FILE = re.compile(r"^(?:.*/)?(?:test_[^/]*|[^/]*_test|conftest)\.py:")


def _place(leak: Told) -> str | None:
    """The line to name: of a library under test rather than of each test that calls it."""
    started: str | None = leak["started_at"]
    through: str | None = leak["through"]
    if through and started and _TEST_FILE.match(started):
        package = through.partition("/")[0].partition(".")[0]
        if not package.startswith(_FRAMEWORKS):
            return through
    return started or through


def by_site(results: Iterable[Told]) -> list[str]:
    """One line a creation site: `12 tests leak the socket of client.py:88 in connect`."""
    lines = []
    found = sites(results)
    for (kind, place), tests in list(found.items())[:NAMED_MAX]:
        what = "1 test leaks" if len(tests) == 1 else f"{len(tests)} tests leak"
        lines.append(f"  {what} the {kind} of {place}: {tests[0]}{', …' if len(tests) > 1 else ''}")
    if len(found) > NAMED_MAX:
        lines.append(f"  … and {len(found) - NAMED_MAX} more places")
    return lines


def _reasons(unchecked: list[Told]) -> list[str]:
    found: dict[str, list[str]] = {}
    for result in unchecked:
        found.setdefault(result["unchecked"], []).append(result["test"])
    lines = []
    for reason, tests in found.items():
        lines.append(f"  not checked: {len(tests)}, {reason}")
        lines += [f"    {test}" for test in tests[:NAMED_MAX]]
        if len(tests) > NAMED_MAX:
            lines.append(f"    … and {len(tests) - NAMED_MAX} more")
    return lines
