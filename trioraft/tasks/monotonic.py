"""monotonic_s: the clock of the node whose command this is."""

from __future__ import annotations

import trio


def monotonic_s() -> float:
    """Trio's clock, in seconds; 0 where no Trio runs: nobody leads there."""
    try:
        return trio.current_time()
    except RuntimeError:
        return 0.0
