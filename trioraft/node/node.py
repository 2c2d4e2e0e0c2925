"""Node and open_node: the public face of one member of a cluster.

Rules of this file:

* `open_node` owns two nurseries, one inside the other. The inner one (`NodeRunner.run`) is the
  node's
  life: when the node is Dead it is gone, with everything in it. The outer one (`running_beside`)
  lets `kill` end the node without cancelling the code of whoever opened it, and lets a node that
  fails end that code loudly.
* Errors arrive as themselves, never wrapped in a group that you would have to take apart.
* Every wait here can be cancelled, and every wait ends when the node is Dead.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, final

import trio

from ..backups.format import BackupHead
from ..core.config import Limits, Timing
from ..core.errors import ConfigError, NodeDead, NotLeader, Overloaded, ProposalDropped, RaftError
from ..core.reconfiguration import AddLearner, Change, ChangeVoters, Remove, SwitchOn
from ..core.types import Address, LogIndex, NodeId
from ..logs.loggers import AnyLogger, TraceLogger
from ..member.attempts import Attempt
from ..member.member import Member
from ..member.state_machine import StateMachine, hosted
from ..member.status import Status
from ..storage.base import Storage
from ..tasks.background import running_beside
from ..tasks.event_loop import opened_under, require_event_loop
from ..tracing.tracer import Tracer
from ..transport.base import Transport
from .administration import Administration
from .arguments import (
    bootstrap_configuration,
    check_id,
    check_is_bytes,
    check_parts,
    check_size,
    checked_address,
    checked_features,
    checked_ids,
    is_volatile,
)
from .backups import OpenBackup, open_backup, write_backup
from .event_stream import EventStream
from .forwarding import forward
from .proposal import Proposal
from .runner import NodeRunner
from .status_waits import never
from .traced import traced_commands


@final
class Node:
    """One member of a cluster, as its process sees it. Made by `open_node`."""

    def __init__(self, runner: NodeRunner, administration: Administration) -> None:
        self._runner = runner
        self._administration = administration

    def __repr__(self) -> str:
        status = self.status
        return f"<Node {self.id!r} {status.role.value} term={status.term}>"

    @property
    def id(self) -> NodeId:
        """This node's name."""
        return self._runner.node_id

    @property
    def status(self) -> Status:
        """What the node is at this moment; also of a node that is Dead."""
        return self._runner.status()

    def budgets(self) -> dict[str, tuple[int, int]]:
        """Every bound in bytes or connections that callers and peers of this node share: what is
        used of it at this moment, and the bound itself, by name."""
        return self._runner.budgets()

    async def propose(self, data: bytes) -> Any:
        """Have the cluster agree on a command, apply it, and return its result.

        Waits while the commands on their way fill `Limits.proposals_bytes_max`, and while the
        leadership is being transferred.

        Args:
            data: the command, for the state machine's `apply`.

        Returns:
            What `apply` returned on this node.

        Raises:
            NotLeader: certainly not in the log; the error says who leads.
            ProposalDropped: certainly not in the log; propose it again.
            OutcomeUnknown: the node died, or lost its leadership and did not learn within
                `Limits.outcome_wait_s` what became of the command; it may or may not be applied.
            NodeDead: the node was Dead already; certainly not in the log.
            Overloaded: the log is longer than `Limits.log_memory_bytes_max`; certainly not in it.
            ConfigError: the command is not `bytes`, or larger than `Limits.command_bytes_max`.
            Exception: whatever `apply` raised for this command.

        Cancelling the wait does not undo the command: it may still be applied.
        """
        require_event_loop("Node.propose", "trio")
        check_is_bytes(data)
        traced = self._runner.traced
        if traced is None:
            return await self._propose(data)
        with traced.spans.inside("trioraft.propose", command_bytes=len(data)):
            return await self._propose(data)

    async def _propose(self, data: bytes) -> Any:
        try:
            member = await self._with_room(data, self._check)
            proposal = self._runner.propose(member, data)
        except RaftError as error:
            self._runner.note_refused(error)
            raise
        return await proposal.result()

    async def forward(self, data: bytes, *, attempt: Attempt | None = None) -> Any:
        """As `propose`, but on any node: whoever leads takes the command, and it is applied here
        before this returns.

        Waits for as long as no leader is known, and sends the command again as long as it certainly
        was not taken: put it under `trio.fail_after`.

        Args:
            data: the command, for the state machine's `apply`.
            attempt: is told meanwhile what is known of the command, for callers that give up. With
                `Attempt(is_repeatable=True)` the command may be applied twice without harm (as in a
                session of `SessionMachine`): then it is sent again until its outcome is known.

        Returns:
            What `apply` returned on this node.

        Raises:
            OutcomeUnknown: the node died, or the leader did or lost its office, and nobody told
                within `Limits.outcome_wait_s` what became of the command; or a snapshot of the
                leader's brought it here. It may or may not be applied.
            NodeDead: the node was Dead, and the command certainly is not in the log.
            NotMember: the node was removed from the cluster; likewise.
            ConfigError: the command is not `bytes`, or larger than `Limits.command_bytes_max`, or
                the leader's state machine cannot read it.
            Exception: whatever `apply` raised for this command.

        Cancelling the wait does not undo the command: it may still be applied.
        """
        require_event_loop("Node.forward", "trio")
        check_is_bytes(data)
        attempt, traced = attempt or Attempt(), self._runner.traced
        if traced is None:
            return await forward(self._runner, data, attempt, self._with_room)
        with traced.spans.call("trioraft.forward", command_bytes=len(data)):
            return await forward(self._runner, data, attempt, self._with_room)

    async def _with_room(self, data: bytes, check: Callable[[bytes], Member]) -> Member:
        """Wait for room in the budget, and take it.

        Args:
            data: the command.
            check: raises unless it can be taken; asked after each wait.
        """
        runner = self._runner
        while runner.is_transferring:
            await runner.status_changed.park()
        member = check(data)
        budget = runner.budget
        if not budget.take(len(data)):
            while not await budget.wait(len(data)):
                check(data)  # turned away: it says why
            try:
                while runner.is_transferring:
                    await runner.status_changed.park()
                member = check(data)
            except (RaftError, trio.Cancelled):
                budget.give_back(len(data))
                raise
        return member

    def submit(self, data: bytes) -> Proposal:
        """Put a command into the leader's log without waiting: for pipelines.

        Args:
            data: the command, for the state machine's `apply`.

        Returns:
            A `Proposal` that knows its index now, and its result later.

        Raises:
            Overloaded: the commands on their way fill `Limits.proposals_bytes_max`, or the log is
                longer than `Limits.log_memory_bytes_max`.
            ProposalDropped: leadership is being transferred.
            NotLeader, NodeDead, ConfigError: as `propose`.
        """
        require_event_loop("Node.submit", "trio")
        check_is_bytes(data)
        try:
            return self._submit(data)
        except RaftError as error:
            self._runner.note_refused(error)
            raise

    def _submit(self, data: bytes) -> Proposal:
        member = self._check(data)
        runner = self._runner
        if runner.is_transferring:
            raise ProposalDropped(
                f"node {self.id!r} transfers its leadership: the command was not taken; propose "
                "it to the new leader, or wait with await node.propose()"
            )
        budget = runner.budget
        if not budget.take(len(data)):
            raise Overloaded(
                f"commands that wait to be applied take {budget.taken_bytes} bytes; with "
                f"{len(data)} more they would exceed Limits.proposals_bytes_max "
                f"({budget.bytes_max}): slow down, or await node.propose()"
            )
        return runner.propose(member, data)

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """Wait until everything that was committed before this call is applied here.

        What the state machine says after it is linearizable, on the leader and on followers
        (dissertation 6.4). Callers that come together share one round of messages. Waits for as
        long as no leader is known: put it under `trio.fail_after`.

        Args:
            lease: trust the leader's clock instead of asking the others, where
                `Timing.lease_clock_drift_max` allows it; elsewhere it makes no difference.

        Returns:
            The index that was waited for.

        Raises:
            NodeDead: the node is Dead, or died meanwhile.
            NotMember: the node was removed from the cluster, so it would wait for ever.
            ConfigError: `lease` without `Timing.lease_clock_drift_max`.

        Cancelling the wait disturbs nobody.
        """
        require_event_loop("Node.read_barrier", "trio")
        return await self._runner.read_barrier(lease=lease)

    async def transfer_leadership(
        self, to: NodeId | None = None, *, timeout_s: float | None = None
    ) -> NodeId:
        """Hand the leadership over, in about two round trips (dissertation 3.10).

        Commands proposed before are committed first; those proposed meanwhile wait.

        Args:
            to: one of the other voters; None for the one that can take over soonest.
            timeout_s: give up after so many seconds; None for the upper election timeout.

        Returns:
            Who leads now.

        Raises:
            NotLeader: this node does not lead; the error says who does.
            TransferFailed: nobody took over in time; this node leads on.
            ConfigError: `to` is no voter.
            NodeDead: the node is Dead, or died meanwhile.

        Cancelling the wait does not stop the transfer, which ends by its deadline.
        """
        require_event_loop("Node.transfer_leadership", "trio")
        if timeout_s is not None and not timeout_s > 0:
            raise ConfigError(f"timeout_s is {timeout_s!r}: give a positive time in seconds")
        self._check_leads()
        return await self._administration.transfer(to, timeout_s)

    async def add_learner(
        self,
        node_id: NodeId,
        address: Address | None = None,
        *,
        expected_index: LogIndex | None = None,
    ) -> LogIndex:
        """Let a node have the log, without a vote (dissertation 4.2.1); or move a member.

        The node itself is opened with `voters=()`, and waits to be added.

        Args:
            node_id: who joins. If it is a member already, only its address changes.
            address: host and port where it is reached. It travels in the log to everyone.
            expected_index: refuse unless `status.configuration_index` is this.

        Returns:
            The index of the configuration with it, once that is committed.

        Raises:
            NotLeader: this node does not lead.
            ConfigurationConflict: another change is under way, or the configuration is not the
                expected one; nothing was changed.
            OutcomeUnknown: leadership was lost, or the node died, meanwhile.
            ConfigError: an argument cannot work.
            NodeDead: the node is Dead.

        Cancelling the wait does not undo what is in the log.
        """
        require_event_loop("Node.add_learner", "trio")
        check_id("node_id", node_id)
        return await self._change(AddLearner(node_id, checked_address(address)), expected_index)

    async def change_voters(
        self,
        voters: Iterable[NodeId],
        *,
        addresses: Mapping[NodeId, Address] | None = None,
        expected_index: LogIndex | None = None,
    ) -> LogIndex:
        """Make these nodes the voters, by joint consensus (paper, section 6).

        Those that are no members yet join as learners first, and get their votes when they have
        caught up; `status.change` and `status.progress` show how far they are. Voters that are
        not named leave the cluster; learners that are not named stay learners. A leader that is
        not named transfers its leadership at the end.

        Args:
            voters: the names of all voters that shall be.
            addresses: where joining nodes are reached.
            expected_index: refuse unless `status.configuration_index` is this.

        Returns:
            The index of the new configuration, once it is committed.

        Raises:
            As `add_learner`. `ConfigurationConflict` also if leadership was lost while no voter
            had changed yet.

        Cancelling the wait gives the change up as long as no voter has changed (new learners
        stay); after that it goes on to its end.
        """
        require_event_loop("Node.change_voters", "trio")
        ids = checked_ids("voters", voters)
        known = {node: checked_address(where) for node, where in (addresses or {}).items()}
        change = ChangeVoters(ids, {node: where for node, where in known.items() if where})
        return await self._change(change, expected_index)

    async def move(self, node_id: NodeId, address: Address, *, force: bool = False) -> LogIndex:
        """Say in the log where peers reach a member from now on: a voter, a learner, or this node
        itself; whether it is there already, still elsewhere, or down.

        A member that has moved is found by the others as soon as it reaches one of them, since it
        says where it is. That holds while it is connected; what stands in the log, for ever.

        Args:
            node_id: who has moved.
            address: host and port where it is reached.
            force: do not ask first whether it answers there, because it is down, or not there yet.

        Returns:
            The index of the configuration with that address, once it is committed.

        Raises:
            NotLeader: this node does not lead.
            Unreachable: this node connected to that address, and it is not there; nothing was
                changed.
            ConfigError: it is no member, or the address cannot be one.
            ConfigurationConflict: another change is under way; nothing was changed.
            OutcomeUnknown: leadership was lost, or the node died, meanwhile.
            NodeDead: the node is Dead.

        Cancelling the wait does not undo what is in the log.
        """
        require_event_loop("Node.move", "trio")
        check_id("node_id", node_id)
        checked = checked_address(address)
        if checked is None:
            raise ConfigError("the address is None: give (host, port), as ('10.0.0.3', 7000)")
        self._check_leads()
        return await self._administration.move(node_id, checked, force=force)

    async def remove(self, node_id: NodeId, *, expected_index: LogIndex | None = None) -> LogIndex:
        """Take a node out of the cluster, voter or learner, the leader itself included.

        It learns so, and campaigns no longer: `status.is_removed`.

        Args:
            node_id: who leaves.
            expected_index: refuse unless `status.configuration_index` is this.

        Returns, raises and cancellation: as `change_voters`.
        """
        require_event_loop("Node.remove", "trio")
        check_id("node_id", node_id)
        return await self._change(Remove(node_id), expected_index)

    async def switch_on(
        self, features: Iterable[str], *, expected_index: LogIndex | None = None
    ) -> LogIndex:
        """Switch features on: every member does what they say from one entry of the log on.

        After that no member can go back to a release that cannot do them, and none that cannot may
        join (docs/upgrading.md). What is on already is no error.

        Args:
            features: their names, of those in `status().can` of every member.
            expected_index: refuse unless the configuration stands at this index (see
                `status.configuration_index`): for decisions taken on what was read there.

        Returns:
            The index of the configuration that has them, once that is committed.

        Raises:
            NotLeader: this node does not lead.
            ConfigError: a member cannot, or is not there to say whether it can; or there is no such
                feature. Nothing was changed.
            ConfigurationConflict: another change is under way, or has come between.
            OutcomeUnknown: leadership was lost, or the node died, meanwhile.
            NodeDead: the node is Dead.

        Cancelling the wait does not undo what was written.
        """
        require_event_loop("Node.switch_on", "trio")
        if isinstance(features, str):
            raise ConfigError(f"features is the string {features!r}; give a list of names")
        return await self._change(SwitchOn(tuple(features)), expected_index)

    async def replace(self, node_id: NodeId) -> LogIndex:
        """Make a voter whose disk was lost a voter again, with the empty disk that it has now.

        A voter is an id and a disk; the one that is gone counts for nothing any more, and the new
        one not yet. So the vote is taken away first (a majority of the others decides), the new
        disk gets the log as a learner, and is given the vote once it has caught up. A majority of
        those that are left must be there all the time. Start the node with an empty storage
        before, under its old id; then call this on the leader.

        What shall be stands in the log: whoever leads goes on with it, whatever crashes. Call it
        again, on whichever node leads then, to wait for the rest.

        Args:
            node_id: who has lost its disk.

        Returns:
            The index of the configuration by which it is a voter with its new disk, once that is
            committed.

        Raises:
            NotLeader: this node does not lead.
            ConfigError: it is no voter; or it was not seen with another disk than the one that
                counts, so that there is nothing to replace; or no majority would be left to decide
                it, as always of two voters (docs/lost-quorum.md).
            ConfigurationConflict: another change is under way, or has come between.
            OutcomeUnknown: leadership was lost, or the node died, meanwhile; what has begun goes
                on.
            NodeDead: the node is Dead.

        Cancelling the wait does not undo it: it goes on.
        """
        require_event_loop("Node.replace", "trio")
        check_id("node_id", node_id)
        self._check_leads()
        return await self._administration.replace(node_id)

    async def invite(self, node_id: NodeId, valid_s: float = 24 * 3600.0) -> str:
        """Write an invitation for a node that joins, where peers speak TLS and its name is not
        among `TlsContexts.peer_names`: it shows it, beside its certificate, to the members.

        It is bound to that name and to the first disk that shows it, and ends: by then the name is
        to be among the others' (docs/serve.md). Any member with the key can write one.

        Args:
            node_id: the new node's name, which its certificate bears.
            valid_s: for how long, in seconds.

        Returns:
            The text to start it with (`TcpTransport(invitation=…)`, `serve --invitation`).

        Raises:
            ConfigError: the transport asks nobody for one, as on plain TCP and in memory; it has
                no `invite_key`; or an argument cannot be.

        Cancelling leaves nothing: an invitation is no more than its text.
        """
        require_event_loop("Node.invite", "trio")
        check_id("node_id", node_id)
        await trio.lowlevel.checkpoint()
        return self._runner.invite(node_id, valid_s)

    def announce(self, clients_at: Address | None) -> None:
        """Tell the other members where clients reach this node, now and whenever they meet it: so
        each can tell its own clients where all the others are (`status.client_addresses`).
        `open_service` does this for its port.

        Args:
            clients_at: host and port; a wildcard host stands for the one at which peers reach this
                node. None: it takes no clients any more.

        Raises:
            ConfigError: the address cannot be one.
        """
        require_event_loop("Node.announce", "trio")
        self._runner.announce(checked_address(clients_at, may_be_wildcard=True))

    def address_of(self, node_id: NodeId) -> Address | None:
        """Where peers reach this or another node, as far as this node's transport knows."""
        return self._runner.address_of(node_id)

    async def _change(self, change: Change, expected_index: LogIndex | None) -> LogIndex:
        self._check_leads()
        return await self._administration.change(change, expected_index)

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """Wait until `predicate` holds of the node's status; returns at once if it does.

        Level-triggered: what holds only for a moment between two looks may be missed.

        Args:
            predicate: asked by the node, about one status for all who wait, so it is quick. With
                many who wait, indices are looked at less often: with 1,000, every 20 ms.

        Raises:
            NodeDead: the node is Dead, and the predicate does not hold of that.
            Exception: what the predicate raised.

        It can be cancelled.
        """
        require_event_loop("Node.wait", "trio")
        status = self.status
        if predicate(status):
            await trio.lowlevel.checkpoint_if_cancelled()
            return status
        if self._runner.is_dead:
            raise never(self.id)
        return await self._runner.waits.add(predicate)

    @opened_under("trio")
    @asynccontextmanager
    async def events(self) -> AsyncIterator[EventStream]:
        """Watch what happens: typed events from here on, in order.

        The stream holds up to `Limits.event_stream_max` unread events; further ones are dropped
        and counted in `stream.dropped`. It ends when the node is Dead.

        Raises:
            NodeDead: the node is Dead already.

        Cancelling the body ends the stream; the node notices nothing.
        """
        if self._runner.is_dead:
            raise NodeDead(f"node {self.id!r} is Dead; there is nothing to watch")
        stream = self._runner.watch()
        try:
            yield stream
        finally:
            self._runner.unwatch(stream)

    async def take_snapshot(self) -> LogIndex:
        """Have a snapshot of this node's state machine taken now, whatever the thresholds say.

        Returns:
            The index that the snapshot stands for, once it is durable.

        Raises:
            NodeDead: the node is Dead, or died meanwhile.
            ResourceExhausted: there was no room for it (`DiskFull`), or no descriptor or thread to
                write it with; the log is unharmed.

        Cancelling the wait does not stop the snapshot.
        """
        require_event_loop("Node.take_snapshot", "trio")
        return await self._runner.take_snapshot()

    async def backup(self, path: Path | str, *, stale: bool = False) -> BackupHead:
        """Write a backup of the cluster's state to a file, from any node; better from a follower.

        The file gets its name when it is complete and durable; until then there is `PATH.part`.
        `trioraft.restore_backup` makes a new cluster's disk of it.

        Args:
            path: of the file; one that is there is replaced.
            stale: do not ask a majority first what is committed: for a cluster that has none any
                more. What this node has not applied is not in it then.

        Returns:
            What it is of: `snapshot.index`, and `taken_s`; everything that was acknowledged before
            this call is in it, unless it is `stale`.

        Raises:
            ConfigError: there is no state yet; or another backup is being written to that file.
            NodeDead, NotMember: as `read_barrier`, which waits for as long as no leader is known.
            ResourceExhausted, CorruptStorage: as `take_snapshot`, or the snapshot is damaged.
            UnusableBackup: likewise.
            OSError: the file cannot be written.

        Cancelling leaves no file.
        """
        require_event_loop("Node.backup", "trio")
        return await write_backup(self._runner, Path(path), stale=stale)

    @opened_under("trio")
    @asynccontextmanager
    async def open_backup(
        self, *, stale: bool = False, patience_s: float = math.inf
    ) -> AsyncIterator[OpenBackup]:
        """As `backup`, for what shall go elsewhere than into a file: what it is of (`head`), and
        an async iterator over the content. `open_service` does this for clients.

        Args:
            stale: as of `backup`.
            patience_s: how long to wait for a majority to say what is committed, in seconds.

        Raises:
            trio.TooSlowError: none has said so in that time.
            Exception: as `backup`, also while it is read: then what was read is not whole.
        """
        async with open_backup(self._runner, stale=stale, patience_s=patience_s) as backup:
            yield backup

    def before_leaving(self, job: Callable[[], Awaitable[None]]) -> None:
        """Have something done when `open_node` is left, while the node still takes part.

        Args:
            job: called then, once, and shielded from cancellation: it must end by itself, soon.
        """
        self._runner.before_leaving.append(job)

    def kill(self) -> None:
        """Become Dead, now. Everything the node owns is cancelled; nothing sleeps out a tick.

        Whoever waits for a proposal gets `OutcomeUnknown`; the code inside `async with open_node`
        goes on. Idempotent. What was acknowledged stays in the storage. A write that has begun is
        waited for, in the background: half a write is nobody's friend.
        """
        require_event_loop("Node.kill", "trio")
        self._runner.kill("killed")

    def expected_tasks(self) -> frozenset[str]:
        """Names of the tasks that the node's present role owns (its connections' apart)."""
        return self._runner.expected_tasks()

    def _check(self, data: bytes) -> Member:
        """The member, if it leads and the command can be taken at all."""
        member = self._check_leads()
        check_size(data, self._runner.limits)
        self._runner.check_log_room()
        return member

    def _check_leads(self) -> Member:
        runner = self._runner
        member = runner.member
        if member is None or runner.is_dead:
            raise NodeDead(f"node {self.id!r} is Dead; the command was not taken")
        raft = member.raft
        if raft.leadership is None:
            waiting_for = () if runner.lineage is None else runner.lineage.waiting_for
            raise NotLeader(raft.leader_id, runner.address_of(raft.leader_id), waiting_for)
        return member


@opened_under("trio")
@asynccontextmanager
async def open_node(
    node_id: NodeId,
    *,
    voters: Iterable[NodeId],
    machine: StateMachine,
    storage: Storage,
    transport: Transport,
    cluster_id: str = "trioraft",
    timing: Timing | None = None,
    limits: Limits | None = None,
    rng: random.Random | None = None,
    logger: AnyLogger | None = None,
    auto_replace: bool | None = None,
    features: Iterable[str] | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Node]:
    """Open a node and keep it alive for the body of the `async with`.

    Leaving the body, by an error or a cancellation too, hands the leadership over (within three
    election timeouts) and kills the node: when the `async with` is over, nothing of it is left.

    Args:
        node_id: this node's name, one of `voters` if there are any.
        voters: all nodes of a new cluster, this one included, which forms once all have met
            (`status.waiting_for`); later its log counts. Empty: join, once a leader adds this node.
        machine: what committed commands are applied to; around an object sessions come by itself.
        storage, transport: where term, vote and log survive; how the others are reached.
        cluster_id: nodes of different clusters refuse each other.
        timing, limits: when nodes lose patience, the same on each; bounds on memory and messages.
        rng: source of the randomised timeouts; give a seeded one for repeatable tests.
        logger: as of `trioraft.logs.configure`, or of `logging.getLogger`; None logs nothing.
        auto_replace: as leader do `Node.replace` unasked; None: if the storage `is_volatile`.
        features: what it may take part in (docs/upgrading.md). Default: all that its release can.
        tracer: an OpenTelemetry tracer, for spans of what is proposed here (docs/tracing.md).

    Raises:
        ConfigError: an argument cannot work.
        StorageError: the storage is in use, belongs to another node, or fails, also later.
        OSError: the transport cannot listen.
        InvariantViolation: a bug in trioraft; the node is Dead.
    """
    check_parts(cluster_id, machine, storage)
    runner = NodeRunner(
        node_id,
        cluster_id=cluster_id,
        timing=timing or Timing(),
        limits=limits or Limits(),
        rng=rng or random.Random(),
        machine=hosted(machine),
        storage=storage,
        transport=transport,
        logger=TraceLogger(logger, node_id),
        auto_replace=is_volatile(storage) if auto_replace is None else auto_replace,
        bootstrap=bootstrap_configuration(node_id, voters, transport),
        features=checked_features(features),
        traced=traced_commands(tracer, node_id),
    )
    admin, stop = Administration(runner), partial(runner.kill, "left")
    async with running_beside(runner.run, stop=stop, before_stop=admin.leave, name=runner.name):
        yield Node(runner, admin)
