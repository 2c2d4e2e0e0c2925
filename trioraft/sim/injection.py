"""Injection: carrying out what a schedule says, and taking it back when its time is over.

What a fault needs and cannot have (no leader, nothing written yet, a majority that would be gone
for ever) it leaves alone, and counts nothing: what was counted really happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from ..core.errors import ConfigError, ConfigurationConflict, NotLeader, TransferFailed
from ..core.features import FEATURES
from ..core.raft import Raft
from ..core.ready import Write
from ..core.reconfiguration import (
    AddLearner,
    Change,
    ChangeVoters,
    MembershipChange,
    Remove,
    Replace,
    SwitchOn,
    configuration_entry,
)
from ..core.types import Configuration, Entry, HardState, Incarnation, NodeId
from ..member.identity import (
    Identity,
    decode_identity,
    encode_identity,
    new_uuid,
    recovered_by_force,
)
from .agenda import Agenda
from .checks import incarnation_of, is_majority
from .clients import ClientPool
from .disk import Disk, Fate
from .draw import EVERYONE, LEADER, Draw, Fault, Kind, links_cut
from .network import LinkFault, SimulatedNetwork
from .outcomes import RunRecording
from .process import MakeDisk, Process

MUTED_AFTER_CHANGE: Final = 0.25
"""How often a leader is heard no more once it has begun a change of members."""
MUTED_WHERE_READS_COUNT: Final = 0.8
RESTARTED_WHERE_READS_COUNT: Final = 0.5
MUTED_S: Final = (0.1, 1.5)
RECOVERED_S: Final = (0.05, 0.6)
"""How long a node that was recovered by force beside the others goes on alone."""
LINK_FAULTS: Final = (
    *(Kind.DROP, Kind.DELAY, Kind.DUPLICATE, Kind.REORDER),
    *(Kind.NARROW, Kind.BOTTLENECK, Kind.LONG, Kind.LOSS),
)
"""What the network does to messages for as long as it lasts."""
ASK_AGAIN_S: Final = 0.05
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
        make_disk: MakeDisk,
    ) -> None:
        self._make_disk = make_disk
        self._processes = processes
        self._pool = pool
        self._network = network
        self._agenda = agenda
        self._recording = recording
        self._draw = draw
        self._is_over = False
        self._begun: dict[int, list[tuple[Callable[..., None], tuple[object, ...]]]] = {}
        self._lasting: int | None = None  # the fault that comes now ends when it is told to
        begin = self._begin_link_fault
        self._table: Final[Mapping[Kind, Callable[[Fault], None]]] = {
            **dict.fromkeys(LINK_FAULTS, begin),
            Kind.PARTITION: self._cut_links,
            Kind.ONE_WAY: self._cut_links,
            Kind.BRIDGE: self._cut_links,
            Kind.RING: self._cut_links,
            Kind.DEAD_LINKS: self._let_links_die,
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
            Kind.LIVE_ROT: self._rot_alive,
            Kind.CLOCK_SKEW: self._skew,
            Kind.CLOCK_JUMP: self._jump,
            Kind.CLIENT_LOSS: self._lose_clients,
            Kind.SNAPSHOT: self._take_snapshot,
            Kind.TRANSFER: self._transfer,
            Kind.MEMBERSHIP: self._change_members,
            Kind.ADD_LEARNER: self._ask_leader,
            Kind.REMOVE: self._ask_leader,
            Kind.SWITCH_ON: self._switch_on,
            Kind.EMPTIED: self._empty,
            Kind.OLDER_COPY: self._copy,
            Kind.FOREIGN_DISK: self._bring_foreign_disk,
            Kind.REPLACE: self._replace,
            Kind.RECOVER: self._recover,
            Kind.SUSPEND: self._suspend,
            Kind.MACHINE_ERROR: self._lack_memory,
        }

    def inject(self, fault: Fault) -> None:
        """Its time has come."""
        self._recording.note("fault", fault.number)
        self._recording.remark(f"fault {fault.number}: {fault}")
        self._table[fault.kind](fault)

    def begin(self, fault: Fault) -> None:
        """Its time has come, and it lasts until `end`."""
        self._lasting = fault.number
        self._begun[fault.number] = []
        self.inject(fault)
        self._lasting = None

    def end(self, number: int) -> None:
        """The fault of this number is over, if it was begun."""
        for end, arguments in self._begun.pop(number, ()):
            end(*arguments)

    def stop(self) -> None:
        """Nothing that was begun ends by itself any more; healing is somebody else's."""
        self._is_over = True

    # -- helpers ---------------------------------------------------------------------------

    def _count(self, kind: Kind) -> None:
        self._recording.count(kind.value)

    def _then(self, delay_s: float, end: Callable[..., None], *arguments: object) -> None:
        if self._lasting is not None:
            self._begun[self._lasting].append((end, arguments))
            return
        self._agenda.after(delay_s, self._unless_over, end, arguments)

    def _unless_over(self, end: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if not self._is_over:
            end(*arguments)

    def _victim(self, fault: Fault) -> Process:
        if fault.victim == LEADER:
            processes = self._processes.values()
            leaders = [p for p in processes if p.leads() and not p.disk.is_foreign]
            if leaders:
                return max(leaders, key=_term)
            return fault.rng().choice(list(self._processes.values()))
        return self._processes[fault.victim]

    def _living(self, fault: Fault) -> Process | None:
        process = self._victim(fault)
        return process if process.is_up else None

    def _awake(self, fault: Fault) -> Process | None:
        """What an operator asks for is done at once, or not at all; nobody is joined to a node that
        was recovered by force."""
        process = self._living(fault)
        if process is None or process.is_paused or process.disk.is_foreign:
            return None
        return process

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
            if self._draw.probe_s:
                self._restart_somebody(fault)

    def _restart_somebody(self, fault: Fault) -> None:
        """Where reads are the subject: what was promised to whom is cut off must outlive this."""
        rng = fault.rng()
        process = self._processes[rng.choice(self._rest(self._victim(fault).node_id))]
        if rng.random() < RESTARTED_WHERE_READS_COUNT and process.is_up:
            self._count(Kind.CRASH)
            process.crash(Fate.SURVIVES, "killed, and started at once")
            self._then(rng.uniform(0.0, SPREAD_S), process.start)

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

    def _let_links_die(self, fault: Fault) -> None:
        """A firewall forgets the connections of a node, or of all, and drops what comes of them."""
        ids = list(self._processes)
        victim = fault.victim if fault.victim == EVERYONE else self._victim(fault).node_id
        pairs = [(a, b) for a in ids for b in ids if a != b and victim in (EVERYONE, a, b)]
        if pairs:
            self._count(fault.kind)
            self._network.let_die(pairs)

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

    def _suspend(self, fault: Fault) -> None:
        process = self._awake(fault)
        if process is None:
            return
        self._count(fault.kind)
        process.suspend()
        if self._draw.probe_s:
            process.probe(lease=True)  # waits, and is the first thing that it finds on waking
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
        is_settled = Kind.MEMBERSHIP not in self._draw.intensities
        if not (is_settled and self._may_lose(process) and process.disk.rot(fault.rng())):
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

    def _rot_alive(self, fault: Fault) -> None:
        """Nobody restarts, and looks at what is stored: what is sent, or else the newest."""
        process, rng = self._victim(fault), fault.rng()
        leadership = None if process.core is None else process.core.leadership
        sent_index = None if leadership is None else leadership.oldest_sent_snapshot(process.now)
        disk = process.disk
        if (sent_index and disk.rot_snapshot_of(sent_index, rng)) or disk.rot_snapshot(rng):
            self._count(fault.kind)

    # -- other disks -----------------------------------------------------------------------

    def _may_lose(self, victim: Process) -> bool:
        """Whether every configuration that may still count keeps a majority of its disks. While an
        older copy is there no disk may come that has never seen what it was copied from."""
        return not any(process.disk.is_older for process in self._processes.values()) and all(
            is_majority(configuration, partial(self._is_left, victim, configuration))
            for process in self._processes.values()
            for configuration in process.effective_configurations()
        )

    def _is_left(self, victim: Process, configuration: Configuration, node_id: NodeId) -> bool:
        named = configuration.disk_of(node_id)
        return node_id != victim.node_id and self._is_whole(node_id, named)

    def _is_whole(self, node_id: NodeId, named: Incarnation) -> bool:
        process = self._processes[node_id]
        disk = process.disk
        is_broken = disk.is_rotten or disk.is_older or disk.is_foreign or process.is_refused
        return not is_broken and incarnation_of(disk) == named

    def _change_disk(self, process: Process, disk: Disk, why: str, away_s: float) -> None:
        if disk.is_older or disk.is_foreign:
            process.setting.odd.add(process.node_id)
        process.crash(Fate.SURVIVES, f"killed; {why}")
        process.change_disk(disk)
        self._then(away_s, process.start)

    def _empty(self, fault: Fault) -> None:
        process = self._victim(fault)
        if self._may_lose(process):
            self._count(fault.kind)
            self._change_disk(process, self._make_disk(), "its disk was emptied", fault.lasts_s)

    def _copy(self, fault: Fault) -> None:
        """A copy is made, and comes in the place of its original when that has gone on."""
        process = self._victim(fault)
        if process.disk.identity is None:
            return
        copied = process.disk.copy()
        process.crash(Fate.SURVIVES, "killed; its disk was copied")
        self._then(SPREAD_S, process.start)
        self._then(SPREAD_S + fault.lasts_s, self._restore_copy, process, copied, fault)

    def _restore_copy(self, process: Process, copied: Disk, fault: Fault) -> None:
        """Only where it can be found out: all others have seen a later opening of this disk, and it
        is of a time when its node did not decide alone."""
        newest = copied.configurations()[-1:]
        if any(is_majority(c, lambda node: node == process.node_id) for c in newest):
            return
        own = decode_identity(copied.identity or b"")
        is_same = incarnation_of(process.disk) == own.incarnation
        others = [p for p in self._processes.values() if p is not process]
        identities = [p.disk.identity for p in others]
        known = [decode_identity(stored) for stored in identities if stored is not None]
        is_seen = len(known) == len(others) and all(
            identity.remembered.get(own.incarnation, (0, 0))[0] > own.openings for identity in known
        )
        if not any(identity.remembered for identity in known):  # who should, does not (hazard I5)
            is_seen = all(p.met_openings.get(own.incarnation, 0) > own.openings for p in others)
        if is_same and is_seen and len(known) > 1 and self._may_lose(process):
            copied.is_older = True
            self._count(fault.kind)
            self._change_disk(process, copied, "an older copy of its disk is restored", SPREAD_S)

    def _bring_foreign_disk(self, fault: Fault) -> None:
        process, rng = self._victim(fault), fault.rng()
        if not self._may_lose(process):
            return
        disk = self._make_disk()
        numbers = {node: 1 + rng.getrandbits(60) for node in self._processes}
        identity = Identity(
            numbers[process.node_id], numbers, new_uuid(rng), formed=True, openings=1, nonces=(7,)
        )
        term = rng.randint(1, 20)
        entries = tuple(Entry(index, term, b"foreign") for index in range(2, rng.randint(2, 40)))
        base = identity.base({})
        first = configuration_entry(base, 1, term)
        write = Write(HardState(term, None), (first, *entries), 1, encode_identity(identity))
        disk.begin(write)
        disk.sync()
        disk.is_foreign = True
        self._count(fault.kind)
        self._change_disk(process, disk, "it has the disk of another cluster", fault.lasts_s)

    def _recover(self, fault: Fault) -> None:
        """Somebody recovers a node by force though the others live: it goes on alone, in a history
        of its own, and neither side may take anything from the other. (No client is sent there.)"""
        process, rng = self._victim(fault), fault.rng()
        disk = process.disk.copy()
        if disk.identity is None or not decode_identity(disk.identity).formed:
            return
        if disk.is_rotten or disk.is_older or disk.is_foreign or not self._may_lose(process):
            return
        before = disk.recover(Configuration(()))
        last = before.base_index + len(before.entries)
        last_term = before.entries[-1].term if before.entries else before.base_term
        identity = recovered_by_force(disk.identity, last_index=last, last_term=last_term, rng=rng)
        alone = Configuration((process.node_id,), disks={process.node_id: identity.incarnation})
        term = before.hard_state.term + 1
        entry = configuration_entry(alone, last + 1, term)
        disk.begin(Write(HardState(term), (entry,), entry.index, encode_identity(identity)))
        disk.sync()
        disk.is_foreign = True
        self._count(fault.kind)
        self._change_disk(process, disk, "it is recovered by force", fault.lasts_s)
        self._then(
            fault.lasts_s + rng.uniform(*RECOVERED_S), self._give_up_recovered, process, disk
        )

    def _give_up_recovered(self, process: Process, disk: Disk) -> None:
        """Whoever did it has seen that the others live, and lets the node join them again."""
        if process.disk is disk:
            self._change_disk(process, self._make_disk(), "it is emptied, to join again", SPREAD_S)

    def _replace(self, fault: Fault) -> None:
        """An operator has a node replaced: one that needs it, or any."""
        process, rng = self._awake(fault), fault.rng()
        if process is None:
            return
        ids = list(self._processes)

        def replace(core: Raft, now: float) -> None:
            named = core.configuration.disk_of
            lost = [
                node for node in core.configuration.voters if not self._is_whole(node, named(node))
            ]
            try:
                core.change_members(Replace(rng.choice(lost or ids)), now)
            except (NotLeader, ConfigurationConflict, ConfigError):
                return
            self._count(fault.kind)

        process.ask(replace)

    def _lack_memory(self, fault: Fault) -> None:
        """The next command that is carried out there finds no memory, half-way."""
        process = self._living(fault)
        if process is not None:
            process.machine.registers.error = MemoryError("no memory (on purpose)")
            self._then(fault.lasts_s, setattr, process.machine.registers, "error", None)
            self._then(fault.lasts_s + SPREAD_S, process.start)

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
        if self._draw.probe_s:  # two halves as different as can be, and back to all
            ids = tuple(self._processes)
            change = ChangeVoters((process.node_id,) if rng.random() < 0.5 else ids)
        often = MUTED_WHERE_READS_COUNT if self._draw.probe_s else MUTED_AFTER_CHANGE
        is_muted = rng.random() < often

        def change_them(core: Raft, now: float) -> None:
            named = core.configuration.disk_of
            if not all(self._is_whole(voter, named(voter)) for voter in core.configuration.voters):
                return  # with a disk that is lost it may leave what nobody can get out of
            try:
                core.change_members(change, now)
            except (NotLeader, ConfigurationConflict, ConfigError):
                return
            self._count(fault.kind)
            if is_muted:
                self._mute(process.node_id, rng.uniform(*MUTED_S))

        process.ask(change_them)

    def _ask_leader(self, fault: Fault) -> None:
        """An operator changes one member, and does not give up until that is begun."""
        is_added = fault.kind is Kind.ADD_LEARNER
        change = AddLearner(fault.victim) if is_added else Remove(fault.victim)
        begun: list[MembershipChange] = []

        def change_it(core: Raft, now: float) -> None:
            with suppress(NotLeader, ConfigurationConflict):
                begun.append(core.change_members(change, now))
                self._count(fault.kind)

        leaders = [process for process in self._processes.values() if process.leads()]
        for process in leaders:
            process.ask(change_it)
        if not begun and not self._is_over:
            self._agenda.after(ASK_AGAIN_S, self._ask_leader, fault)

    def _switch_on(self, fault: Fault) -> None:
        """An operator wants what this release can; now and then nobody hears of it at once."""
        process, rng = self._awake(fault), fault.rng()
        if process is None:
            return
        is_muted = rng.random() < MUTED_AFTER_CHANGE

        def switch(core: Raft, now: float) -> None:
            if core.configuration.features:
                return
            with suppress(NotLeader, ConfigurationConflict, ConfigError):
                core.change_members(SwitchOn(tuple(FEATURES)), now)
                self._count(fault.kind)
                if is_muted:
                    self._mute(process.node_id, rng.uniform(*MUTED_S))

        process.ask(switch)

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
