"""LogClock: a time that all nodes agree on, because it comes out of the log."""

from __future__ import annotations

from collections import deque
from typing import Annotated, TypeAlias, final

import msgspec

LOG_TIME_MAX_S = 1e12
"""Latest log time that is believed: some 30,000 years."""

LogTime: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=LOG_TIME_MAX_S)]
"""Seconds since the first command of the cluster."""


@final
class LogClock:
    """The log time of one machine, and this node's estimate of what it is by now.

    A command carries the time at which it was proposed: the log time that the leader knew, plus
    what the leader's monotonic clock has counted since; no wall clock takes part, and no clock of
    whoever sent the command. *Log time* is the latest of them so far (dissertation, section 6.3).
    It runs no faster than the fastest of the leaders' clocks. It runs slower: it stands still while
    there is no leader, and before somebody proposes something. So a lease may last longer than
    asked for, and shorter only by the drift between two monotonic clocks.
    """

    def __init__(self) -> None:
        self.log_time_s: float = 0.0
        """When the latest command was proposed; the same on every node."""
        self._known_s = 0.0
        self._known_since_s: float | None = None
        self._stamps: deque[float] = deque()  # of this node's commands that were not applied yet

    @property
    def is_started(self) -> bool:
        """Whether it counts."""
        return self._known_since_s is not None

    def start(self, now_s: float) -> None:
        """The node's monotonic clock is known from here on."""
        self._known_s, self._known_since_s = self.log_time_s, now_s

    def reading_s(self, now_s: float) -> float:
        """What to write into a command that is proposed at this moment."""
        if self._known_since_s is None:
            return self.log_time_s
        counted_s = self._known_s + now_s - self._known_since_s
        if counted_s >= self.log_time_s:
            return counted_s
        self.start(now_s)  # it came from elsewhere, as with a snapshot: count on from there
        return self.log_time_s

    def stamp(self, now_s: float) -> float:
        """What stands in a command that is proposed here at this moment."""
        at_s = self.reading_s(now_s)
        if not self._stamps or self._stamps[-1] != at_s:
            self._stamps.append(at_s)
        return at_s

    def apply(self, at_s: float, now_s: float | None) -> None:
        """A command is being applied that was proposed at this log time.

        Args:
            at_s: what stands in it.
            now_s: this node's clock; None: it does not count.
        """
        self.advance(at_s)
        stamps = self._stamps
        while stamps and stamps[0] < at_s:
            stamps.popleft()
        if now_s is not None and not (stamps and stamps[0] == at_s):
            stamps.clear()
            self.adopt(now_s)

    def advance(self, at_s: float) -> None:
        """A command is being applied that was proposed at this log time."""
        self.log_time_s = max(self.log_time_s, at_s)

    def adopt(self, now_s: float) -> None:
        """Follow the log: another node leads, so what this one had counted says nothing.

        A leader goes on counting from where it began instead: to follow its own commands would
        lose, each time, what they take to be committed.
        """
        self.start(now_s)
