"""NodeClock: what time a node believes it is.

Rules of this file: monotonic, whatever happens to it: a node's clock may run fast or slow, begins
anywhere, and may jump ahead (a machine that slept), but never back.
"""

from __future__ import annotations

from typing import final


@final
class NodeClock:
    """Local seconds from global ones, and back."""

    __slots__ = ("_global_s", "_local_s", "rate")

    def __init__(self, origin_s: float, rate: float = 1.0) -> None:
        self.rate = rate
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
