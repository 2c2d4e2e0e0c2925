"""Callers: clients of a cluster of processes, which find the leader and never give up.

Rules of this file:

* A call that was certainly not taken is made again, at the leader if the answer names it. A call
  of unknown outcome has failed.
* A call counts when its answer is here.
"""

from __future__ import annotations

import itertools
import time
from typing import Final, final

import trio

from .pipe import Outcome
from .processes import ProcessCluster

CALLERS: Final = 4
"""How many there are; each has one call on its way."""


@final
class Callers:
    """A load from outside of the nodes' processes."""

    def __init__(self, cluster: ProcessCluster) -> None:
        self.done_s: list[float] = []
        """When calls succeeded since `forget`."""
        self.failed = 0
        self._cluster = cluster
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Call until `stop`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for _ in range(CALLERS):
                    nursery.start_soon(self._keep_calling)
                task_status.started()

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()

    def forget(self) -> None:
        """Begin to count anew."""
        self.done_s.clear()
        self.failed = 0

    async def _keep_calling(self) -> None:
        ids = itertools.cycle(self._cluster.ids)
        asked = next(ids)
        while True:
            answer = await self._cluster.call(asked)
            match answer.outcome:
                case Outcome.DONE:
                    self.done_s.append(time.monotonic())
                case Outcome.ELSEWHERE:
                    asked = answer.leader_id or next(ids)
                    await trio.lowlevel.checkpoint()  # who is not there answers at once
                case Outcome.UNKNOWN:
                    self.failed += 1
                    asked = next(ids)
