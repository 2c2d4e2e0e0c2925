"""ElectionTimer: when a node loses patience (paper, sections 5.2 and 9.3).

Rules of this file:

* A timeout is drawn when a timer *starts*; hearing the leader only moves the deadline.
* After an election that nobody won although others answered, the range widens, doubling up to
  `Timing.widening_max`; the first leader narrows it again. Without it, timeouts below the round
  trip never elect anyone. Silence widens nothing: nobody is disturbed, and a healed cluster
  should be quick.
* Who waits for votes waits for as long as votes are known to take (`Pace`); who hears its leader
  goes by the range as it is set, for heartbeats need no answer.
"""

from __future__ import annotations

import random
from typing import Final

from .config import Timing

HURRY_DOUBLINGS_MAX: Final = 16
"""By then the usual timeout comes first; a node that is cut off for hours must not overflow."""
FIRST_DRAW_VOTES: Final = 0.25
"""Who hurries first draws over this part of what a vote takes, at least: a little apart is enough,
since of two that ask at the same time the greater id goes first."""
RETRY_VOTES: Final = 1.6
"""An election that began in a hurry is given so many times what a vote takes, at least."""


class ElectionTimer:
    """One deadline that moves. It never acts: the caller asks whether it is due."""

    __slots__ = ("_rng", "_timing", "deadline", "factor", "is_stretched", "timeout_s", "usual_s")

    def __init__(self, timing: Timing, rng: random.Random) -> None:
        self._timing = timing
        self._rng = rng
        self.factor: int = 1
        """By how much elections that nobody won have widened the range."""
        self.is_stretched: bool = False
        """Whether the timeout drawn last is longer than the range says."""
        self.usual_s: float = 0.0
        """What it would be unstretched, in seconds."""
        self.timeout_s: float = 0.0
        """The timeout drawn last, in seconds."""
        self.deadline: float | None = None
        """When the timer is due, on the caller's clock; None while it does not run."""

    def start(self, now: float, stretch: float = 1.0) -> float:
        """Draw a new timeout and run from `now`; returns the timeout in seconds.

        Args:
            now: the time.
            stretch: by how much the range has to be longer at least.
        """
        factor = max(self.factor, stretch)
        self.is_stretched = factor > 1
        self.usual_s = self._rng.uniform(*self._timing.election_timeout_s)
        self.timeout_s = self.usual_s * factor
        self.deadline = now + self.timeout_s
        return self.timeout_s

    def restart(self, now: float) -> None:
        """The leader was heard: run the same timeout again from `now`."""
        self.deadline = now + self.timeout_s

    def hurry(self, now: float, rivals: int, attempt: int = 0, vote_s: float = 0.0) -> bool:
        """The leader seems gone: be due soon, if not earlier anyway. True if it is sooner.

        Args:
            now: the time.
            rivals: how many other nodes may notice the same; with more of them the draw is wider,
                so that the first one is as far ahead of the second.
            attempt: 0 draws the first start within `fast_failover_spread_s`, so that one follower
                is ahead of the others; from 1 on, a (pre-)election that began so is given time to
                end, twice as much with each attempt.
            vote_s: how long a vote is known to take.
        """
        spread_s = self._timing.fast_failover_spread_s * max(1.0, rivals / 2)
        if attempt == 0:
            spread_s = max(spread_s, FIRST_DRAW_VOTES * vote_s)
            patience_s = self._rng.uniform(0.0, spread_s)
        else:
            spread_s = max(spread_s, RETRY_VOTES * vote_s)
            doublings = min(attempt - 1, HURRY_DOUBLINGS_MAX)
            patience_s = self._rng.uniform(spread_s, 2 * spread_s) * 2**doublings
        if self.deadline is None or self.deadline <= now + patience_s:
            return False
        self.deadline = now + patience_s
        return True

    def hurry_to(self, deadline: float) -> None:
        """Be due at this moment, if not earlier anyway."""
        if self.deadline is None or deadline < self.deadline:
            self.deadline = deadline

    def stop(self) -> None:
        """Not due any more, ever, until started again."""
        self.deadline = None

    def is_due(self, now: float) -> bool:
        """Whether the deadline is reached."""
        return self.deadline is not None and now >= self.deadline

    def widen(self) -> bool:
        """Stretch the range for the next start. True if it changed."""
        factor = min(self.factor * 2, self._timing.widening_max)
        changed = factor != self.factor
        self.factor = factor
        return changed

    def narrow(self) -> bool:
        """Back to the configured range. True if it changed."""
        changed = self.factor != 1
        self.factor = 1
        return changed
