"""Both distributions are built and installed, each alone and both together.

Rules of this file:

* One virtual environment, made once, with what the plugin needs from the package index.
* Our wheels are put on the path of each run as an installer would unpack them: they are pure, and
  starting an installer for each would cost more than all the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 600
_REGISTERED = "PLUGIN registered: <module 'trioleaks.plugin'"
PROJECT = """
import sys
import trio

async def test_leaks():
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="ticker")

async def test_is_clean():
    await trio.lowlevel.checkpoint()

def test_its_modules_are_not_read_by_pytests_slow_loader():
    modules = [sys.modules[f"trioleaks.{name}"] for name in ("session", "settings")]
    assert {type(each.__loader__).__name__ for each in modules} == {"SourceFileLoader"}
"""


@attrs.frozen
class Environment:
    """A virtual environment, and the wheels that are put into it."""

    folder: Path
    leaks: Path
    raft: Path

    @property
    def python(self) -> str:
        return str(self.folder / "venv" / "bin" / "python")

    def run_tests(self, *wheels: Path) -> str:
        """What pytest says of a small project, asked to check for leaks, with these wheels."""
        site = self.folder / "-".join(wheel.name.partition("-")[0] for wheel in wheels)
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        (self.folder / "test_project.py").write_text(PROJECT, "utf-8")
        options = "--trace-config -o trio_mode=true --leaks=error"
        command = f"{self.python} -m pytest {options} test_project.py"
        ended = subprocess.run(
            command.split(), cwd=self.folder, capture_output=True, text=True,
            env={**environ(), "PYTHONPATH": str(site)}, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        return ended.stdout + ended.stderr


def environ() -> dict[str, str]:
    """This one's, without what belongs to the environment that the tests run in."""
    foreign = {"PYTHONPATH", "PYTEST_ADDOPTS", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in foreign}


def call(*command: str) -> None:
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environ(), timeout=TIMEOUT_S, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("wheels")
    call(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    pip = (sys.executable, "-m", "pip")
    into = ("--python", str(folder / "venv"))
    needs = ("pytest", "pytest-trio", "trio", "attrs", "hatchling>=1.25", "hatch-fancy-pypi-readme")
    call(*pip, *into, "install", "--quiet", "--no-compile", *needs)
    for source in (ROOT, ROOT / "trioleaks"):
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
        call(*pip, *into, "wheel", *options, str(source))
    (leaks,) = folder.glob("pytest_trio_leaks-*.whl")
    (raft,) = folder.glob("trioraft-*.whl")
    return Environment(folder, leaks, raft)


@pytest.mark.parametrize("which", [["leaks"], ["raft"], ["leaks", "raft"]])
def test_the_plugin_is_there_once_and_works(environment: Environment, which: list[str]) -> None:
    said = environment.run_tests(*(getattr(environment, name) for name in which))
    registered = [line for line in said.splitlines() if line.startswith(_REGISTERED)]
    assert len(registered) == 1, said
    assert "1 failed, 2 passed" in said
    assert "system task: ticker" in said
