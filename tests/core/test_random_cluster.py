"""Hundreds of storms: crashes, partitions, loss, duplicates, reordering, slow disks.

Rules of this file: every seed checks all invariants after every event, and ends with a command
that all nodes have applied. A failure names its seed; `RandomCluster(seed, …).run()` repeats it.
"""

from __future__ import annotations

import pytest

from trioraft.core.config import Timing

from .random_cluster import Faults, RandomCluster

STORM = Faults()
HURRICANE = Faults(
    delay_s=(0.001, 0.030),
    straggle=0.08,
    drop=0.10,
    duplicate=0.10,
    disk_s=(0.0, 0.040),
    fault_every_s=(0.02, 0.3),
)
EARTHQUAKE = Faults(
    delay_s=(0.001, 0.012),
    straggle=0.05,
    drop=0.05,
    disk_s=(0.0, 0.030),
    fault_every_s=(0.005, 0.060),
    crash=0.8,
    down_s=(0.0, 0.030),
)
"""Nodes crash and are back within one election, which votes and acknowledgements must survive."""
PLAIN = Timing(pre_vote=False, check_quorum=False)
NERVOUS = Timing(
    election_timeout_s=(0.030, 0.060),
    heartbeat_interval_s=0.010,
    pre_vote=False,
    check_quorum=False,
)


def run(seeds: range, size: int, faults: Faults, timing: Timing) -> tuple[int, int]:
    """Run them all; returns how many terms had leaders and how many entries were committed."""
    leaders = commits = 0
    for seed in seeds:
        cluster = RandomCluster(seed, size=size, faults=faults, timing=timing)
        cluster.run()
        leaders += len(cluster.checks.leaders)
        commits += len(cluster.checks.committed)
    return leaders, commits


@pytest.mark.parametrize(
    ("seeds", "size", "faults", "timing"),
    [
        pytest.param(range(80), 3, STORM, Timing(), id="3 nodes"),
        pytest.param(range(120, 140), 5, STORM, Timing(), id="5 nodes"),
        pytest.param(range(200, 240), 3, HURRICANE, Timing(), id="3 nodes, hurricane"),
        pytest.param(range(300, 315), 5, HURRICANE, Timing(), id="5 nodes, hurricane"),
        pytest.param(range(400, 430), 3, HURRICANE, PLAIN, id="3 nodes, the paper alone"),
        pytest.param(range(500, 515), 5, HURRICANE, PLAIN, id="5 nodes, the paper alone"),
        pytest.param(range(800, 850), 3, EARTHQUAKE, NERVOUS, id="3 nodes, earthquake"),
        pytest.param(range(900, 912), 5, EARTHQUAKE, NERVOUS, id="5 nodes, earthquake"),
        pytest.param(range(600, 620), 2, STORM, Timing(), id="2 nodes"),
        pytest.param(range(700, 710), 1, STORM, Timing(), id="1 node"),
    ],
)
def test_a_cluster_is_safe_in_every_storm_and_alive_after_it(
    seeds: range, size: int, faults: Faults, timing: Timing
) -> None:
    leaders, commits = run(seeds, size, faults, timing)
    assert leaders > len(seeds)  # storms do depose leaders
    assert commits > 20 * len(seeds)  # and are not all there is


def test_the_same_seed_is_the_same_run() -> None:
    first, second = RandomCluster(7), RandomCluster(7)
    first.run()
    second.run()
    assert first.checks.committed == second.checks.committed
    assert first.checks.leaders == second.checks.leaders
    assert first.now == second.now
