"""CpuShare: how much of a processor the HTTP port's thread may take.

A thread beside the node's takes the interpreter from it as long as it computes. So it computes
little at a time, and pauses when it has had its share: whoever floods the port waits, and the node
does not. Pauses come after whatever took the time, be it accepting, TLS, parsing or a page.
"""

from __future__ import annotations

import time
from typing import Final, final

import trio

from ..net.token_bucket import TokenBucket

BURST_S: Final = 0.25
"""So much CPU time may be kept for when something is asked after a while, in seconds: some tens of
scrapes."""


@final
class CpuShare(trio.abc.Instrument):
    """Holds the Trio run to its share, in which it is an instrument; of this thread alone."""

    def __init__(self, share: float, burst_s: float = BURST_S) -> None:
        self.paused_s: float = 0.0
        """For how long it has been held, in all."""
        self._share = share
        self._left = TokenBucket(share, burst_s)
        self._used_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task has run until it waited for something."""
        used_s = time.thread_time()
        left_s = self._left.left(time.monotonic()) - (used_s - self._used_s)
        self._left.use(used_s - self._used_s, least=-1.0)
        self._used_s = used_s
        if left_s < 0:
            pause_s = -left_s / self._share
            self.paused_s += pause_s
            time.sleep(pause_s)  # noqa: TID251 - to stop all tasks of this thread is what it is for
