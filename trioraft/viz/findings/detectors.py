"""All detectors, and the order of what they find.

Rules of this file: a detector looks at the whole cluster and yields findings of one kind; it
neither knows the others nor changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ..cluster import ClusterView
from ..model import SEVERITIES, Finding
from .elections import election_livelock, no_leader, split_vote
from .leaders import (
    disruptive_rejoin,
    missed_heartbeats,
    slow_failover,
    stale_leader,
)
from .timers import leaks, orphan_timers
from .votes import double_vote, two_leaders

DETECTORS: Final[tuple[Callable[[ClusterView], Iterator[Finding]], ...]] = (
    two_leaders,
    double_vote,
    split_vote,
    election_livelock,
    missed_heartbeats,
    orphan_timers,
    leaks,
    no_leader,
    stale_leader,
    disruptive_rejoin,
    slow_failover,
)


def findings_of(cluster: ClusterView) -> tuple[Finding, ...]:
    """What there is to say about a run, worst first, then by time.

    Args:
        cluster: of a run that has its statistics.
    """
    found = [finding for detector in DETECTORS for finding in detector(cluster)]
    order = {severity: position for position, severity in enumerate(SEVERITIES)}
    return tuple(sorted(found, key=lambda finding: (order[finding.severity], finding.start_s)))
