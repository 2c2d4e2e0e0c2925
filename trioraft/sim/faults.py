"""Faults: what can go wrong, and the schedule of it that a seed gives.

* A schedule is an explicit list, made before anything runs, from the seed alone: any part of it
  can be replayed, and that is how it is shrunk.
* A fault names its victim by id or by what it does at the time ("leader"); what else is left to
  chance it draws from its own salt, so leaving out one fault changes no other's draws.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

import attrs

from ..core.types import NodeId

Pair: TypeAlias = tuple[NodeId, NodeId]
"""Sender and receiver."""

LEADER: Final = "leader"
"""A victim: whoever leads at the time."""
EVERYONE: Final = "*"
"""A victim: all nodes, or all links."""


class Kind(enum.StrEnum):
    """What can go wrong."""

    DROP = "drop"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    PARTITION = "partition"
    ONE_WAY = "one_way"
    BRIDGE = "bridge"
    RING = "ring"
    LINK_LOST = "link_lost"
    CRASH = "crash"
    CRASH_MID_READY = "crash_mid_ready"
    CRASH_ALL = "crash_all"
    UNSYNCED_LOST = "unsynced_lost"
    TORN_TAIL = "torn_tail"
    PAUSE = "pause"
    SLOW_DISK = "slow_disk"
    DISK_FULL = "disk_full"
    EIO = "eio"
    BIT_ROT = "bit_rot"
    SNAPSHOT_ROT = "snapshot_rot"
    CLOCK_SKEW = "clock_skew"
    CLOCK_JUMP = "clock_jump"
    CLIENT_LOSS = "client_loss"
    SNAPSHOT = "snapshot"
    TRANSFER = "transfer"
    MEMBERSHIP = "membership"


@attrs.frozen
class Habit:
    """How faults of one kind are, before chance has its say."""

    lasts_s: tuple[float, float]
    """How long one lasts; for crashes, how long the node is away."""
    level: tuple[float, float] = (0.0, 1.0)
    """How bad one is; what that means is the kind's own."""
    per_s: float = 1.0
    """How many a second there are at full intensity."""
    at_leader: float = 0.4
    """How often the leader is the victim."""
    everywhere: float = 0.0
    """How often all are."""


HABITS: Final[dict[Kind, Habit]] = {
    Kind.DROP: Habit((0.1, 2.0), (0.02, 0.4), everywhere=0.5),
    Kind.DELAY: Habit((0.1, 2.0), (0.01, 0.3), everywhere=0.5),
    Kind.DUPLICATE: Habit((0.1, 2.0), (0.02, 0.4), everywhere=0.7),
    Kind.REORDER: Habit((0.1, 2.0), (0.05, 0.8), everywhere=0.7),
    Kind.PARTITION: Habit((0.1, 2.0), per_s=1.5),
    Kind.ONE_WAY: Habit((0.1, 2.0), per_s=1.5),
    Kind.BRIDGE: Habit((0.1, 2.0)),
    Kind.RING: Habit((0.1, 2.0)),
    Kind.LINK_LOST: Habit((0.0, 0.0), per_s=3.0),
    Kind.CRASH: Habit((0.0, 0.8), per_s=2.0),
    Kind.CRASH_MID_READY: Habit((0.0, 0.4), (0.0, 12.0), per_s=3.0),
    Kind.CRASH_ALL: Habit((0.0, 0.3), per_s=0.3),
    Kind.UNSYNCED_LOST: Habit((0.0, 0.4), per_s=2.0),
    Kind.TORN_TAIL: Habit((0.0, 0.4), per_s=2.0),
    Kind.PAUSE: Habit((0.02, 1.5)),
    Kind.SLOW_DISK: Habit((0.1, 1.5), (0.01, 0.4)),
    Kind.DISK_FULL: Habit((0.05, 1.0)),
    Kind.EIO: Habit((0.05, 0.5)),
    Kind.BIT_ROT: Habit((0.05, 0.3), per_s=0.4, at_leader=0.2),
    Kind.SNAPSHOT_ROT: Habit((0.05, 0.5)),
    Kind.CLOCK_SKEW: Habit((0.3, 3.0), (0.4, 2.5)),
    Kind.CLOCK_JUMP: Habit((0.0, 0.0), (0.05, 3.0)),
    Kind.CLIENT_LOSS: Habit((0.2, 2.0), (0.05, 0.7), everywhere=1.0),
    Kind.SNAPSHOT: Habit((0.0, 0.0), per_s=3.0),
    Kind.TRANSFER: Habit((0.0, 0.0), per_s=2.0, at_leader=0.9),
    Kind.MEMBERSHIP: Habit((0.0, 0.0), per_s=3.0, at_leader=0.9),
}


@attrs.frozen
class Fault:
    """One thing that goes wrong."""

    number: int
    """Its place in the whole schedule of the seed."""
    at_s: float
    """Seconds after the first fault may come."""
    kind: Kind
    victim: NodeId
    lasts_s: float
    level: float
    salt: int
    """For whatever else it leaves to chance."""

    def rng(self) -> random.Random:
        """This fault's own chance."""
        return random.Random(self.salt)

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.3f} s" if self.lasts_s else ""
        return f"at {self.at_s:.3f} s: {self.kind.value} {self.victim}{lasts} ({self.level:.3f})"


def links_cut(fault: Fault, victim: NodeId, nodes: Sequence[NodeId]) -> list[Pair]:
    """The links that a partition, a one-way cut, a bridge or a ring takes away."""
    rng, others = fault.rng(), [node for node in nodes if node != victim]
    match fault.kind:
        case Kind.PARTITION:  # two sides; the victim is in the one that is drawn
            some = rng.sample(others, rng.randint(0, max(0, len(others) - 1)))
            return _between(nodes, {victim, *some})
        case Kind.ONE_WAY:  # the victim is deaf, or mute, to some or to all
            some = rng.sample(others, rng.randint(1, len(others))) if others else []
            is_deaf = rng.random() < 0.5
            return [(other, victim) if is_deaf else (victim, other) for other in some]
        case Kind.BRIDGE:  # two sides, and the victim is the only one that both hear
            rng.shuffle(others)
            return _between(others, set(others[: len(others) // 2]))
        case _:  # a ring: everyone hears two neighbours and nobody else
            ring = list(nodes)
            rng.shuffle(ring)
            size = len(ring)
            places = [(i, j) for i in range(size) for j in range(size) if i != j]
            return [(ring[i], ring[j]) for i, j in places if (i - j) % size not in (1, size - 1)]


def _between(nodes: Sequence[NodeId], side: Collection[NodeId]) -> list[Pair]:
    """Every link of these that leads from this side to the other one, or back."""
    return [(a, b) for a in nodes for b in nodes if (a in side) != (b in side)]


def schedule(
    rng: random.Random, intensities: dict[Kind, float], nodes: tuple[NodeId, ...], storm_s: float
) -> tuple[Fault, ...]:
    """Everything that will go wrong, in order.

    Args:
        rng: chance.
        intensities: of each kind that is on, from 0 to 1.
        nodes: the victims.
        storm_s: how long it goes on.
    """
    drawn = []
    for kind in Kind:  # in the order of the class: never that of a set
        habit = HABITS[kind]
        intensity = intensities.get(kind, 0.0)
        count = round(habit.per_s * storm_s * intensity * rng.uniform(0.5, 1.5))
        for _ in range(max(1, count) if intensity else 0):
            drawn.append(
                Fault(
                    number=0,
                    at_s=rng.uniform(0.0, storm_s),
                    kind=kind,
                    victim=_victim(rng, habit, nodes),
                    lasts_s=rng.uniform(*habit.lasts_s),
                    level=rng.uniform(*habit.level),
                    salt=rng.getrandbits(32),
                )
            )
    drawn.sort(key=lambda fault: fault.at_s)
    return tuple(attrs.evolve(fault, number=number) for number, fault in enumerate(drawn))


def _victim(rng: random.Random, habit: Habit, nodes: tuple[NodeId, ...]) -> NodeId:
    roll = rng.random()
    if roll < habit.everywhere:
        return EVERYONE
    if roll < habit.everywhere + (1 - habit.everywhere) * habit.at_leader:
        return LEADER
    return rng.choice(nodes)
