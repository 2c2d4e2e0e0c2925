"""Leak reports in a log: the Go project's leak check, goleak's, and ours.

Rules of this file:

* A report is several lines; a leak is complete when something else begins. What it is and where
  it was started are taken over as reported, without the rest of the stack.
* A leak that was told twice (a note, and a traceback with it) is one leak.
"""

from __future__ import annotations

import re
from typing import Final, final

import attrs

from .model import Leak

_LEAKTEST: Final = re.compile(r"leaktest: leaked goroutine: (goroutine \d+(?: \[[^\]]*\])?)")
_GOLEAK: Final = re.compile(r"\[?(Goroutine \d+ in state [^,]+), with (\S+) on top of the stack")
_OURS: Final = re.compile(r"^\W*\d+\. ([a-z][a-z ]*: .+)$")
_OURS_BEGINS: Final = re.compile(r"\b\d+ leaks?: started in here")
_OURS_ENDS: Final = re.compile(r"^\W*(?:what to do:|… and \d+ more)")
_STARTED: Final = re.compile(r"^\W*started at\s+(.+)$")
_FUNCTION: Final = re.compile(r"^\s*(\S+\.\S*)\(")
_PLACE: Final = re.compile(r"^\s*(\S+\.go:\d+)")
_CREATED: Final = re.compile(r"^\s*created by (\S+)")
STACK_LINES_MAX: Final = 64
"""Lines of one leak's stack that are looked at."""


@final
@attrs.define
class LeakCollector:
    """Fed with every line that is no entry."""

    leaks: list[Leak] = attrs.Factory(list)
    _open: Leak | None = None
    _lines_left: int = 0
    _is_in_ours: bool = False
    _awaits_creator_place: bool = False

    def take(self, line: int, text: str) -> bool:
        """Whether the line belongs to a leak report."""
        if "leaktest:" in text and (match := _LEAKTEST.search(text)):
            self._begin(Leak(line, match[1], None))
            return True
        if "on top of the stack" in text and (match := _GOLEAK.search(text)):
            self._begin(Leak(line, match[1], match[2]))
            return True
        if _OURS_BEGINS.search(text):
            self.close()
            self._is_in_ours = True
            return True
        if self._is_in_ours:
            return self._take_ours(line, text)
        if self._open is not None:
            return self._take_stack(text)
        return "leaktest:" in text

    def close(self) -> None:
        """Something else begins: the report is over."""
        self._is_in_ours = False
        leak, self._open = self._open, None
        if leak is None:
            return
        known = {(other.what, other.place, other.started_at) for other in self.leaks}
        if (leak.what, leak.place, leak.started_at) not in known:
            self.leaks.append(leak)

    def _begin(self, leak: Leak) -> None:
        is_in_ours = self._is_in_ours
        self.close()
        self._open, self._lines_left = leak, STACK_LINES_MAX
        self._is_in_ours = is_in_ours
        self._awaits_creator_place = False

    def _take_ours(self, line: int, text: str) -> bool:
        if match := _OURS.match(text):
            self._begin(Leak(line, match[1], None))
        elif self._open is not None and (match := _STARTED.match(text)):
            place = None if match[1] == "unknown" else match[1]
            self._open = attrs.evolve(self._open, place=place, started_at=place)
        elif _OURS_ENDS.match(text):
            self.close()
        return True

    def _take_stack(self, text: str) -> bool:
        """Function and place of the top of a goroutine's stack, then who created it."""
        leak, self._lines_left = self._open, self._lines_left - 1
        if leak is None or self._lines_left < 0:
            self.close()
            return False
        if match := _CREATED.match(text):
            self._open = attrs.evolve(leak, started_at=match[1])
            self._awaits_creator_place = True
        elif match := _PLACE.match(text):
            if self._awaits_creator_place:
                self._awaits_creator_place = False
                self._open = attrs.evolve(leak, started_at=f"{leak.started_at} ({_file(match[1])})")
            elif leak.place is None or not leak.place.endswith(")"):
                self._open = attrs.evolve(leak, place=_with_file(leak.place, match[1]))
        elif match := _FUNCTION.match(text):
            if leak.place is None:
                self._open = attrs.evolve(leak, place=match[1])
        else:
            self.close()
            return False
        return True


def _with_file(function: str | None, place: str) -> str:
    return _file(place) if function is None else f"{function} ({_file(place)})"


def _file(place: str) -> str:
    """`raft.go:343` of `/home/…/part1/raft.go:343`: the directories are somebody's own."""
    return place.rpartition("/")[2]
