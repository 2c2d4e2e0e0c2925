"""Driver: the life of one node. It owns the core, every task, and the order of effects.

Rules of this file:

* The core is touched from the Trio thread only. After every input comes `_act`: it carries out
  what the core now wants done, in the order that `Ready` prescribes, and moves timers and role
  tasks along. Whoever brought the input does it, without a detour through another task.
* What callers bring (proposals, reads, transfers, changes of members) waits for the driver task: it
  comes round once for all that was brought meanwhile, and that is where batches come from. And what
  fails then ends the node, not the caller.
* What waits for the disk (votes, acknowledgements) leaves only once it is durable.
* Becoming Dead is synchronous; when `run` returns, no task, thread or socket of the node is left.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import final

import trio

from ..core import events
from ..core.change import MembershipChange, Transfer
from ..core.config import Limits, Timing
from ..core.errors import DiskFull, NodeDead, SnapshotGone
from ..core.membership import Change
from ..core.messages import Message
from ..core.raft import Raft
from ..core.ready import ChunkRequest, Ready, SnapshotChunk
from ..core.types import (
    Address,
    Configuration,
    LogIndex,
    NodeId,
    Recovered,
    SnapshotMeta,
    Term,
)
from ..logs.loggers import TraceLogger
from ..member.bootstrap import bootstrapped, voters_ignored
from ..member.state_machine import StateMachine
from ..storage.base import Storage
from ..tasks.wakeup import Wakeup
from ..transport.base import LinkDown, LinkUp, Transport, TransportEvent
from .applying import Applying
from .barriers import ReadBarriers
from .event_stream import EventStream, NodeEvent
from .peers import MemberLinks
from .persistence import Persistence, StorageCalls
from .proposals import Proposal, ProposalTable

DRAIN_PASSES = 3
"""Scheduler passes that pending input gets before a due timer is believed (hazard L6): one in
which Trio notices it, one in which its reader runs, one for a reader that was not ready."""


@final
class Driver:
    """Runs one core: a `TransportOwner` towards the network, a set of tasks towards Trio."""

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
    ) -> None:
        self.node_id = node_id
        self.name = f"raft[{node_id}]"
        self.limits = limits
        self.core: Raft | None = None
        self.proposals = ProposalTable(limits.proposals_bytes_max)
        self._barriers = ReadBarriers(node_id)
        self._peers = MemberLinks(transport)
        self.status_changed = trio.lowlevel.ParkingLot()
        self.is_dead = False
        self.links: dict[NodeId, bool] = {}
        """Whether the connection to each peer is up, as the transport tells."""
        self._cluster_id = cluster_id
        self.timing = timing
        self._rng = rng
        self._calls = StorageCalls(storage)
        self._persistence = Persistence(self._calls, self)
        self._applying = Applying(machine, self._calls, self.proposals, limits, self)
        self._transport = transport
        self._logger = logger
        self._streams: list[EventStream] = []
        self._nursery: trio.Nursery | None = None
        self._timer_scope = trio.CancelScope()
        self._heartbeat_scope = trio.CancelScope()
        self._leader_scope: trio.CancelScope | None = None
        self._leading_term: Term | None = None
        self._work = Wakeup()
        self._is_acting = False
        self._is_new_leader = False
        self._batch_s = 0.0
        self._chunk_requests: deque[ChunkRequest] = deque()
        self._chunk_work = Wakeup()

    # -- life ------------------------------------------------------------------------------

    async def run(
        self,
        bootstrap: Recovered,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Live until killed, cancelled or failed; `started()` once the node can be reached.

        Raises:
            StorageError: the storage cannot be opened, or failed.
            OSError: the transport cannot listen.
            InvariantViolation: a bug in trioraft.
        """
        storage = self._calls.storage
        recovered = await self._calls.write(
            lambda: storage.open(cluster_id=self._cluster_id, node_id=self.node_id)
        )
        try:
            await self._live(bootstrapped(recovered, bootstrap), bootstrap, task_status)
        finally:
            self.kill("left")
            with trio.CancelScope(shield=True):
                await self._calls.write(storage.close)

    async def _live(
        self, recovered: Recovered, bootstrap: Recovered, task_status: trio.TaskStatus[None]
    ) -> None:
        core = Raft(self.node_id, recovered, self.timing, self.limits, self._rng)
        for notice in (*self._calls.storage.notices, *voters_ignored(core, bootstrap)):
            self._tell(events.StorageNotice(trio.current_time(), notice))
        if recovered.snapshot is not None:
            await self._applying.restore_first(recovered.snapshot)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self.core = core
            self._listeners_changed()
            core.start(trio.current_time())  # before the first message can arrive
            await nursery.start(self._run_transport, name=f"{self.name}.transport")
            nursery.start_soon(self._drive, core, name=f"{self.name}.driver")
            nursery.start_soon(self._watch_timer, core, name=f"{self.name}.election_timer")
            nursery.start_soon(self._persistence.run, name=f"{self.name}.storage")
            nursery.start_soon(
                self._applying.run,
                nursery.start_soon,
                f"{self.name}.snapshot",
                name=f"{self.name}.apply",
            )
            self._act(core)
            task_status.started()

    def kill(self, cause: str) -> None:
        """Become Dead, now: no vote, no message, no result after this. Idempotent."""
        if self.is_dead:
            return
        self.is_dead = True
        if self.core is not None:
            self.core.stop(cause, trio.current_time())
            self._tell_events(self.core)
        self.proposals.node_died()
        self._barriers.node_died()
        self._applying.stop()
        for stream in self._streams:
            stream.end()
        self.status_changed.unpark_all()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def expected_tasks(self) -> frozenset[str]:
        """Names of the tasks that the node's present role owns, connections apart."""
        if self.is_dead or self.core is None:
            return frozenset()
        roles = ["driver", "election_timer", "storage", "apply", "transport"]
        if self._leading_term is not None:
            roles += [f"leader(term={self._leading_term})", "heartbeat", "snapshot_sender"]
        return frozenset({self.name, *(f"{self.name}.{role}" for role in roles)})

    # -- the transport's owner -------------------------------------------------------------

    def on_message(self, message: Message) -> None:
        """A message arrived. Raises BadMessage if its sender is not in its right mind."""
        core = self.core
        if core is not None and not self.is_dead:
            core.step(message, trio.current_time())

    def on_batch_end(self) -> None:
        """What had arrived was handed over."""
        core = self.core
        if core is not None and not self.is_dead:
            self._act(core)

    def on_peer_lost(self, peer: NodeId) -> None:
        """A connection with this peer ended."""
        core = self.core
        if core is not None and not self.is_dead:
            core.on_peer_lost(peer, trio.current_time())
            self._act(core)

    def on_transport_event(self, event: TransportEvent) -> None:
        """Something that belongs into the log."""
        if isinstance(event, LinkUp | LinkDown):
            self._note_link(event.peer, is_up=isinstance(event, LinkUp))
        self._tell(event)

    def _note_link(self, peer: NodeId, *, is_up: bool) -> None:
        """Of members; guests come and go."""
        if self.core is not None and peer in self.core.configuration.members:
            self.links[peer] = is_up
        else:
            self.links.pop(peer, None)
        self.status_changed.unpark_all()

    async def _run_transport(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await self._transport.run(
            self, cluster_id=self._cluster_id, limits=self.limits, task_status=task_status
        )

    # -- proposals -------------------------------------------------------------------------

    def propose(self, core: Raft, data: bytes) -> Proposal:
        """Put a command into the leader's log; the driver task sends and stores it."""
        if not self._work.is_set:
            self._batch_s = trio.current_time()  # one look at the clock for the whole batch
            self._work.set()
        proposal = Proposal(core.propose(data, self._batch_s), core.term, len(data))
        self.proposals.add(proposal)
        return proposal

    @property
    def is_handing_over(self) -> bool:
        """Whether this leader takes no commands because somebody else is to lead."""
        leadership = None if self.core is None else self.core.leadership
        return leadership is not None and leadership.transfer is not None

    # -- administration ---------------------------------------------------------------------

    def hand_over(self, core: Raft, to: NodeId | None, patience_s: float) -> Transfer:
        """Begin to hand the leadership over."""
        transfer = core.transfer(to, trio.current_time(), patience_s=patience_s)
        self._work.set()
        return transfer

    def change_members(
        self, core: Raft, change: Change, expected_index: LogIndex | None
    ) -> MembershipChange:
        """Begin to change the members."""
        begun = core.change_members(change, trio.current_time(), expected_index=expected_index)
        self._work.set()
        return begun

    def address_of(self, peer: NodeId | None) -> Address | None:
        """Where this node can be reached, if that is known."""
        return None if peer is None else self._transport.address_of(peer)

    # -- reads ------------------------------------------------------------------------------

    async def read_barrier(self, *, lease: bool) -> LogIndex:
        """Wait until the state machine has all that was committed before this call."""
        if self.is_dead or self.core is None:
            raise NodeDead(f"node {self.node_id!r} is Dead; nothing can be read here any more")
        self._work.set()
        return await self._barriers.wait(lease=lease, forget=self.core.forget_read)

    def _ask_for_reads(self, core: Raft) -> None:
        now = trio.current_time()
        for batch in self._barriers.take_new():
            self._barriers.asked(batch, core.read(now, lease=batch.lease))

    # -- inputs to effects -----------------------------------------------------------------

    def _act(self, core: Raft) -> None:
        """The core may have changed: do what it wants done, and let everyone else know."""
        if self._is_acting:
            return  # an effect of this very `_act` came back as an input: it is seen to below
        self._is_acting = True
        try:
            while not self._lets_clients_first(core) and (ready := core.ready()) is not None:
                self._carry_out(core, ready)
        finally:
            self._is_acting = False
        self._settle(core)

    def _lets_clients_first(self, core: Raft) -> bool:
        """Whether to wait for whoever waits for a leader: a new leader's first entry and what is
        proposed as soon as somebody sees that it leads are one message then, and one write. That
        spares the first clients a whole round."""
        if core.leadership is not None and core.term != self._leading_term:
            self._is_new_leader = True
            self._work.set()
        return self._is_new_leader

    def _settle(self, core: Raft) -> None:
        """Timers, role tasks and watchers follow the core."""
        self._timer_scope.deadline = _or_never(core.deadline)
        if core.heartbeat_deadline is not None:
            self._heartbeat_scope.deadline = core.heartbeat_deadline
        leading_term = core.term if core.leadership is not None else None
        if leading_term != self._leading_term:
            self._change_leader_task(core, leading_term)
        self._peers.follow(core)
        if self._barriers.has_new and core.leader_id is not None:
            self._work.set()
        if self.status_changed:
            self.status_changed.unpark_all()

    def _change_leader_task(self, core: Raft, leading_term: Term | None) -> None:
        if self._leader_scope is not None:
            self._leader_scope.cancel()
            self._leader_scope = None
            self._chunk_requests.clear()
            self.proposals.leadership_lost(core.log.commit_index)
        self._leading_term = leading_term
        if leading_term is not None and self._nursery is not None:
            scope = self._leader_scope = trio.CancelScope()
            name = f"{self.name}.leader(term={leading_term})"
            self._nursery.start_soon(self._lead, core, scope, name=name)

    async def _drive(self, core: Raft) -> None:
        """Come round for proposals and reads."""
        while True:
            await self._work.wait()
            if self._is_new_leader:
                await trio.lowlevel.checkpoint()  # those who waited for it run meanwhile
                self._is_new_leader = False
            if self._barriers.has_new and core.leader_id is not None:
                self._ask_for_reads(core)
            self._act(core)

    def _carry_out(self, core: Raft, ready: Ready) -> None:
        for message in ready.messages:
            self._transport.send(message)
        if ready.awaits_persist:
            self._persistence.put(ready)
        if ready.committed:
            self._applying.put(ready.committed)
        if ready.chunk_requests:
            self._chunk_requests.extend(ready.chunk_requests)
            self._chunk_work.set()
        for read in ready.reads:
            self._barriers.confirmed(read, core.log.applied_index)
        for event in ready.events:
            self._tell(event)

    # -- the disk's and the state machine's owner -------------------------------------------

    def on_durable(self, readies: Sequence[Ready]) -> None:
        """Promises may leave: these Readys, and all before them, are durable."""
        core = self.core
        if core is None or self.is_dead:
            return
        for ready in readies:
            for message in ready.messages_after_persist:
                self._transport.send(message)
        core.on_persisted(readies[-1].number, trio.current_time())
        self._act(core)

    def on_installed(self, meta: SnapshotMeta) -> None:
        """The stored log stands at this snapshot: bring the state machine there too."""
        self._applying.put(meta)

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int) -> None:
        """Part of a snapshot is stored."""
        self._tell_core(lambda core, now: core.on_chunk_stored(chunk, next_offset, now))

    def on_disk_full(self) -> None:
        """Nothing can be promised until there is room."""
        self._tell_core(lambda core, now: core.on_disk_full(now))

    def on_applied(self, index: LogIndex) -> None:
        """The state machine stands at this index."""
        self._tell_core(lambda core, _: core.on_applied(index))
        self._barriers.on_applied(index)

    def on_snapshot_saved(self, meta: SnapshotMeta) -> None:
        """The log may be cut, but for what the previous snapshot would need."""

        def tell(core: Raft, now: float) -> None:
            keep_after = 0 if core.snapshot is None else core.snapshot.index
            core.on_snapshot_saved(meta, now, keep_after=keep_after)

        self._tell_core(tell)

    def on_snapshot_unsaved(self, error: DiskFull) -> None:
        """No room for a snapshot: the log grows until there is."""
        self._tell(events.DiskIsFull(trio.current_time()))

    def is_sending_snapshot(self) -> bool:
        """Whether a follower is getting a snapshot from here."""
        leadership = None if self.core is None else self.core.leadership
        return leadership is not None and leadership.is_sending_snapshot

    def place_of(self, index: LogIndex) -> tuple[Term, Configuration] | None:
        """The term of an applied entry, and the configuration in force there; None once a snapshot
        from the leader stands for it."""
        core = self.core
        term = None if core is None else core.log.term_at(index)
        return None if core is None or term is None else (term, core.membership.at(index))

    def _tell_core(self, tell: Callable[[Raft, float], None]) -> None:
        """Bring an input, unless the node is Dead, and act on it."""
        core = self.core
        if core is not None and not self.is_dead:
            tell(core, trio.current_time())
            self._act(core)

    async def take_snapshot(self) -> LogIndex:
        """Have a snapshot taken now, and wait until it is durable."""
        return await self._applying.take_snapshot()

    # -- timers ----------------------------------------------------------------------------

    async def _watch_timer(self, core: Raft) -> None:
        """Sleep until the core's deadline, wherever it moves, and then tell the core."""
        while True:
            with trio.CancelScope(deadline=_or_never(core.deadline)) as self._timer_scope:
                await trio.sleep_forever()
            for _ in range(DRAIN_PASSES):
                await trio.lowlevel.checkpoint()
            core.on_timeout(trio.current_time())
            self._act(core)

    async def _lead(self, core: Raft, scope: trio.CancelScope) -> None:
        """What runs only while this node leads one term."""
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat, core, name=f"{self.name}.heartbeat")
                nursery.start_soon(self._send_snapshots, core, name=f"{self.name}.snapshot_sender")

    async def _beat(self, core: Raft) -> None:
        while True:
            with trio.CancelScope(deadline=_or_never(core.heartbeat_deadline)) as scope:
                self._heartbeat_scope = scope
                await trio.sleep_forever()
            core.on_heartbeat_due(trio.current_time())
            self._act(core)

    async def _send_snapshots(self, core: Raft) -> None:
        """Read the chunks that followers in need of a snapshot are to get, one at a time."""
        storage, limits = self._calls.storage, self.limits
        while True:
            while self._chunk_requests:
                request = self._chunk_requests.popleft()

                def read(request: ChunkRequest = request) -> bytes:
                    return storage.read_chunk(
                        request.meta, request.offset, limits.snapshot_chunk_bytes
                    )

                try:
                    data = await self._calls.beside(read)
                except SnapshotGone:
                    core.on_snapshot_gone(request)
                else:
                    core.send_chunk(request, data, trio.current_time())
                self._act(core)
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

    def _listeners_changed(self) -> None:
        if self.core is not None:
            self.core.tracing = bool(self._streams) or self._logger.enabled

    def _tell(self, event: NodeEvent) -> None:
        if self._logger.enabled:
            self._logger.event(event)
        for stream in self._streams:
            stream.put(event)

    def _tell_events(self, core: Raft) -> None:
        """Tell what the core has still to say; a dead core has nothing else to do."""
        ready = core.ready()
        if ready is not None:
            for event in ready.events:
                self._tell(event)


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline
