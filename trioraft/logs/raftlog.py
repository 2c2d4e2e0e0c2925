"""The raftlog format: what a line looks like, and the lines of a run.

* A raftlog is the test log of the Go project that trioraft starts from, so that its tools read
  ours. A line is one of four things, and its shape is named once, here, for writers and readers:
  a header (`=== RUN   name`), a status (`--- PASS: name (0.31s)`), an entry
  (`10:02:26.890095 [0] becomes Candidate (currentTerm=1); log=[]`), or a note, which is all else.
* The file is valid to its readers after every single line, so also after a crash: the first line
  is a header, and the nodes that wrote are 0, 1, … without a gap.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, final

import attrs
import trio

from ..core.types import NodeId
from .event_texts import Traced, defuse, describe

RUN_PREFIX: Final = "=== RUN"
"""How a header starts; the run's name is the rest of the line, stripped."""
STATUS_RE: Final = re.compile(r"--- (\w+):\s+(\w+)", re.ASCII)
"""A status line, found anywhere in a line: the outcome, and the name exactly as in the header."""
ENTRY_RE: Final = re.compile(r"([0-9:.]+) \[(\w+)\] (.*)", re.ASCII)
"""An entry, found anywhere in a line: time, node number or `TEST`, text."""
TEST_ID: Final = "TEST"
"""Who speaks in an entry that no node wrote."""

RUN_NAME_CHARS_MAX: Final = 200
"""Longest run name: readers make file names of them."""
NUMBER_KEPT_BELOW: Final = 16
"""An id that is a number below this keeps it as its column; other ids are numbered."""

Outcome: TypeAlias = Literal["PASS", "FAIL", "SKIP"]
"""How a run ended, as its status line says it."""


def run_name(name: str) -> str:
    """A run's name as readers need it, letters, digits and `_`: `test_x[memory-3]` is
    `test_x_memory_3`."""
    word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return word[:RUN_NAME_CHARS_MAX] or "run"


@attrs.define
class NodeNumbers:
    """Which column of the picture a node has, for one run.

    The Go project's reader takes ids for indexes: those that wrote must be 0, 1, … without a
    gap. So an id that is a small number keeps it, and any other id gets the lowest number that
    is free when it first appears.
    """

    _number_of: dict[NodeId, int] = attrs.Factory(dict)
    _unannounced: list[str] = attrs.Factory(list)

    def label(self, node_id: NodeId) -> str:
        """The node's number, as text; decided at the first call and the same ever after."""
        number = self._number_of.get(node_id)
        if number is None:
            number = self._number_of[node_id] = self._choose(node_id)
            if str(number) != node_id:
                self._unannounced.append(f'node "{defuse(node_id)}" is {number}')
        return str(number)

    def take_announcements(self) -> list[str]:
        """`node "alpha" is 0` for each renaming since the last call: a reader must see them."""
        taken, self._unannounced = self._unannounced, []
        return taken

    def _choose(self, node_id: NodeId) -> int:
        taken = set(self._number_of.values())
        kept = int(node_id) if re.fullmatch("0|[1-9][0-9]?", node_id) else NUMBER_KEPT_BELOW
        if kept < NUMBER_KEPT_BELOW and kept not in taken:
            return kept
        return next(number for number in range(len(taken) + 1) if number not in taken)


# --- a run --------------------------------------------------------------------------------


def _local_now() -> datetime:
    # With a fixed offset: no change of daylight saving time can turn a run's clock back.
    return datetime.now().astimezone()


def _current_clock() -> trio.abc.Clock | None:
    try:
        return trio.lowlevel.current_clock()
    except RuntimeError:  # not in a Trio run, or not in its thread
        return None


@final
@attrs.define
class WallClock:
    """Wall time for events, which know only the seconds of Trio's clock.

    The first event is stamped with the wall time; later ones with that plus the seconds since,
    so that a picture shows virtual durations as they were. Another Trio run, known by its clock
    or by time going back, anchors anew. Stamps never go back.
    """

    _now: Callable[[], datetime] = _local_now
    _anchor: datetime | None = None
    _anchor_at_s: float = 0.0
    _clock: trio.abc.Clock | None = None
    _last: datetime | None = None
    _last_at_s: float = 0.0

    def stamp(self, at_s: float | None = None) -> datetime:
        """When something happened.

        Args:
            at_s: seconds of Trio's clock, as events have them. None: now, by Trio's clock if
                there is one here.
        """
        clock = _current_clock()
        if at_s is None:
            if clock is None:
                return self._remember(self._not_before_last(self._now()))
            at_s = clock.current_time()
        is_other_clock = clock is not None and clock is not self._clock
        if self._anchor is None or is_other_clock or at_s < self._last_at_s:
            self._anchor, self._anchor_at_s = self._not_before_last(self._now()), at_s
            self._clock = clock
        self._last_at_s = at_s
        since = timedelta(seconds=at_s - self._anchor_at_s)
        return self._remember(self._not_before_last(self._anchor + since))

    def _not_before_last(self, moment: datetime) -> datetime:
        return moment if self._last is None else max(moment, self._last)

    def _remember(self, moment: datetime) -> datetime:
        self._last = moment
        return moment


@final
@attrs.define
class RaftlogRun:
    """One run of a raftlog, and the columns and the clock that are its own."""

    name: str
    """As header and status line have it."""
    outcome: Outcome = "PASS"
    """What the status line will say; an exception out of the block makes it FAIL."""
    _clock: WallClock = attrs.Factory(WallClock)
    _numbers: NodeNumbers = attrs.Factory(NodeNumbers)
    _columns: int = 0
    _started_s: float = attrs.Factory(time.monotonic)

    def header(self) -> str:
        """`=== RUN   name`."""
        return f"{RUN_PREFIX}   {self.name}"

    def status_line(self) -> str:
        """`--- PASS: name (0.31s)`, with the seconds that really passed."""
        return f"--- {self.outcome}: {self.name} ({time.monotonic() - self._started_s:.2f}s)"

    def event_lines(self, node_id: NodeId, event: Traced) -> list[str]:
        """The event's entries, and before them what a reader needs to make sense of them.

        Args:
            node_id: whose it is.
            event: with its time.
        """
        self._numbers.label(node_id)  # before the peers it speaks of: it may have their number
        return self._entries(node_id, describe(event, self._numbers.label), event.at_s)

    def remark_lines(self, node_id: NodeId | None, text: str, at_s: float | None) -> list[str]:
        """A remark of a node, or of the test.

        Args:
            node_id: whose it is; None: the test's.
            text: in words.
            at_s: when, in seconds of the clock that the events have; None: now.
        """
        return self._entries(node_id, (defuse(text),), at_s)

    def _entries(
        self, node_id: NodeId | None, texts: Iterable[str], at_s: float | None
    ) -> list[str]:
        stamp = self._clock.stamp(at_s).strftime("%H:%M:%S.%f")
        who = TEST_ID if node_id is None else self._numbers.label(node_id)
        lines = [f"{stamp} [{TEST_ID}] {text}" for text in self._numbers.take_announcements()]
        if node_id is not None:
            # A reader counts the ids that wrote and takes them for 0, 1, …: leave no gap.
            gap = range(self._columns, int(who))
            lines += [f"{stamp} [{number}] has not logged anything yet" for number in gap]
            self._columns = max(self._columns, int(who) + 1)
        return [*lines, *(f"{stamp} [{who}] {text}" for text in texts)]
