"""`docs/decisions.md`: every decision has a number of its own, and a status that is true.

Rules of this file: a decision is an item that begins with its number and a sentence in bold; its
status is the last thing in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "decisions.md"
_ITEM = re.compile(r"^(\d+)\. \*\*", re.MULTILINE)
_STATUS = re.compile(
    r"\*Status: in force(, changed by (?P<changed>\d+))?\.\*$"
    r"|\*Status: superseded by (?P<superseded>\d+)\.\*$"
)


def complaints(page: str) -> Iterator[str]:
    """What is wrong with the numbers and the statuses."""
    begins = [*_ITEM.finditer(page)]
    ends = [match.start() for match in begins[1:]] + [len(page)]
    numbers = [int(match[1]) for match in begins]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"numbered {numbers}, not one after the other"
    for match, end in zip(begins, ends, strict=True):
        number = int(match[1])
        status = _STATUS.search(page[match.start() : end].rstrip())
        if status is None:
            yield f"{number} does not end with a status"
            continue
        other = status["changed"] or status["superseded"]
        if other is not None and not number < int(other) <= len(numbers):
            yield f"{number} gives way to {other}, which is no later decision"


def test_every_decision_has_a_number_and_a_status() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert list(complaints(page)) == []
    assert len(_ITEM.findall(page)) >= 34


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("1. **So.** Yes.\n", "1 does not end with a status"),
        ("1. **So.** *Status: in force.*\n3. **So.** *Status: in force.*\n", "numbered"),
        ("1. **So.** *Status: superseded by 2.*\n", "no later decision"),
        ("1. **A.** *Status: in force.*\n2. **B.** *Status: superseded by 1.*\n", "no later"),
        ("1. **So.** *Status: in force, changed by 1.*\n", "no later decision"),
        ("1. **So.** *Status: in force.* But.\n", "1 does not end with a status"),
    ],
)
def test_the_check_bites(page: str, complaint: str) -> None:
    assert any(complaint in line for line in complaints(page))


def test_the_check_does_not_bite_at_random() -> None:
    page = (
        "1. **A.** *Status: superseded by 2.*\n2. **B.** *Status: in force, changed by 3.*\n"
        "3. **C.** Words.\n   *Status: in force.*\n"
    )
    assert list(complaints(page)) == []
