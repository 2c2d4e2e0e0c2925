"""ReplicatedObject: a class with annotated fields and marked methods becomes one of the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar, Self

import trio

from ...core.errors import ConfigError
from ...core.types import LogIndex
from ..local import TIMEOUT_S
from ..numbering import SPREAD_MAX
from ..sessions import SessionMachine
from .calls import NodePort, Port, Way
from .definition import Definition
from .replica import Elsewhere, Remote, RemotePart, RemoteReplica, Replica, around


class ReplicatedObject:
    """The state machine of a cluster, written as a class.

    ```python
    class Counter(ReplicatedObject):
        value: int = 0

        @command
        def add(self, n: int) -> int:
            self.value += n
            return self.value

        @query
        def get(self) -> int:
            return self.value
    ```

    Annotated attributes without a leading underscore are the state; defaults are copied for each
    object. `@command` methods change it, on every node; `@query` methods read it. Give an object to
    `open_node` as `machine` and `attach` it to the node; then `await counter.add(5)`.

    Raises:
        ConfigError: when the class is defined, if something in it cannot work.
    """

    version: ClassVar[int] = 1
    """Raise it when commands are added, and give the new ones `since=` this version. They are
    refused, on every node alike, until `activate_version` was awaited: do that once every node has
    the new class. A command that was released stays as it is; one that shall act differently
    looks at `self.active_version`. A new cluster starts with its first proposer's version."""

    _definition: ClassVar[Definition]
    _replica: Replica

    def __init_subclass__(cls, *, is_remote: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not is_remote:
            reserved = frozenset(name for name in vars(ReplicatedObject) if name[0] != "_")
            cls._definition = Definition.of(cls, reserved)

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """State and bookkeeping stand before `__init__`, whether or not that calls ours."""
        instance = super().__new__(cls)
        if cls is ReplicatedObject:
            raise ConfigError(
                "ReplicatedObject itself has no state: derive a class from it, and make one of that"
            )
        object.__setattr__(instance, "_replica", Replica(cls._definition, instance))
        for name, field in cls._definition.fields.items():
            if field.has_default:
                object.__setattr__(instance, name, field.new_default())
        return instance

    def __init__(self) -> None:
        """Takes nothing; the fields' defaults are the state of a new cluster."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._replica.is_writable and name in self._definition.fields:
            cls = type(self).__name__
            raise ConfigError(
                f"{cls}.{name} is replicated and was assigned to outside a command; the nodes "
                f"would differ. Write a method with @command that does it"
            )
        object.__setattr__(self, name, value)

    # -- life ------------------------------------------------------------------------------

    def attach(
        self,
        node: Port,
        *,
        forward: bool = True,
        timeout_s: float = TIMEOUT_S,
        sessions: bool = True,
    ) -> None:
        """Tell the object which node its commands and queries go through.

        Args:
            node: the `Node` that has this object as its machine. Again the same one is fine.
            forward: whether commands work on every node: whoever leads takes them, each once
                however often it has to be sent, and they are applied here before they return.
                False: only on the leader, as `Node.propose` (`NotLeader` elsewhere, and
                `OutcomeUnknown` where leadership is lost).
            timeout_s: deadline of a call, in seconds: `DeadlineExceeded`, which is an
                `OutcomeUnknown` too if the command may be applied. `math.inf`, or without
                `forward`: there is none.
            sessions: makes no difference any more: there are always sessions around an object.

        Raises:
            ConfigError: it belongs to another node, or a field has no value yet.
        """
        replica = self._replica
        spread_max = SPREAD_MAX if replica.around is None else replica.around.spread_max
        replica.attach(
            node,
            lambda: NodePort(node, forward=forward, timeout_s=timeout_s, spread_max=spread_max),
        )

    def in_sessions(self) -> SessionMachine:
        """The object as a node has it, with sessions around it; called by `open_node`. Logs and
        snapshots from before there were any are read."""
        replica = self._replica
        if replica.around is None:
            replica.around = around(self)
        return replica.around

    @classmethod
    def through(
        cls,
        client: Remote,
        *,
        part: str | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> Self:
        """An object whose commands and queries go to the machines that have it.

        They have it as their machine, beside an `open_service`. A `LocalClient` is the way to an
        object of this very process.

        ```python
        async with Client(addresses) as client:
            await Counter.through(client).add(5)
        ```

        Args:
            client: a `Client`: it finds the leader, and commands are applied exactly once. Name the
                exceptions that commands raise in its `error_types`.
            part: its name, if they have it among `Replicas`.
            now_s: a monotonic clock, in seconds.

        Commands and queries raise what `Client.call` and `Client.query` raise. The state and what
        waits for it are not here: `ConfigError`.
        """
        fields = {name: Elsewhere() for name in cls._definition.fields}
        elsewhere: type[Self] = type(cls.__name__, (cls,), fields, is_remote=True)
        instance = object.__new__(elsewhere)
        if part is not None:
            client = RemotePart(client, part)
        replica = RemoteReplica(cls._definition, client, now_s)
        object.__setattr__(instance, "_replica", replica)
        return instance

    @property
    def port(self) -> Way:
        """What it calls through: the way to its node, or its place among `Replicas`.

        Raises:
            ConfigError: nothing yet.
        """
        return self._replica.require_port()

    async def wait(self, predicate: Callable[[Self], bool]) -> None:
        """Wait until `predicate` holds of the object as it is on this node.

        Level-triggered, and without a barrier: what holds only for a moment may be missed.

        Raises:
            NodeDead: the node is Dead, and the predicate does not hold.
        """
        await self.port.wait(lambda _status: predicate(self))

    # -- time and version ------------------------------------------------------------------

    @property
    def log_time_s(self) -> float:
        """Seconds of log time, the same on every node: the only clock that a command may read.

        It is when the latest command was proposed, and never goes back; see
        `trioraft.machines.log_clock.LogClock` for what it can be trusted with.
        """
        return self._replica.clock.log_time_s

    @property
    def log_index(self) -> LogIndex:
        """Where in the log the command that runs stands; the same on every node, and never twice.

        A number that only rises, from command to command: a fencing token, say. Among `Replicas`
        it rises over all of them.

        Raises:
            ConfigError: no command of this object runs: a node that was brought up by a snapshot
                could not say which one was the last.
        """
        return self._replica.require_log_index()

    def log_now_s(self) -> float:
        """What log time would be if a command were proposed here now. Not for commands.

        Raises:
            ConfigError: it was asked inside a command, where the nodes would get different answers.
        """
        if self._replica.is_writable and self._replica.is_running:
            raise ConfigError("log_now_s differs between nodes; in a command, read log_time_s")
        return self._replica.clock.reading_s(trio.current_time())

    @property
    def active_version(self) -> int:
        """The version whose commands are taken; the same on every node. See `version`."""
        return self._replica.active_version or 1

    async def activate_version(self) -> int:
        """Let the commands of this class's `version` be taken from here on. Never goes back.

        Await it once every node has the new class: one with an older class stops applying commands
        until it is restarted with the new one.

        Returns:
            The version that is active now.

        Raises:
            RaftError: as `Node.propose`. It may be tried again.
        """
        return await self._replica.activate_version()

    # -- the state machine -----------------------------------------------------------------

    def apply(self, index: LogIndex, data: bytes) -> bytes:
        """Apply one command; called by the node."""
        return self._replica.apply(index, data)

    def prepare_command(self, data: bytes) -> bytes:
        """Refuse what cannot be read, or is nested too deep; called before it is proposed."""
        return self._replica.prepare_command(data)

    def is_result(self, error: Exception) -> bool:
        """Whether what the last `apply` raised is a result; called by the node."""
        return self._replica.is_result(error)

    def query(self, data: bytes) -> bytes:
        """Answer a question of a client's; called by the service. See `through`."""
        return self._replica.answer(data)

    def snapshot(self) -> Iterable[bytes]:
        """Version, log time and state; called by the node."""
        head, state = self._replica.head(), self.dump_state()
        return chain((head,), (state,) if isinstance(state, bytes) else state)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace version, log time and state; called by the node."""
        replica = self._replica
        head, state = replica.read_head(chunks)
        self.load_state(state)
        replica.take_head(head)

    def dump_state(self) -> bytes | Iterable[bytes]:
        """The state as bytes. Override it, with `load_state`, for a large or an unannotated one.

        The rules of `StateMachine.snapshot` hold: be quick, and hand out a view that further
        commands do not change.
        """
        return self._replica.dump()

    def load_state(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by what `dump_state` wrote, by assigning attributes.

        It may be called in a worker thread while queries run: assign in one step what belongs
        together.
        """
        self._replica.load(chunks)
