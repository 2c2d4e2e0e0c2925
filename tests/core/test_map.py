"""The map of the core in `docs/architecture.md` names every file, and what is found there.

Rules of this file: the source is read, nothing is imported; a name counts if the file defines it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "trioraft" / "core"


def rows() -> list[tuple[list[str], str]]:
    """The files of each row, and what to look for there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    core = text.partition("\n## The core\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (`[^|]+) \|[^|]*\|([^|]*)\|$", core, re.M)
    return [(re.findall(r"`(\w+)`", files), rest) for files, rest in found]


def defined_in(file: str) -> set[str]:
    """Classes and functions of this file."""
    tree = ast.parse((CORE / f"{file}.py").read_text(encoding="utf-8"))
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)}


def test_the_map_names_every_file_once() -> None:
    named = sorted(file for files, _ in rows() for file in files)
    assert named == sorted(path.stem for path in CORE.glob("*.py") if path.stem != "__init__")


def test_what_the_map_says_is_found_there() -> None:
    wanted = {name for _, rest in rows() for name in re.findall(r"`(\w+)`", rest)}
    assert {"_on_request_vote", "committable", "merge", "next_step"} <= wanted
    for files, rest in rows():
        defined = set().union(*map(defined_in, files))
        assert set(re.findall(r"`(\w+)`", rest)) <= defined, files
