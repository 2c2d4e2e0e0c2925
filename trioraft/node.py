"""Node and open_node: the public face of one member of a cluster.

Rules of this file:

* `open_node` owns two nurseries, one inside the other. The inner one (`Driver.run`) is the node's
  life: when the node is Dead it is gone, with everything in it. The outer one (`running_beside`)
  lets `kill` end the node without cancelling the code of whoever opened it, and lets a node that
  fails end that code loudly.
* Errors arrive as themselves, never wrapped in a group that you would have to take apart.
* Every wait here can be cancelled, and every wait ends when the node is Dead.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, final

import trio

from .background import running_beside
from .core import reasons
from .core.config import Limits, Timing
from .core.errors import ConfigError, NodeDead, NotLeader, RaftError
from .core.raft import Raft
from .core.types import Configuration, LogIndex, NodeId, Recovered, Role
from .driver import Driver
from .event_stream import EventStream
from .logs import EventLogger, TraceLogger
from .proposals import Proposal
from .state_machine import StateMachine
from .status import PeerProgress, Status
from .storage.base import Storage
from .transport.base import Transport

ID_BYTES_MAX = 256
"""Longest name of a node or a cluster, in UTF-8: it travels in every handshake and message."""


@final
class Node:
    """One member of a cluster, as its process sees it. Made by `open_node`."""

    def __init__(self, driver: Driver, transport: Transport, configuration: Configuration) -> None:
        self._driver = driver
        self._transport = transport
        self._configuration = configuration

    def __repr__(self) -> str:
        status = self.status
        return f"<Node {self.id!r} {status.role.value} term={status.term}>"

    @property
    def id(self) -> NodeId:
        """This node's name."""
        return self._driver.node_id

    @property
    def status(self) -> Status:
        """What the node is at this moment; also of a node that is Dead."""
        core = self._driver.core
        if core is None:
            return Status(
                self.id,
                Role.DEAD if self._driver.is_dead else Role.FOLLOWER,
                term=0,
                leader_id=None,
                last_index=0,
                commit_index=0,
                applied_index=0,
                configuration=self._configuration,
                progress={},
                last_role_change=reasons.Started(),
            )
        return Status(
            node_id=self.id,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            last_index=core.log.last_index,
            commit_index=core.log.commit_index,
            applied_index=core.log.applied_index,
            configuration=core.configuration,
            progress=_progress(core),
            last_role_change=core.last_reason,
        )

    async def propose(self, data: bytes) -> Any:
        """Have the cluster agree on a command, apply it, and return its result.

        Waits while the commands on their way fill `Limits.proposals_bytes_max`.

        Args:
            data: the command, for the state machine's `apply`.

        Returns:
            What `apply` returned on this node.

        Raises:
            NotLeader: certainly not in the log; the error says who leads.
            ProposalDropped: certainly not in the log; propose it again.
            OutcomeUnknown: leadership was lost or the node died; it may or may not be applied.
            NodeDead: the node was Dead already; certainly not in the log.
            ConfigError: the command is not `bytes`, or larger than `Limits.command_bytes_max`.
            Exception: whatever `apply` raised for this command.

        Cancelling the wait does not undo the command: it may still be applied.
        """
        _check_is_bytes(data)
        core = self._check(data)
        room = self._driver.proposals.room
        if not room.take(len(data)):
            while not await room.wait(len(data)):
                self._check(data)  # turned away: it says why
            try:
                core = self._check(data)
            except RaftError:
                room.give_back(len(data))
                raise
        return await self._driver.propose(core, data).result()

    def submit(self, data: bytes) -> Proposal:
        """Put a command into the leader's log without waiting: for pipelines.

        Args:
            data: the command, for the state machine's `apply`.

        Returns:
            A `Proposal` that knows its index now, and its result later.

        Raises:
            Overloaded: the commands on their way fill `Limits.proposals_bytes_max`.
            NotLeader, NodeDead, ConfigError: as `propose`.
        """
        _check_is_bytes(data)
        core = self._check(data)
        self._driver.proposals.take_room(len(data))
        return self._driver.propose(core, data)

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """Wait until `predicate` holds of the node's status; returns at once if it does.

        Level-triggered: what holds only for a moment between two looks may be missed.

        Raises:
            NodeDead: the node is Dead, and the predicate does not hold of that.
        """
        while True:
            status = self.status
            if predicate(status):
                await trio.lowlevel.checkpoint_if_cancelled()
                return status
            if self._driver.is_dead:
                raise NodeDead(f"node {self.id!r} is Dead; what was waited for will not happen")
            await self._driver.status_changed.park()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[EventStream]:
        """Watch what happens: typed events from here on, in order.

        The stream holds up to `Limits.event_stream_max` unread events; further ones are dropped
        and counted in `stream.dropped`. It ends when the node is Dead.
        """
        if self._driver.is_dead:
            raise NodeDead(f"node {self.id!r} is Dead; there is nothing to watch")
        stream = self._driver.watch()
        try:
            yield stream
        finally:
            self._driver.unwatch(stream)

    async def take_snapshot(self) -> LogIndex:
        """Have a snapshot of this node's state machine taken now, whatever the thresholds say.

        Returns:
            The index that the snapshot stands for, once it is durable.

        Raises:
            NodeDead: the node is Dead, or died meanwhile.
            DiskFull: there was no room for it; the log is unharmed.

        Cancelling the wait does not stop the snapshot.
        """
        if not self._driver.is_dead:
            index = await self._driver.take_snapshot()
        if self._driver.is_dead:
            raise NodeDead(f"node {self.id!r} is Dead; no snapshot was taken")
        return index

    def kill(self) -> None:
        """Become Dead, now. Everything the node owns is cancelled; nothing sleeps out a tick.

        Whoever waits for a proposal gets `OutcomeUnknown`; the code inside `async with open_node`
        goes on. Idempotent. What was acknowledged stays in the storage. A write that has begun is
        waited for, in the background: half a write is nobody's friend.
        """
        self._driver.kill("killed")

    def expected_tasks(self) -> frozenset[str]:
        """Names of the tasks that the node's present role owns (its connections' apart)."""
        return self._driver.expected_tasks()

    def _check(self, data: bytes) -> Raft:
        """The core, if it leads and the command can be taken at all."""
        driver = self._driver
        core = driver.core
        if core is None or core.leadership is None:
            raise self._why_not(core)
        if len(data) > driver.limits.command_bytes_max:
            raise ConfigError(
                f"a command of {len(data)} bytes exceeds Limits.command_bytes_max "
                f"({driver.limits.command_bytes_max}): split it, or raise the limit on every node"
            )
        return core

    def _why_not(self, core: Raft | None) -> NodeDead | NotLeader:
        if core is None or self._driver.is_dead:
            return NodeDead(f"node {self.id!r} is Dead; the command was not taken")
        leader_id = core.leader_id
        address = None if leader_id is None else self._transport.address_of(leader_id)
        return NotLeader(leader_id, address)


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
    logger: EventLogger | None = None,
) -> AsyncIterator[Node]:
    """Open a node and keep it alive for the body of the `async with`.

    Leaving the body kills the node: when the `async with` is over, no task, thread or socket of
    it is left.

    Args:
        node_id: this node's name, one of `voters`.
        voters: names of all nodes of a new cluster, this one included.
        machine: what committed commands are applied to.
        storage: where term, vote and log survive; one for each node.
        transport: how the others are reached; one for each node.
        cluster_id: nodes of different clusters refuse each other.
        timing: when nodes lose patience; the same on every node. Default: `Timing()`.
        limits: bounds on memory and messages. Default: `Limits()`.
        rng: source of the randomised timeouts; give a seeded one for repeatable tests.
        logger: a structlog logger, as `trioraft.logs.configure` makes one; None logs nothing.

    Raises:
        ConfigError: an argument cannot work.
        StorageError: the storage is in use, belongs to another node, or fails. A storage that
            fails later ends the body too, with this error raised here.
        OSError: the transport cannot listen.
        InvariantViolation: a bug in trioraft; the node is Dead.
    """
    _check_id("cluster_id", cluster_id)
    _check_machine(machine)
    configuration = _bootstrap_configuration(node_id, voters, transport)
    driver = Driver(
        node_id,
        cluster_id=cluster_id,
        timing=timing or Timing(),
        limits=limits or Limits(),
        rng=rng or random.Random(),
        machine=machine,
        storage=storage,
        transport=transport,
        logger=TraceLogger(logger, node_id),
    )
    service = partial(driver.run, Recovered(configuration=configuration))
    async with running_beside(service, stop=lambda: driver.kill("left"), name=driver.name):
        yield Node(driver, transport, configuration)


def _bootstrap_configuration(
    node_id: NodeId, voters: Iterable[NodeId], transport: Transport
) -> Configuration:
    if isinstance(voters, str):
        raise ConfigError(f"voters is the string {voters!r}; give a list of node ids")
    ids = tuple(voters)
    for voter in ids:
        _check_id("a name in voters", voter)
    twice = sorted({voter for voter in ids if ids.count(voter) > 1})
    if twice:
        raise ConfigError(f"voters names {twice} twice; name each node once")
    if node_id not in ids:
        raise ConfigError(f"node_id {node_id!r} is not one of voters {list(ids)}; add it there")
    if transport.node_id != node_id:
        raise ConfigError(
            f"the transport is node {transport.node_id!r}'s, but node_id is {node_id!r}: give "
            "each node its own transport"
        )
    return Configuration(tuple(sorted(ids)))


def _check_is_bytes(data: object) -> None:
    """Anything else would break every node it reaches; a buffer could change under us."""
    if not isinstance(data, bytes):
        raise ConfigError(
            f"a command is bytes, but {type(data).__name__} was given: encode it, as "
            "text.encode() or bytes(buffer) do"
        )


def _check_id(what: str, name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= ID_BYTES_MAX:
        shown = repr(name) if len(repr(name)) < 80 else f"{repr(name)[:80]}…"
        raise ConfigError(
            f"{what} is {shown}: give a non-empty string of at most {ID_BYTES_MAX} bytes"
        )


def _check_machine(machine: object) -> None:
    if isinstance(machine, type):
        raise ConfigError(
            f"machine is the class {machine.__name__}; give an instance: {machine.__name__}()"
        )
    for name in ("apply", "snapshot", "restore"):
        method = getattr(machine, name, None)
        if not callable(method):
            raise ConfigError(
                f"machine is a {type(machine).__name__}, which has no method {name!r}: see "
                "trioraft.StateMachine"
            )
        if inspect.iscoroutinefunction(method):
            raise ConfigError(
                f"{type(machine).__name__}.{name} is an async function: a state machine is "
                "synchronous, or commands could not be applied in order"
            )


def _progress(core: Raft) -> dict[NodeId, PeerProgress]:
    if core.leadership is None:
        return {}
    return {
        peer: PeerProgress(progress.match_index, progress.next_index, progress.state.value)
        for peer, progress in core.leadership.progress.items()
    }
