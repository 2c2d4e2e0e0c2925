"""The shapes of a raftlog's lines, as they come out of terminals, editors and blogs.

Rules of this file:

* An entry may stand behind anything; its time must be a time.
* Run and verdict lines are known even if they lost or gained a character; prose is not one.
* Nothing here takes more than linear time, whatever the line.
"""

from __future__ import annotations

import re
from typing import Final, get_args

import attrs

from .model import Status

ENTRY: Final = re.compile(r"(\d\d:\d\d):(\d\d(?:\.\d{1,9})?) \[(\w+)\] (.*)", re.ASCII)
"""An entry as it is written, to be matched at the beginning."""
LOOSE_ENTRY: Final = re.compile(
    r"(?<!\d)(\d{1,2}:\d\d):(\d\d(?:\.\d{1,9})?) {1,3}\[ ?([\w.-]{1,64}(?: \w{1,8})?) ?\] ?(.*)",
    re.ASCII,
)
"""An entry as it is found, anywhere in the line."""
_DAMAGED: Final = re.compile(r"\d:\d\d:\d\d\b|\d:\d\d\.\d{3,}|^\S{0,12}\[\w+\] ", re.ASCII)
_SWITCH: Final = re.compile(r"=== (?:CONT|NAME)\s+(\S+)$")
_EXACT_VERDICT: Final = re.compile(r"--- (PASS|FAIL|SKIP): (\S+)")
_NOISE: Final = re.compile(r"[^\w=-]{1,4}(?=[=-]{2})")
_INDENTED: Final = "    "
"""What stands so far inside is a note, or the verdict of a part of a test."""
_STATUSES: Final[tuple[Status, ...]] = get_args(Status)
_VERDICT_HEADS: Final = tuple(f"--- {status}" for status in _STATUSES)
_FENCE: Final = re.compile(r"\s*[`~]{3,}\w*\s*$")


@attrs.frozen
class LineHeader:
    """`=== RUN   name`."""

    name: str


@attrs.frozen
class Switch:
    """`=== CONT  name`: what follows belongs to this run, until it is another one's turn."""

    name: str


@attrs.frozen
class Verdict:
    """`--- PASS: name (0.31s)`."""

    status: Status
    name: str


def special(line: str) -> LineHeader | Switch | Verdict | None:
    """The line as a header or a verdict, if it is one."""
    if "=" not in line[:12] and "-" not in line[:40]:
        return None
    if line.startswith(_INDENTED):
        match = _EXACT_VERDICT.match(line.strip())
        return None if match is None else Verdict(_status(match[1]), match[2])
    line = _NOISE.sub("", line.strip(), count=1)
    if (match := _SWITCH.match(line)) is not None:
        return Switch(match[1])
    head, name = _head_and_name(line, "=", ("=== RUN",))
    if head is not None:
        return LineHeader(name)
    head, name = _head_and_name(line.replace(":", ": ", 1), "-", _VERDICT_HEADS)
    return None if head is None else Verdict(_status(head[-4:]), name.partition("(")[0])


def _head_and_name(line: str, sign: str, heads: tuple[str, ...]) -> tuple[str | None, str]:
    """Which of the heads the line begins with, give or take a character, and the next word."""
    words = line.split(maxsplit=4)
    for count in range(1, min(len(words), 4)):
        found = " ".join(words[:count]).rstrip(":;,.")
        if sign not in found:
            return None, ""
        for head in heads:
            if _differ(found, head) <= 1:
                return head, words[count]
    return None, ""


def _status(word: str) -> Status:
    return next(status for status in _STATUSES if status == word)


def looks_damaged(line: str) -> bool:
    """Whether this may have been an entry: it has what looks like a time, or begins with an id."""
    return _DAMAGED.search(line) is not None


def is_decoration(line: str) -> bool:
    """Whether the line says nothing: it is empty, or a fence around pasted text."""
    return not line or line.isspace() or _FENCE.match(line) is not None


def is_close(one: str, other: str) -> bool:
    """Whether two names are the same but for a character or two."""
    return _differ(one, other) <= 2


def _differ(one: str, other: str) -> int:
    """How many characters must be lost, gained or changed to turn one into the other; 3 is many."""
    if one == other:
        return 0
    if abs(len(one) - len(other)) > 2:
        return 3
    row = list(range(len(other) + 1))
    for position, character in enumerate(one, start=1):
        diagonal, row[0] = row[0], position
        for column, wanted in enumerate(other, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (character != wanted)),
            )
    return min(row[-1], 3)
