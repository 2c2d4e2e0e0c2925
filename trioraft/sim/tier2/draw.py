"""Draw: the options of one seed of tier 2. They are tier 1's, less what it cannot do.

Rules of this file: real nodes cost more than cores: storms are shorter and clients slower. Which
kinds are left to tier 1, and why, stands here.
"""

from __future__ import annotations

import random
from typing import Final

import attrs

from ..draw import ON, Draw, draw
from ..faults import Kind, schedule

TIER1_ONLY: Final = frozenset(
    {
        Kind.LINK_LOST,  # a memory network has no connections that could end by themselves
        Kind.PAUSE,  # all nodes share one thread; see CLOCK_JUMP
        Kind.CLOCK_SKEW,  # … and one clock
        Kind.BIT_ROT,  # what a disk gives back is the storage's affair, not the node's
        Kind.SNAPSHOT_ROT,
    }
)
"""CLOCK_JUMP moves the clock of all at once: an event loop that stood still (hazard L6)."""

KINDS: Final = tuple(kind for kind in Kind if kind not in TIER1_ONLY)
SIZES: Final = (1, 2, 3, 3, 3, 3, 4, 5)
STORM_S: Final = (0.5, 4.0)


def draw_tier2(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means in tier 2.

    Args:
        seed: any whole number.
        nodes: how many there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft tier 2 {seed}")
    size = rng.choice(SIZES) if nodes is None else nodes
    base = draw(seed, size)
    sure = KINDS[seed % len(KINDS)]
    intensities = {
        kind: round(rng.uniform(0.1, 1.0), 3) for kind in KINDS if rng.random() < ON or kind is sure
    }
    storm_s = round(rng.uniform(*STORM_S), 3)
    spare = rng.randint(1, max(1, size // 3)) if Kind.MEMBERSHIP in intensities and size > 2 else 0
    return attrs.evolve(
        base,
        voters=base.nodes[: size - spare],
        intensities=intensities,
        faults=schedule(rng, intensities, base.nodes, storm_s),
        storm_s=storm_s,
        apply_s=0.0,  # the node applies where it stands
        clients=rng.randint(1, 4),
        think_s=rng.choice((0.01, 0.03, 0.1)),
        warmup_commits=rng.randint(3, 8),
    )
