"""NodeRunner: runs one member under Trio. It owns every task, thread and socket of a node.

* The member is touched from the Trio thread only. Whoever brings an input runs the member in its
  own task, without a detour through another: the transport after each batch of messages, the timer,
  the storage after a write. What callers bring (proposals, reads, transfers, changes of members)
  waits for the driver task: it comes round once for all that was brought meanwhile, that is where
  batches come from, and what fails then ends the node and not its caller.
* Commands are applied by the driver task alone, always at the same depth of the stack: in the stack
  of whoever brought the input, one node would be out of depth where others are not (hazard E1).
* Becoming Dead is synchronous; when `run` returns, no task, thread or socket of the node is left.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from types import FrameType
from typing import TypeVar, cast, final

import attrs
import trio

from ..core import events
from ..core.config import Limits, Timing
from ..core.errors import (
    ConfigError,
    InvariantViolation,
    NodeDead,
    NotLeader,
    Overloaded,
    ProposalDropped,
    RaftError,
    ResourceExhausted,
    SnapshotGone,
    ThreadsExhausted,
)
from ..core.messages import Forward, Introduction, Message
from ..core.pace import Pace
from ..core.raft import Raft
from ..core.ready import ChunkRequest, SnapshotChunk, Write
from ..core.reconfiguration import Change, MembershipChange
from ..core.transfer import Transfer
from ..core.types import (
    MEMBERS_MAX,
    Address,
    Configuration,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    SnapshotMeta,
    Term,
)
from ..logs.loggers import TraceLogger
from ..member.actions import (
    AdmitClients,
    Apply,
    Compact,
    Install,
    Runner,
    SaveSnapshot,
    StorageStep,
)
from ..member.identity import encode_identity, opened
from ..member.lineage import Lineage
from ..member.member import Member, voters_ignored
from ..member.results import restore
from ..member.state_machine import StateMachine, timed
from ..member.status import Status, status_before_start, status_of
from ..storage.base import Storage
from ..tasks.byte_budget import ByteBudget
from ..tasks.wakeup import Wakeup
from ..transport.base import LinkDown, LinkUp, Transport, TransportEvent
from .due import DueTask
from .event_stream import EventStream, NodeEvent
from .hosting import Hosting, MachineAt
from .inline_writes import InlineWrites
from .meter import Meter
from .peers import MemberLinks
from .proposal import Proposal
from .readers import Readers, ToldOfRead
from .status_waits import StatusWaits
from .storage_calls import DISK_NUMBERS, StorageCalls
from .suspension import Suspension
from .traced import TracedCommands

T = TypeVar("T")

DRAIN_PASSES = 3
"""Scheduler passes that pending input gets before a due timer is believed (hazard L6): one in
which Trio notices it, one in which its reader runs, one for a reader that was not ready."""

TOO_SHORT_HEARTBEATS = 20
"""So many heartbeats in a row find the timing too short for what is measured before it is told: by
then the measurement has settled, and is no hiccup."""

STACK_FRAMES_MIN = 500
"""Room in the stack that commands have at least."""

PRESS_AGAIN_S = 5.0
"""Pause, in seconds, between two snapshots that are tried because the log is too long."""

DISK_FULL_RETRY_S = 0.1
"""How long a full disk is left alone before the write is tried again; and so with whatever else a
storage may lack (hazard G5)."""

SNAPSHOT_BYTES_PER_S_MAX = 64 * 1024 * 1024
"""How fast a snapshot is written for a backup, in bytes a second: at full speed, commits had a tail
of 100 ms meanwhile, where several nodes shared two processors and a disk. (The log grows until one
is written that it needs itself: that is done at full speed.)"""

SNAPSHOT_AHEAD_S = 0.002
"""It pauses when it is so much ahead of that, in seconds."""

LINKS_MAX = 4 * MEMBERS_MAX
"""Peers of which it is noted whether a link to them is up; members are never left out."""


TURN_S = 0.0005
"""A thread that encodes a snapshot lets the others have their turn after so much work, in seconds:
the loop, when it wakes, waits for an interpreter that is busy until the thread lets go of it, which
it does by itself after 5 ms."""

REST_S_MAX = 0.01
"""So long it pauses at most, in seconds: as long as it has worked."""


class _AbandonedError(Exception):
    """The node died while its snapshot was being written: nobody wants the rest."""


@final
class NodeRunner:
    """Runs one member: a `TransportOwner` towards the network, a set of tasks towards Trio."""

    node_id: NodeId
    name: str
    """Of its tasks."""
    timing: Timing
    limits: Limits
    is_dead: bool
    traced: TracedCommands | None
    """What follows single commands, if anybody gave a tracer."""
    cluster_id: str
    afterwards: list[Callable[[], None]]
    """What is to be done as soon as the member stands still, for who waits in no task. It must not
    raise."""
    status_changed: trio.lowlevel.ParkingLot
    """For a wait that looks at more than the status, and so for itself."""
    before_leaving: list[Callable[[], Awaitable[None]]]
    """What is to be done when the node leaves, while it still takes part."""
    links: dict[NodeId, bool]
    """Whether the connection to each peer is up, as the transport tells."""
    _failure: BaseException | None
    _broken: BaseException | None
    _leader_scope: trio.CancelScope | None
    _leading_term: Term | None

    def __init__(
        self,
        node_id: NodeId,
        *,
        cluster_id: str,
        timing: Timing,
        limits: Limits,
        rng: random.Random,
        machine: StateMachine,
        storage: Storage,
        transport: Transport,
        logger: TraceLogger,
        auto_replace: bool,
        bootstrap: Configuration,
        features: tuple[str, ...],
        traced: TracedCommands | None = None,
        hosting: Hosting | None = None,
    ) -> None:
        self.node_id, self._hosting = node_id, hosting or Hosting(node_id)
        self.name = f"raft[{self._hosting.label}]"
        self.timing, self.limits, self.is_dead, self.traced = timing, limits, False, traced
        self.member: Member | None = None
        """None until the storage is open."""
        self.budget: ByteBudget = ByteBudget(limits.proposals_bytes_max)
        self.status_changed = trio.lowlevel.ParkingLot()
        self.waits: StatusWaits = StatusWaits(self._look_later)
        self.afterwards, self.before_leaving, self.links = [], [], {}
        self.cluster_id, self._rng = cluster_id, rng
        self._suspension = None if timing.lease_clock_drift_max is None else Suspension()
        self._machine, self._timed = machine, timed(machine)
        self._due: DueTask | None = None  # while this node leads, if anything ends by itself
        self._calls = StorageCalls(storage, f"{self.name}.disk")
        self._inline = InlineWrites(storage, is_allowed=self._calls.in_threads)
        self._storage, self._transport = storage, transport
        self._member_links = MemberLinks(transport)
        self._logger, self._auto_replace = logger, auto_replace
        self._bootstrap, self._features = bootstrap, features
        self._forming_since_s: float | None = None
        self._forming_said: Mapping[NodeId, str] = {}
        self.lineage: Lineage | None = None
        """Whose disk this is; None until the storage is open."""
        self.meter: Meter | None = None  # while somebody wants to know
        self._new_proposal: Callable[[int, ByteBudget], Proposal] = Proposal
        self._streams: list[EventStream] = []
        self._nursery: trio.Nursery | None = None
        self._timer_scope, self._heartbeat_scope = trio.CancelScope(), trio.CancelScope()
        self._timer_s = self._heartbeat_s = -math.inf  # until when they sleep at most
        self._leader_scope, self._leading_term = None, None
        self._now: Callable[[], float] = trio.current_time
        self._is_asked = False  # a caller brought something since the driver last came round
        self._is_acting, self._broken = False, None  # what a caller has found broken: the driver's
        self._answered = self._answered_readers = 0  # in one go, the last time that anybody was
        self._is_writing, self._failure = False, None  # in the thread; for the storage task
        self._admits, self._in_haste = False, 0  # a new leader's clients; who awaits a snapshot
        self._batch_s, self._press_again_s = 0.0, -math.inf  # the latter: for the log's length
        self._step: StorageStep | None = None  # for the storage task
        self._storage_work, self._restore_work = Wakeup(), Wakeup()
        self._readers: dict[bool, Readers] = {}  # by the kind of batch, the latest one
        self._chunk_requests: deque[ChunkRequest] = deque()
        self._chunk_work, self._work = Wakeup(), Wakeup()

    @property
    def raft(self) -> Raft | None:
        """The core; None until the storage is open."""
        return None if self.member is None else self.member.raft

    # -- life ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until killed, cancelled or failed; `started()` once the node can be reached.

        Raises:
            StorageError: the storage cannot be opened, or failed.
            OSError: the transport cannot listen.
            InvariantViolation: a bug in trioraft.
        """
        storage, bootstrap = self._storage, Recovered(configuration=self._bootstrap)
        self._now = trio.lowlevel.current_clock().current_time  # a third of the calls
        try:
            recovered = await self._calls.write(
                lambda: storage.open(cluster_id=self.cluster_id, node_id=self.node_id)
            )
        except BaseException:
            self._calls.end()
            raise
        try:
            identified = await self._identify(recovered, bootstrap)
            await self._live(identified, bootstrap, task_status)
        finally:
            self.kill("left")
            with trio.CancelScope(shield=True):
                await self._calls.close()

    async def _identify(self, recovered: Recovered | None, bootstrap: Recovered) -> Recovered:
        """Whose disk this is, durable before anybody hears of it; and what follows from it."""
        voters, others = bootstrap.configuration.voters, self._transport.given_peers
        identity = opened(
            None if recovered is None else recovered.identity,
            cluster_id=self.cluster_id,
            node_id=self.node_id,
            voters=voters,
            others=others,
            rng=DISK_NUMBERS.get(),
        )
        write = Write(None, (), None, encode_identity(identity))
        await self._make(write, None)
        self.lineage = Lineage(
            self.node_id,
            cluster_id=self.cluster_id,
            identity=identity,
            voters=voters,
            others=others,
            addresses=bootstrap.configuration.addresses,
            features=self._features,
        )
        machine_at = self._hosting.machine_at
        return attrs.evolve(
            recovered or Recovered(),
            configuration=identity.base(bootstrap.configuration.addresses),
            incarnation=identity.incarnation,
            applied=None if machine_at is None else (machine_at.index, machine_at.term),
        )

    async def _live(
        self, recovered: Recovered, bootstrap: Recovered, task_status: trio.TaskStatus[None]
    ) -> None:
        raft = Raft(
            self.node_id, recovered, self.timing, self.limits, self._rng, features=self._features
        )
        raft.replaces_lost_disks = self._auto_replace
        raft.goes_first = self._hosting.goes_first
        for notice in (*self._storage.notices, *voters_ignored(raft, bootstrap)):
            self._tell(events.StorageNotice(trio.current_time(), notice))
        machine_at, checksum = self._hosting.machine_at, cast("int | None", 0)
        if machine_at is not None and raft.log.applied_index == machine_at.index:
            checksum = machine_at.checksum
        elif recovered.snapshot is not None:
            checksum = await self._restore_machine(recovered.snapshot)
        runner = Runner(
            send=self._transport.send,
            store=self._store,
            apply=self._apply,
            save_snapshot=self._save_snapshot,
            read_chunk=self._read_chunk,
            admit_clients=self._admit_clients,
            tell=self._tell,
            make_room=self._make_room,
        )
        member = Member(raft, self._machine, self.limits, runner, self.lineage, checksum=checksum)
        name = self.name
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.member = member
            self._listeners_changed()
            member.start(trio.current_time())  # before the first message can arrive
            await nursery.start(self._run_transport, name=f"{name}.transport")
            nursery.start_soon(self._drive, name=f"{name}.driver")
            nursery.start_soon(self._watch_timer, member, name=f"{name}.election_timer")
            nursery.start_soon(self._run_storage, member, name=f"{name}.storage")
            nursery.start_soon(self._run_restore, member, name=f"{name}.restore")
            self._act()
            task_status.started()

    def kill(self, cause: str) -> None:
        """Become Dead, now: no vote, no message, no result after this. Idempotent."""
        if self.is_dead:
            return
        self.is_dead = True
        if self.member is not None:
            self.member.stop(cause, trio.current_time())
        self.budget.turn_away()
        for stream in self._streams:
            stream.end()
        self.status_changed.unpark_all()
        if self.waits:
            self.waits.on_dead(self.status())
        self._do_afterwards()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def unfinished(self) -> str | None:
        """What this node has under way, in a word or two; None: it could end now, and another life
        go on later, and nobody would notice. A node that is not alive is not finished."""
        member, step = self.member, self._step
        if member is None or self.is_dead:
            return "no node"
        is_watched = self.waits or self._streams or self.status_changed
        if self._is_asked or self.budget.taken_bytes or is_watched:
            return "a caller"
        if step is not None or self._chunk_requests or self._admits:
            return "a write"
        timed = None if self._due is None else self._timed
        if timed is not None and timed.due_in_s(trio.current_time()) is not None:
            return "something that ends by itself"
        return member.unfinished()

    def machine_at(self) -> MachineAt:
        """Where the state machine stands, for the next life. To be asked when this one is over."""
        member = self.member
        if member is None:
            raise InvariantViolation("a node that never lived has brought its machine nowhere")
        index = member.applies.applied_index
        term = member.raft.log.term_at(index)
        if term is None or member.applies.has_failed:
            raise InvariantViolation(f"the machine stands at entry {index}, half-way or nowhere")
        return MachineAt(index, term, member.applies.checksum.value)

    def expected_tasks(self) -> frozenset[str]:
        """Names of the tasks that the node's present role owns, connections apart."""
        if self.is_dead or self.member is None:
            return frozenset()
        roles = ["driver", "election_timer", "storage", "restore", "transport"]
        if self._leading_term is not None:
            roles += [f"leader(term={self._leading_term})", "heartbeat", "snapshot_sender"]
            roles += [] if self._timed is None else ["due"]
        return frozenset({self.name, *(f"{self.name}.{role}" for role in roles)})

    # -- running the member ----------------------------------------------------------------

    def _act(self) -> None:
        """Carry out what the inputs so far ask for; timers, role tasks and watchers follow."""
        member = self.member
        if member is None or self.is_dead:
            return
        self._is_acting = True
        now = self._now()
        if self._suspension is not None and self._suspension.is_over():  # before a read trusts it
            member.on_woken(now)
        member.run(now)
        if self.is_dead:
            return  # a command of the user's has killed its own node
        raft = member.raft
        deadline, heartbeat = member.deadline, raft.heartbeat_deadline
        if deadline is not None and deadline < self._timer_s:
            self._timer_scope.deadline = self._timer_s = deadline
        if heartbeat is not None and heartbeat < self._heartbeat_s:
            self._heartbeat_s = heartbeat
            self._heartbeat_scope.deadline = self._hosting.beat_at(heartbeat)
        if member.leading_term != self._leading_term:
            self._change_leader_tasks(member)
        lineage = self.lineage
        if lineage is not None and not lineage.identity.formed and lineage.is_forming:
            self._say_whom_it_waits_for(lineage, now)
        self._member_links.follow(raft)
        if member.reads.new and raft.leader_id is not None:
            self._ask()
        if self.meter is not None:
            self.meter.on_acted(raft, now, self._batch_s)
        self._wake(raft, now)
        self._is_acting = False
        if self.afterwards:
            self._do_afterwards()

    def _act_if_needed(self) -> None:
        """As `_act`, after what may well have brought about nothing, and moved no timer ahead."""
        member = self.member
        if (
            member is None
            or not member.is_settled
            or self.waits.waiting
            or self.status_changed
            or self.meter is not None
        ):
            self._act()

    def _do_afterwards(self) -> None:
        while self.afterwards:
            calls, self.afterwards = self.afterwards, []
            for call in calls:
                call()

    def _wake(self, raft: Raft, now: float) -> None:
        """Whoever waits for something of this node looks again."""
        if self.status_changed:
            self.status_changed.unpark_all()
        if self.waits.waiting:
            self.waits.on_input(raft, now, self.status)

    def status(self) -> Status:
        """What the node is at this moment; also of a node that is Dead."""
        raft = self.raft
        if raft is None:
            role = Role.DEAD if self.is_dead else Role.FOLLOWER
            return status_before_start(self.node_id, role, self._bootstrap)
        return status_of(raft, self.links, self.lineage, self.certificate_expires_s)

    def _look_later(self, until_s: float) -> None:
        if self._nursery is not None:
            look = self.waits.look_at
            self._nursery.start_soon(look, until_s, self.status, name=f"{self.name}.waits")

    def _say_whom_it_waits_for(self, lineage: Lineage, now: float) -> None:
        """Once a usual forming would be through, and whenever it is somebody else, or for another
        reason."""
        if self._forming_since_s is None:
            self._forming_since_s = now
        problems = lineage.problems()
        is_late = now - self._forming_since_s >= self.timing.election_timeout_s[1]
        if is_late and problems and problems != self._forming_said:
            self._forming_said = problems
            self._tell(events.Forming(now, tuple(problems), tuple(problems.values())))

    def _input(self, bring: Callable[[Member, float], object]) -> None:
        """Bring an input, unless the node is Dead, and act on it."""
        member = self.member
        if member is not None and not self.is_dead:
            bring(member, trio.current_time())
            self._act()

    def _change_leader_tasks(self, member: Member) -> None:
        if self._leader_scope is not None:
            self._leader_scope.cancel()
            self._leader_scope = self._due = None
            self._chunk_requests.clear()
            self.budget.turn_away()  # they are told who leads now
        term = self._leading_term = member.leading_term
        if term is not None and self._nursery is not None:
            scope = self._leader_scope = trio.CancelScope()
            name = f"{self.name}.leader(term={term})"
            self._nursery.start_soon(self._lead, member, scope, name=name)

    async def _drive(self) -> None:
        """Come round for what callers brought, and for what is to be applied."""
        _check_stack()
        while True:
            await self._work.wait()
            if self._broken is not None:
                raise self._broken
            if self._admits:
                await trio.lowlevel.checkpoint()  # those who waited for a leader run meanwhile
                self._admits = False
                if self.member is not None:
                    self.member.go_on()
            is_newer = has_applied = self._apply_slice()
            if not has_applied or self._is_asked:
                self._is_asked = False
                self._act()
                has_applied = not has_applied and self._apply_slice()  # it was committed just now
                is_newer = is_newer or has_applied
            if is_newer and self._due is not None:
                self._due.look()
            if has_applied:
                self._follow_applied()

    def _follow_applied(self) -> None:
        """Act on what the state machine has done; mostly that brings about nothing."""
        member = self.member
        if member is not None and not member.is_settled:
            self._act()
        elif member is not None:
            self._wake(member.raft, self._now())

    def _ask(self) -> None:
        """A caller has brought something."""
        self._is_asked = True
        self._work.set()

    def _bring(self, *, is_alone: bool) -> None:
        """As `_ask`; a caller who is alone need not wait for the driver to come round."""
        member = self.member
        if not is_alone or self._is_acting or member is None or member.applies.is_busy:
            self._ask()
        else:
            self._act_for_caller()

    @trio.lowlevel.enable_ki_protection
    def _act_for_caller(self) -> None:
        """Act in a caller's task, which neither breaks the node by Ctrl-C nor by its own end."""
        try:
            self._act()
        except BaseException as failure:  # noqa: BLE001 - the driver raises it, as if it were its own
            self._broken = failure
            self._ask()

    def _admit_clients(self, _: AdmitClients) -> None:
        self._admits = True
        self._ask()

    @property
    def storage(self) -> Storage:
        """Where term, vote and log survive."""
        return self._storage

    def usage(self) -> Mapping[str, tuple[int, int | None]]:
        """What the state machine counts against bounds of its own."""
        told: Callable[[], Mapping[str, tuple[int, int | None]]] | None
        told = getattr(self._machine, "usage", None)
        return {} if told is None else told()

    def budgets(self) -> dict[str, tuple[int, int]]:
        """See `Node.budgets`."""
        told = getattr(self._transport, "budgets", None)  # transports of others need not have it
        of_peers: dict[str, tuple[int, int]] = {} if told is None else told()
        return {
            "proposals_bytes": (self.budget.taken_bytes, self.budget.bytes_max),
            "log_bytes": self.log_bytes,
            **of_peers,
        }

    @property
    def log_bytes(self) -> tuple[int, int]:
        """What the log holds in memory, and the bound on it."""
        held_bytes = 0 if self.raft is None else self.raft.log.memory_bytes
        return held_bytes, self.limits.log_memory_bytes_bound

    def check_log_room(self) -> None:
        """Have a snapshot tried, now and then, while the log is too long.

        Raises:
            Overloaded: it is.
        """
        held_bytes, bound = self.log_bytes
        if held_bytes <= bound:
            return
        now_s = trio.current_time()
        if self.member is not None and now_s >= self._press_again_s:
            self._press_again_s = now_s + PRESS_AGAIN_S
            self.member.press_snapshot()
            self._ask()
        raise Overloaded(
            f"the log in memory has {held_bytes} bytes, more than Limits.log_memory_bytes_max "
            f"({bound}): no snapshot could be written for long, the node's own log says why; "
            "nothing is taken until one is"
        )

    def invite(self, node_id: NodeId, valid_s: float) -> str:
        """See `Node.invite`."""
        invite = getattr(self._transport, "invite", None)
        if invite is None:
            raise ConfigError(
                f"a {type(self._transport).__name__} asks nobody for an invitation: start the new "
                "node without one"
            )
        return str(invite(node_id, valid_s, cluster_id=self.cluster_id))

    # -- the transport's owner -------------------------------------------------------------

    def introduction(self, peer: NodeId) -> Introduction:
        """What this node says of itself to that peer."""
        if self.lineage is None:
            raise InvariantViolation("the transport runs before the storage is open")
        return self.lineage.introduction(peer)

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        """Which disk the configuration names for this peer."""
        return None if self.raft is None else self.raft.configuration.disk_of(peer) or None

    def on_introduction(self, said: Introduction) -> None:
        """A peer says whose disk it is. Raises BadMessage if nothing is to be exchanged with it."""
        self._input(lambda member, now: member.meet(said, now, is_live=True))

    def on_message(self, message: Message, origin: Introduction) -> None:
        """A message arrived. Raises BadMessage if no correct peer sends it."""
        member = self.member
        if member is not None and not self.is_dead:
            member.receive(message, self._now(), origin)

    def on_batch_end(self) -> None:
        """What had arrived was handed over. Mostly a leader needs only the first of its followers'
        answers."""
        self._act_if_needed()

    def on_peer_lost(self, peer: NodeId) -> None:
        """A connection with this peer ended."""
        self._input(lambda member, now: member.on_peer_lost(peer, now))

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        """A peer that has connected says where it can be reached."""
        self._input(lambda member, _: member.note_seen_at(peer, address))

    def addresses_told_of(self, peer: NodeId) -> list[Address]:
        """Where others have seen this peer."""
        return [] if self.lineage is None else self.lineage.addresses_told_of(peer)

    def on_transport_event(self, event: TransportEvent) -> None:
        """Something that belongs into the log."""
        if isinstance(event, LinkUp | LinkDown):
            self._note_link(event.peer, is_up=isinstance(event, LinkUp))
        self._tell(event)

    def _note_link(self, peer: NodeId, *, is_up: bool) -> None:
        """Of members, and of those that may become some: a node that joins, or forms a cluster,
        has links before it knows who the members are. Others come and go, and are bounded."""
        members = () if self.raft is None else self.raft.configuration.members
        self.links.pop(peer, None)
        if is_up or peer in members:
            self.links[peer] = is_up
        if len(self.links) > LINKS_MAX:
            gone = (known for known in self.links if known not in members)
            del self.links[next(gone)]
        self.status_changed.unpark_all()

    async def _run_transport(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await self._transport.run(
            self, cluster_id=self.cluster_id, limits=self.limits, task_status=task_status
        )

    # -- what callers bring ----------------------------------------------------------------

    def propose(self, member: Member, data: bytes) -> Proposal:
        """Put a command into the leader's log; its place in the budget is taken already."""
        is_first = not self._is_asked
        if is_first:
            self._batch_s = self._now()  # one look at the clock for the whole batch
        proposal = self._new_proposal(len(data), self.budget)
        if self.traced is not None:
            self.traced.begin(proposal)
        try:
            member.propose(data, proposal, self._batch_s)
        except BaseException as error:
            self._take_back(len(data))
            if self.traced is not None:
                self.traced.refused(proposal, error)
            raise
        if is_first:
            # Those who were answered in one go come again in one go.
            self._bring(is_alone=self._answered <= 1 and len(member.outcomes.waiting) == 1)
        return proposal

    def _take_back(self, size_bytes: int) -> None:
        """A command was not taken after all."""
        self.budget.give_back(size_bytes)
        if self.meter is not None:
            self.meter.taken -= 1

    def note_refused(self, error: RaftError) -> None:
        """A command was not taken."""
        if self.meter is not None:
            self.meter.on_refused(error)

    def _propose_due(self, member: Member, data: bytes) -> Proposal | None:
        if not self.budget.take(len(data)):
            return None
        try:
            return self.propose(member, data)
        except (NotLeader, ProposalDropped):  # deposed just now, or about to hand over
            return None

    def forward(self, member: Member, data: bytes, *, is_repeatable: bool) -> Proposal:
        """Have whoever leads take a command; its place in this node's budget is taken already."""
        if not self._is_asked:
            self._batch_s = trio.current_time()
            self._ask()
        proposal = self._new_proposal(len(data), self.budget)
        proposal.is_repeatable = is_repeatable
        leads = member.raft.leadership is not None
        bring = member.propose if leads else member.forward
        if self.traced is not None:
            self.traced.begin(proposal, is_forwarded=not leads)
        try:
            if leads:
                self.check_log_room()
            bring(data, proposal, self._batch_s)
        except BaseException as error:
            self._take_back(len(data))
            if self.traced is not None:
                self.traced.refused(proposal, error)
            raise
        return proposal

    def _make_room(self, message: Forward) -> Proposal | None:
        """For a command that another member has forwarded here."""
        size_bytes = len(message.data)
        try:
            self.check_log_room()
        except Overloaded:
            return None
        if not self.budget.take(size_bytes):
            return None
        proposal = Proposal(size_bytes, self.budget)
        proposal.is_repeatable = True  # nobody waits for it here
        if self.traced is not None:
            self.traced.begin_taken(proposal, message.trace)
        return proposal

    @property
    def is_transferring(self) -> bool:
        """Whether this leader takes no commands because somebody else is to lead."""
        member = self.member
        leadership = None if member is None else member.raft.leadership
        return leadership is not None and leadership.transfer is not None

    def transfer(self, raft: Raft, to: NodeId | None, patience_s: float) -> Transfer:
        """Begin to transfer the leadership."""
        transfer = raft.transfer(to, trio.current_time(), patience_s=patience_s)
        self._ask()
        return transfer

    def change_members(
        self, raft: Raft, change: Change, expected_index: LogIndex | None
    ) -> MembershipChange:
        """Begin to change the members."""
        begun = raft.change_members(change, trio.current_time(), expected_index=expected_index)
        self._ask()
        return begun

    async def check_reachable(self, peer: NodeId, address: Address) -> None:
        """Check that a node answers at an address, where the transport has such.

        Raises:
            Unreachable: it does not.
        """
        check = getattr(self._transport, "check_reachable", None)  # as of `budgets`
        if check is None:
            await trio.lowlevel.checkpoint()
        else:
            await check(peer, address)

    def announce(self, clients_at: Address | None) -> None:
        """See `Node.announce`."""
        self._input(lambda member, _: member.announce(clients_at))

    def address_of(self, peer: NodeId | None) -> Address | None:
        """Where this node can be reached, if that is known."""
        return None if peer is None else self._transport.address_of(peer)

    @property
    def certificate_expires_s(self) -> float | None:
        """Of the transport, if it is one that has certificates."""
        return getattr(self._transport, "certificate_expires_s", None)

    async def read_barrier(self, *, lease: bool) -> LogIndex:
        """Wait until the state machine has all that was committed before this call."""
        begun_s = 0.0 if self.meter is None else trio.current_time()
        member, readers = self._join_readers(lease=lease)
        readers.tasks += 1
        self._bring_reader(member, readers)
        try:
            await readers.wait()
        except trio.Cancelled:
            readers.tasks -= 1
            readers.leave(member)
            raise
        error = readers.why_unread(member)
        if error is not None:
            raise error
        self._note_read(begun_s)
        return readers.batch.index or 0

    def begin_read(self, then: ToldOfRead, *, lease: bool) -> Callable[[], None]:
        """As `read_barrier`, for who waits in no task.

        Args:
            then: called when the member stands still, with what `read_barrier` would raise.
            lease: as there.

        Returns:
            What gives it up: then it is not called. Idempotent.

        Raises:
            NodeDead, ConfigError: nothing can be read here, or not so.
        """
        begun_s = 0.0 if self.meter is None else trio.current_time()
        member, readers = self._join_readers(lease=lease)

        def told(error: RaftError | None) -> None:
            if error is None:
                self._note_read(begun_s)
            then(error)

        readers.calls[told] = None
        self._bring_reader(member, readers)
        return partial(readers.give_up, told, member)

    def _join_readers(self, *, lease: bool) -> tuple[Member, Readers]:
        member = self.member
        if lease and self.timing.lease_clock_drift_max is None:
            raise ConfigError(
                "lease=True needs Timing(lease_clock_drift_max=…, fast_failover=False): say how "
                "far clocks may part, or read without a lease"
            )
        if self.is_dead or member is None:
            raise NodeDead(f"node {self.node_id!r} is Dead; nothing can be read here any more")
        batch = member.reads.join(lease=lease)
        readers = self._readers.get(lease)
        if readers is None or readers.batch is not batch:
            readers = self._readers[lease] = Readers(batch)
            batch.wake = partial(self._on_read, member, readers)
        return member, readers

    def _bring_reader(self, member: Member, readers: Readers) -> None:
        is_alone = readers.count == len(member.reads) == 1 and self._answered_readers <= 1
        self._bring(is_alone=is_alone)

    def _on_read(self, member: Member, readers: Readers) -> None:
        self._answered_readers = readers.count
        readers.lot.unpark_all()
        if readers.calls:
            self.afterwards.append(partial(readers.tell, member))

    def _note_read(self, begun_s: float) -> None:
        if self.meter is not None and begun_s:
            self.meter.read.add(trio.current_time() - begun_s)

    async def take_snapshot(self, *, in_haste: bool = True) -> LogIndex:
        """Have a snapshot taken of at least what is applied now, and wait until it is durable.

        Args:
            in_haste: as fast as it can be; otherwise at a pace, unless somebody else is in haste.

        Raises:
            ResourceExhausted: there was no room for it, or nothing to write it with.
            NodeDead: the node died meanwhile.
        """
        member = self.member
        if self.is_dead or member is None:
            raise NodeDead(f"node {self.node_id!r} is Dead; no snapshot was taken")
        wanted = _WantedSnapshot()
        member.want_snapshot(wanted)
        self._ask()
        self._in_haste += in_haste
        try:
            await wanted.done.wait()
        finally:
            self._in_haste -= in_haste
            member.applies.forget_wanted(wanted)
        if wanted.failure is not None:
            raise wanted.failure
        if wanted.index is None:
            raise NodeDead(f"node {self.node_id!r} is Dead; no snapshot was taken")
        return wanted.index

    @property
    def machine(self) -> StateMachine:
        """What commands are applied to."""
        return self._machine

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """`Storage.read_snapshot`; to be called, and gone through, by `beside`."""
        return self._storage.read_snapshot(meta)

    async def beside(self, call: Callable[[], T]) -> T:
        """A call of the storage that has to do with snapshots, where such calls belong. It cannot
        be cancelled, and what it raises is its caller's: the node lives on.

        Raises:
            ThreadsExhausted: it was not called.
        """
        return await self._calls.beside(call)

    # -- the storage -----------------------------------------------------------------------

    def _do(self, step: StorageStep) -> int | None:
        """The storage's call for this step; for a chunk it returns the next offset."""
        storage = self._storage
        match step:
            case Write(hard_state, entries, replace_from, identity):
                begun_s = time.perf_counter()
                storage.append(hard_state, entries, replace_from, identity)
                self._inline.took(step, begun_s)
                if self.meter is not None:
                    self.meter.write.add(time.perf_counter() - begun_s)
            case Install(meta, identity):
                storage.install_snapshot(meta, identity)
            case SnapshotChunk(_, meta, offset, data):
                return storage.receive_chunk(meta, offset, data)
            case Compact(base_index, base_term):
                storage.compact(base_index, base_term)
        return None

    def _store(self, step: StorageStep) -> None:
        """At once if the storage does not block, or not for long; otherwise in its thread. What
        goes wrong, or has to wait for room, is the task's."""
        member = self.member
        if self.traced is not None:
            self.traced.on_write(step)
        if member is not None and (not self._storage.blocking or self._inline.may(step)):
            try:
                next_offset = self._do(step)
            except ResourceExhausted:
                pass
            else:
                self._note_stored(member, next_offset)
                return
        elif member is not None and self._calls.has_own_thread:
            try:
                begun_s = time.perf_counter()
                self._calls.begin_write(
                    partial(self._do, step), partial(self._on_done, member, step, begun_s)
                )
            except ThreadsExhausted:
                pass
            else:
                self._is_writing = True
                return
        self._step = step
        self._storage_work.set()

    def _note_stored(self, member: Member, next_offset: int | None) -> None:
        if self.traced is not None:
            self.traced.on_written()
        member.on_stored(self._now(), next_offset=next_offset)

    def _on_done(
        self,
        member: Member,
        step: StorageStep,
        begun_s: float,
        next_offset: int | None,
        error: BaseException | None,
    ) -> None:
        """The thread has made this step, or could not. Acted on here and now, by no task: that
        would be one more turn of the scheduler for each command."""
        self._is_writing = False
        try:
            if error is not None:
                self._step, self._failure = step, error
            elif not self.is_dead:
                if isinstance(step, Write):
                    self._inline.came_back(begun_s)
                self._note_stored(member, next_offset)
                self._act_if_needed()
                return
        except BaseException as failure:  # noqa: BLE001 - the task raises it, which ends the node
            self._failure = failure
        self._storage_work.set()

    async def _run_storage(self, member: Member) -> None:
        """What cannot be done at once. A write that has begun is waited for."""
        try:
            while True:
                await self._storage_work.wait()
                lack = self._take_failure()
                while (step := self._step) is not None:
                    self._step = None
                    next_offset = await self._make(step, lack)
                    lack = None
                    await trio.lowlevel.checkpoint_if_cancelled()
                    self._note_stored(member, next_offset)
                    self._act()
        finally:
            if self._is_writing:
                self.kill("left")
                with trio.CancelScope(shield=True):
                    while self._is_writing:
                        await self._storage_work.wait()
                self._take_failure()

    def _take_failure(self) -> ResourceExhausted | None:
        """What the thread lacked for the step that waits, if it did; whatever else was wrong is
        raised."""
        failure, self._failure = self._failure, None
        if failure is None or isinstance(failure, ResourceExhausted):
            return failure
        raise failure

    async def _make(self, step: StorageStep, lack: ResourceExhausted | None) -> int | None:
        """Have the step done by a thread; an append to a log that nodes share, with theirs."""
        if not (isinstance(step, Write) and self._calls.is_joint):
            return await self._until_there_is_room(partial(self._do, step), lack=lack)
        begun_s = time.perf_counter()
        await self._until_there_is_room(partial(self._append, step), self._calls.append, lack)
        if self.meter is not None:
            self.meter.write.add(time.perf_counter() - begun_s)
        return None

    def _append(self, write: Write) -> None:
        self._storage.append(write.hard_state, write.entries, write.replace_from, write.identity)

    async def _until_there_is_room(
        self,
        call: Callable[[], T],
        how: Callable[[Callable[[], T]], Awaitable[T]] | None = None,
        lack: ResourceExhausted | None = None,
    ) -> T:
        """A full disk is waited out, and so is a lack of descriptors or threads (hazard G5);
        nothing is acknowledged meanwhile. Every other failure ends the node; a failed fsync is
        never tried again (hazard D5). `lack` is what was missing when it was tried before."""
        while True:
            if lack is not None:
                self._input(partial(_write_waits, lack.lacking))
                await trio.sleep(DISK_FULL_RETRY_S)
            try:
                return await (how or self._calls.write)(call)
            except ResourceExhausted as exhausted:
                lack = exhausted

    async def _until_it_can_be_read(self, call: Callable[[], T]) -> T:
        """As for a write, but what the log does not wait for: a leader goes on leading. Before the
        node lives there is nobody to wait: it cannot be opened, and says so."""
        while True:
            try:
                return await self._calls.beside(call)
            except ResourceExhausted as exhausted:
                if self.member is None:
                    raise
                self._input(partial(_read_waits, exhausted.lacking))
            await trio.sleep(DISK_FULL_RETRY_S)

    # -- the state machine -----------------------------------------------------------------

    def _apply(self, _: Apply) -> None:
        if self.traced is not None and self.raft is not None:
            self.traced.on_committed(self.raft.log.commit_index)
        self._work.set()

    @trio.lowlevel.enable_ki_protection
    def _apply_slice(self) -> bool:
        """Apply a slice of what waits; called by the driver task only. Ctrl-C comes after it, never
        in the middle of a command.

        Returns:
            Whether anything was applied.
        """
        member = self.member
        if member is None or self.is_dead or not member.applies.queue:
            return False
        if member.to_restore is not None:
            self._restore_work.set()
            return False
        if self.traced is not None:
            self.traced.on_applying(member)
        meter = self.meter
        begun_s = 0.0 if meter is None else time.perf_counter()
        waiting = member.outcomes.waiting
        before = len(waiting)
        try:
            has_more = member.apply_next()
        except BaseException:
            self.kill("a command could not be applied")  # before anybody acts on half of it
            raise
        self._answered = before - len(waiting) or self._answered
        if self.afterwards:
            self._do_afterwards()
        if meter is not None:
            meter.apply.add(time.perf_counter() - begun_s)
        if has_more:
            self._work.set()
        return True

    async def _run_restore(self, member: Member) -> None:
        while True:
            await self._restore_work.wait()
            while (meta := member.to_restore) is not None:
                checksum = await self._restore_machine(meta)
                await trio.lowlevel.checkpoint_if_cancelled()
                member.on_restored(meta, checksum)
                self._work.set()
                self._act()

    async def _restore_machine(self, meta: SnapshotMeta) -> int | None:
        """At the start as fast as it can be; while others wait for heartbeats, by turns."""
        machine, storage = self._machine, self._storage
        takes_turns = self.member is not None and storage.blocking and self._calls.in_threads

        def read() -> int | None:
            chunks = storage.read_snapshot(meta)
            return restore(machine, _by_turns(chunks) if takes_turns else chunks)

        return await self._until_it_can_be_read(read)

    def _save_snapshot(self, save: SaveSnapshot) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._write_snapshot, save, name=f"{self.name}.snapshot")

    async def _write_snapshot(self, save: SaveSnapshot) -> None:
        storage, chunks = self._storage, self._while_alive(save.chunks)
        is_wanted = self.member is not None and self.member.applies.is_wanted
        if storage.blocking and self._calls.in_threads:
            chunks = _by_turns(chunks)
            if is_wanted and not self._in_haste:
                chunks = _paced(chunks)
        begun_s = time.perf_counter()
        try:
            meta = await self._calls.beside(
                lambda: storage.write_snapshot(save.index, save.term, save.configuration, chunks)
            )
        except _AbandonedError:
            return
        except ResourceExhausted as exhausted:
            error = exhausted
            self._input(lambda member, now: member.on_snapshot_unsaved(error, now))
            return
        if self.meter is not None:
            self.meter.snapshot.add(time.perf_counter() - begun_s)
        self._input(lambda member, now: member.on_snapshot_saved(meta, now))

    def _while_alive(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self.is_dead:
                raise _AbandonedError
            yield chunk

    # -- timers and leading ----------------------------------------------------------------

    async def _watch_timer(self, member: Member) -> None:
        """Sleep until the member's deadline, wherever it moves, and then tell it. It moves with
        every input, mostly to later; that is seen on waking, and costs nothing before."""
        while True:
            self._timer_s = _or_never(member.deadline)
            with trio.CancelScope(deadline=self._timer_s) as self._timer_scope:
                await trio.sleep_forever()
            if _or_never(member.deadline) > trio.current_time():
                continue
            for _ in range(DRAIN_PASSES):
                await trio.lowlevel.checkpoint()
            member.on_timeout(trio.current_time())
            self._act()

    async def _lead(self, member: Member, scope: trio.CancelScope) -> None:
        """What runs only while this node leads one term."""
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat, member, name=f"{self.name}.heartbeat")
                nursery.start_soon(
                    self._send_snapshots, member, name=f"{self.name}.snapshot_sender"
                )
                if self._timed is not None:
                    self._due = DueTask(self._timed, partial(self._propose_due, member))
                    nursery.start_soon(self._due.run, name=f"{self.name}.due")

    async def _beat(self, member: Member) -> None:
        too_short = 0
        while True:
            self._heartbeat_s = _or_never(member.raft.heartbeat_deadline)
            deadline_s = self._hosting.beat_at(self._heartbeat_s)
            with trio.CancelScope(deadline=deadline_s) as scope:
                self._heartbeat_scope = scope
                await trio.sleep_forever()
            if _or_never(member.raft.heartbeat_deadline) > trio.current_time():
                continue  # it has moved since
            member.on_heartbeat_due(trio.current_time())
            self._act()
            too_short = too_short + 1 if member.raft.pace.stretch > 1 else 0
            if too_short == TOO_SHORT_HEARTBEATS:
                self._tell_of_pace(member.raft.pace)

    def _tell_of_pace(self, pace: Pace) -> None:
        now, timeout_s = trio.current_time(), self.timing.election_timeout_s
        self._tell(events.TimingTooShort(now, pace.round_trip_s, pace.write_s, timeout_s))

    def _read_chunk(self, request: ChunkRequest) -> None:
        self._chunk_requests.append(request)
        self._chunk_work.set()

    async def _send_snapshots(self, member: Member) -> None:
        """Read the chunks that followers in need of a snapshot are to get, one at a time."""
        storage = self._storage
        while True:
            while self._chunk_requests:
                request = self._chunk_requests.popleft()

                def read(request: ChunkRequest = request) -> bytes:
                    return storage.read_chunk(request.meta, request.offset, request.size_bytes)

                try:
                    data = await self._until_it_can_be_read(read)
                except SnapshotGone:
                    member.on_snapshot_gone(request)
                else:
                    member.on_chunk_read(request, data, trio.current_time())
                self._act()
            await self._chunk_work.wait()

    # -- watchers --------------------------------------------------------------------------

    def watch(self) -> EventStream:
        """A new stream of everything that happens from here on."""
        stream = EventStream(self.limits.event_stream_max)
        self._streams.append(stream)
        self._listeners_changed()
        return stream

    def unwatch(self, stream: EventStream) -> None:
        """Nobody reads this stream any more."""
        self._streams.remove(stream)
        stream.close()
        self._listeners_changed()

    def measure(self, meter: Meter | None) -> None:
        """From here on count and time what happens, or (None) do not any more."""
        self.meter = meter
        self._new_proposal = Proposal if meter is None else meter.proposal
        if meter is not None and self.raft is not None:
            meter.on_acted(self.raft, trio.current_time(), 0.0)  # what is there already is not new
        self._listeners_changed()

    def _listeners_changed(self) -> None:
        if self.raft is not None:
            wants_all = bool(self._streams) or self._logger.enabled
            self.raft.tracing = wants_all or self.meter is not None
            self.raft.is_sparing = not wants_all

    def _tell(self, event: NodeEvent) -> None:
        if self._logger.enabled:
            self._logger.event(event)
        for stream in self._streams:
            stream.put(event)
        if self.meter is not None:
            self.meter.on_event(event)


@final
class _WantedSnapshot:
    """Somebody waits in `take_snapshot`."""

    def __init__(self) -> None:
        self.wanted_index: LogIndex = 0
        self.done = trio.Event()
        self.index: LogIndex | None = None
        self.failure: ResourceExhausted | None = None

    def resolve(self, index: LogIndex) -> None:
        self.index = index
        self.done.set()

    def fail(self, error: ResourceExhausted | None) -> None:
        self.failure = error
        self.done.set()


def _paced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks in a worker thread, no faster than leaves the disk and the processor some room."""
    due_s = time.monotonic()
    for chunk in chunks:
        yield chunk
        due_s += len(chunk) / SNAPSHOT_BYTES_PER_S_MAX
        ahead_s = due_s - time.monotonic()
        if ahead_s > SNAPSHOT_AHEAD_S:
            time.sleep(ahead_s)  # noqa: TID251 - in a worker thread, which has nothing else to do


def _by_turns(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks in a worker thread, which rests as long as it has worked: what it does in Python and
    in the encoder holds up the loop, what the disk does not."""
    begun_s = time.thread_time()
    for chunk in chunks:
        if chunk:
            yield chunk
        worked_s = time.thread_time() - begun_s
        if worked_s >= TURN_S:
            time.sleep(min(worked_s, REST_S_MAX))  # noqa: TID251 - as below, for others' sake
            begun_s = time.thread_time()


def _write_waits(lacking: str | None, member: Member, now: float) -> None:
    member.on_disk_full(now, lacking)


def _read_waits(lacking: str | None, member: Member, now: float) -> None:
    member.on_storage_waits(lacking, now)


def _check_stack() -> None:
    """Refuse to apply anything where commands could run out of stack that others have (hazard
    E1)."""
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    left = sys.getrecursionlimit() - depth
    if left < STACK_FRAMES_MIN:
        raise ConfigError(
            f"the node was opened so deep in the stack that {left} of sys.getrecursionlimit() "
            f"({sys.getrecursionlimit()}) are left: leave at least {STACK_FRAMES_MIN} to commands, "
            "or raise the limit, on every node alike"
        )


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline
