"""ReplicatedObject: a class with annotated fields and marked methods becomes one of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

import trio

from ...core.errors import ConfigError
from ...core.types import LogIndex
from ...member.state_machine import chained
from ...tasks.event_loop import require_event_loop
from ..local import TIMEOUT_S
from ..numbering import SPREAD_MAX
from ..sessions import SessionMachine
from .calls import NodePort, Port, Way
from .definition import Definition
from .handle import BlockingHandle, BlockingRemote, Handle, Remote, RemotePart
from .replica import Replica, around


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
    _handle_type: ClassVar[type[Handle[Any]]] = Handle
    _blocking_handle_type: ClassVar[type[BlockingHandle[Any]]] = BlockingHandle
    _replica: Replica

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        reserved = frozenset(name for name in vars(ReplicatedObject) if name[0] != "_")
        cls._definition = Definition.of(cls, reserved)

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """State and bookkeeping stand before `__init__`, whether or not that calls ours."""
        instance = super().__new__(cls)
        if cls is ReplicatedObject:
            raise ConfigError(
                "ReplicatedObject itself has no state: derive a class from it, and make one of that"
            )
        expires = instance if isinstance(instance, Expiring) else None
        object.__setattr__(instance, "_replica", Replica(cls._definition, instance, expires))
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
        replica.keep_views()
        return replica.around

    @overload
    @classmethod
    def through(
        cls, client: BlockingRemote, *, part: str | None = None
    ) -> BlockingHandle[Self]: ...

    @overload
    @classmethod
    def through(cls, client: Remote, *, part: str | None = None) -> Handle[Self]: ...

    @classmethod
    def through(cls, client: Any, *, part: str | None = None) -> Any:
        """A handle, whose commands and queries go to the machines that have the object.

        They have it as their machine, beside an `open_service`. A `LocalClient` is the way to an
        object of this very process.

        ```python
        async with Client(addresses) as client:
            await Counter.through(client)(Counter.add, 5)
        ```

        Args:
            client: a `Client`: it finds the leader, and commands are applied exactly once. Name the
                exceptions that commands raise in its `error_types`. With a `BlockingClient`, the
                handle's methods are called without `await`.
            part: its name, if they have it among `Replicas`.

        The structures that come with trioraft have handles with methods, as in
        `await Counter.through(client).add(5)`.
        """
        if hasattr(client, "run"):
            return cls._blocking_handle_type(cls._definition, client, part, cls._handle_type)
        reached = client if part is None else RemotePart(client, part)
        return cls._handle_type(cls._definition, reached)

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

        Cancelling the wait disturbs nobody.
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
        require_event_loop(f"{self._definition.cls_name}.log_now_s", "trio")
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

        Cancelling the wait does not undo the command: it may still be applied.
        """
        return await self._replica.activate_version()

    # -- the state machine -----------------------------------------------------------------

    def apply(self, index: LogIndex, data: bytes) -> bytes:
        """Apply one command; called by the node.

        As `StateMachine.apply`.
        """
        return self._replica.apply(index, data)

    def prepare_command(self, data: bytes) -> bytes:
        """Give a command its log time, or refuse what cannot be read; called by the leader."""
        return self._replica.prepare_command(data)

    def is_result(self, error: Exception) -> bool:
        """Whether what the last `apply` raised is a result; called by the node."""
        return self._replica.is_result(error)

    def query(self, data: bytes) -> bytes:
        """Answer a question of a client's; called by the service. See `through`."""
        return self._replica.answer(data)

    def snapshot(self) -> Iterable[bytes]:
        """Version, log time and state; called by the node."""
        return chained(self._replica.head(), self.dump_state())

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


H_co = TypeVar("H_co", bound=Handle[Any], covariant=True)
B_co = TypeVar("B_co", bound=BlockingHandle[Any], covariant=True)


class WithHandles(ReplicatedObject, Generic[H_co, B_co]):
    """A class whose handles have methods of their own: which ones, type checkers learn here. At
    run time they are its `_handle_type` and `_blocking_handle_type`."""

    @overload
    @classmethod
    def through(cls, client: BlockingRemote, *, part: str | None = None) -> B_co: ...

    @overload
    @classmethod
    def through(cls, client: Remote, *, part: str | None = None) -> H_co: ...

    @classmethod
    def through(cls, client: Any, *, part: str | None = None) -> Any:
        """As `ReplicatedObject.through`."""
        return super().through(client, part=part)


class Expiring(ReplicatedObject):
    """A replicated object in which something ends by itself, as a lease does.

    Every command is preceded by the end of what is over at its log time, and when nobody proposes
    one, the leader does (`trioraft.member.state_machine.Timed`): so it ends on every node alike,
    soon after it is due, and nobody has to ask.

    ```python
    class Notes(Expiring):
        texts: dict[str, tuple[float, str]] = {}  # oldest first

        @command
        def write(self, name: str, text: str) -> None:
            self.texts.pop(name, None)
            self.texts[name] = (self.log_time_s + 60, text)

        def next_expiry_s(self) -> float | None:
            return next((at_s for at_s, _ in self.texts.values()), None)

        def expire(self) -> None:
            while self.texts and self.next_expiry_s() <= self.log_time_s:
                del self.texts[next(iter(self.texts))]
    ```
    """

    def next_expiry_s(self) -> float | None:
        """The log time at which something ends next; None: nothing will.

        It is asked before each command and after each few: be quick. It may depend on the state,
        `log_time_s` and `active_version`, and on nothing else.
        """
        raise NotImplementedError

    def expire(self) -> None:
        """End whatever is over at `log_time_s`: a piece of a command, with the same rules.

        Afterwards `next_expiry_s` must say a later time, or None.
        """
        raise NotImplementedError

    def due_in_s(self, now_s: float) -> float | None:
        """How long until something ends; called by the node.

        As `Timed.due_in_s`.
        """
        return self._replica.due_in_s(now_s)

    def command_when_due(self, now_s: float) -> bytes:
        """The command that ends what is over; called by the node.

        As `Timed.command_when_due`.
        """
        return self._replica.tick(now_s)
