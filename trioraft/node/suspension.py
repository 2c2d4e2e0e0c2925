"""Suspension: whether the machine slept. The clock that Trio goes by stands still meanwhile, and so
would a lease (hazard Q2).

* Two clocks are compared that part only while a machine is suspended: one that stands still then,
  and one that runs on. Neither is what time it is: under a virtual clock nothing is different.
* A virtual machine that is paused without its knowing sees neither clock move. Nothing in it can
  tell; see docs/reads.md.
"""

from __future__ import annotations

import time
from typing import Final, final

SLEEP_S_MIN: Final = 0.005
"""Two clocks that are read one after the other may part by the time between; no machine falls
asleep and wakes in so short a time."""

_CLOCKS: Final = (
    ("CLOCK_MONOTONIC", "CLOCK_BOOTTIME"),
    ("CLOCK_UPTIME_RAW", "CLOCK_MONOTONIC_RAW"),
)
"""Stands still, and runs on: on Linux; on macOS, whose CLOCK_MONOTONIC runs on."""


@final
class Suspension:
    """Notices that the machine slept since it was last asked."""

    def __init__(self) -> None:
        self._slept_s = 0.0
        self._clocks: tuple[int, int] | None = None
        for still, running in _CLOCKS:
            if hasattr(time, still) and hasattr(time, running):
                self._clocks = (getattr(time, still), getattr(time, running))
                break
        self.is_over()

    def is_over(self) -> bool:
        """Whether the machine has woken since the last call. Always, where no clock tells: then
        nothing that was agreed by the clock can be relied on."""
        if self._clocks is None:
            return True
        still, running = self._clocks
        before_s = time.clock_gettime(running)
        awake_s = time.clock_gettime(still)
        after_s = time.clock_gettime(running)
        has_woken = after_s - awake_s > self._slept_s + SLEEP_S_MIN
        # If this very call was held up, that is taken for a sleep, but is not remembered as one.
        self._slept_s = max(self._slept_s, before_s - awake_s)
        return has_woken
