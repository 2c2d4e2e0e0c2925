"""The README's programs run as they stand, its links work from a package index, and it stays short.

What is said of all pages (its blocks, its links and anchors) is in tests/docs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "trio.run(" in block]
PRINTS = ("the counter is 42",)
"""What the programs say, one after the other."""


@pytest.mark.parametrize(("program", "prints"), list(zip(PROGRAMS, PRINTS, strict=True)))
def test_a_program_runs(program: str, prints: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert prints in done.stdout


def test_there_is_something_to_run() -> None:
    assert PROGRAMS


def test_its_commands_are_what_others_run() -> None:
    """The demo is docs/index.md's, too; the other one begins `.ci/run`."""
    text = README.read_text(encoding="utf-8")
    commands = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    demo, suite = (command.rpartition("&& ")[2] for command in commands)
    index = (README.parent / "docs" / "index.md").read_text(encoding="utf-8")
    assert f"$ {demo}" in index
    assert suite == "pytest\n"
    assert commands[1].strip() in (README.parent / ".ci" / "run").read_text(encoding="utf-8")


LINES_MAX = 120
"""One screen, and ten lines; the rest has pages of its own."""


def test_it_stays_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


def test_every_link_works_from_a_package_index() -> None:
    """What the wheel's description says, made as hatchling makes it: no link is relative."""
    done = subprocess.run(
        [sys.executable, "-m", "hatch_fancy_pypi_readme"],
        cwd=README.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    project = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))
    source = project["project"]["urls"]["Source"]
    targets = re.findall(r"\]\(([^)\s]+)\)", done.stdout)
    assert len(targets) > 20
    assert [to for to in targets if not to.startswith(("https://", "#"))] == []
    ours = [to.removeprefix(f"{source}/") for to in targets if to.startswith(source)]
    assert len(ours) > 20
    assert project["project"]["urls"]["Documentation"] in targets
    paths = [to.partition("/main/")[2] for to in ours]
    assert [path for path in paths if not (README.parent / path).exists()] == []
    pictures = [to for to in targets if to.endswith(".png")]
    assert pictures
    assert [to for to in pictures if "/raw/main/" not in to] == []
