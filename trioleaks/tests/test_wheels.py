"""Both distributions are built and installed, each alone and both together.

Rules of this file: one virtual environment, made once, with what the plugin needs from the package
index; the two wheels are put in and taken out of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 600
_REGISTERED = "PLUGIN registered: <module 'trioleaks.plugin'"
PROJECT = """
import trio

async def test_leaks():
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="ticker")

async def test_is_clean():
    await trio.lowlevel.checkpoint()
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

    def install(self, *wheels: Path) -> None:
        """Have these wheels of ours, and no other."""
        call(
            self.python,
            *["-m", "pip", "uninstall", "--quiet", "--yes", "pytest-trio-leaks", "trioraft"],
        )
        force = ("--force-reinstall", "--no-deps", "--quiet")
        for wheel in wheels:
            call(self.python, "-m", "pip", "install", *force, str(wheel))

    def run_tests(self) -> str:
        """What pytest says of a small project, asked to check for leaks."""
        (self.folder / "test_project.py").write_text(PROJECT, "utf-8")
        options = "--trace-config -o trio_mode=true --leaks=error"
        command = f"{self.python} -m pytest {options} test_project.py"
        ended = subprocess.run(
            command.split(), cwd=self.folder, capture_output=True, text=True, env=environ(),
            timeout=TIMEOUT_S, check=False,
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
    call(sys.executable, "-m", "venv", str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    call(python, "-m", "pip", "install", "--quiet", "pytest", "pytest-trio", "trio", "attrs")
    for source in (ROOT, ROOT / "trioleaks"):
        command = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder))
        call(python, *command, str(source))
    (leaks,) = folder.glob("pytest_trio_leaks-*.whl")
    (raft,) = folder.glob("trioraft-*.whl")
    return Environment(folder, leaks, raft)


@pytest.mark.parametrize("which", [["leaks"], ["raft"], ["leaks", "raft"]])
def test_the_plugin_is_there_once_and_works(environment: Environment, which: list[str]) -> None:
    environment.install(*(getattr(environment, name) for name in which))
    said = environment.run_tests()
    registered = [line for line in said.splitlines() if line.startswith(_REGISTERED)]
    assert len(registered) == 1, said
    assert "1 failed, 1 passed" in said
    assert "system task: ticker" in said
