"""Runs that are directed at lines and disks that are slow: what is tried, and how long the cluster
may take to move on.

Rules of this file:

* Everything is tried on one cluster, one thing after the other, and healed or left as it is.
* A bound is computed, not tuned: from the timing, and from what is wrong at the moment. What each
  part of it is for stands beside it. `docs/simulation.md` shows them for the default timing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ..core.config import RETRANSMIT_S, Limits, Timing
from ..core.pace import ANSWERS_PER_TIMEOUT
from ..core.types import NodeId
from ..core.window import FIRST_BYTES, LEAST_BYTES, QUEUE_S
from .draw import EVERYONE, LEADER, Draw, Fault, Kind, Trial

ASKS: Final = 10
"""So often a client asks in vain at most, of nodes that are away or know of no leader: one more has
a chance of 1 : 2^10 where half of them are away."""
ELECTIONS: Final = 4
"""So many elections may be needed once the range is wide enough: votes split in fewer than one of
eight (`docs/elections.md`)."""
WRITES_TO_LEARN: Final = 8
"""So many writes of a disk that has become slow it takes until `Pace` has learnt it: each is
believed to be at most four times what was known, and 50 ms, and counts for a quarter."""
STAYS_TIMEOUTS: Final = 2
"""A leader stays if it still leads after so many election timeouts."""
LOSS_CHANCE: Final = 1e-5
"""What is less likely than this is not waited for: one message that is lost once more."""
TRIES_PER_CATCHING_UP: Final = 2
"""A transfer may begin anew once: because its leader changed, or what was sent is given up."""
COSTS_NO_LEADER: Final = frozenset({Kind.NARROW, Kind.LIVE_ROT, Kind.ADD_LEARNER, Kind.REMOVE})
ASKER_PATIENCE_S: Final = 0.25
"""How soon the client that asks in a trial asks again."""


@attrs.frozen
class Strain:
    """What is wrong at a moment, as far as it costs time."""

    long_s: float = 0.0
    """By how much one way of a line is longer."""
    slow_s: float = 0.0
    """By how much a write takes longer."""
    bulk_per_s: float = float("inf")
    """Bytes that a line lets through; what is small goes first."""
    bytes_per_s: float = float("inf")
    """The same where nothing goes first."""
    loss: float = 0.0

    @property
    def is_narrow(self) -> bool:
        """Whether anything waits for its turn."""
        return min(self.bulk_per_s, self.bytes_per_s) < float("inf")


def strain_of(faults: Iterable[Fault]) -> Strain:
    """All of these at the same time."""
    by_kind: dict[Kind, list[float]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault.level)
    return Strain(
        long_s=sum(by_kind.get(Kind.LONG, ())),
        slow_s=max(by_kind.get(Kind.SLOW_DISK, ()), default=0.0),
        bulk_per_s=min(by_kind.get(Kind.NARROW, ()), default=float("inf")),
        bytes_per_s=min(by_kind.get(Kind.BOTTLENECK, ()), default=float("inf")),
        loss=max(by_kind.get(Kind.LOSS, ()), default=0.0),
    )


@attrs.frozen
class Costs:
    """How long things take under a strain at most, in seconds."""

    way_s: float
    """A message from one node to another."""
    write_s: float
    """A durable write."""
    widest_s: float
    """The upper election timeout, as wide as `Pace` and `ElectionTimer` make it for such a line."""
    bulk_s: float
    """All that clients want to write, through the line once."""

    @classmethod
    def of(cls, draw: Draw, strain: Strain) -> Costs:
        """With what this seed drew."""
        way_s = draw.delay_s[1] + draw.batch_s + strain.long_s
        way_s += _stall_s(way_s, strain.loss)
        # Where nothing goes first: what a window may hold in such a queue, or one message alone.
        way_s += 0.0 if strain.bytes_per_s == float("inf") else buffered_s(draw, strain)
        write_s = draw.disk_s[1] + strain.slow_s
        low_s, high_s = draw.timing.election_timeout_s
        wanted, factor = ANSWERS_PER_TIMEOUT * 2 * (way_s + write_s) / low_s, 1
        while factor < min(wanted, draw.timing.widening_max):
            factor *= 2
        rate = min(strain.bulk_per_s, strain.bytes_per_s)
        return cls(way_s, write_s, high_s * factor, open_bytes(draw) / rate)


def open_bytes(draw: Draw) -> int:
    """What all clients together may have asked for, and wait for."""
    return draw.clients * (draw.command_bytes + 200)


def buffered_s(draw: Draw, strain: Strain) -> float:
    """How long a queue is that a window allows: what it holds at first, or one command."""
    return QUEUE_S + max(FIRST_BYTES, draw.command_bytes) / strain.bytes_per_s


def progress_bound_s(draw: Draw, now: Strain, before: Strain, begun: Iterable[Fault] = ()) -> float:
    """Within how long something that a client asks for from now on is committed, by a leader that
    stays, in seconds.

    Args:
        draw: of the run.
        now: what is wrong from now on.
        before: what was: patience is still what that has made it, and what left then arrives.
        begun: what has just come; nothing, if something has been healed.
    """
    costs, earlier = Costs.of(draw, now), Costs.of(draw, before)
    way_s, write_s = max(costs.way_s, earlier.way_s), max(costs.write_s, earlier.write_s)
    answer_s = 2 * way_s + 2 * write_s
    bound_s = (
        2 * answer_s + draw.apply_s  # what is on its way, or a new leader's own entry; then ours
        + 2 * max(costs.bulk_s, earlier.bulk_s)  # behind bulk, which a new leader sends again
        + ASKS * ASKER_PATIENCE_S
    )  # fmt: skip
    if costs_a_leader(now, before, begun):
        widest_s = max(costs.widest_s, earlier.widest_s)
        bound_s += (
            widest_s + way_s  # until everybody knows that there is no leader any more
            + 2 * widest_s  # the narrower ranges, each twice the one before, are tried in vain
            + ELECTIONS * widest_s + 2 * answer_s  # a pre-vote and a vote; and those that split
            + WRITES_TO_LEARN * now.slow_s
        )  # fmt: skip
    return bound_s


def costs_a_leader(now: Strain, before: Strain, begun: Iterable[Fault]) -> bool:
    """Whether it may. A line that becomes narrow must not, nor one that becomes as it was, nor what
    is done to those who have no vote."""
    return bool(now.loss or before.loss or any(f.kind not in COSTS_NO_LEADER for f in begun))


def stays_s(draw: Draw, now: Strain) -> float:
    """How long a leader leads that stays."""
    return STAYS_TIMEOUTS * Costs.of(draw, now).widest_s


def read_bound_s(draw: Draw, now: Strain) -> float:
    """Within how long a leader that stays answers a read, whatever bulk is on its way: a round is
    small, and goes first (hazard P2), or waits for no more than a window holds."""
    costs = Costs.of(draw, now)
    return 2 * costs.way_s + 2 * draw.batch_s + draw.timing.heartbeat_interval_s


def learning_bound_s(draw: Draw, now: Strain) -> float:
    """Within how long a node that was taken out while it was away has learnt it: it names no leader
    any more, or none yet; and asks, once its timer is due, those that it takes for voters. Where
    its connections are dead that comes to nothing once."""
    costs = Costs.of(draw, now)
    return 4 * costs.widest_s + 2 * (2 * costs.way_s + 2 * costs.write_s)


def catching_up_bound_s(draw: Draw, now: Strain) -> float:
    """Within how long a node that needs a snapshot has applied what was committed when it came
    back: the snapshot, and the log that grows meanwhile, through the line."""
    costs, rate = Costs.of(draw, now), min(now.bulk_per_s, now.bytes_per_s)
    bytes_each = draw.command_bytes + 200
    load = min(rate / 2, draw.clients * bytes_each / draw.think_s)  # bytes a second, at most
    tail = 3 * draw.limits.snapshot_entries * bytes_each
    chunks = draw.state_bytes / min(LEAST_BYTES, draw.limits.snapshot_chunk_bytes)
    transfer_s = (draw.state_bytes + tail) / (rate - load)
    answers_s = (chunks + tail / LEAST_BYTES) * (2 * costs.way_s + costs.write_s)
    return TRIES_PER_CATCHING_UP * (transfer_s + answers_s) + progress_bound_s(draw, now, now)


def _stall_s(way_s: float, loss: float) -> float:
    """How long a connection says nothing while what was lost is sent again."""
    waits_s, stall_s, chance = 2 * way_s + RETRANSMIT_S, 0.0, loss
    while chance > LOSS_CHANCE:
        stall_s += waits_s
        waits_s *= 2
        chance *= loss
    return stall_s


# -- what is drawn ---------------------------------------------------------------------------

LINES: Final = "lines"
SIZES: Final = (3, 3, 3, 5)
STORIES_MAX: Final = 6
HEALS: Final = 0.7
"""How often what was tried is healed; otherwise the next thing comes on top of it."""
LONG_S: Final = (0.2, 0.3)
"""One way: a round trip takes 0.4 to 0.6 s, where election timeouts are 0.15 to 0.3 s."""
SLOW_S: Final = (0.3, 0.4)
RATE_MIN: Final = 8_000.0
"""Bytes a second: what clients ask again goes through, too."""


@attrs.frozen
class _Load:
    """What clients write."""

    clients: int
    command_bytes: int
    think_s: float
    state_bytes: int = 0
    snapshot_entries: int = 400


BULK: Final = (_Load(16, 64_000, 0.25), _Load(48, 16_000, 0.4))
SMALL: Final = (
    _Load(8, 500, 0.1, state_bytes=400_000, snapshot_entries=40),
    _Load(8, 2_000, 0.1, state_bytes=1_500_000, snapshot_entries=40),
)


@attrs.define
class _Script:
    """Trials, as they are written down."""

    rng: random.Random
    voters: tuple[NodeId, ...]
    spare: NodeId | None
    """Who is there and no member; None: nobody."""
    load: _Load
    faults: list[Fault] = attrs.field(factory=list)
    trials: list[Trial] = attrs.field(factory=list)
    at_s: float = 0.0

    def add(
        self,
        name: str,
        *specs: tuple[Kind, NodeId, float],
        ends: tuple[int, ...] = (),
        heals: bool | None = None,
        joins: NodeId | None = None,
        learns: NodeId | None = None,
        lasts_s: tuple[float, float] = (0.5, 2.0),
    ) -> tuple[int, ...]:
        """One more; returns the numbers of its faults."""
        first, rng = len(self.faults), self.rng
        lasting_s = rng.uniform(*lasts_s)
        for number, (kind, victim, level) in enumerate(specs, first):
            salt = rng.getrandbits(32)
            self.faults.append(Fault(number, self.at_s, kind, victim, lasting_s, level, salt))
        self.at_s += lasting_s
        begins = tuple(range(first, len(self.faults)))
        heals = rng.random() < HEALS if heals is None else heals
        self.trials.append(Trial(name, begins, lasting_s, ends, heals, joins, learns))
        return begins

    def slow_disks(self) -> list[tuple[Kind, NodeId, float]]:
        """All of them, or the leader's alone."""
        victims = self.voters if self.rng.random() < 0.7 else (LEADER,)
        slow_s = self.rng.uniform(*SLOW_S)
        return [(Kind.SLOW_DISK, victim, slow_s) for victim in victims]

    def long_line(self) -> tuple[Kind, NodeId, float]:
        return Kind.LONG, EVERYONE, self.rng.uniform(*LONG_S)

    def open_bytes(self) -> int:
        return self.load.clients * self.load.command_bytes


def _narrow(script: _Script) -> None:
    """The queue before it is seconds long. (Two narrow lines behind each other have one queue in
    the simulated network: each is healed before the next thing.)"""
    rate = max(RATE_MIN, script.open_bytes() / script.rng.uniform(2.0, 6.0))
    script.add("narrow", (Kind.NARROW, EVERYONE, rate), heals=True, lasts_s=(2.0, 5.0))


def _bottleneck(script: _Script) -> None:
    """What a window holds at first goes through in the time that it lets queues be."""
    rate = FIRST_BYTES / QUEUE_S * script.rng.uniform(1.0, 2.0)
    bottleneck = (Kind.BOTTLENECK, EVERYONE, rate)
    script.add("bottleneck", bottleneck, heals=True, lasts_s=(2.0, 4.0))


def _long(script: _Script) -> None:
    script.add("long", script.long_line())


def _slow_disk(script: _Script) -> None:
    script.add("slow disk", *script.slow_disks())


def _long_and_slow(script: _Script) -> None:
    script.add("long and slow disk", script.long_line(), *script.slow_disks())


def _dead(script: _Script) -> None:
    victim = script.rng.choice((EVERYONE, LEADER, LEADER, script.rng.choice(script.voters)))
    script.add("dead", (Kind.DEAD_LINKS, victim, 0.0))


def _lossy(script: _Script) -> None:
    script.add("lossy", (Kind.LOSS, EVERYONE, script.rng.uniform(0.002, 0.01)))


def _killed(script: _Script) -> None:
    script.add("long", script.long_line(), heals=False)
    script.add("leader killed on a long line", (Kind.CRASH, LEADER, 0.0), heals=True)


def _snapshot(script: _Script) -> None:
    """Somebody is away while more is written than logs keep, and comes back over a narrow line."""
    _come_back(script, "snapshot on a narrow line")


def _rotten(script: _Script) -> None:
    """The same, and what it is to be sent has rotted."""
    _come_back(script, "rotten snapshot", (Kind.LIVE_ROT, LEADER, 0.0))


def _come_back(script: _Script, name: str, *more: tuple[Kind, NodeId, float]) -> None:
    load, rng = script.load, script.rng
    node = rng.choice(script.voters)
    away = script.add("away", (Kind.CRASH, node, 0.0), heals=False, lasts_s=(3.0, 5.0))
    written = load.clients * (load.command_bytes + 200) / load.think_s
    rate = max(4 * written, load.state_bytes / rng.uniform(3.0, 6.0))
    script.add(name, *more, (Kind.NARROW, node, rate), ends=away, heals=True, joins=node)


def _removed(script: _Script) -> None:
    """A learner is taken out while it is away."""
    node = script.spare
    if node is None:
        return
    script.add("learner", (Kind.ADD_LEARNER, node, 0.0), heals=False, joins=node)
    away = script.add("away", (Kind.CRASH, node, 0.0), heals=False)
    script.add("removed while away", (Kind.REMOVE, node, 0.0), heals=False)
    script.add("back", ends=away, heals=True, learns=node)


STORIES: Final[tuple[tuple[Callable[[_Script], None], tuple[_Load, ...]], ...]] = (
    (_narrow, (*BULK, *SMALL)),
    (_long, (*BULK, *SMALL)),
    (_slow_disk, SMALL),
    (_snapshot, SMALL),
    (_bottleneck, BULK),
    (_dead, (*BULK, *SMALL)),
    (_long_and_slow, SMALL),
    (_killed, SMALL),
    (_lossy, (*BULK, *SMALL)),
    (_rotten, SMALL),
    (_removed, (*BULK, *SMALL)),
)
AWAY: Final = (_killed, _snapshot, _rotten)
"""Where one voter is away, and the others have to be a majority."""
"""Each, and under which load."""


def draw_lines(seed: int, nodes: int | None = None) -> Draw:
    """What this seed means, where lines are the subject.

    Args:
        seed: any whole number.
        nodes: how many voters there are; None leaves it to the seed.
    """
    rng = random.Random(f"trioraft lines {seed}")
    size = rng.choice(SIZES) if nodes is None else nodes
    stories = [told for told in STORIES if size > 2 or told[0] not in AWAY]
    sure, loads = stories[seed % len(stories)]
    load = rng.choice(loads)
    others = [story for story, suitable in stories if load in suitable and story is not sure]
    told = [sure, *rng.sample(others, min(len(others), STORIES_MAX - 1))]
    rng.shuffle(told)
    voters = tuple(str(number) for number in range(size))
    has_spare = _removed in told
    script = _Script(rng, voters, str(size) if has_spare else None, load)
    for story in told:
        story(script)
    last = attrs.evolve(script.trials[-1], heals=True)
    kinds = dict.fromkeys(fault.kind for fault in script.faults)
    return Draw(
        nodes=(*voters, str(size)) if has_spare else voters,
        voters=voters,
        timing=Timing(fast_failover=rng.random() < 0.5),
        limits=Limits(
            snapshot_entries=load.snapshot_entries,
            snapshot_tail_entries=rng.choice((1, load.snapshot_entries)),
        ),
        intensities=dict.fromkeys(kinds, 1.0),
        faults=tuple(script.faults),
        storm_s=0.0,
        delay_s=rng.choice(((0.0005, 0.002), (0.001, 0.01))),
        disk_s=rng.choice(((0.0001, 0.002), (0.0, 0.01))),
        apply_s=0.0,
        hint=rng.choice((0.0, 1.0)),
        clients=load.clients,
        keys=max(4, load.clients // 2),
        think_s=load.think_s,
        patience_s=20.0,
        reads=0.1,
        barrier_reads=0.0,
        lease_reads=0.0,
        clock_rates=(1.0, 1.0),
        replaces_lost_disks=False,
        batch_s=0.0,
        warmup_commits=20,
        command_bytes=load.command_bytes,
        state_bytes=load.state_bytes,
        trials=(*script.trials[:-1], last),
    )
