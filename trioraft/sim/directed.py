"""Directed runs: one thing is tried over and over, where storms of everything would seldom meet it.

`reads`: whoever takes itself for the leader is asked to read each millisecond, by its lease and by
asking, while leaders are cut off, succeeded, transferred and put to sleep. What makes a stale read
likely is drawn on purpose: clocks at the very ends of what they may do, and nodes whose timing
differs, from each other and from one life to the next. A wrong lease is wrong only for the moment
between its true end and the other leader's first commit, so somebody impatient asks for votes all
the time, and messages are fast.

`lines`: one cluster whose lines and disks become slow in one way after the other; see `lines`.

`disks`: small clusters whose disks are emptied, copied and exchanged all the time, and replaced.

`upgrades`: each life of a node is one of this release or of an earlier one, and somebody always
wants to switch on what the later one can.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import attrs

from ..core.config import Limits, Timing
from ..core.errors import NotLeader, TransferFailed
from ..core.raft import Raft
from ..core.types import NodeId
from .draw import Draw, Habit, Kind, schedule
from .lines import LINES, draw_lines

READS: Final = "reads"
READ_EVERY_S: Final = 0.001
HAND_OVER_EVERY: Final = 32
"""Reads, after which a leader that is impatient hands over."""
READ_BY_LEASE: Final = "read_by_lease"
READ_BY_ASKING: Final = "read_by_asking"
"""Counted when they are answered."""
SIZES: Final = (2, 3, 3, 3, 3, 4, 5)
DRIFTS: Final = (0.01, 0.05, 0.1)
NO_LEASES: Final = 0.15
"""How often a life goes by a timing that promises nothing."""
IMPATIENT: Final = (0.02, 0.03)

_LEADER: Final = 0.8
_MANAGED: Final = 0.95
HABITS: Final[Mapping[Kind, Habit]] = {
    Kind.DELAY: Habit((0.05, 0.5), (0.005, 0.08), per_s=1.5, everywhere=0.5),
    Kind.PARTITION: Habit((0.05, 0.5), per_s=3.0, at_leader=_LEADER),
    Kind.ONE_WAY: Habit((0.05, 0.5), per_s=3.0, at_leader=_LEADER),
    Kind.CRASH: Habit((0.0, 0.02), per_s=3.0, at_leader=0.1),
    Kind.PAUSE: Habit((0.02, 0.4), at_leader=_LEADER),
    Kind.SUSPEND: Habit((0.02, 0.6), per_s=2.0, at_leader=_LEADER),
    Kind.TRANSFER: Habit((0.0, 0.0), per_s=2.0, at_leader=_LEADER),
    Kind.MEMBERSHIP: Habit((0.0, 0.0), per_s=2.0, at_leader=_LEADER),
}
ON: Final = 0.7


def _ids(rng: random.Random, sizes: Sequence[int], nodes: int | None) -> tuple[NodeId, ...]:
    size = rng.choice(sizes) if nodes is None else nodes
    return tuple(str(number) for number in range(size))


def _intensities(
    rng: random.Random, habits: Mapping[Kind, Habit], *, sure: Kind | None = None
) -> dict[Kind, float]:
    kinds = [kind for kind in habits if kind is sure or rng.random() < ON]
    return {kind: round(rng.uniform(0.3, 1.0), 3) for kind in kinds}


def draw_reads(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means, where reads are the subject.

    Args:
        seed: any whole number.
        nodes: how many there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft reads {seed}")
    ids = _ids(rng, SIZES, nodes)
    intensities = _intensities(rng, HABITS)
    storm_s = round(rng.uniform(3.0, 5.0), 3)
    drift = rng.choice(DRIFTS)
    timings = {node: _lives(rng, drift) for node in ids}
    return Draw(
        nodes=ids,
        voters=ids,
        timing=max((t for lives in timings.values() for t in lives), key=_patience_s),
        limits=Limits(),
        intensities=intensities,
        faults=schedule(rng, intensities, ids, storm_s, HABITS),
        storm_s=storm_s,
        delay_s=rng.choice(((0.0001, 0.0003), (0.0001, 0.0003), (0.0005, 0.003))),
        disk_s=rng.choice(((0.0, 0.0), (0.0001, 0.0005))),
        apply_s=0.0,
        hint=rng.choice((0.0, 1.0)),
        clients=1,
        keys=1,
        think_s=0.002,
        patience_s=0.05,
        reads=0.0,
        barrier_reads=0.0,
        lease_reads=0.0,
        clock_rates=(1.0 - drift, 1.0 + drift),
        batch_s=0.0,
        warmup_commits=5,
        replaces_lost_disks=False,
        timings=timings,
        probe_s=READ_EVERY_S,
    )


DISKS: Final = "disks"
DISK_SIZES: Final = (3, 3, 3, 4, 5)
DISK_HABITS: Final[Mapping[Kind, Habit]] = {
    Kind.EMPTIED: Habit((0.0, 0.1), per_s=4.0, at_leader=0.3),
    Kind.OLDER_COPY: Habit((0.1, 0.6), per_s=2.0, at_leader=0.3),
    Kind.FOREIGN_DISK: Habit((0.0, 0.1), at_leader=0.3),
    Kind.REPLACE: Habit((0.0, 0.0), per_s=3.0, at_leader=_MANAGED),
    Kind.RECOVER: Habit((0.0, 0.1), per_s=0.3, at_leader=0.3),
    Kind.MEMBERSHIP: Habit((0.0, 0.0), per_s=1.5, at_leader=_MANAGED),
    Kind.TRANSFER: Habit((0.0, 0.0), at_leader=_MANAGED),
    Kind.PARTITION: Habit((0.05, 0.6), per_s=2.5),
    Kind.ONE_WAY: Habit((0.05, 0.6), per_s=1.5),
    Kind.CRASH: Habit((0.0, 0.4), per_s=2.0),
    Kind.DUPLICATE: Habit((0.1, 1.0), (0.1, 0.5), everywhere=0.8),
    Kind.DELAY: Habit((0.05, 0.5), (0.005, 0.1), everywhere=0.5),
}


def draw_disks(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means, where disks are the subject.

    Args:
        seed: any whole number.
        nodes: how many there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft disks {seed}")
    ids = _ids(rng, DISK_SIZES, nodes)
    intensities = _intensities(rng, DISK_HABITS, sure=Kind.EMPTIED)
    storm_s = round(rng.uniform(3.0, 6.0), 3)
    low, high = rng.choice(((0.03, 0.06), (0.06, 0.1), (0.1, 0.12)))
    return Draw(
        nodes=ids,
        voters=ids,
        timing=Timing(
            election_timeout_s=(low, high),
            heartbeat_interval_s=low / 3,
            fast_failover=False,
            pre_vote=rng.random() < 0.7,
            check_quorum=rng.random() < 0.7,
        ),
        limits=Limits(
            append_entries_max=rng.choice((1, 3, 64)),
            snapshot_entries=rng.choice((10, 50, 10_000)),
            snapshot_tail_entries=5,
            snapshot_chunk_bytes=200,
        ),
        intensities=intensities,
        faults=schedule(rng, intensities, ids, storm_s, DISK_HABITS),
        storm_s=storm_s,
        delay_s=rng.choice(((0.0005, 0.002), (0.001, 0.01))),
        disk_s=rng.choice(((0.0, 0.0), (0.0001, 0.002), (0.0, 0.02))),
        apply_s=0.0,
        hint=0.5,
        clients=2,
        keys=1,
        think_s=0.01,
        patience_s=0.1,
        reads=0.3,
        barrier_reads=0.5,
        lease_reads=0.0,
        clock_rates=(1.0, 1.0),
        replaces_lost_disks=rng.random() < 0.8,
        batch_s=0.0,
        warmup_commits=3,
    )


UPGRADES: Final = "upgrades"
UPGRADE_HABITS: Final[Mapping[Kind, Habit]] = {
    Kind.SWITCH_ON: Habit((0.0, 0.0), per_s=6.0, at_leader=1.0),
    Kind.CRASH: Habit((0.0, 0.3), per_s=4.0, at_leader=0.3),
    Kind.CRASH_MID_READY: Habit((0.0, 0.2), (0.0, 12.0), per_s=1.0),
    Kind.UNSYNCED_LOST: Habit((0.0, 0.2), per_s=1.0),
    Kind.PARTITION: Habit((0.05, 0.6), per_s=1.5),
    Kind.ONE_WAY: Habit((0.05, 0.6), per_s=1.0),
    Kind.MEMBERSHIP: Habit((0.0, 0.0), per_s=1.5, at_leader=_MANAGED),
    Kind.TRANSFER: Habit((0.0, 0.0), at_leader=_MANAGED),
    Kind.SNAPSHOT: Habit((0.0, 0.0), per_s=2.0),
    Kind.DELAY: Habit((0.05, 0.5), (0.005, 0.1), everywhere=0.5),
    Kind.DUPLICATE: Habit((0.1, 1.0), (0.1, 0.5), everywhere=0.8),
}


def draw_upgrades(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means, where releases are the subject.

    Args:
        seed: any whole number.
        nodes: how many there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft upgrades {seed}")
    ids = _ids(rng, DISK_SIZES, nodes)
    intensities = _intensities(rng, UPGRADE_HABITS, sure=Kind.SWITCH_ON)
    intensities.setdefault(Kind.CRASH, 0.3)
    storm_s = round(rng.uniform(3.0, 6.0), 3)
    return attrs.evolve(
        draw_disks(seed, len(ids)),
        voters=ids[: len(ids) - rng.choice((0, 0, 1))] if len(ids) > 3 else ids,
        intensities=intensities,
        faults=schedule(rng, intensities, ids, storm_s, UPGRADE_HABITS),
        storm_s=storm_s,
        forwards=rng.choice((0.0, 0.5, 1.0)),
        earlier_releases=rng.choice((0.1, 0.2, 0.4)),
    )


DIRECTED: Final[Mapping[str, Callable[[int, int | None], Draw]]] = {
    READS: draw_reads,
    DISKS: draw_disks,
    LINES: draw_lines,
    UPGRADES: draw_upgrades,
}
"""What a run may be directed at."""


def hand_over_if_impatient(core: Raft, now: float) -> None:
    """Who is impatient shall want to lead, not lead: then nobody would follow and wait for long."""
    if core.timing.election_timeout_s == IMPATIENT:
        with suppress(NotLeader, TransferFailed):
            core.transfer(None, now, patience_s=IMPATIENT[1])


def _lives(rng: random.Random, drift: float) -> tuple[Timing, ...]:
    """How patient a node is in its first life, its second, and then by turns."""
    first = _timing(rng, drift)
    return (first,) if rng.random() < 0.5 else (first, _timing(rng, drift))


def _timing(rng: random.Random, drift: float) -> Timing:
    low, high = rng.choice(((0.15, 0.3), (0.15, 0.2), (0.1, 0.12), IMPATIENT))
    leases = Timing(
        election_timeout_s=(low, high),
        heartbeat_interval_s=low / rng.choice((3, 10)),
        fast_failover=False,
        lease_clock_drift_max=drift,
        widening_max=1,
    )
    if rng.random() >= NO_LEASES:
        return leases
    return attrs.evolve(leases, lease_clock_drift_max=None, fast_failover=rng.random() < 0.5)


def _patience_s(timing: Timing) -> float:
    return timing.election_timeout_s[1]


def timing_of(draw: Draw, node_id: NodeId, life: int) -> Timing:
    """By what a node goes in this life of its own, counted from 1."""
    lives = draw.timings.get(node_id, (draw.timing,))
    return lives[(life - 1) % len(lives)]
