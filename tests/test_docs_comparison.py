"""`docs/comparison.md`: tables that are whole, sources with names, and what is ours exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.public_names import public_objects

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
OURS = "trioraft"


def rows_of(page: str) -> Iterator[list[str]]:
    """The cells of each line of each table."""
    for line in page.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def odd_rows(page: str) -> list[list[str]]:
    """Lines of a table that have more or fewer cells than its head, or an empty one."""
    lines = ["", *page.splitlines()]
    found = []
    width = 0
    for before, line in pairwise(lines):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not before.startswith("|"):
            width = len(cells)
        elif len(cells) != width or not all(cells):
            found.append(cells)
    return found


def test_every_use_has_an_answer_from_each() -> None:
    assert len(list(rows_of(PAGE))) > 45
    assert odd_rows(PAGE) == []
    assert odd_rows("| a | b |\n|---|---|\n| 1 |\n| 1 | |\n") == [["1"], ["1", ""]]


def test_every_source_is_named_and_used() -> None:
    used = set(re.findall(r"\]\[([\w-]+)\]", PAGE))
    named = set(re.findall(r"^\[([\w-]+)\]: https://\S+$", PAGE, re.MULTILINE))
    assert used == named
    assert len(named) > 15


def test_what_it_says_is_ours_exists() -> None:
    public = {part for name in public_objects() for part in (name, name.rpartition(".")[2])}
    column = [cells[1] for cells in rows_of(PAGE) if len(cells) > 4]
    named = {name for cell in column for name in re.findall(r"`([A-Za-z_.]+)`", cell)}
    of_classes = {name for value in public_objects().values() for name in dir(value)}
    assert len(named) > 4
    modules = {name for name in named if name.startswith("trioraft.")}
    assert modules <= {name.rpartition(".")[0] for name in public_objects()}
    assert named - modules - {"py.typed"} <= public | of_classes


def test_the_versions_are_those_that_were_measured() -> None:
    measured = re.findall(
        r"PySyncObj (\d[\d.]*\d)", (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    )
    assert re.findall(r"PySyncObj (\d[\d.]*\d)", PAGE)[0] == measured[0]
