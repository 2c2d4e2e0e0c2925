"""Agenda: what will happen, in the order in which it will; and what time it is.

Rules of this file: one heap, no clock. Two entries of one moment come in the order in which they
were made, so that nothing is left to chance.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final, final

from ..core.errors import InvariantViolation

SPIN_EVENTS: Final = 50_000
SPIN_S: Final = 0.2
"""So many events take at least so much time; otherwise somebody spins, and would for ever."""


@final
class Agenda:
    """Events of a simulated world. Time is in seconds from the start."""

    __slots__ = ("_done", "_heap", "_made", "_mark_s", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = 0
        self._done = 0
        self._mark_s = 0.0

    def at(self, when_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do this then; now, if that is past."""
        self._made += 1
        heapq.heappush(self._heap, (max(when_s, self.now), self._made, action, arguments))

    def after(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do this in so many seconds."""
        self._made += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._made, action, arguments))

    def run(self, until_s: float, done: Callable[[], bool]) -> bool:
        """Go on until `done()` holds after an event, or until this time.

        Returns:
            Whether it came to hold.

        Raises:
            InvariantViolation: events without end, and time hardly passes.
        """
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_s:
            self.now, _, action, arguments = pop(heap)
            action(*arguments)
            self._done += 1
            if self._done % SPIN_EVENTS == 0:
                self._check_time_passes()
            if done():
                return True
        self.now = max(self.now, until_s)
        return False

    def _check_time_passes(self) -> None:
        if self.now - self._mark_s < SPIN_S:
            raise InvariantViolation(
                f"{SPIN_EVENTS} events in {self.now - self._mark_s:.6f} s: somebody spins"
            )
        self._mark_s = self.now
