"""Injection: carrying out what a schedule says, and taking it back when its time is over.

What a fault needs and cannot have (no leader, nothing written yet, a majority that would be gone
for ever) it leaves alone, and counts nothing: what was counted really happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

from ..core.errors import ConfigError, ConfigurationConflict, NotLeader, TransferFailed
from ..core.raft import Raft
from ..core.reconfiguration import AddLearner, Change, ChangeVoters, Remove
from ..core.types import NodeId
from .agenda import Agenda
from .clients import ClientPool
from .disk import Fate
from .draw import EVERYONE, LEADER, Draw, Fault, Kind, links_cut
from .network import LinkFault, SimulatedNetwork
from .outcomes import RunRecording
from .process import Process

MUTED_AFTER_CHANGE: Final = 0.25
"""How often a leader is heard no more once it has begun a change of members."""
MUTED_S: Final = (0.1, 1.5)
SPREAD_S: Final = 0.01
"""Nodes that all crash do so within this long."""


class FaultInjection:
    """The hand that makes things go wrong."""

    def __init__(
        self,
        processes: Mapping[NodeId, Process],
        pool: ClientPool,
        network: SimulatedNetwork,
        agenda: Agenda,
        recording: RunRecording,
        draw: Draw,
    ) -> None:
        self._processes = processes
        self._pool = pool
        self._network = network
        self._agenda = agenda
        self._recording = recording
        self._draw = draw
        self._is_over = False
        begin = self._begin_link_fault
        self._table: Final[Mapping[Kind, Callable[[Fault], None]]] = {
            Kind.DROP: begin,
            Kind.DELAY: begin,
            Kind.DUPLICATE: begin,
            Kind.REORDER: begin,
            Kind.PARTITION: self._cut_links,
            Kind.ONE_WAY: self._cut_links,
            Kind.BRIDGE: self._cut_links,
            Kind.RING: self._cut_links,
            Kind.LINK_LOST: self._lose_link,
            Kind.CRASH: self._crash,
            Kind.CRASH_MID_READY: self._light_fuse,
            Kind.CRASH_ALL: self._crash_all,
            Kind.UNSYNCED_LOST: self._crash_in_write,
            Kind.TORN_TAIL: self._crash_in_write,
            Kind.PAUSE: self._pause,
            Kind.SLOW_DISK: self._slow_disk,
            Kind.DISK_FULL: self._fill_disk,
            Kind.EIO: self._break_sync,
            Kind.BIT_ROT: self._rot,
            Kind.SNAPSHOT_ROT: self._rot_snapshot,
            Kind.CLOCK_SKEW: self._skew,
            Kind.CLOCK_JUMP: self._jump,
            Kind.CLIENT_LOSS: self._lose_clients,
            Kind.SNAPSHOT: self._take_snapshot,
            Kind.TRANSFER: self._transfer,
            Kind.MEMBERSHIP: self._change_members,
        }

    def inject(self, fault: Fault) -> None:
        """Its time has come."""
        self._recording.note("fault", fault.number)
        self._recording.remark(f"fault {fault.number}: {fault}")
        self._table[fault.kind](fault)

    def stop(self) -> None:
        """Nothing that was begun ends by itself any more; healing is somebody else's."""
        self._is_over = True

    # -- helpers ---------------------------------------------------------------------------

    def _count(self, kind: Kind) -> None:
        self._recording.count(kind.value)

    def _then(self, delay_s: float, end: Callable[..., None], *arguments: object) -> None:
        self._agenda.after(delay_s, self._unless_over, end, arguments)

    def _unless_over(self, end: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if not self._is_over:
            end(*arguments)

    def _victim(self, fault: Fault) -> Process:
        if fault.victim == LEADER:
            leaders = [p for p in self._processes.values() if p.leads()]
            if leaders:
                return max(leaders, key=_term)
            return fault.rng().choice(list(self._processes.values()))
        return self._processes[fault.victim]

    def _living(self, fault: Fault) -> Process | None:
        process = self._victim(fault)
        return process if process.is_up else None

    def _awake(self, fault: Fault) -> Process | None:
        """What an operator asks for is done at once, or not at all."""
        process = self._living(fault)
        return None if process is None or process.is_paused else process

    def _rest(self, node_id: NodeId) -> list[NodeId]:
        return [other for other in self._processes if other != node_id]

    # -- the network -----------------------------------------------------------------------

    def _begin_link_fault(self, fault: Fault) -> None:
        victim = fault.victim
        if victim == LEADER:
            victim = self._victim(fault).node_id
        link_fault = LinkFault(fault.kind, fault.level, victim, fault.rng())
        self._network.link_faults.append(link_fault)
        self._then(fault.lasts_s, self._network.link_faults.remove, link_fault)

    def _cut_links(self, fault: Fault) -> None:
        pairs = links_cut(fault, self._victim(fault).node_id, list(self._processes))
        if pairs:
            self._count(fault.kind)
            self._network.cut(pairs)
            self._then(fault.lasts_s, self._network.mend, pairs)

    def _lose_link(self, fault: Fault) -> None:
        """A connection closes, with nothing else wrong."""
        process = self._living(fault)
        others = self._rest(fault.victim)
        if process is None or not others:
            return
        self._count(fault.kind)
        peer = fault.rng().choice(self._rest(process.node_id) or others)
        process.lose_peer(peer)
        self._processes[peer].lose_peer(process.node_id)

    # -- processes -------------------------------------------------------------------------

    def _crash(self, fault: Fault) -> None:
        process = self._living(fault)
        if process is None:
            return
        self._count(fault.kind)
        process.crash(self._draw.fate(fault.rng()), "killed")
        self._then(fault.lasts_s, process.start)

    def _light_fuse(self, fault: Fault) -> None:
        process = self._living(fault)
        if process is not None:
            process.fuse = int(fault.level)
            self._then(fault.lasts_s + SPREAD_S, process.start)

    def _crash_all(self, fault: Fault) -> None:
        self._count(fault.kind)
        rng = fault.rng()
        for process in self._processes.values():
            fate = self._draw.fate(rng)
            self._then(rng.uniform(0.0, SPREAD_S), process.crash, fate, "all of them go")
            self._then(SPREAD_S + rng.uniform(0.0, fault.lasts_s), process.start)

    def _crash_in_write(self, fault: Fault) -> None:
        process = self._living(fault)
        if process is not None:
            is_torn = fault.kind is Kind.TORN_TAIL
            process.crash_in_write = Fate.TORN if is_torn else Fate.LOST
            self._then(fault.lasts_s + SPREAD_S, process.start)

    def _pause(self, fault: Fault) -> None:
        process = self._living(fault)
        if process is None or process.is_paused:
            return
        self._count(fault.kind)
        process.pause()
        timers_first = fault.rng().random() < 0.3
        self._then(fault.lasts_s, lambda: process.resume(timers_first=timers_first))

    # -- disks -----------------------------------------------------------------------------

    def _slow_disk(self, fault: Fault) -> None:
        process = self._victim(fault)
        self._count(fault.kind)
        process.slow_s = fault.level
        self._then(fault.lasts_s, setattr, process, "slow_s", 0.0)

    def _fill_disk(self, fault: Fault) -> None:
        process = self._victim(fault)
        process.disk.is_full = True
        self._then(fault.lasts_s, setattr, process.disk, "is_full", False)

    def _break_sync(self, fault: Fault) -> None:
        process = self._living(fault)
        if process is not None:
            process.disk.fails_next = True
            self._then(fault.lasts_s + SPREAD_S, process.start)

    def _rot(self, fault: Fault) -> None:
        """Only so many nodes are lost for ever that any configuration keeps a majority."""
        process = self._victim(fault)
        lost = [p for p in self._processes.values() if p.disk.is_rotten]
        may_rot = 2 * (len(lost) + 1) < len(self._draw.voters)
        is_settled = Kind.MEMBERSHIP not in self._draw.intensities
        if not (may_rot and is_settled and process.disk.rot(fault.rng())):
            return
        self._count(fault.kind)
        process.crash(Fate.SURVIVES, "killed; a bit of its disk has flipped")
        self._then(fault.lasts_s, process.start)

    def _rot_snapshot(self, fault: Fault) -> None:
        process = self._victim(fault)
        if process.disk.rot_snapshot(fault.rng()):
            self._count(fault.kind)
            process.crash(Fate.SURVIVES, "killed; its newest snapshot is damaged")
            self._then(fault.lasts_s, process.start)

    # -- clocks and clients ----------------------------------------------------------------

    def _skew(self, fault: Fault) -> None:
        process = self._victim(fault)
        self._count(fault.kind)
        process.run_clock_at(fault.level)
        self._then(fault.lasts_s, process.run_clock_at, 1.0)

    def _jump(self, fault: Fault) -> None:
        self._count(fault.kind)
        self._victim(fault).jump_clock(fault.level)

    def _lose_clients(self, fault: Fault) -> None:
        link_fault = LinkFault(fault.kind, fault.level, EVERYONE, fault.rng())
        self._pool.link_faults.append(link_fault)
        self._then(fault.lasts_s, self._pool.link_faults.remove, link_fault)

    # -- what operators do -----------------------------------------------------------------

    def _take_snapshot(self, fault: Fault) -> None:
        process = self._awake(fault)
        if process is not None:
            self._count(fault.kind)
            process.take_snapshot()

    def _transfer(self, fault: Fault) -> None:
        process, rng = self._awake(fault), fault.rng()
        if process is None:
            return
        target = rng.choice([None, *self._rest(process.node_id)])
        patience_s = rng.uniform(0.05, 0.5)

        def transfer(core: Raft, now: float) -> None:
            try:
                core.transfer(target, now, patience_s=patience_s)
            except (NotLeader, TransferFailed, ConfigError):
                return
            self._count(fault.kind)

        process.ask(transfer)

    def _change_members(self, fault: Fault) -> None:
        process, rng = self._awake(fault), fault.rng()
        if process is None:
            return
        change = self._drawn_change(rng)
        is_muted = rng.random() < MUTED_AFTER_CHANGE

        def change_them(core: Raft, now: float) -> None:
            try:
                core.change_members(change, now)
            except (NotLeader, ConfigurationConflict, ConfigError):
                return
            self._count(fault.kind)
            if is_muted:
                self._mute(process.node_id, rng.uniform(*MUTED_S))

        process.ask(change_them)

    def _mute(self, node_id: NodeId, lasts_s: float) -> None:
        """Nobody hears what it has just appended: others may lead on, and cut it from its log."""
        pairs = [(node_id, other) for other in self._rest(node_id)]
        self._network.cut(pairs)
        self._then(lasts_s, self._network.mend, pairs)

    def _drawn_change(self, rng: random.Random) -> Change:
        ids = list(self._processes)
        roll = rng.random()
        if roll < 0.2:
            return AddLearner(rng.choice(ids))
        if roll < 0.4:
            return Remove(rng.choice(ids))
        return ChangeVoters(tuple(sorted(rng.sample(ids, rng.randint(1, len(ids))))))


def _term(process: Process) -> int:
    return process.core.term if process.core is not None else -1
