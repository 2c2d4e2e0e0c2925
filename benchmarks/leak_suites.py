"""Runs the test suites of ten public projects with and without the leak check.

    python -m benchmarks.leak_suites --into DIR [--only NAME ...] [--rounds 1]

Rules of this file:

* Nothing of those projects is kept here: their source distributions, and what their tests need, are
  fetched from the package index through pip, into DIR, when this is run.
* A suite is run as its project runs it, first without and then with `--leaks=error`. Only tests
  that pass without count: what the check made red is what passed before and does not now.
* What was red is written to DIR/NAME.json with its report, to be read by a person: this prints
  counts, and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import attrs

TIMEOUT_S: Final = 900
"""How long one suite may take; one that takes longer hangs."""
COMMON: Final = (
    *("pytest", "pytest-trio", "pytest-asyncio", "pytest-mock", "pytest-timeout", "trustme"),
    *(
        "psutil",
        "hypothesis",
        "httpx",
        "mock",
        "quart",
        "coverage",
        "blockbuster",
        "exceptiongroup",
    ),
)


@attrs.frozen
class Suite:
    """A project's tests, and how they are run."""

    name: str
    version: str
    tests: str
    """Where they are, below the unpacked source."""
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


TRIO_MODE: Final = ("-o", "trio_mode=true")  # their source distributions lack the ini file

SUITES: Final = (
    Suite("trio-websocket", "0.12.2", "tests", options=TRIO_MODE),
    # One file of trio-util's and what trio-asyncio borrows from CPython do not load today.
    Suite("trio-util", "0.8.0", "tests", options=(*TRIO_MODE, "--ignore=tests/test_exceptions.py")),
    Suite(
        "trio-asyncio",
        "0.16.0",
        "tests/test_aio_subprocess.py tests/test_concurrent.py tests/test_deprecate.py "
        "tests/test_misc.py tests/test_sync.py tests/test_trio_asyncio.py",
    ),
    Suite("quart-trio", "0.12.0", "tests", options=("-o", "addopts=")),
    Suite("hypercorn", "0.18.0", "tests", options=("-o", "addopts=")),
    Suite("trio-parallel", "1.3.0", "trio_parallel", ("cloudpickle",), options=("-o", "addopts=")),
    Suite("async-stagger", "0.4.1", "async_stagger"),
    Suite("pytest-trio", "0.8.0", "pytest_trio"),
    Suite("httpcore", "1.0.9", "tests", ("httpcore[asyncio,trio,http2,socks]", "pytest-httpbin")),
    Suite("anyio", "4.16.0", "tests", options=("-m", "not network")),
)


@attrs.frozen
class Outcome:
    """What one run of a suite came to."""

    passed: frozenset[str]
    red: dict[str, str]
    """By test, why."""
    took_s: float
    hung: bool


def fetch(suite: Suite, folder: Path, python: Path) -> Path:
    """Unpack the project's source distribution; install the project and what its tests need."""
    archive_folder = folder / "archives"
    _call(
        *(str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
        *("--dest", str(archive_folder), f"{suite.name}=={suite.version}"),
    )
    stem = f"{suite.name.replace('-', '?')}-{suite.version}.tar.gz"
    with tarfile.open(next(archive_folder.glob(stem))) as archive:
        archive.extractall(folder, filter="data")
    needed = f"{suite.name}=={suite.version}"
    _call(str(python), "-m", "pip", "install", "--quiet", needed, *suite.needs)
    return next(path for path in folder.glob(stem.removesuffix(".tar.gz")) if path.is_dir())


def run(suite: Suite, source: Path, python: Path, folder: Path, *, leaks: bool) -> Outcome:
    """Run its tests once."""
    report = folder / f"{suite.name}.{'leaks' if leaks else 'plain'}.xml"
    report.unlink(missing_ok=True)
    options = ["--leaks=error", f"--leaks-json={folder / suite.name}.json"] if leaks else []
    if suite.name == "pytest-trio":  # its plugin is loaded by its entry point already
        options += ["-p", "pytester"]
    began = time.monotonic()
    command = [
        *(
            str(python),
            "-m",
            "pytest",
            *suite.tests.split(),
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "default",
        ),
        *("--tb=short", f"--junitxml={report}", *suite.options, *options),
    ]
    hung = False
    with (folder / f"{suite.name}.{'leaks' if leaks else 'plain'}.log").open("w") as log:
        try:
            subprocess.run(  # noqa: S603 - pytest, on what was just fetched
                command, cwd=source, stdout=log, stderr=log, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            hung = True
    took_s = time.monotonic() - began
    passed, red = _read(report)
    return Outcome(frozenset(passed), red, took_s, hung)


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


def main(arguments: list[str]) -> None:
    """Run suites and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, usage="python -m benchmarks.leak_suites")
    parser.add_argument("--into", type=Path, required=True, help="folder for all that is fetched")
    parser.add_argument("--only", nargs="*", default=[], help="names of suites")
    parser.add_argument("--rounds", type=int, default=1, help="times each suite is run both ways")
    asked = parser.parse_args(arguments)
    folder: Path = asked.into.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
        own = Path(__file__).parent.parent / "trioleaks"
        _call(str(python), "-m", "pip", "install", "--quiet", *COMMON, str(own))
    print("suite, passed without, checked, not checked, red because of it, seconds, with, hung")
    for suite in SUITES:
        if asked.only and suite.name not in asked.only:
            continue
        source = fetch(suite, folder, python)
        plain = [run(suite, source, python, folder, leaks=False) for _ in range(asked.rounds)]
        leaks = [run(suite, source, python, folder, leaks=True) for _ in range(asked.rounds)]
        told = _told(folder / f"{suite.name}.json")
        red = {
            name: why
            for name, why in leaks[-1].red.items()
            if all(name in each.passed for each in plain)
        }
        (folder / f"{suite.name}.red.json").write_text(json.dumps(red, indent=1), "utf-8")
        unchecked = sum(1 for each in told.get("tests", ()) if each["unchecked"])
        print(
            f"{suite.name} {suite.version}, {len(plain[-1].passed)}, {told.get('checked', 0)}, "
            f"{unchecked}, {len(red)}, {min(each.took_s for each in plain):.1f}, "
            f"{min(each.took_s for each in leaks):.1f}, {any(each.hung for each in leaks)}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
