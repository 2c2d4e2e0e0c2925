"""A call over all its attempts: what is known of it, and its pauses. Pure: who waits does so in its
own way."""

from __future__ import annotations

import random
from typing import Final, final

import attrs

from ..core.errors import DeadlineExceeded, DeadlineOutcomeUnknown
from ..core.types import TraceContext


@final
@attrs.define
class Attempt:
    """One call, over all the times it is sent."""

    is_repeatable: bool = False
    """It may be sent again without harm, as in a session: an unknown outcome is not the end."""
    is_local: bool = False
    """It is for this node alone, while that leads: elsewhere, or if it was not taken, that is
    `NotLeader` or `ProposalDropped`, with `is_refused`."""
    is_refused: bool = False
    """The last time that it was sent, or was to be, it certainly was not taken."""
    is_underway: bool = False
    """It was sent, and has no answer yet."""
    maybe_applied: bool = False
    """An earlier time it was sent has an unknown outcome."""
    trace: TraceContext | None = None
    """Travels with it, where somebody traces."""
    last_problem: str = "no leader is known"
    """Why it was not answered so far, for the error."""

    def failed(self, error: Exception, *, maybe_taken: bool) -> None:
        """It was answered with this error, or not at all.

        Args:
            error: what became of it this time.
            maybe_taken: whether the command may be in the log.
        """
        self.is_underway = False
        self.is_refused = not maybe_taken
        self.last_problem = str(error)
        self.maybe_applied = self.maybe_applied or maybe_taken

    def deadline_error(self, timeout_s: float, last_problem: str | None = None) -> DeadlineExceeded:
        """What to raise now that time is up.

        Args:
            timeout_s: how long the caller had, in seconds.
            last_problem: what to say was met last; None: what this attempt has noted.
        """
        last = self.last_problem if last_problem is None else last_problem
        if self.maybe_applied or self.is_underway:
            return DeadlineOutcomeUnknown(
                f"no answer within {timeout_s:g} s (last: {last}); the command was sent: "
                "it may or may not be applied"
            )
        return DeadlineExceeded(
            f"not done within {timeout_s:g} s (last: {last}); nothing was applied"
        )


FIRST_S: Final = 0.005
"""Longest first pause, in seconds."""
GROWTH: Final = 1.6
"""How much longer each pause may be than the one before."""
LONGEST_S: Final = 0.25
"""Longest pause, in seconds."""


@final
@attrs.define
class Backoff:
    """The pauses of one call, or of one search."""

    _rng: random.Random
    _skip_first: bool = False
    _next_s: float = FIRST_S

    def next_s(self) -> float:
        """How long the next one is: between half of the present bound and the whole of it."""
        if self._skip_first:
            self._skip_first = False
            return 0.0
        pause_s = self._next_s * (0.5 + self._rng.random() / 2)
        self._next_s = min(self._next_s * GROWTH, LONGEST_S)
        return pause_s
