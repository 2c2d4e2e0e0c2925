"""A client's side of a session: its name, and the numbers of its commands.

Rules of this file:

* A number belongs to one call, also when that call is sent again, and is never given out twice.
* A number is acknowledged once nobody will send it again: its call has an outcome, or was given up.
* Numbers on their way spread over less than the server keeps results, so that it never has to
  refuse one.
"""

from __future__ import annotations

from typing import final

import anyio

from ..machines.sessions import RESULTS_MAX, SessionId

SPREAD_MAX = RESULTS_MAX // 2
"""From the lowest number on its way to the highest, unless the client was told otherwise."""


@final
class Numbering:
    """One session.

    Args:
        session_id: what opening it returned.
        spread_max: see `SPREAD_MAX`; at most half of what the servers' `results_max` is.
    """

    def __init__(self, session_id: SessionId, spread_max: int = SPREAD_MAX) -> None:
        self.session_id = session_id
        self.acknowledged_below = 1
        """Every number below this one has an outcome."""
        self._next = 1
        self._spread_max = spread_max
        self._done: set[int] = set()  # with a lower one still on its way
        self._moved: anyio.Event | None = None

    async def take(self) -> int:
        """The number of a new command; waits while too many are on their way."""
        while self._next - self.acknowledged_below >= self._spread_max:
            if self._moved is None:
                self._moved = anyio.Event()
            await self._moved.wait()
        number = self._next
        self._next += 1
        return number

    def done(self, number: int) -> None:
        """This number's command will not be sent again."""
        self._done.add(number)
        while self.acknowledged_below in self._done:
            self._done.remove(self.acknowledged_below)
            self.acknowledged_below += 1
        if self._moved is not None:
            self._moved.set()
            self._moved = None
