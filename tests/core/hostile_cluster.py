"""A cluster under a seeded storm in which members, leaders and readers come and go as well.

    python -m tests.core.hostile_cluster 0 5000       # so many seeds from the first, all kinds

Rules of this file:

* As in `random_cluster`, and beside it: changes of members, handings-over, reads with and without
  leases, changes that are given up half way.
* A read must have seen whatever any node knew to be committed when it was asked for.
* A run ends healed: somebody leads, no joint configuration is left, every voter has applied the
  last command, nothing was applied twice, and no reads pile up.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import (
    ConfigError,
    ConfigurationConflict,
    InvariantViolation,
    NotLeader,
    ProposalDropped,
    TransferFailed,
)
from trioraft.core.reconfiguration import (
    AddLearner,
    Change,
    ChangeVoters,
    MembershipChange,
    Remove,
    Stage,
)
from trioraft.core.types import LogIndex, NodeId, Role

from .conversation import Actor
from .random_cluster import LAST_COMMAND, Faults, RandomCluster, _Place, _save_what_is_new

REFUSALS: Final = (ConfigError, ConfigurationConflict, NotLeader, ProposalDropped, TransferFailed)
"""What a caller may be told, and nothing is changed by it."""

READS_UNDER_WAY_MAX: Final = 20
"""Reads that one node may still wait for when time is up: those of the last moment."""

KINDS: Final[dict[str, tuple[Timing, Faults]]] = {
    "storm": (Timing(), Faults()),
    "hurricane": (
        Timing(),
        Faults(
            delay_s=(0.001, 0.030),
            straggle=0.08,
            drop=0.10,
            duplicate=0.10,
            disk_s=(0.0, 0.040),
            fault_every_s=(0.02, 0.3),
        ),
    ),
    "leases": (
        Timing(fast_failover=False, lease_clock_drift_max=0.0),
        Faults(straggle=0.10, drop=0.05, fault_every_s=(0.02, 0.3), crash=0.2),
    ),
    "nervous leases": (
        Timing(
            election_timeout_s=(0.045, 0.060),
            heartbeat_interval_s=0.005,
            fast_failover=False,
            lease_clock_drift_max=0.0,
        ),
        Faults(
            delay_s=(0.001, 0.030),
            straggle=0.10,
            drop=0.05,
            disk_s=(0.0, 0.010),
            fault_every_s=(0.02, 0.2),
            crash=0.2,
        ),
    ),
    "plain": (Timing(pre_vote=False, check_quorum=False), Faults()),
}
"""Timings, and the weather they are tried in."""


@attrs.define
class Tally:
    """That something happened at all."""

    changes: int = 0
    transfers: int = 0
    reads: int = 0
    leaders: int = 0
    commits: int = 0


class HostileCluster(RandomCluster):
    """Run one seed with `run`; everything that happened follows from it."""

    def __init__(
        self,
        seed: int,
        *,
        founders: int = 3,
        size: int = 5,
        faults: Faults | None = None,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(seed, size=size, faults=faults, timing=timing)
        nodes = list(self.places)
        for node in nodes:
            known = nodes[:founders] if node in nodes[:founders] else []
            self.places[node] = self._place(node, known)
        self.tally = Tally()
        self._changes: list[MembershipChange] = []
        self._asked: dict[NodeId, dict[int, LogIndex]] = {node: {} for node in nodes}

    def _place(self, node: NodeId, voters: list[NodeId]) -> _Place:
        limits = Limits(
            append_entries_max=3,
            inflight_messages_max=2,
            snapshot_tail_entries=2,
            snapshot_chunk_bytes=200,
        )
        actor = Actor(
            node,
            voters,
            timing=self.timing,
            limits=limits,
            seed=self.seed,
            checks=self.checks,
            tracing=False,
        )
        actor.disk_waits = True
        return _Place(actor)

    # -- clients ---------------------------------------------------------------------------

    def _client(self) -> None:
        for place in self.places.values():
            if place.up and place.actor.raft.role is Role.LEADER:
                command = LAST_COMMAND if self._calm else b"%d" % next(self._commands)
                self._try(place, partial(_propose, command))
                if not self._calm:
                    self._meddle(place)
            if place.up and self.rng.random() < 0.2:
                self._read(place)
            if self.rng.random() < self.faults.snapshot:
                self._input(place, _save_what_is_new)
        self._at(self.now + self.rng.uniform(0.005, 0.1), self._client)

    def _try(self, place: _Place, act: Callable[[Actor], None]) -> None:
        try:
            self._input(place, act)
        except REFUSALS:
            self._after(place)

    def _meddle(self, place: _Place) -> None:
        rng = self.rng
        chance = rng.random()
        if chance < 0.25:
            change = self._some_change()
            self._try(place, lambda actor: self._changes.append(actor.changes(change)))
        elif chance < 0.35:
            to = rng.choice([None, *self.places])
            self._try(place, lambda actor: self._hand_over(actor, to))
        elif chance < 0.38 and self._changes:
            change_begun = self._changes[-1]
            self._try(
                place,
                lambda actor: actor.does(
                    lambda: actor.raft.abandon_change(change_begun, actor.now)
                ),
            )

    def _hand_over(self, actor: Actor, to: NodeId | None) -> None:
        actor.hands_over(to, patience_s=self.rng.uniform(0.01, 0.4))
        self.tally.transfers += 1

    def _some_change(self) -> Change:
        rng, nodes = self.rng, list(self.places)
        kind = rng.random()
        if kind < 0.6:
            return ChangeVoters(tuple(rng.sample(nodes, rng.randint(1, len(nodes)))))
        if kind < 0.8:
            return AddLearner(rng.choice(nodes))
        return Remove(rng.choice(nodes))

    # -- reads -----------------------------------------------------------------------------

    def _read(self, place: _Place) -> None:
        floor = max(self.checks.committed, default=0)
        lease = self.timing.lease_s is not None and self.rng.random() < 0.7

        def ask(actor: Actor) -> None:
            number = actor.asks_to_read(lease=lease)
            self._asked[actor.node_id][number] = floor

        self._input(place, ask)

    def _after(self, place: _Place) -> None:
        super()._after(place)
        self._check_reads(place.actor)

    def _check_reads(self, actor: Actor) -> None:
        asked = self._asked[actor.node_id]
        for number, index in list(actor.reads.items()):
            floor = asked.pop(number, None)
            del actor.reads[number]
            if floor is None:
                continue
            self.tally.reads += 1
            if index < floor:
                raise InvariantViolation(
                    f"{actor.node_id!r} reads at {index}; {floor} was committed before it asked"
                )

    def _crash(self, place: _Place) -> None:
        super()._crash(place)
        if not place.up:
            self._asked[place.actor.node_id].clear()

    # -- the end ---------------------------------------------------------------------------

    def _check_alive(self) -> None:
        leading = [p.actor for p in self.places.values() if p.actor.raft.role is Role.LEADER]
        if not leading:
            raise InvariantViolation(f"nobody leads after healing: {self._survey()}")
        leader = max((actor.raft for actor in leading), key=lambda raft: raft.term)
        if leader.configuration.outgoing:
            raise InvariantViolation(f"joint for ever: {self._survey()}")
        for node in leader.configuration.voters:
            commands = self.places[node].actor.applied_commands()
            if LAST_COMMAND not in commands:
                raise InvariantViolation(f"{node!r} lags behind: {self._survey()}")
            numbered = [command for command in commands if command != LAST_COMMAND]
            if len(set(numbered)) != len(numbered):
                raise InvariantViolation(f"{node!r} has applied a command twice")
        for node in leader.configuration.voters:
            late = len(self._asked[node])
            if late > READS_UNDER_WAY_MAX:
                raise InvariantViolation(f"{node!r} waits for {late} reads: {self._survey()}")
        self.tally.changes += sum(begun.stage is Stage.DONE for begun in self._changes)
        self.tally.leaders += len(self.checks.leaders)
        self.tally.commits += len(self.checks.committed)

    def _survey(self) -> str:
        lines = [
            f"{node}: {place.actor.raft.role.value} term={place.actor.raft.term} "
            f"log={place.actor.raft.log.last_index} commit={place.actor.raft.log.commit_index} "
            f"removed={place.actor.raft.removed_index} {place.actor.raft.configuration}"
            for node, place in self.places.items()
        ]
        return "\n" + "\n".join(lines)


def _propose(command: bytes, actor: Actor) -> None:
    actor.proposes(command)


def run_seed(seed: int, kind: str) -> Tally:
    """One seed; its size is drawn too."""
    timing, faults = KINDS[kind]
    drawn = random.Random(f"{seed}/size")
    founders, size = drawn.choice(((1, 3), (1, 4), (2, 4), (3, 4), (3, 5), (3, 6), (5, 5)))
    cluster = HostileCluster(seed, founders=founders, size=size, faults=faults, timing=timing)
    cluster.run(stormy_s=drawn.choice((1.0, 3.0)))
    return cluster.tally


def main() -> None:
    """Run seeds of every kind until one fails."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    kinds = sys.argv[3:] or list(KINDS)
    total = Tally()
    failed = 0
    for seed in range(first, first + count):
        for kind in kinds:
            try:
                tally = run_seed(seed, kind)
            except Exception as error:  # noqa: BLE001 - reported, with its seed
                failed += 1
                print(f"seed {seed}, {kind}: {type(error).__name__}: {error}", flush=True)
                continue
            for field in attrs.fields(Tally):
                mine = getattr(total, field.name) + getattr(tally, field.name)
                setattr(total, field.name, mine)
    print(f"{count} seeds of {kinds}: {failed} failed; {total}")


if __name__ == "__main__":
    main()
