"""What counts as long, measured by the run itself.

Rules of this file: limits are multiples of the election timeouts that the log shows; where it
shows none, generous ones.
"""

from __future__ import annotations

from typing import Final

from ..model import Run

TIMEOUTS_PER_FAILOVER: Final = 3.0
"""A leader is noticed missing after one timeout, and elected in the next; three are long."""
TIMEOUT_UNKNOWN_S: Final = 1.0
"""Taken for the longest timeout if the log shows none."""


def longest_timeout_s(run: Run) -> float:
    """The longest election timeout that was drawn."""
    drawn = run.statistics.election_timeout
    return TIMEOUT_UNKNOWN_S if drawn is None else drawn.most_ms / 1000


def shortest_timeout_s(run: Run) -> float:
    """The shortest election timeout that was drawn; 0 if none is known."""
    drawn = run.statistics.election_timeout
    return 0.0 if drawn is None else drawn.least_ms / 1000


def leaderless_limit_s(run: Run) -> float:
    """Without a leader for longer than this, something is wrong."""
    return TIMEOUTS_PER_FAILOVER * longest_timeout_s(run)
