"""Pauses between attempts: growing, and never the same for everyone.

Rules of this file: the first attempt after a failure is made at once, where that was asked for.
"""

from __future__ import annotations

import random
from typing import final

import anyio
import anyio.lowlevel
import attrs

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
