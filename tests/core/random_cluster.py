"""A cluster of cores under a seeded schedule of everything that goes wrong.

Rules of this file:

* One heap of events, one random source: the same seed gives the same run.
* All invariants are checked after every event; durable state alone survives a crash.
* A run is not vacuous: it ends healed, and a last command must reach every state machine.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count
from operator import methodcaller

import attrs

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import InvariantViolation, RaftError
from trioraft.core.invariants import ClusterInvariants
from trioraft.core.messages import Message
from trioraft.core.types import NodeId, Role

from .conversation import Actor

LAST_COMMAND = b"the last command"


@attrs.frozen
class Faults:
    """How bad a run is. Times in seconds, the rest are probabilities."""

    delay_s: tuple[float, float] = (0.001, 0.010)
    straggle: float = 0.02
    """A message takes up to thirty times as long, and is overtaken."""
    drop: float = 0.03
    duplicate: float = 0.03
    disk_s: tuple[float, float] = (0.0, 0.010)
    fault_every_s: tuple[float, float] = (0.05, 0.6)
    """How often a node crashes, or links break or heal."""
    crash: float = 0.4
    down_s: tuple[float, float] = (0.0, 0.5)
    """How long a crashed node stays away."""
    snapshot: float = 0.15
    """Whether a node takes a snapshot when a client looks in."""


@attrs.define
class _Place:
    """Where an actor runs: what is scheduled for it is void once its life has ended."""

    actor: Actor
    life: int = 0
    up: bool = True
    disk_busy: bool = False
    wake_s: float = float("inf")


class RandomCluster:
    """Run one seed with `run`; everything that happened follows from it."""

    def __init__(
        self,
        seed: int,
        *,
        size: int = 3,
        faults: Faults | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.seed = seed
        self.faults = faults or Faults()
        self.timing = timing or Timing()
        self.rng = random.Random(seed)
        self.checks = ClusterInvariants()
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._lost: set[tuple[NodeId, NodeId]] = set()
        self._calm = False
        self._commands = count(1)
        nodes = [str(n) for n in range(1, size + 1)]
        # Small windows, so that a run of a few hundred events reaches their edges.
        limits = Limits(
            append_entries_max=3,
            inflight_messages_max=2,
            snapshot_tail_entries=2,
            snapshot_chunk_bytes=200,
        )
        self.places = {
            node: _Place(
                Actor(
                    node,
                    nodes,
                    timing=self.timing,
                    limits=limits,
                    seed=seed,
                    checks=self.checks,
                    tracing=False,
                )
            )
            for node in nodes
        }
        for place in self.places.values():
            place.actor.disk_waits = True

    def run(self, *, stormy_s: float = 3.0, calm_s: float = 3.0) -> None:
        """The storm, then peace.

        Raises:
            InvariantViolation: a rule is broken, or nothing moves in peace; a note has the seed.
            BadMessage: correct nodes took each other for broken ones; the same note.
            AssertionError: the disk was asked for what it cannot do; the same note.
        """
        self._client()
        self._next_fault()
        try:
            self._begin()
            self._run_until(stormy_s)
            self._heal()
            self._run_until(stormy_s + calm_s)
            self._check_alive()
        except (RaftError, AssertionError) as error:
            error.add_note(f"seed {self.seed}, at {self.now:.4f} s: {self.timing}, {self.faults}")
            raise

    def run_calmly(self, within_s: float, *, until: Callable[[], bool]) -> None:
        """No client and no faults: only time passes, until something holds."""
        self._calm = True
        self._begin()
        self._run_until(within_s, until)

    def _begin(self) -> None:
        for place in self.places.values():
            self._after(place)

    def _run_until(self, end_s: float, holds: Callable[[], bool] = lambda: False) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end_s and not holds():
            self.now, _, action = heapq.heappop(heap)
            action()

    def _at(self, when_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_s, next(self._order), action))

    # -- one node --------------------------------------------------------------------------

    def _input(self, place: _Place, act: Callable[[Actor], None]) -> None:
        if place.up:
            place.actor.now = self.now
            act(place.actor)
            self._after(place)

    def _after(self, place: _Place) -> None:
        actor = place.actor
        while actor.outbox:
            self._post(actor.outbox.popleft())
        if actor.unwritten and not place.disk_busy:
            self._start_write(place)
        deadlines = [d for d in (actor.raft.deadline, actor.raft.heartbeat_deadline) if d]
        if deadlines and min(deadlines) < place.wake_s:
            self._wake_at(place, min(deadlines))

    def _wake_at(self, place: _Place, when_s: float) -> None:
        life, place.wake_s = place.life, when_s

        def wake() -> None:
            if place.life == life and place.wake_s == when_s:
                place.wake_s = float("inf")
                self._input(place, _act_on_time)

        self._at(max(when_s, self.now), wake)

    def _start_write(self, place: _Place) -> None:
        life, size = place.life, len(place.actor.unwritten)
        place.disk_busy = True

        def done() -> None:
            if place.life == life:
                place.disk_busy = False
                self._input(place, lambda actor: actor.persist(size))

        self._at(self.now + self.rng.uniform(*self.faults.disk_s), done)

    # -- the network -----------------------------------------------------------------------

    def _post(self, message: Message) -> None:
        faults, rng = self.faults, self.rng
        if (message.sender, message.receiver) in self._lost:
            return
        if not self._calm and rng.random() < faults.drop:
            return
        copies = 2 if not self._calm and rng.random() < faults.duplicate else 1
        for _ in range(copies):
            delay_s = rng.uniform(*faults.delay_s)
            if not self._calm and rng.random() < faults.straggle:
                delay_s *= rng.uniform(1, 30)
            place = self.places[message.receiver]
            self._at(self.now + delay_s, self._arrival(place, message))

    def _arrival(self, place: _Place, message: Message) -> Callable[[], None]:
        return lambda: self._input(place, lambda actor: actor.hears(message))

    # -- what goes wrong -------------------------------------------------------------------

    def _next_fault(self) -> None:
        def fault() -> None:
            if not self._calm:
                self._fault()
                self._next_fault()

        self._at(self.now + self.rng.uniform(*self.faults.fault_every_s), fault)

    def _fault(self) -> None:
        rng = self.rng
        if len(self.places) == 1 or rng.random() < self.faults.crash:
            self._crash(rng.choice(list(self.places.values())))
            return
        self._lost.clear()
        kind = rng.choice(("none", "isolate", "one way", "link", "leader"))
        nodes = list(self.places)
        victim = rng.choice(nodes)
        if kind == "leader":
            leading = [n for n, p in self.places.items() if p.actor.raft.role is Role.LEADER]
            victim = rng.choice(leading or nodes)
        others = [node for node in nodes if node != victim]
        if kind in ("isolate", "leader"):
            self._lost.update((a, b) for o in others for a, b in ((victim, o), (o, victim)))
        elif kind == "one way":
            deaf = rng.random() < 0.5
            self._lost.update((o, victim) if deaf else (victim, o) for o in others)
        elif kind == "link":
            other = rng.choice(others)
            self._lost.update({(victim, other), (other, victim)})
        for place in self.places.values():
            if rng.random() < 0.2:
                self._input(place, lambda actor: actor.loses(rng.choice(nodes)))

    def _crash(self, place: _Place) -> None:
        if not place.up:
            return
        place.life += 1
        place.up, place.disk_busy, place.wake_s = False, False, float("inf")
        # A crash may come after some of the pending writes and before their messages.
        done = self.rng.randint(0, len(place.actor.unwritten))
        for ready in list(place.actor.unwritten)[:done]:
            place.actor.disk.write(ready)
        self._at(self.now + self.rng.uniform(*self.faults.down_s), lambda: self._restart(place))

    def _restart(self, place: _Place) -> None:
        if place.up:
            return
        place.up = True
        place.actor.now = self.now
        place.actor.crash_and_restart()
        self._after(place)

    def _heal(self) -> None:
        self._calm = True
        self._lost.clear()
        for place in self.places.values():
            self._restart(place)

    # -- clients and the end ---------------------------------------------------------------

    def _client(self) -> None:
        for place in self.places.values():
            if place.up and place.actor.raft.role is Role.LEADER:
                command = LAST_COMMAND if self._calm else b"%d" % next(self._commands)
                self._input(place, methodcaller("proposes", command))
            if self.rng.random() < self.faults.snapshot:
                self._input(place, _save_what_is_new)
        self._at(self.now + self.rng.uniform(0.005, 0.1), self._client)

    def _check_alive(self) -> None:
        for node, place in self.places.items():
            if LAST_COMMAND not in place.actor.applied_commands():
                raft = place.actor.raft
                raise InvariantViolation(
                    f"{node!r} ({raft.role.value} of term {raft.term}) has not applied the last "
                    "command: no progress after healing"
                )


def _save_what_is_new(actor: Actor) -> None:
    saved = actor.raft.snapshot
    if actor.raft.log.applied_index > (saved.index if saved is not None else 0):
        actor.takes_snapshot()


def _act_on_time(actor: Actor) -> None:
    raft, now = actor.raft, actor.now

    def act() -> None:
        raft.on_timeout(now)
        raft.on_heartbeat_due(now)

    actor.does(act)
