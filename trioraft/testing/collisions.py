"""CollidingRandom: election timeouts that collide, the seeds' first stress mode.

Rules of this file: everything else drawn from it is as from any `random.Random`.
"""

from __future__ import annotations

import random

COLLISION_CHANCE = 1 / 3
"""So many election timeouts are exactly the lower bound."""


class CollidingRandom(random.Random):
    """A source of timeouts that collide: a third of them are exactly the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        """The lower bound with `COLLISION_CHANCE`, else uniform."""
        return a if self.random() < COLLISION_CHANCE else super().uniform(a, b)
