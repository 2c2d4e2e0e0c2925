"""Window: how many bytes may be on their way to one follower.

Rules of this file:

* What is sent beyond what the line drains only waits in queues, before heartbeats and votes: the
  window is what the follower answers in `QUEUE_S` more than the least that it ever takes.
* It is judged by answers alone, which say when something has arrived *and* is durable. A slow disk
  or a long line makes all answers late and shrinks nothing: only what makes them later does.
"""

from __future__ import annotations

from typing import Final

import attrs

FIRST_BYTES: Final = 64 * 1024
"""Before anything is known of the line."""
LEAST_BYTES: Final = 16 * 1024
QUEUE_S: Final = 0.1
"""How much later than at best an answer may come because of what is on its way before."""
_LONGER: Final = 0.125
"""How fast it is believed that a line has become longer, while as little as can be is on it."""


@attrs.define
class Window:
    """The window to one follower."""

    bytes_max: int
    """It never grows beyond this."""
    size_bytes: int = FIRST_BYTES
    answer_s: float = 0.0
    """How long the last answer took; 0: there was none."""
    _base_s: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.size_bytes = min(self.size_bytes, self.bytes_max)

    def on_answered(self, took_s: float, used_bytes: int, answered_bytes: int) -> None:
        """Something that was sent is known to be there.

        Args:
            took_s: since it left.
            used_bytes: what was on its way meanwhile, itself included.
            answered_bytes: its own size.
        """
        self.answer_s = took_s
        if not self._base_s or took_s < self._base_s:
            self._base_s = took_s
        late_s = took_s - self._base_s
        if late_s > QUEUE_S and self.size_bytes == LEAST_BYTES:
            self._base_s += late_s * _LONGER  # it is no queue of ours
        elif late_s > QUEUE_S:
            # In proportion, and at most by half: one hiccup does not close it.
            kept = max(0.5, QUEUE_S / late_s)
            part = min(1.0, answered_bytes / self.size_bytes)  # once for each window
            self.size_bytes = max(LEAST_BYTES, int(self.size_bytes * (1 - part * (1 - kept))))
        elif 2 * used_bytes >= self.size_bytes:
            self.size_bytes = min(self.bytes_max, self.size_bytes + answered_bytes)
