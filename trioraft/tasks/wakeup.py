"""Wakeup: one task sleeps, anyone wakes it. Level-triggered, so no wake is ever lost.

Rules of this file: waking is synchronous, cheap and idempotent; however often it is woken before
it runs, the sleeper runs once. That is how many inputs become one batch.
"""

from __future__ import annotations

from typing import final

import trio


@final
class Wakeup:
    """What a driver sleeps on."""

    __slots__ = ("_lot", "is_set")

    def __init__(self) -> None:
        self.is_set: bool = False
        """Whether it was woken and has not come round yet."""
        self._lot = trio.lowlevel.ParkingLot()

    def set(self) -> None:
        """Wake the sleeper, or let its next `wait` return at once."""
        if not self.is_set:
            self.is_set = True
            self._lot.unpark()

    async def wait(self) -> None:
        """Sleep until woken. Cancellation leaves the wake in place."""
        if self.is_set:
            await trio.lowlevel.checkpoint()
        else:
            await self._lot.park()
        self.is_set = False
