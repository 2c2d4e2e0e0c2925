"""Groups and open_groups: many Raft groups in one process, and what it does for all of them.

Rules of this file:

* The nursery of `Host.run` owns every task: the transport, the process's own four, and the node
  of each group that is awake. When it is over, nothing is left.
* A leader asks the other processes before its group hibernates, and ends its own node last, when
  all have ended theirs in exactly the state that it named. Should one not, it wakes the others: who
  sleeps while its leader does not is woken by the next message in any case.
* Whoever is asleep when its leader's process goes wakes up, so that a leader is there before it is
  needed; of many groups only `WAKING_MAX` at a time.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import Final, final

import attrs
import trio

from ..core.config import Limits, Timing
from ..core.errors import (
    ConfigError,
    NodeDead,
    NotLeader,
    ProposalDropped,
    TransferFailed,
)
from ..core.messages import (
    AppendEntries,
    Forward,
    GroupMessage,
    GroupNote,
    InstallSnapshot,
    Introduction,
    Message,
    RequestPreVote,
    RequestReadIndex,
    RequestVote,
    TimeoutNow,
)
from ..core.types import NUMBER_MAX, Incarnation, LogIndex, NodeId, Term
from ..logs.loggers import AnyLogger, TraceLogger
from ..member.state_machine import StateMachine, hosted
from ..node.administration import Administration
from ..node.arguments import (
    bootstrap_configuration,
    check_id,
    check_machine,
    checked_features,
    checked_ids,
    is_volatile,
)
from ..node.hosting import Hosting
from ..node.runner import NodeRunner
from ..node.storage_calls import DISK_NUMBERS
from ..storage.groups import GroupStorages
from ..tasks.background import running_beside
from ..tasks.event_loop import opened_under
from ..tasks.wakeup import Wakeup
from ..transport.base import Transport, TransportEvent
from . import notes
from .group import Group, GroupPhase
from .multiplexer import GroupTransport, Multiplexer
from .naming import checked_name
from .presence import Presence
from .spread import ranked, surplus, taker

WAKING_MAX: Final = 16
"""Groups that are woken at the same time because their leader's process is gone."""
PULSES_PER_TIMEOUT: Final = 0.5
"""A process is heard so often in each upper election timeout, at least."""
BEATS_ALIGNED: Final = 4
"""Heartbeats leave at so many moments of each heartbeat interval, those of all groups together."""
LOOKS_PER_QUIET: Final = 4
"""So often in each `hibernate_after_s` it is looked which groups were quiet."""
LOOK_S_MIN: Final = 0.01
MOVES_MAX: Final = 8
"""Leaderships that are given away in one look."""
MOVE_AGAIN_S: Final = 30.0
"""A group's leadership is given away by the same process no sooner than that."""
GROUPS_OVERHEAD_BYTES: Final = 64 * 1024
"""By so much a frame of groups may exceed what one group's may have."""

WITH_NODE: Final = (GroupPhase.WAKING, GroupPhase.AWAKE, GroupPhase.FALLING)

CALLS: Final = (
    AppendEntries,
    InstallSnapshot,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    RequestReadIndex,
    Forward,
)
"""What wakes a group that hibernates; an answer does not: it is to a life that has ended."""


@attrs.define
class SleepAsk:
    """What a leader has asked the other processes: to hibernate with it, in this state."""

    term: Term
    last_index: LogIndex
    waiting: set[NodeId]
    asleep: set[NodeId]
    until_s: float


@attrs.frozen
class GroupOptions:
    """What a group's nodes are opened with, each time."""

    name: str
    voters: tuple[NodeId, ...]
    machine: StateMachine
    features: tuple[str, ...]
    auto_replace: bool | None


@final
class Groups:
    """The groups of one process. Made by `open_groups`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def node_id(self) -> NodeId:
        """This process's name, which its members have in all groups."""
        return self._host.node_id

    def __len__(self) -> int:
        return len(self._host.groups)

    def __getitem__(self, name: str) -> Group:
        return self._host.groups[name]

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._host.groups.values()))

    @property
    def awake(self) -> int:
        """How many of them have a node at the moment."""
        return sum(group.phase in WITH_NODE for group in self._host.groups.values())

    @property
    def leads(self) -> int:
        """How many of them this process leads, or led when they fell asleep."""
        return self._host.count_led()

    def is_there(self, peer: NodeId) -> bool:
        """Whether that process was heard lately."""
        return self._host.presence.is_there(peer)

    async def wait(self, predicate: Callable[[Groups], bool]) -> None:
        """Wait until `predicate` holds of these groups; it is asked whenever one of them has woken,
        has fallen asleep, is over, or was left. Returns at once if it does.

        Raises:
            NodeDead: the process is over.
            Exception: what the predicate raised.

        It can be cancelled.
        """
        while not predicate(self):
            if not self._host.is_running:
                raise NodeDead(f"process {self.node_id!r} is over; it would wait for ever")
            await self._host.changed.park()
        await trio.lowlevel.checkpoint_if_cancelled()

    def expected_tasks(self) -> frozenset[str]:
        """Names of the tasks that this process owns now, its connections' apart: its own, and those
        of each group that is awake."""
        return self._host.expected_tasks()


@final
class Host:
    """Runs the groups of one process.

    Args: see `open_groups`.
    """

    def __init__(
        self,
        node_id: NodeId,
        *,
        storage: GroupStorages,
        transport: Transport,
        cluster_id: str,
        timing: Timing,
        limits: Limits,
        hibernate_after_s: float | None,
        rng: random.Random,
        logger: AnyLogger | None,
    ) -> None:
        self.node_id: NodeId = node_id
        self.name: Final = f"groups[{node_id}]"
        self.groups: Final[dict[str, Group]] = {}
        self.presence: Final = Presence(timing.election_timeout_s[1] / PULSES_PER_TIMEOUT)
        self._options: Final[dict[str, GroupOptions]] = {}
        self._storage, self._cluster_id = storage, cluster_id
        self._timing, self._limits, self._rng = timing, limits, rng
        self._hibernate_after_s = hibernate_after_s
        self._logger_given, self._logger = logger, TraceLogger(logger, node_id)
        self.multiplexer: Final = Multiplexer(
            transport,
            self,
            timing=timing,
            limits=limits,
            life=DISK_NUMBERS.get().randint(1, NUMBER_MAX - 1),
            rng=rng,
        )
        self.changed: Final = trio.lowlevel.ParkingLot()
        """For whoever waits for a group to wake or to fall asleep."""
        self._nursery: trio.Nursery | None = None
        self._awake: dict[str, Group] = {}  # those with a node, or about to have one
        self._members: dict[str, frozenset[NodeId]] = {}
        self._lost = Wakeup()
        self._gone: set[NodeId] = set()  # whose groups are to be woken
        self._beat_s = timing.heartbeat_interval_s / BEATS_ALIGNED
        self._led = 0
        self._context = copy_context()
        self._storage_limiter = trio.CapacityLimiter(1)

    # -- life ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until stopped or cancelled; `started()` once the process can be reached.

        Raises:
            StorageError: the storage cannot be taken.
            OSError: the transport cannot listen.
        """
        storage, real = self._storage, self.multiplexer.real
        take = partial(storage.open, cluster_id=self._cluster_id, node_id=self.node_id)
        await self._call_storage(take)
        bytes_max = self._limits.frame_bytes_max + GROUPS_OVERHEAD_BYTES
        limits = attrs.evolve(self._limits, frame_bytes_max=min(bytes_max, 2**30 - 1))
        try:
            async with trio.open_nursery() as self._nursery:
                start = partial(
                    real.run, self.multiplexer, cluster_id=self._cluster_id, limits=limits
                )
                await self._nursery.start(start, name=f"{self.name}.transport")
                self._nursery.start_soon(self.multiplexer.run_sender, name=f"{self.name}.sender")
                self._nursery.start_soon(self._run_pulse, name=f"{self.name}.pulse")
                self._nursery.start_soon(self._run_waker, name=f"{self.name}.waker")
                if self._hibernate_after_s is not None:
                    after_s = self._hibernate_after_s
                    watch = partial(self._run_watch, after_s)
                    self._nursery.start_soon(watch, name=f"{self.name}.watch")
                task_status.started()
        finally:
            self._nursery = None
            self.changed.unpark_all()
            with trio.CancelScope(shield=True):
                await self._call_storage(storage.close)

    @property
    def is_running(self) -> bool:
        """Whether groups can be opened."""
        return self._nursery is not None

    def stop(self) -> None:
        """End `run`; the nodes of all groups with it."""
        for group in list(self._awake.values()):
            if group.runner is not None:
                group.runner.kill("left")
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _call_storage(self, call: Callable[[], None]) -> None:
        if not self._storage.blocking:
            call()
            return
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(call, limiter=self._storage_limiter)

    def expected_tasks(self) -> frozenset[str]:
        """See `Groups.expected_tasks`."""
        if self._nursery is None:
            return frozenset()
        roles = ["transport", "sender", "pulse", "waker"]
        roles += [] if self._hibernate_after_s is None else ["watch"]
        names = {self.name, *(f"{self.name}.{role}" for role in roles)}
        for group in self._awake.values():
            if group.runner is not None:
                names |= group.runner.expected_tasks()
        return frozenset(names)

    # -- the groups ------------------------------------------------------------------------

    def add(self, options: GroupOptions) -> Group:
        """A group that is opened here from now on.

        Raises:
            ConfigError: there is one of this name already.
            NodeDead: the process does not run any more.
        """
        name = options.name
        if self._nursery is None:
            raise NodeDead(f"process {self.node_id!r} is over: open no groups in it")
        if name in self.groups:
            raise ConfigError(
                f"group {name!r} is open in process {self.node_id!r} already: leave that one first"
            )
        group = self.groups[name] = Group(self, name, options.voters, options.machine)
        self._options[name] = options
        self._members[name] = frozenset(options.voters)
        return group

    async def remove(self, group: Group) -> None:
        """Leave a group, its leadership first."""
        await group.close()
        self._awake.pop(group.name, None)
        del self.groups[group.name], self._options[group.name], self._members[group.name]
        self.multiplexer.forget_kept(group.name)
        self.changed.unpark_all()

    def new_runner(self, group: Group) -> NodeRunner:
        """See `GroupHost`."""
        options, storage = self._options[group.name], self._storage.storage_of(group.name)
        transport = GroupTransport(self.multiplexer, group.name)
        label = f"{self.node_id}/{group.name}"
        is_lasting = not (is_volatile(storage) or getattr(self._storage, "is_volatile", False))
        replace = options.auto_replace
        return NodeRunner(
            self.node_id,
            cluster_id=f"{self._cluster_id}/{group.name}",
            timing=self._timing,
            limits=self._limits,
            rng=self._rng,
            machine=options.machine,
            storage=storage,
            transport=transport,
            logger=TraceLogger(self._logger_given, label),
            auto_replace=not is_lasting if replace is None else replace,
            bootstrap=bootstrap_configuration(self.node_id, options.voters, transport),
            features=options.features,
            hosting=Hosting(label, group.hosting_at, group.goes_first, self._beat_at),
        )

    def _beat_at(self, due_s: float) -> float:
        """The next of the moments at which the heartbeats of all groups leave."""
        if due_s == math.inf:
            return due_s
        return max(due_s, math.ceil(due_s / self._beat_s) * self._beat_s)  # a product may round

    def start(self, group: Group) -> None:
        """See `GroupHost`."""
        if self._nursery is None:
            raise NodeDead(f"process {self.node_id!r} is over: group {group.name!r} stays asleep")
        self._awake[group.name] = group
        label = f"{self.node_id}/{group.name}"
        # A node lives in the context of its process, and not of whoever happens to wake it.
        self._context.run(partial(self._nursery.start_soon, group.live, name=f"raft[{label}]"))

    def on_awake(self, group: Group) -> None:
        """See `GroupHost`."""
        self.changed.unpark_all()

    def on_falling(self, group: Group) -> None:
        """See `GroupHost`: what comes from now on may wake it."""
        self.multiplexer.running.pop(group.name, None)

    def on_over(self, group: Group) -> None:
        """See `GroupHost`."""
        self.changed.unpark_all()

    def on_asleep(self, group: Group) -> None:
        """Its node has ended: tell whoever has asked for it."""
        self.changed.unpark_all()
        self._awake.pop(group.name, None)
        slept = group.slept
        if slept is not None and slept.leader_id not in (None, self.node_id):
            note = GroupNote(group.name, notes.ASLEEP, slept.term, slept.last_index)
            self.multiplexer.note(str(slept.leader_id), note)

    def wants_awake(self, group: Group) -> bool:
        """See `GroupHost`. Whoever led is asked to wake, too; if it is not there, this process goes
        first."""
        slept = group.slept
        if slept is None:
            return ranked(group.name, group.voters)[:1] == [self.node_id]
        leader_id = slept.leader_id
        if leader_id is None or leader_id == self.node_id:
            return True
        if not self.presence.is_there(leader_id):
            return True
        self.multiplexer.note(leader_id, GroupNote(group.name, notes.WAKE))
        return False

    # -- the multiplexer's host ------------------------------------------------------------

    def leads(self) -> int:
        """How many groups this process leads, as counted with the last pulse: each frame says it,
        and to count a thousand takes longer than to send one."""
        return self._led

    def count_led(self) -> int:
        """How many it leads now, or led when they fell asleep."""
        self._led = sum(group.is_led_here for group in self.groups.values())
        return self._led

    def has_member(self, peer: NodeId) -> bool:
        """See `MultiplexerHost`."""
        return any(peer in members for members in self._members.values())

    def on_heard(self, peer: NodeId, life: Incarnation, leads: int) -> bool:
        """See `MultiplexerHost`."""
        return self.presence.heard(peer, life, leads, trio.current_time())

    def on_process_lost(self, peer: NodeId) -> None:
        """See `MultiplexerHost`."""
        self.presence.lost(peer)
        self._gone.add(peer)
        self._lost.set()

    def on_transport_event(self, event: TransportEvent) -> None:
        """See `MultiplexerHost`."""
        if self._logger.enabled:
            self._logger.event(event)

    def on_group_failed(self, group: str, error: Exception) -> None:
        """See `MultiplexerHost`."""
        found = self.groups.get(group)
        if found is not None:
            found.fail(error)

    def on_absent(self, peer: NodeId, message: GroupMessage) -> None:
        """A message for a group without a node: it wakes one, or is kept until one is there."""
        group = self.groups.get(message.group)
        if group is None:
            self.multiplexer.note(peer, GroupNote(message.group, notes.UNKNOWN))
            return
        if group.phase is GroupPhase.OVER:
            return
        if group.phase is GroupPhase.ASLEEP or group.phase is GroupPhase.FALLING:
            decoded = self.multiplexer.decoded(peer, message)
            if not self._is_call(group, decoded):
                return
            led_here = group.slept is not None and group.slept.leader_id == self.node_id
            group.wake(
                goes_first=led_here and not isinstance(decoded, RequestVote | RequestPreVote)
            )
        self.multiplexer.keep(peer, message)

    def _is_call(self, group: Group, message: Message) -> bool:
        """Whether this wakes a group. What its leader had sent before it knew that this process
        sleeps says nothing new."""
        if isinstance(message, Introduction):
            return message.wants_reply
        slept = group.slept
        if isinstance(message, AppendEntries) and not message.entries and slept is not None:
            is_late = trio.current_time() - slept.since_s < self._timing.election_timeout_s[1]
            knows = message.prev_log_index <= slept.last_index and message.term <= slept.term
            return not (is_late and knows)
        return isinstance(message, CALLS)

    def on_note(self, peer: NodeId, note: GroupNote) -> None:
        """See `MultiplexerHost`."""
        group = self.groups.get(note.group)
        if group is None:
            if note.kind in (notes.ASK_SLEEP, notes.WAKE):
                self.multiplexer.note(peer, GroupNote(note.group, notes.UNKNOWN))
        elif note.kind == notes.ASK_SLEEP:
            self._on_ask_sleep(group, peer, note)
        elif note.kind == notes.ASLEEP:
            self._on_other_asleep(group, peer, note)
        elif note.kind in (notes.STAYS_AWAKE, notes.UNKNOWN):
            self._stay_awake(group)
        elif note.kind == notes.WAKE:
            if group.phase is GroupPhase.AWAKE:
                group.touch()
                self._stay_awake(group)  # whoever agreed to sleep is awake again
            led_here = group.slept is not None and group.slept.leader_id == self.node_id
            group.wake(goes_first=led_here)

    # -- hibernation -----------------------------------------------------------------------

    async def _run_watch(self, after_s: float) -> None:
        """Look now and then which groups were quiet, and spread leaders."""
        pause_s = max(after_s / LOOKS_PER_QUIET, LOOK_S_MIN)
        while True:
            await trio.sleep(pause_s)  # a time has to pass, and nothing else
            now = trio.current_time()
            quiet = [group for group in self._awake.values() if self._is_quiet(group, after_s, now)]
            moved = self._spread(now)
            for group in quiet:
                if group.name not in moved:
                    self._ask_to_sleep(group, now)
            for group in list(self._awake.values()):
                ask = group.asked_sleep
                if ask is not None and now >= ask.until_s:
                    self._stay_awake(group)

    def _is_quiet(self, group: Group, after_s: float, now: float) -> bool:
        raft = None if group.runner is None else group.runner.raft
        if group.phase is not GroupPhase.AWAKE or raft is None:
            return False
        at = (raft.term, raft.log.last_index, raft.leader_id)
        if group.quiet_at != at or group.awake_for() is not None:
            group.quiet_at, group.quiet_since_s = at, now
            return False
        return now - group.quiet_since_s >= after_s

    def _others(self, group: Group) -> frozenset[NodeId]:
        raft = None if group.runner is None else group.runner.raft
        if raft is None:
            return frozenset(group.voters) - {self.node_id}
        return frozenset(raft.configuration.members) - {self.node_id}

    def _ask_to_sleep(self, group: Group, now: float) -> None:
        """This process leads a group that was quiet: ask the others, if all are there."""
        raft = None if group.runner is None else group.runner.raft
        if raft is None or raft.leadership is None or group.asked_sleep is not None:
            return
        others = self._others(group)
        self._members[group.name] = others | {self.node_id}
        if not all(map(self.presence.is_there, others)):
            return
        if not others:
            group.fall_asleep()
            return
        until_s = now + self._timing.election_timeout_s[0] / 2
        last_index = raft.log.last_index
        group.asked_sleep = SleepAsk(raft.term, last_index, set(others), set(), until_s)
        note = GroupNote(group.name, notes.ASK_SLEEP, raft.term, last_index)
        for peer in sorted(others):
            self.multiplexer.note(peer, note)

    def _on_ask_sleep(self, group: Group, peer: NodeId, note: GroupNote) -> None:
        """The leader asks: yes, in exactly that state, once the node has ended."""
        slept = group.slept
        named = (peer, note.term, note.index)
        if (
            group.phase is GroupPhase.ASLEEP
            and slept is not None
            and (slept.leader_id, slept.term, slept.last_index) == named
        ):
            answer = GroupNote(group.name, notes.ASLEEP, note.term, note.index)
            self.multiplexer.note(peer, answer)
            return
        raft = None if group.runner is None else group.runner.raft
        agrees = (
            group.phase is GroupPhase.AWAKE
            and raft is not None
            and (raft.leader_id, raft.term, raft.log.last_index) == named
            and group.awake_for() is None
        )
        if agrees and raft is not None:
            self._members[group.name] = frozenset(raft.configuration.members)
            group.fall_asleep()
        else:
            self.multiplexer.note(peer, GroupNote(group.name, notes.STAYS_AWAKE))

    def _on_other_asleep(self, group: Group, peer: NodeId, note: GroupNote) -> None:
        ask, runner = group.asked_sleep, group.runner
        if not isinstance(ask, SleepAsk) or (ask.term, ask.last_index) != (note.term, note.index):
            if group.phase is GroupPhase.AWAKE:
                self.multiplexer.note(peer, GroupNote(group.name, notes.WAKE))
            return
        ask.waiting.discard(peer)
        ask.asleep.add(peer)
        if ask.waiting:
            return
        raft = None if runner is None else runner.raft
        is_as_asked = (
            raft is not None
            and raft.leadership is not None
            and (raft.term, raft.log.last_index) == (ask.term, ask.last_index)
            and group.awake_for() is None
        )
        if is_as_asked:
            group.fall_asleep()
        else:
            self._stay_awake(group)

    def _stay_awake(self, group: Group) -> None:
        """Not now: whoever sleeps already is woken, and all are asked again when as much time has
        passed."""
        ask = group.asked_sleep
        if isinstance(ask, SleepAsk):
            group.asked_sleep = None
            group.touch()
            for peer in sorted(ask.asleep | ask.waiting):
                self.multiplexer.note(peer, GroupNote(group.name, notes.WAKE))

    # -- processes that come and go --------------------------------------------------------

    async def _run_pulse(self) -> None:
        """Be heard by every process, and notice who is not heard."""
        while True:
            await trio.sleep(self.presence.pulse_s)  # a time has to pass, and nothing else
            peers = set().union(*self._members.values()) - {self.node_id}
            self.count_led()
            for peer in sorted(peers):
                self.multiplexer.send_pulse(peer)
            for peer in self.presence.newly_silent(trio.current_time()):
                self._gone.add(peer)
                self._lost.set()

    async def _run_waker(self) -> None:
        """Wake the groups whose leader's process is gone, a few at a time."""
        while True:
            await self._lost.wait()
            gone, self._gone = self._gone, set()
            for is_last_chance in (False, True):
                slots = trio.Semaphore(WAKING_MAX)
                async with trio.open_nursery() as waking:
                    for group in self._left_by(gone):
                        if is_last_chance or self._is_next(group, gone):
                            await slots.acquire()
                            name = f"{self.name}.waking"
                            waking.start_soon(self._wake_and_settle, group, slots, name=name)
                await trio.sleep(self._timing.election_timeout_s[1])  # others may be first

    def _left_by(self, gone: Collection[NodeId]) -> list[Group]:
        left = [
            group
            for group in self.groups.values()
            if group.phase is GroupPhase.ASLEEP
            and group.slept is not None
            and group.slept.leader_id in gone
        ]
        self._rng.shuffle(left)
        return left

    def _is_next(self, group: Group, gone: Collection[NodeId]) -> bool:
        """Whether of those that are there this process is the first that is to lead."""
        there = [voter for voter in group.voters if voter not in gone]
        return ranked(group.name, there)[:1] == [self.node_id]

    async def _wake_and_settle(self, group: Group, slots: trio.Semaphore) -> None:
        """Wake it, unless its leader is back, and wait until it has another, or should have."""
        leader_id = None if group.slept is None else group.slept.leader_id
        is_back = leader_id is not None and self.presence.is_there(leader_id)
        if group.phase is GroupPhase.ASLEEP and not is_back:
            group.wake(goes_first=True)
            with trio.move_on_after(2 * self._timing.election_timeout_s[1]):
                try:
                    async with group.awake() as node:
                        await node.wait(lambda status: status.leader_id is not None)
                except Exception:  # noqa: BLE001, S110 - whoever has opened the group is told
                    pass
        slots.release()

    # -- spreading leaders -----------------------------------------------------------------

    def _spread(self, now: float) -> set[str]:
        """Give leaderships away, where this process leads more than its share. Returns of which."""
        others = self.presence.leads()
        own = self.count_led()
        moved: set[str] = set()
        left = min(MOVES_MAX, surplus(own, others))
        for group in list(self._awake.values()):
            if not left:
                break
            to = self._movable_to(group, own, others, now)
            if to is not None and self._nursery is not None:
                left, own = left - 1, own - 1
                others[to] += 1
                moved.add(group.name)
                group.moved_s = now
                self._nursery.start_soon(self._move, group, to, name=f"{self.name}.move")
        return moved

    def _movable_to(
        self, group: Group, own: int, others: dict[NodeId, int], now: float
    ) -> NodeId | None:
        raft = None if group.runner is None else group.runner.raft
        if group.phase is not GroupPhase.AWAKE or raft is None or raft.leadership is None:
            return None
        is_settled = raft.leadership.unfinished() is None
        if not is_settled or now - group.moved_s < MOVE_AGAIN_S or group.asked_sleep is not None:
            return None
        return taker(own, others, [v for v in raft.configuration.voters if v != self.node_id])

    async def _move(self, group: Group, to: NodeId) -> None:
        if group.runner is None:
            return
        try:
            await Administration(group.runner).transfer(to, None)
        except (TransferFailed, NotLeader, NodeDead, ConfigError, ProposalDropped):
            return  # another time, or another way


@opened_under("trio")
@asynccontextmanager
async def open_groups(
    node_id: NodeId,
    *,
    storage: GroupStorages,
    transport: Transport,
    cluster_id: str = "trioraft",
    timing: Timing | None = None,
    limits: Limits | None = None,
    hibernate_after_s: float | None = 5.0,
    rng: random.Random | None = None,
    logger: AnyLogger | None = None,
) -> AsyncIterator[Groups]:
    """Open a process of many Raft groups, for the body of the `async with`; see `open_group`.

    Args:
        node_id: this process's name: its members have it in all groups.
        storage: where all of them survive.
        transport: one for all of them; how the other processes are reached.
        cluster_id, timing, limits: as of `open_node`, the same for all groups.
        hibernate_after_s: a group that was quiet for so long, in seconds, gives its tasks and
            memory back until it is needed (docs/many-groups.md). None: never.
        rng: source of the randomised timeouts; give a seeded one for repeatable tests.
        logger: as of `open_node`.

    Yields:
        The process, for `open_group`.

    Raises:
        ConfigError: an argument cannot work.
        StorageError: the storage is in use, or belongs to another process.
        OSError: the transport cannot listen.

    Cancelling or leaving the body ends every node: leave the groups first, as nested `async with`
    do.
    """
    check_id("node_id", node_id)
    check_id("cluster_id", cluster_id)
    if transport.node_id != node_id:
        raise ConfigError(
            f"the transport is process {transport.node_id!r}'s, but node_id is {node_id!r}: give "
            "each process its own transport"
        )
    if hibernate_after_s is not None and not (0 < hibernate_after_s < math.inf):
        raise ConfigError(
            f"hibernate_after_s is {hibernate_after_s!r}: give a positive time in seconds, or None"
        )
    host = Host(
        node_id,
        storage=storage,
        transport=transport,
        cluster_id=cluster_id,
        timing=timing or Timing(),
        limits=limits or Limits(),
        hibernate_after_s=hibernate_after_s,
        rng=rng or random.Random(),
        logger=logger,
    )
    async with running_beside(host.run, stop=host.stop, name=host.name):
        yield Groups(host)


@opened_under("trio")
@asynccontextmanager
async def open_group(
    groups: Groups,
    name: str,
    *,
    voters: Iterable[NodeId],
    machine: StateMachine,
    auto_replace: bool | None = None,
    features: Iterable[str] | None = None,
) -> AsyncIterator[Group]:
    """Open one group's member in this process, for the body of the `async with`.

    Leaving the body, by an error or a cancellation too, hands the leadership over, if there is one
    here, and ends the member: nothing of it is left in this process.

    Args:
        groups: the process.
        name: of the group: 1 to 64 letters, digits and `_.:/-`, the same in all its processes.
        voters: the processes of a new group, this one included; later its log counts. Empty: join,
            once its leader adds this process.
        machine: as of `open_node`. It stays in memory while the group hibernates.
        auto_replace, features: as of `open_node`.

    Yields:
        The group, awake.

    Raises:
        ConfigError: an argument cannot work, or the group is open here already.
        NodeDead: the process is over.
        StorageError: the group's storage fails, also later.
        InvariantViolation: a bug in trioraft; the group is over.
    """
    check_machine(machine)
    ids = checked_ids("voters", voters)
    host = groups._host
    bootstrap_configuration(host.node_id, ids, host.multiplexer.real)
    options = GroupOptions(
        checked_name(name), ids, hosted(machine), checked_features(features), auto_replace
    )
    group = host.add(options)
    body_error: Exception | None = None
    try:
        with group.body_scope:  # a node that fails ends the body, and its error is raised below
            try:
                async with group.awake():
                    pass
                yield group
            except Exception as error:  # noqa: BLE001 - raised again below
                body_error = error
    finally:
        with trio.CancelScope(shield=True):
            await host.remove(group)
    failure = group.failure
    if failure is not None and failure is not body_error:
        raise failure from (failure.__cause__ or body_error)
    if body_error is not None:
        raise body_error
