"""A simulated cluster whose disks are emptied, copied and exchanged by hand: the very members that
nodes run, the simulator's network and disks, and its checks after every event.

Rules of this file: nothing goes wrong by chance; what happens, a test says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import attrs

from trioraft.core.config import Limits, Timing
from trioraft.core.errors import ConfigError, ConfigurationConflict, NotLeader
from trioraft.core.raft import Raft
from trioraft.core.ready import Write
from trioraft.core.reconfiguration import Change, ChangeVoters, configuration_entry
from trioraft.core.types import Configuration, HardState, NodeId
from trioraft.member.identity import encode_identity, recovered_by_force
from trioraft.sim.disk import Disk, Fate
from trioraft.sim.draw import Draw, draw
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.process import Process
from trioraft.sim.simulation import Simulation

TIMING = Timing(election_timeout_s=(0.1, 0.2), heartbeat_interval_s=0.03, fast_failover=False)
LONG_S = 30.0


class Disks:
    """A cluster of nodes "0", "1", … with one disk each.

    Args:
        size: how many nodes there are.
        voters: whom each of them is told to be the first voters; None: all.
        replaces: whether leaders replace lost disks unasked.
        seed: of the numbers that disks draw.
        limits: of every node.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        voters: dict[NodeId, tuple[NodeId, ...]] | None = None,
        replaces: bool = False,
        seed: int = 1,
        limits: Limits | None = None,
    ) -> None:
        ids = tuple(str(number) for number in range(size))
        drawn: Draw = attrs.evolve(
            draw(1, size),
            nodes=ids,
            voters=ids,
            timing=TIMING,
            limits=limits or Limits(),
            intensities={},
            faults=(),
            delay_s=(0.001, 0.002),
            disk_s=(0.0, 0.001),
            apply_s=0.0,
            hint=0.0,
            clients=0,
            clock_rates=(1.0, 1.0),
            batch_s=0.0,
            replaces_lost_disks=replaces,
        )
        self.sim = Simulation(seed, RunOptions(), drawn=drawn)
        self.nodes = self.sim.processes
        for node, process in self.nodes.items():
            if voters is not None:
                process.first_voters = voters[node]

    def open(self, *nodes: NodeId) -> None:
        """Start these, or all."""
        for node in nodes or tuple(self.nodes):
            self.nodes[node].start()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.sim.agenda.run(self.sim.agenda.now + seconds, lambda: False)

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until this holds."""
        assert self.sim.agenda.run(self.sim.agenda.now + LONG_S, condition), self.states()

    def states(self) -> str:
        """All nodes in a few words."""
        return "; ".join(process.state() for process in self.nodes.values())

    def leader(self) -> NodeId | None:
        """Who leads the newest term, if anybody does."""
        leading = [p for p in self.nodes.values() if p.leads() and p.core is not None]
        newest = max(leading, key=lambda p: p.core.term if p.core else 0, default=None)
        return None if newest is None else newest.node_id

    def is_led(self) -> bool:
        """Whether anybody leads."""
        return self.leader() is not None

    def elect(self) -> NodeId:
        """Wait for a leader."""
        self.until(self.is_led)
        leader = self.leader()
        assert leader is not None
        return leader

    def put(self, count: int = 1) -> None:
        """So many commands are committed by whoever leads."""
        for _ in range(count):
            leader = self.elect()
            process = self.nodes[leader]
            process.ask(propose)
            assert process.core is not None
            self.until(partial(self._has_committed, process.core.log.last_index))

    def _has_committed(self, index: int) -> bool:
        return self.sim.checks.commit_index >= index

    def cut(self, *nodes: NodeId) -> None:
        """Cut these off from all others, and from each other."""
        self.sim.network.cut(self._pairs(nodes))

    def mend(self, *nodes: NodeId) -> None:
        """Undo it."""
        self.sim.network.mend_all(self._pairs(nodes))

    def _pairs(self, nodes: Iterable[NodeId]) -> list[tuple[NodeId, NodeId]]:
        ids, some = list(self.nodes), set(nodes)
        return [(a, b) for a in ids for b in ids if a != b and (a in some or b in some)]

    def stop(self, node: NodeId) -> Process:
        """It crashes; all that was written is there."""
        self.nodes[node].crash(Fate.SURVIVES, "stopped")
        return self.nodes[node]

    def empty(self, node: NodeId) -> None:
        """It stops, and comes back with an empty disk."""
        self.stop(node).change_disk(Disk())
        self.open(node)

    def recover(self, node: NodeId) -> None:
        """It stops, and `trioraft recover` makes it the only voter, in a history of its own."""
        disk = self.stop(node).disk
        before = disk.recover(Configuration(()))
        last = before.entries[-1]
        identity = recovered_by_force(
            before.identity, last_index=last.index, last_term=last.term, rng=random.Random(1)
        )
        alone = Configuration((node,), disks={node: identity.incarnation})
        term = before.hard_state.term + 1
        entry = configuration_entry(alone, last.index + 1, term)
        write = Write(HardState(term), (entry,), entry.index, encode_identity(identity))
        disk.begin(write)
        disk.sync()
        self.sim.checks._begun.add(term)  # by an operator

    def change(self, change: Change) -> None:
        """Ask whoever leads, if it can be done now."""
        leader = self.leader()
        if leader is not None:
            self.nodes[leader].ask(partial(_change, change))

    def copy(self, node: NodeId) -> Disk:
        """A copy of its disk as it is now."""
        return self.nodes[node].disk.copy()

    def restore(self, node: NodeId, disk: Disk) -> None:
        """It stops, and comes back with this disk, which is an older copy of its own."""
        disk.is_older = True
        self._exchange(node, disk)

    def give(self, node: NodeId, disk: Disk) -> None:
        """It stops, and comes back with this disk, which is another cluster's."""
        disk.is_foreign = True
        self._exchange(node, disk)

    def _exchange(self, node: NodeId, disk: Disk) -> None:
        process = self.stop(node)
        process.setting.odd.add(node)
        process.change_disk(disk)
        self.open(node)


def propose(core: Raft, now: float) -> None:
    """A command, if this node leads."""
    if core.leadership is not None:
        core.propose(b"", now)


def _change(change: Change, core: Raft, now: float) -> None:
    with suppress(NotLeader, ConfigurationConflict, ConfigError):
        core.change_members(change, now)


def shrink_to_itself(core: Raft, now: float) -> None:
    """The leader becomes the only voter."""
    core.change_members(ChangeVoters((core.node_id,)), now)
