"""Numbering: a client's side of one session, on whatever event loop.

Here also `Attempt` and `Backoff`, for those who stand on this floor and not on `member`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, final

from ..member.attempts import Attempt as Attempt
from ..member.attempts import Backoff as Backoff
from .sessions import RESULTS_MAX, SessionId

SPREAD_MAX: Final = RESULTS_MAX // 2
"""From the lowest number on its way to the highest, unless the client was told otherwise."""


class Event(Protocol):
    """As Trio and anyio have it."""

    def set(self) -> Any: ...

    async def wait(self) -> Any: ...


@final
class Numbering:
    """A client's side of one session: its name, and the numbers of its commands. A number belongs
    to one call, also when that is sent again, and is acknowledged once nobody will send it again.

    Args:
        session_id: what opening it returned.
        new_event: makes an event of the event loop that it is used in.
        spread_max: see `SPREAD_MAX`; at most half of what the servers' `results_max` is.
    """

    def __init__(
        self, session_id: SessionId, new_event: Callable[[], Event], spread_max: int = SPREAD_MAX
    ) -> None:
        self.session_id = session_id
        self.acknowledged_below: int = 1
        """Every number below this one has an outcome."""
        self._next = 1
        self._spread_max = spread_max
        self._done: set[int] = set()  # with a lower one still on its way
        self._new_event = new_event
        self._moved: Event | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more command may be on its way."""
        return self._next - self.acknowledged_below < self._spread_max

    async def take(self) -> int:
        """The number of a new command; waits while too many are on their way."""
        while not self.has_room:
            if self._moved is None:
                self._moved = self._new_event()
            await self._moved.wait()
        return self.take_now()

    def take_now(self) -> int:
        """The number of a new command, if there is room for it."""
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
