"""What the page's scripts are told of a run's shape (`page.d.ts`) is what `data.py` writes.

Rules of this file: the declarations are read as text; the scripts are held to them by TypeScript
(`npm run check`), which only CI runs.
"""

from __future__ import annotations

import re
from pathlib import Path

import trioraft.viz.page.data as page
from trioraft.viz.analysis import analyse_log
from trioraft.viz.page.data import page_data

TYPES = Path(page.__file__).parent / "static" / "page.d.ts"
LOG = Path(__file__).parent / "data" / "follower_comes_back.txt"


def fields_of(name: str) -> dict[str, set[str]]:
    """An interface: its fields, and theirs where they are written out."""
    text = TYPES.read_text(encoding="utf-8")
    body = text.partition(f"interface {name} {{")[2]
    body = body[: _end(body)]
    nested = re.compile(r"(\w+): \{(.*?)\}", re.DOTALL)
    found = {match[1]: set(re.findall(r"(\w+):", match[2])) for match in nested.finditer(body)}
    return {field: set() for field in re.findall(r"(\w+):", nested.sub("", body))} | found


def _end(body: str) -> int:
    depth = 1
    for place, char in enumerate(body):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return place
    raise AssertionError("an interface without an end")


def test_every_field_is_declared_and_every_declared_field_is_written() -> None:
    declared = fields_of("RunData")
    for run in analyse_log(LOG):
        written = page_data(run)
        assert written.keys() == declared.keys()
        for name, fields in declared.items():
            assert not fields or written[name].keys() == fields, name


def test_what_stands_in_lists_is_declared_too() -> None:
    seen = set()
    for run in analyse_log(LOG):
        written = page_data(run)
        for name, interface in (
            ("nodes", "NodeData"),
            ("marks", "MarkData"),
            ("terms", "TermData"),
            ("findings", "FindingData"),
        ):
            for item in written[name]:
                seen.add(name)
                assert item.keys() == fields_of(interface).keys(), name
    assert seen >= {"nodes", "terms", "findings"}
