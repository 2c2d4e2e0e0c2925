"""A few storms in which members, leaders and readers come and go; `python -m
tests.core.hostile_cluster` runs thousands.

Rules of this file: a failure names its seed and kind; `run_seed(seed, kind)` repeats it.
"""

from __future__ import annotations

import pytest

from .hostile_cluster import KINDS, run_seed

SEEDS = {
    "storm": range(4),
    "hurricane": range(100, 103),
    "leases": range(200, 202),
    "nervous leases": range(300, 302),
    "plain": range(1019, 1020),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_whose_members_change_is_safe_in_every_storm(kind: str) -> None:
    tallies = [run_seed(seed, kind) for seed in SEEDS[kind]]
    assert sum(tally.changes for tally in tallies) > 0
    assert sum(tally.reads for tally in tallies) > 10 * len(tallies)
