"""Draw: all that one seed decides before it runs: options, and a schedule of faults (swarm testing:
each kind of fault is on or off by itself).

* A schedule is an explicit list, made before anything runs, from the seed alone: any part of it
  can be replayed, and that is how it is shrunk.
* A fault names its victim by id or by what it does at the time ("leader"); what else is left to
  chance it draws from its own salt, so leaving out one fault changes no other's draws.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from ..core.config import Limits, Timing
from ..core.types import NodeId
from .disk import Fate

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
    NARROW = "narrow"
    DEAD_LINKS = "dead_links"
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
    EMPTIED = "emptied"
    OLDER_COPY = "older_copy"
    FOREIGN_DISK = "foreign_disk"
    REPLACE = "replace"
    RECOVER = "recover"
    SUSPEND = "suspend"
    MACHINE_ERROR = "machine_error"
    LONG = "long"
    LOSS = "loss"
    BOTTLENECK = "bottleneck"
    LIVE_ROT = "live_rot"
    ADD_LEARNER = "add_learner"
    REMOVE = "remove"
    SWITCH_ON = "switch_on"


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
    Kind.NARROW: Habit((0.3, 3.0), (1_000.0, 30_000.0), everywhere=0.6),
    Kind.DEAD_LINKS: Habit((0.0, 0.0), per_s=1.5, everywhere=0.3),
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
    Kind.EMPTIED: Habit((0.0, 0.8), per_s=0.7),
    Kind.OLDER_COPY: Habit((0.2, 2.0), per_s=0.7),
    Kind.FOREIGN_DISK: Habit((0.0, 0.8), per_s=0.4),
    Kind.REPLACE: Habit((0.0, 0.0), per_s=6.0, at_leader=0.95),
    Kind.RECOVER: Habit((0.0, 0.5), per_s=0.4, at_leader=0.3),
    Kind.MACHINE_ERROR: Habit((0.05, 0.5), per_s=1.5),
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


@attrs.frozen
class Trial:
    """Some faults that come together, where the time until the cluster moves on is the subject."""

    name: str
    begins: tuple[int, ...]
    """The numbers of those that come."""
    lasts_s: float
    """How long they last once the cluster has moved on."""
    ends: tuple[int, ...] = ()
    """Of those before, these end as they come."""
    heals: bool = True
    """Whether everything is healed then, and the cluster has to move on once more."""
    joins: NodeId | None = None
    """Who has to catch up meanwhile."""
    learns: NodeId | None = None
    """Who has to learn that it was taken out."""


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
    rng: random.Random,
    intensities: dict[Kind, float],
    nodes: tuple[NodeId, ...],
    storm_s: float,
    habits: Mapping[Kind, Habit] = HABITS,
) -> tuple[Fault, ...]:
    """Everything that will go wrong, in order.

    Args:
        rng: chance.
        intensities: of each kind that is on, from 0 to 1.
        nodes: the victims.
        storm_s: how long it goes on.
        habits: of each kind.
    """
    drawn = []
    for kind, habit in habits.items():  # in their order: never that of a set
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


SIZES: Final = (1, 2, 3, 3, 3, 4, 5, 5, 5, 7)
ON: Final = 0.45
"""How likely a kind of fault is to be on."""
CLOCK_FAULTS: Final = frozenset({Kind.CLOCK_SKEW, Kind.CLOCK_JUMP})
FAR: Final = 0.1
"""How often a round trip, or a write, is longer than the longest election timeout."""
LEASE_DRIFT: Final = 0.1
"""How far clocks may part where reads trust them."""

TIER1_ONLY: Final = frozenset(
    {
        Kind.NARROW,
        Kind.DEAD_LINKS,
        Kind.LINK_LOST,  # a memory network has no connections that could end by themselves
        Kind.PAUSE,  # all nodes share one thread; see CLOCK_JUMP
        Kind.CLOCK_SKEW,  # … and one clock
        Kind.BIT_ROT,  # what a disk gives back is the storage's affair, not the node's
        Kind.SNAPSHOT_ROT,
        Kind.EMPTIED,
        Kind.OLDER_COPY,
        Kind.FOREIGN_DISK,
        Kind.REPLACE,
        Kind.RECOVER,
        Kind.MACHINE_ERROR,  # a node that ends by itself is a failure there
    }
)
"""CLOCK_JUMP moves the clock of all at once: an event loop that stood still (hazard L6)."""
DIRECTED_ONLY: Final = frozenset(
    {
        Kind.SUSPEND,  # without leases it is a pause
        *(Kind.LONG, Kind.LOSS, Kind.BOTTLENECK),  # what is asked in time, storms do not ask
        *(Kind.LIVE_ROT, Kind.ADD_LEARNER, Kind.REMOVE),
        Kind.SWITCH_ON,
    }
)
STORM_KINDS: Final = tuple(kind for kind in Kind if kind not in DIRECTED_ONLY)
TIER2_KINDS: Final = tuple(kind for kind in STORM_KINDS if kind not in TIER1_ONLY)
TIER2_SIZES: Final = (1, 2, 3, 3, 3, 3, 4, 5)
TIER2_STORM_S: Final = (0.5, 4.0)


@attrs.frozen
class Draw:
    """All that one seed decides before it runs; printed with a failure. Times in seconds."""

    nodes: tuple[NodeId, ...]
    voters: tuple[NodeId, ...]
    """Who is in the cluster when it begins; the others may join."""
    timing: Timing
    limits: Limits
    intensities: dict[Kind, float]
    """Of the kinds that are on, 0 to 1."""
    faults: tuple[Fault, ...]
    storm_s: float
    delay_s: tuple[float, float]
    """Of a message, while nothing is wrong."""
    disk_s: tuple[float, float]
    """Of a durable write; (0, 0) writes at once, without a detour."""
    apply_s: float
    """How long a batch takes to be applied; 0: at once."""
    hint: float
    """How often a peer notices that a connection closed when a node crashes."""
    clients: int
    keys: int
    think_s: float
    patience_s: float
    """After that long a client asks again, elsewhere."""
    reads: float
    """Part of the operations that only read."""
    barrier_reads: float
    """Part of the reads that go by a read barrier, not through the log."""
    lease_reads: float
    """Part of those that may trust the clock, if the timing allows it."""
    clock_rates: tuple[float, float]
    """How fast the nodes' clocks run while nothing is wrong with them."""
    replaces_lost_disks: bool
    """Whether leaders replace a voter that is there with an empty disk, unasked."""
    batch_s: float
    """What arrives within so long is handed to the core together; 0: one by one."""
    warmup_commits: int
    timings: Mapping[NodeId, tuple[Timing, ...]] = {}
    """Of nodes that do not go by `timing`: in their first life, their second, … and again."""
    probe_s: float = 0.0
    """Each that many seconds whoever takes itself for the leader is asked to read; 0: never."""
    command_bytes: int = 0
    """By how much commands are larger than they need to be."""
    state_bytes: int = 0
    """By how much the state, and each snapshot of it, is larger than it need be."""
    forwards: float = 0.0
    """Part of the clients that let whatever node they ask forward their commands to the leader."""
    earlier_releases: float = 0.0
    """How likely a life is one of a release that can do no feature; 0: all are of the same."""
    trials: tuple[Trial, ...] = ()
    """What is tried one after the other, instead of a storm; see `trials`."""

    @property
    def vote_s(self) -> float:
        """How long a vote takes where nothing is wrong: to all and back, written on both sides."""
        return 2 * self.delay_s[1] + 2 * self.disk_s[1]

    @property
    def timeout_s(self) -> float:
        """The longest election timeout, as far as it is stretched where answers take long."""
        low, high = self.timing.election_timeout_s
        return high * max(1.0, min(2 * self.vote_s / low, self.timing.widening_max))

    def fate(self, rng: random.Random) -> Fate:
        """What becomes of a write under way at a crash: only what this seed lets happen."""
        fates = [Fate.SURVIVES]
        if Kind.UNSYNCED_LOST in self.intensities:
            fates.append(Fate.LOST)
        if Kind.TORN_TAIL in self.intensities:
            fates.append(Fate.TORN)
        return rng.choice(fates)

    def described(self) -> dict[str, Any]:
        """The options as plain values, for people and for JSON."""
        plain: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(Draw)
            if field.name not in ("timing", "timings", "limits", "intensities", "faults", "trials")
        }
        plain["trials"] = [trial.name for trial in self.trials]
        plain["timings"] = {n: list(map(_changed, lives)) for n, lives in self.timings.items()}
        plain["timing"] = _changed(self.timing)
        plain["limits"] = _changed(self.limits)
        plain["intensities"] = {kind.value: x for kind, x in self.intensities.items()}
        return plain


def _changed(settings: Timing | Limits) -> dict[str, Any]:
    return {
        field.name: getattr(settings, field.name)
        for field in attrs.fields(type(settings))
        if getattr(settings, field.name) != field.default
    }


def draw(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means.

    Args:
        seed: any whole number.
        nodes: how many there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft {seed}")
    size = rng.choice(SIZES)
    size = size if nodes is None else nodes
    ids = tuple(str(number) for number in range(size))
    intensities = _draw_intensities(rng, STORM_KINDS, seed)
    storm_s = round(rng.uniform(2.0, 12.0), 3)
    voters = _draw_voters(rng, ids, intensities)
    is_instant = rng.random() < 0.2
    timing = _draw_timing(rng)
    if not intensities.keys() & CLOCK_FAULTS and rng.random() < 0.4:
        timing = _with_leases(timing)
    drift = timing.lease_clock_drift_max or 0.0
    delay_s = rng.choice(((0.001, 0.001), (0.0005, 0.005), (0.001, 0.015)))
    disk_s = (0.0, 0.0) if is_instant else rng.choice(((0.0001, 0.002), (0.0, 0.02)))
    patience_s = rng.choice((0.1, 0.4))
    if rng.random() < FAR:
        high = timing.election_timeout_s[1]
        is_far = rng.random() < 0.6
        if is_far:
            delay_s = (0.5 * high, 0.8 * high)
        if not is_far or rng.random() < 0.3:
            disk_s = (0.6 * high, 1.1 * high)
        patience_s = 20 * high
    return Draw(
        nodes=ids,
        voters=voters,
        timing=timing,
        limits=_draw_limits(rng),
        intensities=intensities,
        faults=schedule(rng, intensities, ids, storm_s),
        storm_s=storm_s,
        delay_s=delay_s,
        disk_s=disk_s,
        apply_s=rng.choice((0.0, 0.0, 0.0005, 0.01)),
        hint=rng.choice((0.0, 0.5, 1.0)),
        clients=rng.randint(2, 5),
        keys=rng.randint(1, 3),
        think_s=rng.choice((0.005, 0.02, 0.05)),
        patience_s=patience_s,
        reads=rng.uniform(0.1, 0.6),
        barrier_reads=rng.choice((0.0, 0.5, 1.0)),
        lease_reads=rng.uniform(0.3, 1.0) if drift else 0.0,
        clock_rates=(1.0 - drift, 1.0 + drift),
        batch_s=rng.choice((0.0, 0.0, 0.001, 0.004)),
        warmup_commits=rng.randint(5, 20),
        replaces_lost_disks=rng.random() < 0.7,
        # By a chance of its own: it came later than what the others' digests were made with.
        forwards=random.Random(f"trioraft {seed} forwards").choice((0.0, 0.0, 0.5, 1.0)),
    )


def draw_tier2(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means in tier 2: as in tier 1, less what it cannot do. Real nodes cost more
    than cores: storms are shorter and clients slower.

    Args:
        seed: any whole number.
        nodes: how many there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft tier 2 {seed}")
    size = rng.choice(TIER2_SIZES) if nodes is None else nodes
    base = draw(seed, size)
    intensities = _draw_intensities(rng, TIER2_KINDS, seed)
    storm_s = round(rng.uniform(*TIER2_STORM_S), 3)
    voters = _draw_voters(rng, base.nodes, intensities)
    return attrs.evolve(
        base,
        voters=voters,
        intensities=intensities,
        faults=schedule(rng, intensities, base.nodes, storm_s),
        storm_s=storm_s,
        apply_s=0.0,  # the node applies where it stands
        clients=rng.randint(1, 4),
        think_s=rng.choice((0.01, 0.03, 0.1)),
        warmup_commits=rng.randint(3, 8),
    )


def _draw_intensities(rng: random.Random, kinds: tuple[Kind, ...], seed: int) -> dict[Kind, float]:
    """By turns first, so that few seeds reach every kind; then by chance: a run with everything on
    hides what a run with one thing on finds."""
    sure = kinds[seed % len(kinds)]
    return {
        kind: round(rng.uniform(0.1, 1.0), 3) for kind in kinds if rng.random() < ON or kind is sure
    }


def _draw_voters(
    rng: random.Random, nodes: tuple[NodeId, ...], intensities: dict[Kind, float]
) -> tuple[NodeId, ...]:
    size = len(nodes)
    spare = rng.randint(1, max(1, size // 3)) if Kind.MEMBERSHIP in intensities and size > 2 else 0
    return nodes[: size - spare]


def _draw_timing(rng: random.Random) -> Timing:
    ranges = ((0.150, 0.300), (0.150, 0.300), (0.100, 0.120), (0.060, 0.100), (0.030, 0.060))
    timeouts = rng.choice(ranges)
    return Timing(
        election_timeout_s=timeouts,
        heartbeat_interval_s=timeouts[0] / rng.choice((2.5, 3, 5)),
        fast_failover=rng.random() < 0.7,
        pre_vote=rng.random() < 0.85,
        check_quorum=rng.random() < 0.85,
    )


def _with_leases(timing: Timing) -> Timing:
    """Reads by the clock alone: only where clocks keep what they promise."""
    return attrs.evolve(
        timing,
        lease_clock_drift_max=LEASE_DRIFT,
        fast_failover=False,
        pre_vote=True,
        check_quorum=True,
    )


def _draw_limits(rng: random.Random) -> Limits:
    """Small windows, so that a short run reaches their edges."""
    return Limits(
        append_entries_max=rng.choice((1, 3, 16, 4096)),
        inflight_messages_max=rng.choice((1, 2, 8, 64)),
        snapshot_entries=rng.choice((5, 20, 60, 100_000)),
        snapshot_tail_entries=rng.choice((1, 5, 50)),
        snapshot_chunk_bytes=rng.choice((64, 500, 1024 * 1024)),
    )
