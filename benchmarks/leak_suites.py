"""Runs the test suites of ten public projects with and without the leak check.

    python -m benchmarks.leak_suites --into DIR [--only NAME ...] [--rounds 1] [--instructions]

Rules of this file:

* Nothing of those projects is kept here: their source distributions, and what their tests need, are
  fetched from the package index through pip, into DIR, when this is run.
* Each project has an environment of its own, with what its tests need and no more: plugins of
  pytest for one runner take the tests of another.
* A suite is run as its project runs it, without and with `--leaks=error` in turn. Only tests that
  pass without count: what the check made red is what passed before and does not now.
* Python keeps what it has compiled, as it does for anybody: the first round is the dearest.
* What the check costs is the median over the pairs of runs, of the time they took and of the CPU.
  On a machine that does other things neither says much: `--instructions` has valgrind count what
  pytest's own process executes, once each way, at ten to fifty times the time.
* What was red is written to DIR/NAME.json with its report, to be read by a person: this prints
  counts, and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import venv
from collections import Counter
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import attrs

TIMEOUT_S: Final = 900
"""How long one suite may take; one that takes longer hangs."""
INSTRUCTIONS_TIMEOUT_S: Final = 10 * TIMEOUT_S
_COUNTED: Final = re.compile(r"I +refs: +([0-9,]+)")
TRIO: Final = ("pytest-trio",)
"""What most projects run their tests with."""


@attrs.frozen
class Suite:
    """A project's tests, and how they are run."""

    name: str
    version: str
    tests: str
    """Where they are, below the unpacked source."""
    needs: tuple[str, ...] = TRIO
    """What is installed beside the project, pytest and the leak check."""
    options: tuple[str, ...] = ()


TRIO_MODE: Final = ("-o", "trio_mode=true")  # their source distributions lack the ini file
NO_ADDOPTS: Final = ("-o", "addopts=")  # they measure coverage

SUITES: Final = (
    Suite("trio-websocket", "0.12.2", "tests", (*TRIO, "trustme"), TRIO_MODE),
    # Its test of exceptions imports what MultiError was in Trio, which is gone.
    Suite("trio-util", "0.8.0", "tests", TRIO, (*TRIO_MODE, "--ignore=tests/test_exceptions.py")),
    # What it borrows from CPython's own tests does not load with a pytest of today.
    Suite(
        "trio-asyncio",
        "0.16.0",
        "tests/aiotest tests/interop tests/test_aio_subprocess.py tests/test_concurrent.py "
        "tests/test_deprecate.py tests/test_misc.py tests/test_sync.py tests/test_trio_asyncio.py",
        (*TRIO, "pytest<9"),
    ),
    Suite("quart-trio", "0.12.0", "tests", TRIO, NO_ADDOPTS),
    Suite(
        "hypercorn",
        "0.18.0",
        "tests",
        (*TRIO, "pytest-asyncio", "hypercorn[trio]", "httpx", "h11", "mock"),
        NO_ADDOPTS,
    ),
    Suite("trio-parallel", "1.3.0", "trio_parallel", (*TRIO, "cloudpickle"), NO_ADDOPTS),
    Suite("async-stagger", "0.4.1", "async_stagger", ("pytest-asyncio", "pytest-mock")),
    # Its tests with Hypothesis import what has left Trio.
    Suite(
        "pytest-trio",
        "0.8.0",
        "pytest_trio/_tests",
        ("hypothesis",),
        ("--ignore=pytest_trio/_tests/test_hypothesis_interaction.py",),
    ),
    Suite(
        "httpcore",
        "1.0.9",
        "tests",
        ("httpcore[asyncio,trio,http2,socks]", "pytest-httpbin", *TRIO),
    ),
    Suite(
        "anyio",
        "4.16.0",
        "tests",
        (
            *("anyio[trio]", "blockbuster", "coverage", "exceptiongroup", "hypothesis", "psutil"),
            *("pytest-asyncio", "pytest-mock", "pytest-timeout", "trustme", *TRIO),
        ),
        ("-m", "not network", "-k", "trio"),  # the other half runs in asyncio
    ),
)


@attrs.frozen
class Outcome:
    """What one run of a suite came to."""

    passed: frozenset[str]
    red: dict[str, str]
    """By test, why."""
    took_s: float
    cpu_s: float
    hung: bool


def fetch(suite: Suite, folder: Path) -> Path:
    """Unpack the project's source distribution, unless it is there."""
    stem = f"{suite.name.replace('-', '?')}-{suite.version}"
    if not list(folder.glob(stem)):
        _call(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", ":all:", "--dest", str(folder), f"{suite.name}=={suite.version}"),
        )
        with tarfile.open(next(folder.glob(f"{stem}.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
    return next(path for path in folder.glob(stem) if path.is_dir())


def install(suite: Suite, folder: Path) -> Path:
    """Make the project's environment, unless it is there, with the leak check of this checkout."""
    python = folder / f"{suite.name}.venv" / "bin" / "python"
    pip = (str(python), "-m", "pip", "install", "--quiet")
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
        _call(*pip, f"{suite.name}=={suite.version}", "trio", "attrs", "pytest", *suite.needs)
    _call(*pip, "--no-deps", "--force-reinstall", str(Path(__file__).parent.parent / "trioleaks"))
    return python


def run(suite: Suite, source: Path, python: Path, folder: Path, *, leaks: bool) -> Outcome:
    """Run its tests once."""
    stem = f"{suite.name}.{'leaks' if leaks else 'plain'}"
    report = folder / f"{stem}.xml"
    report.unlink(missing_ok=True)
    command = _pytest(suite, python, folder, report, leaks=leaks)
    began, cpu_before_s, hung = time.monotonic(), _cpu_of_children_s(), False
    with (folder / f"{stem}.log").open("w") as log:
        try:
            subprocess.run(  # noqa: S603 - pytest, on what was just fetched
                command, cwd=source, env=_environment(), stdout=log, stderr=log,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            hung = True
    took_s, cpu_s = time.monotonic() - began, _cpu_of_children_s() - cpu_before_s
    passed, red = _read(report)
    return Outcome(frozenset(passed), red, took_s, cpu_s, hung)


def _pytest(suite: Suite, python: Path, folder: Path, report: Path, *, leaks: bool) -> list[str]:
    told = f"--leaks-json={folder / suite.name}.json"
    options = ["--leaks=error", told] if leaks else ["-p", "no:trioleaks"]
    return [
        *(str(python), "-m", "pytest", *suite.tests.split(), "-q", "-p", "no:cacheprovider"),
        *("-W", "default", "--tb=short", f"--junitxml={report}", *suite.options, *options),
    ]


def count_instructions(
    suite: Suite, source: Path, python: Path, folder: Path, *, leaks: bool
) -> int:
    """How many instructions pytest executes in its own process, for all of the suite."""
    counted, report = folder / f"{suite.name}.counted", folder / f"{suite.name}.counted.xml"
    valgrind = (
        *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
        *("--cachegrind-out-file=/dev/null", f"--log-file={counted}"),
    )
    subprocess.run(  # noqa: S603 - valgrind, on what was just fetched
        [*valgrind, *_pytest(suite, python, folder, report, leaks=leaks)],
        cwd=source, env={**_environment(), "PYTHONHASHSEED": "0"}, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=INSTRUCTIONS_TIMEOUT_S,
    )  # fmt: skip
    found = _COUNTED.search(counted.read_text("utf-8"))
    if found is None:
        raise RuntimeError(f"valgrind counted nothing: see {counted}")
    return int(found[1].replace(",", ""))


def _environment() -> dict[str, str]:
    foreign = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTEST_ADDOPTS"}
    return {name: value for name, value in os.environ.items() if name not in foreign}


def _cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(report: Path) -> tuple[set[str], dict[str, str]]:
    if not report.exists():
        return set(), {}
    passed: set[str] = set()
    red: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - we had it written
        name = f"{case.get('classname')}::{case.get('name')}"
        wrong = [each for each in case if each.tag in ("failure", "error")]
        if wrong:
            red[name] = "\n".join(each.text or each.get("message") or "" for each in wrong)
        elif not any(each.tag == "skipped" for each in case):
            passed.add(name)
    return passed - red.keys(), red


def _call(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - pip, on names that stand above


def _told(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return told


def measure(suite: Suite, folder: Path, rounds: int, *, instructions: bool) -> str:
    """Run a suite both ways, in turn, so many times; returns its line of the table."""
    source, python = fetch(suite, folder), install(suite, folder)
    plain: list[Outcome] = []
    leaks: list[Outcome] = []
    verdicts: list[dict[str, str]] = []
    for _ in range(rounds):
        plain.append(run(suite, source, python, folder, leaks=False))
        leaks.append(run(suite, source, python, folder, leaks=True))
        verdicts.append(
            {
                name: why
                for name, why in leaks[-1].red.items()
                if all(name in each.passed for each in plain)
            }
        )
    (folder / f"{suite.name}.red.json").write_text(json.dumps(verdicts[-1], indent=1), "utf-8")
    told = _told(folder / f"{suite.name}.json")
    unchecked = Counter(each["unchecked"] for each in told.get("tests", ()) if each["unchecked"])
    changed = {name for each in verdicts for name in each.keys() ^ verdicts[-1].keys()}
    pairs = list(zip(plain, leaks, strict=True))
    slower = statistics.median(b.took_s / a.took_s for a, b in pairs)
    dearer = statistics.median(b.cpu_s / a.cpu_s for a, b in pairs)
    dearer_by = "not counted"
    if instructions:
        without, with_ = (
            count_instructions(suite, source, python, folder, leaks=way) for way in (False, True)
        )
        dearer_by = f"{with_ / without:.3f}"
    return (
        f"{suite.name} {suite.version} | {len(plain[-1].passed)} | {told.get('checked', 0)} | "
        f"{dict(unchecked) or 0} | {len(verdicts[-1])} | {sorted(changed) or 0} | "
        f"{min(each.took_s for each in plain):.1f} | {slower:.2f} | {dearer:.2f} | "
        f"{sum(each.hung for each in (*plain, *leaks))} | {dearer_by}"
    )


def main(arguments: list[str]) -> None:
    """Run suites and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, usage="python -m benchmarks.leak_suites")
    parser.add_argument("--into", type=Path, required=True, help="folder for all that is fetched")
    parser.add_argument("--only", nargs="*", default=[], help="names of suites")
    parser.add_argument("--rounds", type=int, default=1, help="times each suite is run both ways")
    parser.add_argument("--instructions", action="store_true", help="count them, with valgrind")
    asked = parser.parse_args(arguments)
    if asked.instructions and shutil.which("valgrind") is None:
        parser.error("--instructions wants valgrind, which is not installed")
    folder: Path = asked.into.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print(
        "suite | pass without | checked | not checked | red because of it | not in each round | "
        "seconds | x time | x CPU | hung | x instructions"
    )
    for suite in SUITES:
        if not asked.only or suite.name in asked.only:
            line = measure(suite, folder, asked.rounds, instructions=asked.instructions)
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
