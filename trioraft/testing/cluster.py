"""open_cluster: several nodes in one process, and the verbs that tests are written in."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import attrs
import msgspec
import trio

from ..core.config import Limits, Timing
from ..core.errors import ConfigError, NodeDead, NotLeader, ProposalDropped
from ..core.quorum import majority
from ..core.types import Address, LogIndex, NodeId, Role, Term
from ..logs.loggers import EventLogger, current_sink, sink_logger
from ..member.state_machine import StateMachine
from ..node.node import Node, open_node
from ..storage.base import Storage
from ..storage.memory import MemoryStorage
from ..storage.sqlite import SQLiteStorage
from ..tasks.background import running_beside
from ..tasks.event_loop import opened_under
from .networks import ClusterNetwork, network_of


@final
@attrs.define
class CommandLog:
    """A state machine that remembers its commands; a command's result is the command.

    All methods are as `StateMachine` has them.
    """

    commands: list[tuple[LogIndex, bytes]] = attrs.field(factory=list)

    def apply(self, index: LogIndex, data: bytes) -> bytes:
        """Remember a command; its result is the command."""
        self.commands.append((index, data))
        return data

    def snapshot(self) -> bytes:
        """All commands."""
        return msgspec.msgpack.encode(self.commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Have the commands of a snapshot, and no others."""
        self.commands = msgspec.msgpack.decode(b"".join(chunks), type=list[tuple[LogIndex, bytes]])


COLLISION_CHANCE = 1 / 3
"""So many election timeouts are exactly the lower bound."""


class CollidingRandom(random.Random):
    """A source of timeouts that collide: a third of them are exactly the lower bound."""

    def uniform(self, a: float, b: float) -> float:
        """The lower bound with `COLLISION_CHANCE`, else uniform."""
        return a if self.random() < COLLISION_CHANCE else super().uniform(a, b)


StorageKind: TypeAlias = Literal["memory", "sqlite"] | Callable[[NodeId], Storage]
"""By name, or a function that makes a node's storage."""


@final
class Storages:
    """One storage for each node, made when it is first asked for."""

    def __init__(self, make: Callable[[NodeId], Storage]) -> None:
        self._make = make
        self._storages: dict[NodeId, Storage] = {}

    @classmethod
    @contextmanager
    def of(cls, kind: StorageKind) -> Iterator[Storages]:
        """Storages of this kind.

        Raises:
            ConfigError: there is no such kind.
        """
        if callable(kind):
            yield cls(kind)
        elif kind == "memory":
            yield cls(lambda _node_id: MemoryStorage())
        elif kind == "sqlite":
            with tempfile.TemporaryDirectory(prefix="trioraft-") as directory:
                yield cls(lambda node_id: SQLiteStorage(Path(directory, node_id)))
        else:
            raise ConfigError(f'storage is {kind!r}; give "memory" or "sqlite"')

    def storage(self, node_id: NodeId) -> Storage:
        """This node's storage, the same one over all its incarnations."""
        if node_id not in self._storages:
            self._storages[node_id] = self._make(node_id)
        return self._storages[node_id]


MachineFactory: TypeAlias = Callable[[], StateMachine]

WAIT_ROUNDS = 20
"""Longest election timeouts that a wait of the harness lasts before it fails."""


@attrs.define(eq=False)
class _Member:
    """One running incarnation of a node."""

    node: Node
    scope: trio.CancelScope
    """Around the `async with` that holds it open."""
    gone: trio.Event
    leave: trio.Event = attrs.field(factory=trio.Event)


@final
class Cluster:
    """Nodes "0", "1", … on one network. Made by `open_cluster`.

    Cancelling a method ends its wait and undoes nothing: what was said to nodes stays so.
    """

    def __init__(
        self,
        size: int,
        *,
        timing: Timing,
        limits: Limits,
        seed: int,
        machine: MachineFactory,
        network: ClusterNetwork,
        storages: Storages,
        collisions: bool,
        loses_messages: bool,
        logger: EventLogger | None = None,
        on_open: Callable[[Node], None] | None = None,
    ) -> None:
        self.ids: tuple[NodeId, ...] = tuple(str(number) for number in range(size))
        """Every node that was ever opened, in that order; the first ones are the founders."""
        self._founders = self.ids
        self.seed = seed
        self.timing = timing
        self.loses_messages = loses_messages
        """Whether the network is an unreliable one."""
        self.machines: dict[NodeId, Any] = {}
        """The state machine of each node's present incarnation."""
        self.network = network
        self._limits = limits
        self._new_machine = machine
        self._storages = storages
        rng_class: type[random.Random] = CollidingRandom if collisions else random.Random
        self._rng_class = rng_class
        self._rngs = {node_id: rng_class(f"{seed}/{node_id}") for node_id in self.ids}
        self._members: dict[NodeId, _Member] = {}
        self._nursery: trio.Nursery | None = None
        self._isolated: set[NodeId] = set()
        self._leader_of: dict[Term, NodeId] = {}
        self._sink = current_sink() if logger is None else None
        self._logger: EventLogger | None = logger
        if logger is None and self._sink is not None:
            self._logger = sink_logger(self._sink)
        self._on_open = on_open

    @property
    def disconnected(self) -> frozenset[NodeId]:
        """The nodes that `disconnect` has cut off."""
        return frozenset(self._isolated)

    @property
    def nodes(self) -> dict[NodeId, Node]:
        """The nodes that run."""
        return {node_id: member.node for node_id, member in sorted(self._members.items())}

    # -- looking ---------------------------------------------------------------------------

    async def check_single_leader(self, *, timeout_s: float | None = None) -> tuple[NodeId, Term]:
        """Wait until exactly one of the connected nodes leads, and those connected follow it.

        Args:
            timeout_s: how long to wait, in seconds; default: `WAIT_ROUNDS` election timeouts.

        Returns:
            The leader and its term.

        Raises:
            AssertionError: it did not happen in time, or two nodes led one term.
        """
        await self.wait(
            lambda: self._single_leader() is not None,
            "exactly one leader, followed by all connected nodes",
            timeout_s=timeout_s,
        )
        leader = self._single_leader()
        if leader is None:
            raise AssertionError("the leader was gone at once")
        return leader

    def check_no_leader(self) -> None:
        """Check that none of the nodes that are not disconnected leads at this moment."""
        self._check_election_safety()
        leaders = [node.id for node in self._connected() if node.status.role is Role.LEADER]
        if leaders:
            raise AssertionError(f"no leader was expected, but {leaders} lead\n{self.describe()}")

    async def wait(
        self, condition: Callable[[], bool], what: str, *, timeout_s: float | None = None
    ) -> None:
        """Wait until a condition over the cluster holds; looked at when any node changes.

        Args:
            condition: reads the cluster; changes nothing.
            what: said in the error, as in "waited for …".
            timeout_s: how long, in seconds; default: `WAIT_ROUNDS` election timeouts.

        Raises:
            AssertionError: it did not hold in time.
        """
        limit_s = self._limit_s(timeout_s)
        with trio.move_on_after(limit_s):
            while not self._holds(condition):
                async with trio.open_nursery() as nursery:
                    for node in self.nodes.values():
                        nursery.start_soon(
                            self._until, node, condition, nursery.cancel_scope.cancel
                        )
                    nursery.start_soon(trio.sleep_forever)  # all may be Dead: the limit decides
            return
        raise AssertionError(f"waited {limit_s:g} s for {what}\n{self.describe()}")

    def _limit_s(self, timeout_s: float | None) -> float:
        if timeout_s is not None:
            return timeout_s
        return WAIT_ROUNDS * self.timing.election_timeout_s[1]

    async def _until(
        self, node: Node, condition: Callable[[], bool], done: Callable[[], None]
    ) -> None:
        try:
            await node.wait(lambda _status: self._holds(condition))
        except NodeDead:
            return
        done()

    # -- commands --------------------------------------------------------------------------

    async def propose(self, data: bytes, *, timeout_s: float | None = None) -> Any:
        """Have the connected nodes agree on a command, whoever leads.

        Tries again as long as the command is certainly not in the log.

        Args:
            data: the command.
            timeout_s: how long to try, in seconds; default: `WAIT_ROUNDS` election timeouts.

        Returns:
            What the state machine returned.

        Raises:
            OutcomeUnknown: leadership was lost meanwhile; it may or may not be applied.
            AssertionError: nobody took it in time.
        """
        limit_s = self._limit_s(timeout_s)
        with trio.move_on_after(limit_s):
            while True:
                leader, _ = await self.check_single_leader(timeout_s=limit_s)
                try:
                    return await self.nodes[leader].propose(data)
                except (NotLeader, ProposalDropped, NodeDead):
                    continue
        raise AssertionError(f"nobody took {data!r} within {limit_s:g} s\n{self.describe()}")

    async def check_committed(self, data: bytes) -> tuple[int, LogIndex]:
        """Wait until every connected node has applied a command, all at the same place.

        Needs machines that are `CommandLog`s.

        Returns:
            How many nodes have it, and its index.

        Raises:
            AssertionError: it did not happen in time, or the nodes differ.
        """
        await self.wait(
            lambda: all(
                self._index_of(node.id, data) is not None
                for node in self._connected()
                if self._reaches_majority(node.id)
            ),
            f"{data!r} on all connected nodes",
        )
        self.check_logs_agree()
        indexes = [self._index_of(node_id, data) for node_id in self.machines]
        found = {index for index in indexes if index is not None}
        if len(found) != 1:
            raise AssertionError(f"{data!r} stands at {sorted(found)}\n{self.describe()}")
        return sum(index is not None for index in indexes), found.pop()

    def check_not_committed(self, data: bytes) -> None:
        """Check that no node has applied a command so far."""
        holders = [node_id for node_id in self.machines if self._index_of(node_id, data)]
        if holders:
            raise AssertionError(f"{data!r} is applied on {holders}\n{self.describe()}")

    def check_logs_agree(self) -> None:
        """State-machine safety: what two nodes applied at an index is the same (paper, 5.4.3)."""
        at: dict[LogIndex, tuple[NodeId, bytes]] = {}
        for node_id, machine in self.machines.items():
            for index, data in machine.commands:
                other, theirs = at.setdefault(index, (node_id, data))
                if theirs != data:
                    raise AssertionError(
                        f"at index {index}, {other} applied {theirs!r} and {node_id} {data!r}"
                    )

    def _index_of(self, node_id: NodeId, data: bytes) -> LogIndex | None:
        commands = self.machines[node_id].commands
        indexes = [index for index, command in commands if command == data]
        if len(indexes) > 1:
            raise AssertionError(f"{node_id} applied {data!r} at each of {indexes}")
        return indexes[0] if indexes else None

    def _holds(self, condition: Callable[[], bool]) -> bool:
        self._check_election_safety()
        return condition()

    def _single_leader(self) -> tuple[NodeId, Term] | None:
        statuses = [node.status for node in self._connected() if self._reaches_majority(node.id)]
        leaders = [status for status in statuses if status.role is Role.LEADER]
        if len(leaders) != 1:
            return None
        leader = leaders[0]
        agree = all(
            status.leader_id == leader.node_id and status.term == leader.term for status in statuses
        )
        return (leader.node_id, leader.term) if agree else None

    def _connected(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.id not in self._isolated]

    def _reaches_majority(self, node_id: NodeId) -> bool:
        cuts = self.network.cuts
        voters = self._voters()
        heard = sum(
            1
            for other in self._members
            if other in voters
            and (
                other == node_id or not (cuts.is_cut(node_id, other) or cuts.is_cut(other, node_id))
            )
        )
        return node_id in voters and heard >= majority(len(voters))

    def _voters(self) -> tuple[NodeId, ...]:
        """Of the newest configuration that any running node has."""
        known = [node.status.configuration for node in self.nodes.values()]
        newest = max(known, key=lambda configuration: configuration.index, default=None)
        return self._founders if newest is None or not newest.voters else newest.voters

    def _check_election_safety(self) -> None:
        """At most one leader in a term (paper, section 5.2)."""
        for node in self.nodes.values():
            status = node.status
            if status.role is Role.LEADER:
                leader = self._leader_of.setdefault(status.term, node.id)
                if leader != node.id:
                    raise AssertionError(
                        f"{leader} and {node.id} both led term {status.term}\n{self.describe()}"
                    )

    def describe(self) -> str:
        """One line a node, for error messages."""
        lines = [f"cluster of {len(self.ids)}, seed {self.seed}:"]
        for node_id in self.ids:
            member = self._members.get(node_id)
            if member is None:
                lines.append(f"  {node_id}: down")
                continue
            status = member.node.status
            cut = ", disconnected" if node_id in self._isolated else ""
            lines.append(
                f"  {node_id}: {status.role.value} term={status.term} leader={status.leader_id} "
                f"last={status.last_index} commit={status.commit_index}{cut} "
                f"({status.last_role_change})"
            )
        return "\n".join(lines)

    # -- breaking and mending --------------------------------------------------------------

    def disconnect(self, node_id: NodeId) -> None:
        """Cut a node off, silently, in both directions."""
        self._say(f"Disconnect {node_id}")
        self._isolated.add(node_id)
        self.network.cuts.disconnect(node_id)

    def reconnect(self, node_id: NodeId) -> None:
        """Undo `disconnect`."""
        self._say(f"Reconnect {node_id}")
        self._isolated.discard(node_id)
        self.network.cuts.reconnect(node_id)

    def partition(self, *groups: set[NodeId]) -> None:
        """Cut the cluster into groups that do not hear each other."""
        self._say("Partition " + " | ".join(" ".join(sorted(group)) for group in groups))
        self.network.cuts.partition(*groups)

    def cut(self, one: NodeId, other: NodeId) -> None:
        """Let two nodes not hear each other, silently, until `heal`.

        Args:
            one: a node.
            other: another.
        """
        self._say(f"Cut {one}>{other} {other}>{one}")
        self.network.cuts.cut(one, other)

    def set_network(
        self, *, delay_s: tuple[float, float] | None = None, loss: float | None = None
    ) -> None:
        """How messages fare from now on (memory only).

        Args:
            delay_s: one-way delay, lower and upper bound in seconds; None: as it is.
            loss: share of the messages that get lost, 0 … 1; None: as it is.

        Raises:
            ConfigError: it is a network of sockets, or a value is out of its range.
        """
        self.network.set_faults(delay_s=delay_s, loss=loss)
        if delay_s is not None:
            low, high = delay_s
            self._say(f"Network delay {low * 1000:g} to {high * 1000:g} ms")
        if loss is not None:
            self._say(f"Network loss {loss:.0%}")

    def heal(self) -> None:
        """Undo every `disconnect`, `cut` and `partition`."""
        self._say("Heal")
        self._isolated.clear()
        self.network.cuts.heal()

    def mute_after(self, node_id: NodeId, sends: int) -> None:
        """Let a node send so many messages more; further ones vanish until `heal`.

        Args:
            node_id: which one.
            sends: how many messages.
        """
        self._say(f"Mute {node_id} after {sends} messages")
        self.network.cuts.mute_after(node_id, sends)

    def drop_connection(self, one: NodeId, other: NodeId) -> None:
        """Break the connection between two nodes; both notice, and it is made again at once.

        Args:
            one: a node.
            other: another.
        """
        self._say(f"Drop connection {one} {other}")
        self.network.drop_connection(one, other)

    async def crash(self, node_id: NodeId) -> None:
        """Kill a node; when this returns, nothing of it is left but its storage."""
        self._say(f"Crash {node_id}")
        member = self._members.pop(node_id)
        member.node.kill()
        member.leave.set()
        await member.gone.wait()

    async def restart(self, node_id: NodeId) -> None:
        """Open a crashed node again, on the storage it left."""
        self._say(f"Restart {node_id}")
        await self._open(node_id)

    async def leave(self, node_id: NodeId) -> None:
        """Let a node leave on purpose: if it leads, it transfers its leadership first. `restart`
        brings it back."""
        self._say(f"Leave {node_id}")
        member = self._members.pop(node_id)
        member.leave.set()
        await member.gone.wait()

    async def cancel(self, node_id: NodeId) -> None:
        """Cancel the code that holds a node open, as a signal does in most programs. `restart`
        brings it back."""
        self._say(f"Cancel {node_id}")
        member = self._members.pop(node_id)
        member.scope.cancel()
        await member.gone.wait()

    async def join(self, node_id: NodeId) -> Address | None:
        """Open one more node, which waits until a leader adds it (`Node.add_learner`, …).

        Returns:
            Where it can be reached, to say so to the leader; None where names are enough.
        """
        self._say(f"Join {node_id}")
        if node_id in self.ids:
            raise ValueError(f"there is a node {node_id!r} already; use restart")
        self.ids = (*self.ids, node_id)
        self._rngs[node_id] = self._rng_class(f"{self.seed}/{node_id}")
        await self._open(node_id)
        return self.network.transport(node_id).address_of(node_id)

    def _say(self, text: str) -> None:
        if self._sink is not None:
            self._sink.test_line(text, at_s=trio.current_time())
        elif self._logger is not None:
            self._logger.info(text)

    # -- life ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all nodes until cancelled, or until one of them fails."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for node_id in self.ids:
                await self._open(node_id)
            task_status.started()
            await trio.sleep_forever()

    def stop(self) -> None:
        """Kill all nodes."""
        if self._nursery is not None:
            for member in self._members.values():
                member.node.kill()
            self._nursery.cancel_scope.cancel()

    async def _open(self, node_id: NodeId) -> None:
        if self._nursery is None:
            raise RuntimeError("the cluster is not open; use `async with open_cluster(…)`")
        self._members[node_id] = await self._nursery.start(
            self._keep_open, node_id, name=f"cluster.member[{node_id}]"
        )

    async def _keep_open(self, node_id: NodeId, *, task_status: trio.TaskStatus[_Member]) -> None:
        machine = self.machines[node_id] = self._new_machine()
        scope, gone = trio.CancelScope(), trio.Event()
        with scope:
            async with open_node(
                node_id,
                voters=self._founders if node_id in self._founders else (),
                machine=machine,
                storage=self._storages.storage(node_id),
                transport=self.network.transport(node_id),
                cluster_id="test",
                timing=self.timing,
                limits=self._limits,
                rng=self._rngs[node_id],
                logger=self._logger,
            ) as node:
                member = _Member(node, scope, gone)
                if self._on_open is not None:
                    self._on_open(node)
                task_status.started(member)
                await member.leave.wait()
        gone.set()


@opened_under("trio")
@asynccontextmanager
async def open_cluster(
    size: int = 3,
    *,
    timing: Timing | None = None,
    network: Literal["memory", "tcp"] = "memory",
    storage: StorageKind = "memory",
    seed: int = 0,
    machine: MachineFactory = CommandLog,
    limits: Limits | None = None,
    collisions: bool = False,
    unreliable: bool = False,
    delay_s: tuple[float, float] = (0.001, 0.005),
    loss: float = 0.0,
    logger: EventLogger | None = None,
    on_open: Callable[[Node], None] | None = None,
) -> AsyncIterator[Cluster]:
    """Open a cluster of nodes in this process and close it with the body.

    Args:
        size: number of nodes; they are called "0", "1", ….
        timing: default `Timing()`.
        network: "memory" (virtual time welcome) or "tcp" (real sockets on the loopback).
        storage: what the nodes keep their logs in.
        seed: of all chance: timeouts, delays, losses.
        machine: called for each incarnation of each node.
        limits: default `Limits()`.
        collisions: a third of the election timeouts are exactly the lower bound.
        unreliable: a tenth of the messages is lost, a tenth comes 75 ms late (memory only).
        delay_s: one-way delay, lower and upper bound in seconds (memory only).
        loss: share of the messages that get lost, 0 … 1 (memory only).
        logger: what nodes and harness log to; by default the raftlog of this test, if there is one.
        on_open: called with each node as soon as it is open, and again when it was restarted.

    Raises:
        Exception: of a node that failed, or of the body; a note on it names the seed.

    Cancelling the body ends all nodes; when it is over nothing of them is left.
    """
    with (
        network_of(
            network, size, seed=seed, unreliable=unreliable, delay_s=delay_s, loss=loss
        ) as the_network,
        Storages.of(storage) as storages,
    ):
        cluster = Cluster(
            size,
            timing=timing or Timing(),
            limits=limits or Limits(),
            seed=seed,
            machine=machine,
            network=the_network,
            storages=storages,
            collisions=collisions,
            loses_messages=unreliable,
            logger=logger,
            on_open=on_open,
        )
        with _naming(seed):
            async with running_beside(partial(cluster.run), stop=cluster.stop, name="cluster"):
                yield cluster


@contextmanager
def _naming(seed: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"open_cluster(seed={seed})")
        raise
