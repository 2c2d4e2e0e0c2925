"""A call over all its attempts: what is known of it, its pauses, and its number in the session."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final, final

import anyio
import anyio.lowlevel
import attrs

from ..core.errors import (
    ConfigError,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    SessionExpired,
)
from ..machines.sessions import RESULTS_MAX, SessionId
from ..rpc.errors import DeadlineExceeded, DeadlineOutcomeUnknown, ServerLeaving, ServerLost
from .connection import NotSent

NOT_TAKEN: Final = (NotLeader, ProposalDropped, Overloaded, NodeDead, ServerLeaving, NotSent)
"""After these the command certainly is not in the log: it may be sent again, also without a
session."""
MAYBE_TAKEN: Final = (OutcomeUnknown, ServerLost)
"""After these it may be."""


def checked_error_types(error_types: Iterable[type[Exception]]) -> dict[str, type[Exception]]:
    """What a state machine raises on purpose, by name.

    Raises:
        ConfigError: one of them is what this file sorts: a command that raised it would be taken
            for one that was not applied, and sent again.
    """
    checked: dict[str, type[Exception]] = {}
    for error_type in error_types:
        if issubclass(error_type, (*NOT_TAKEN, *MAYBE_TAKEN, SessionExpired)):
            raise ConfigError(
                f"error_types has {error_type.__name__}, by which servers say whether they took a "
                "command: let the state machine raise a class of its own"
            )
        checked[error_type.__qualname__] = error_type
    return checked


@final
@attrs.define
class Attempt:
    """One call, over all the times it is sent."""

    is_underway: bool = False
    """It was sent, and has no answer yet."""
    maybe_applied: bool = False
    """An earlier time it was sent has an unknown outcome."""

    def failed(self, error: Exception) -> None:
        """It was answered with this error, or not at all."""
        self.is_underway = False
        if isinstance(error, MAYBE_TAKEN) and not isinstance(error, NotSent):
            self.maybe_applied = True

    def deadline_error(self, timeout_s: float, last_problem: str) -> DeadlineExceeded:
        if self.maybe_applied or self.is_underway:
            return DeadlineOutcomeUnknown(
                f"no answer within {timeout_s:g} s (last: {last_problem}); the command was sent: "
                "it may or may not be applied"
            )
        return DeadlineExceeded(
            f"not done within {timeout_s:g} s (last: {last_problem}); nothing was applied"
        )


FIRST_S = 0.005
"""Longest first pause, in seconds."""
GROWTH = 1.6
"""How much longer each pause may be than the one before."""
LONGEST_S = 0.25
"""Longest pause, in seconds."""


@final
@attrs.define
class Backoff:
    """The pauses of one call, or of one search."""

    _rng: random.Random
    _skip_first: bool = False
    _next_s: float = FIRST_S

    async def pause(self) -> None:
        """Wait between half of the present bound and the whole of it."""
        if self._skip_first:
            self._skip_first = False
            await anyio.lowlevel.checkpoint()
            return
        await anyio.sleep(self._next_s * (0.5 + self._rng.random() / 2))
        self._next_s = min(self._next_s * GROWTH, LONGEST_S)


SPREAD_MAX = RESULTS_MAX // 2
"""From the lowest number on its way to the highest, unless the client was told otherwise."""


@final
class Numbering:
    """A client's side of one session: its name, and the numbers of its commands. A number belongs
    to one call, also when that is sent again, and is acknowledged once nobody will send it again.

    Args:
        session_id: what opening it returned.
        spread_max: see `SPREAD_MAX`; at most half of what the servers' `results_max` is.
    """

    def __init__(self, session_id: SessionId, spread_max: int = SPREAD_MAX) -> None:
        self.session_id = session_id
        self.acknowledged_below: int = 1
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
