"""Time of a simulated world: what will happen, in order, and what each node's clock shows."""

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
    """Events of a simulated world. Time is in seconds from the start. Two events of one moment come
    in the order in which they were made, so that nothing is left to chance."""

    __slots__ = ("_done", "_heap", "_made", "_mark_s", "now")

    def __init__(self) -> None:
        self.now: float = 0.0
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


@final
class NodeClock:
    """Local seconds from global ones, and back. A node's clock may run fast or slow, begins
    anywhere, and may jump ahead (a machine that slept), but never back."""

    __slots__ = ("_global_s", "_local_s", "rate")

    def __init__(self, origin_s: float, rate: float = 1.0) -> None:
        self.rate: float = rate
        self._local_s = origin_s
        self._global_s = 0.0

    def local(self, global_s: float) -> float:
        """What this clock shows at this moment."""
        return self._local_s + (global_s - self._global_s) * self.rate

    def when(self, local_s: float) -> float:
        """At which moment this clock will show this."""
        return self._global_s + (local_s - self._local_s) / self.rate

    def run_at(self, rate: float, global_s: float) -> None:
        """From now on, run at this rate."""
        self._local_s, self._global_s = self.local(global_s), global_s
        self.rate = rate

    def jump(self, by_s: float, global_s: float) -> None:
        """Skip so many seconds."""
        self._local_s, self._global_s = self.local(global_s) + by_s, global_s
