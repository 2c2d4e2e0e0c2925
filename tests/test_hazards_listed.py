"""`docs/hazards.md`, held to the code: cited is listed, listed is tested, tested is cited.

Rules of this file:

* A citation is the word "hazard" and names after it, over the end of a line too ("hazards V4, L3"),
  or the name of a test (`test_v4_…`). Everything is read as text; nothing is imported.
* A hazard is listed by a paragraph that begins with its name in bold. Those in the last section are
  known and not yet held.
* Each check is also shown to bite, on pages and sources that break it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import attrs
import pytest

from trioraft.sim.draw import Kind

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "hazards.md"
NOT_HELD = "## Known, and not yet held"
FAULTS = "## Faults to survive"

_NAMES = re.compile(r"\b[Hh]azards?\s+([A-Z]\d+\b(?:(?:,| and| or|-)\s*[A-Z]\d+\b)*)")
_LINE_END = re.compile(r"\s*\n[\s#*]*")
_NAME_OF_TEST = re.compile(r"^test_([a-z]\d+)_(?!\d)")
"""Not `test_d4_2_3_…`: that is section 4.2.3 of the dissertation."""
_LISTED = re.compile(r"^\*\*([A-Z]\d+)\. ", re.MULTILINE)
_NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@attrs.frozen
class Listed:
    """One hazard of the page."""

    name: str
    is_held: bool
    tests: tuple[tuple[str, str], ...]
    """(file, function)."""
    text: str


def hazards_of(page: str) -> dict[str, Listed]:
    """All that this page lists, in its order."""
    held, _, not_held = page.partition(NOT_HELD)
    found: dict[str, Listed] = {}
    for part, is_held in ((held, True), (not_held, False)):
        begins = [*_LISTED.finditer(part)]
        ends = [*(match.start() for match in begins[1:]), len(part)][: len(begins)]
        for match, end in zip(begins, ends, strict=True):
            text = part[match.start() : end].partition("\n##")[0]
            name = match[1]
            if name in found:
                raise AssertionError(f"{name} is listed twice")
            found[name] = Listed(name, is_held, tuple(_NODE.findall(text)), text)
    return found


def cited_in(source: str) -> set[str]:
    """The hazards that this text speaks of."""
    joined = _LINE_END.sub(" ", source)
    return {name for names in _NAMES.findall(joined) for name in re.findall(r"[A-Z]\d+", names)}


@cache
def functions_of(source: str) -> dict[str, str]:
    """What stands in each function at the top of a module, and in the methods of its classes."""
    tree, lines = ast.parse(source), source.splitlines()
    bodies = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef))]
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for body in bodies
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def cited_by_test(name: str, text: str) -> set[str]:
    """What a test says that it is about, by its name or in its text."""
    by_name = _NAME_OF_TEST.match(name)
    return cited_in(text) | ({by_name[1].upper()} if by_name else set())


def complaints(page: str, sources: Mapping[str, str]) -> Iterator[str]:
    """What does not fit together, of a page and files by their paths."""
    listed = hazards_of(page)
    cited: dict[str, str] = {}
    for path, source in sources.items():
        names = cited_in(source)
        for test, text in functions_of(source).items() if path.startswith("tests/") else ():
            names |= cited_by_test(test, text)
        cited |= dict.fromkeys(names, path)
    for name, path in cited.items():
        if name not in listed:
            yield f"{path} cites hazard {name}, which the page does not list"
        elif not listed[name].is_held:
            yield f"{path} cites hazard {name}, which the page lists as not held"
    for hazard in listed.values():
        yield from _complaints_of(hazard, hazard.name in cited, sources)


def _complaints_of(hazard: Listed, is_cited: bool, sources: Mapping[str, str]) -> Iterator[str]:
    name = hazard.name
    if not hazard.is_held:
        if hazard.tests or "*Missing:*" not in hazard.text:
            yield f"{name} is not held: say what is missing, and name no test"
        return
    if not is_cited:
        yield f"{name} is listed, and cited nowhere"
    if "*Rule:*" not in hazard.text or not hazard.tests:
        yield f"{name} has no rule, or no test"
    for path, test in hazard.tests:
        functions = functions_of(sources[path]) if path in sources else {}
        if test not in functions:
            yield f"{name}: there is no {path}::{test}"
        elif name not in cited_by_test(test, functions[test]):
            yield f"{name}: {path}::{test} does not say that it is about it"


def our_sources() -> dict[str, str]:
    """Every file of the package, the tests and the benchmarks, but this one."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("trioraft", "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__)
    }


def test_the_page_and_the_code_agree() -> None:
    assert list(complaints(PAGE.read_text(encoding="utf-8"), our_sources())) == []


def test_the_page_lists_much() -> None:
    listed = hazards_of(PAGE.read_text(encoding="utf-8"))
    assert len(listed) >= 80
    assert sum(hazard.is_held for hazard in listed.values()) > 50


def test_every_kind_of_fault_of_the_simulator_stands_in_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition(FAULTS)[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(names) == sorted(kind.value for kind in Kind)


def test_every_file_that_the_table_names_is_there() -> None:
    table = PAGE.read_text(encoding="utf-8").partition(FAULTS)[2].partition("\n## ")[0]
    files = re.findall(r"`(tests/[\w/.]+)`", table)
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


GOOD_PAGE = """
**V1. A vote.** It happened.
*Rule:* never.
*Tests:* `tests/a.py::test_v1_never`, `tests/a.py::test_more`

## Known, and not yet held

**I1. A disk.** It happens.
*Missing:* all.
"""
V1, V2, I1 = (f"hazard {name}" for name in ("V1", "V2", "I1"))
GOOD_SOURCES = {
    "trioraft/a.py": f"# {V1}",
    "tests/a.py": f"def test_v1_never():\n    pass\n\ndef test_more():\n    '''{V1}'''\n",
}


def test_what_fits_together_is_left_alone() -> None:
    assert list(complaints(GOOD_PAGE, GOOD_SOURCES)) == []


@pytest.mark.parametrize(
    ("page", "sources", "complaint"),
    [
        ("", {"trioraft/b.py": f"# {V2}"}, "does not list"),
        ("", {"tests/b.py": "def test_v2_x(): pass"}, "does not list"),
        ("", {"trioraft/b.py": f"# {I1}"}, "as not held"),
        ("**V2. Too.** *Rule:* no. *Tests:* `tests/a.py::test_more`\n", {}, "cited nowhere"),
        ("**V2. Too.** *Rule:* no.\n", {"trioraft/b.py": f"# {V2}"}, "no rule, or no test"),
        ("**V2. Too.** `tests/a.py::test_more`\n", {"trioraft/b.py": f"# {V2}"}, "no rule"),
        ("", {"tests/a.py": "def test_v1_never(): pass"}, "there is no tests/a.py::test_more"),
        ("", {"tests/a.py": "def test_v1_never(): 1\ndef test_more(): 1"}, "does not say"),
        ("", {"tests/a.py": f"# {V1}\ndef test_more(): 1"}, "no tests/a.py::test_v1_never"),
    ],
)
def test_the_check_bites(page: str, sources: dict[str, str], complaint: str) -> None:
    found = list(complaints(page + GOOD_PAGE, {**GOOD_SOURCES, **sources}))
    assert any(complaint in line for line in found), found


def test_a_hazard_that_is_not_held_says_what_is_missing() -> None:
    page = GOOD_PAGE.replace("*Missing:*", "")
    assert any("say what is missing" in line for line in complaints(page, GOOD_SOURCES))


def test_a_hazard_is_listed_once() -> None:
    with pytest.raises(AssertionError, match="V1 is listed twice"):
        hazards_of(GOOD_PAGE + "\n**V1. Again.**")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("(hazards V4,\n  L3)", {"V4", "L3"}),
        ("# it is so (hazard\n    # M3)", {"M3"}),
        ("Hazards M1 and M4: both", {"M1", "M4"}),
        ("Hazards V1-V6", {"V1", "V6"}),
        ("a hazard of V1", set()),
        ("hazardous V1", set()),
    ],
)
def test_citations_are_read(text: str, names: set[str]) -> None:
    assert cited_in(text) == names


def test_a_section_of_the_dissertation_is_no_hazard() -> None:
    assert cited_by_test("test_d4_2_3_it_is_so", "") == set()
    assert cited_by_test("test_d4_it_is_so", "") == {"D4"}
