"""TokenBucket: a bound on a rate, so much at once and then so much in a second."""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.define(eq=False)
class TokenBucket:
    """Tokens that come back by themselves. Full at first.

    Args:
        per_s: how many come back in a second.
        at_once: how many there are at most.
    """

    per_s: float
    at_once: float
    _left: float = attrs.field(init=False)
    _at_s: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._left = self.at_once

    def left(self, now_s: float) -> float:
        """How many there are now; below zero after more was used than there was."""
        self._left = min(self.at_once, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        return self._left

    def take(self, now_s: float) -> bool:
        """Take one if there is one; returns whether there was."""
        if self.left(now_s) < 1:
            return False
        self._left -= 1
        return True

    def use(self, amount: float, least: float = 0.0) -> None:
        """Take as much as was used since `left`, though not further down than to `least`. A
        negative amount gives back."""
        self._left = min(self.at_once, max(least, self._left - amount))
