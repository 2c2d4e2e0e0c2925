"""Slices: many tasks of one kind share the event loop with all others, and never hold it long.

Rules of this file: a pass of the scheduler runs every task that is ready. A thousand connections
with work for a few milliseconds each would make that pass last seconds, and heartbeats late. So
they share one slice; when it is used up, whoever wants more waits for a later pass.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final, final

import trio

SLICE_S: Final = 0.004
"""How long the tasks that share a slice may keep the loop before all others have their turn."""


@final
class Slices:
    """One slice after the other, for all who share them.

    Use, with no wait of another kind in between::

        began_s = perf_counter()
        for each in work:
            do(each)
            if slices.is_over(began_s):
                began_s = await slices.next(began_s)
        slices.spend(began_s)
    """

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._slice_s = slice_s
        self._spent_s = 0.0
        self._lot = trio.lowlevel.ParkingLot()
        self._is_renewing = False

    def spend(self, began_s: float) -> None:
        """Work that began then (by `perf_counter`) pauses, or is done."""
        self._spent_s += perf_counter() - began_s

    def is_over(self, began_s: float) -> bool:
        """Whether the slice is used up, by whomever and by work that began then."""
        return self._spent_s + perf_counter() - began_s > self._slice_s

    async def next(self, began_s: float) -> float:
        """Wait until everybody else has had a turn. Cancellable.

        Args:
            began_s: when the work began that pauses now.

        Returns:
            When it goes on.
        """
        self.spend(began_s)
        while self._spent_s > self._slice_s:  # who comes late may find it used up again
            if not self._is_renewing:
                self._is_renewing = True
                trio.lowlevel.current_trio_token().run_sync_soon(self._renew)
            await self._lot.park()
        return perf_counter()

    def _renew(self) -> None:
        self._is_renewing = False
        self._spent_s = 0.0
        self._lot.unpark_all()
