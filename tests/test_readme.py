"""The README's programs run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "trio.run(" in block]
TESTS = [block for block in BLOCKS if "async def test_" in block]


PRINTS = ("the counter is 42", "leads; the total is 41")
"""What the programs say, one after the other."""


@pytest.mark.parametrize(("program", "prints"), list(zip(PROGRAMS, PRINTS, strict=True)))
def test_a_program_runs(program: str, prints: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert prints in done.stdout


@pytest.mark.parametrize("test", TESTS, ids=range(len(TESTS)))
def test_a_test_passes(test: str, tmp_path: Path) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(test, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-o", "trio_mode=true"]
    done = subprocess.run(
        [*command, "-o", "raft_leak_check=true", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_there_is_something_to_run() -> None:
    assert PROGRAMS
    assert TESTS
