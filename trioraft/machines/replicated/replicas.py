"""Replicas: several replicated objects in one log.

A command says which object it is for; each object keeps a version and a log time of its own.
Objects may be added by a new release, once every node has it; a node that finds a command for an
object that it lacks applies nothing from there on (see `replica`).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, final

import msgspec

from ...core.decoding import UNREADABLE
from ...core.errors import ConfigError, OutcomeUnknown
from ...core.types import LogIndex
from ...member.state_machine import is_local
from ..chunks import ChunkReader, head_of
from ..items import ItemReader
from ..local import TIMEOUT_S
from ..msgpack_heads import bytes_head, map_head
from ..nesting import NESTING_MAX, check_nesting, is_deeper
from ..numbering import SPREAD_MAX
from ..sessions import SessionMachine, UnknownCommand
from .calls import ForPart, InnerPort, NodePort, Port
from .object import Expiring, ReplicatedObject
from .replica import around

_MAGIC = b"trioraft replicas\n"
_ENCODER = msgspec.msgpack.Encoder()
_COMMANDS = msgspec.msgpack.Decoder(ForPart)
_STATES = msgspec.msgpack.Decoder(dict[str, bytes])


@final
class Replicas:
    """A state machine made of named objects.

    ```python
    counter, lock = Counter(), Lock()
    machine = Replicas(counter=counter, lock=lock)
    ```

    Raises:
        ConfigError: an object is not a `ReplicatedObject`, or is given twice.
    """

    def __init__(self, **objects: ReplicatedObject) -> None:
        for name, part in objects.items():
            if not isinstance(part, ReplicatedObject):
                raise ConfigError(
                    f"{name} is a {type(part).__name__}: Replicas takes ReplicatedObjects only"
                )
        if len({id(part) for part in objects.values()}) < len(objects):
            raise ConfigError("Replicas was given the same object under two names; make two")
        self._objects = objects
        self._node: Port | None = None
        self._around: SessionMachine | None = None
        self._lacking: str | None = None
        self._last: ReplicatedObject | None = None  # whose command was applied last
        self._expiring = {
            name: part for name, part in objects.items() if isinstance(part, Expiring)
        }
        self.due_in_s: Callable[[float], float | None] | None = (
            self._due_in_s if self._expiring else None
        )
        """How long until something ends by itself in one of them; None: in none can anything."""
        self.command_when_due: Callable[[float], bytes] | None = (
            self._command_when_due if self._expiring else None
        )

    def attach(
        self,
        node: Port,
        *,
        forward: bool = True,
        timeout_s: float = TIMEOUT_S,
        sessions: bool = True,
    ) -> None:
        """Tell every object which node its commands and queries go through.

        Args:
            node: the `Node` that has this as its machine. Again the same one is fine.
            forward: as of `ReplicatedObject.attach`.
            timeout_s: likewise, in seconds.
            sessions: makes no difference any more.

        Raises:
            ConfigError: they belong to another node.
        """
        if self._node is node:
            return
        spread_max = SPREAD_MAX if self._around is None else self._around.spread_max
        way = NodePort(node, forward=forward, timeout_s=timeout_s, spread_max=spread_max)
        for name, part in self._objects.items():
            part._replica.attach((node, name), partial(InnerPort, way, name))
        self._node = node

    def in_sessions(self) -> SessionMachine:
        """All of them as a node has them, with sessions around; called by `open_node`. Logs and
        snapshots from before there were any are read."""
        if self._around is None:
            self._around = around(self)
        for part in self._objects.values():
            part._replica.keep_views()
        return self._around

    def apply(self, index: LogIndex, data: bytes) -> bytes:
        """Apply one command; called by the node.

        As `StateMachine.apply`.

        Raises:
            UnknownCommand: it cannot be read; nothing changed.
            OutcomeUnknown: this node lacks an object that the others may have.
            Exception: whatever the command raised.
        """
        self._last = None
        command = _decoded(data, "command")
        if self._lacking is None and command.name not in self._objects:
            self._lacking = command.name
        if self._lacking is not None:
            raise OutcomeUnknown(self._lacking_message())
        self._last = self._objects[command.name]
        return self._last.apply(index, command.data)

    def prepare_command(self, data: bytes) -> bytes:
        """Give a command its log time, or refuse what cannot be read; called by the leader."""
        check_nesting(data)
        command = _decoded(data, "command")
        if command.name not in self._objects:
            return data
        prepared = self._objects[command.name].prepare_command(command.data)
        return _ENCODER.encode(ForPart(command.name, prepared))

    def is_result(self, error: Exception) -> bool:
        """Whether what the last `apply` raised is a result; called by the node."""
        return not is_local(error) if self._last is None else self._last.is_result(error)

    def query(self, data: bytes) -> bytes:
        """Answer a question of a client's; called by the service. See `ReplicatedObject.through`.

        Raises:
            UnknownCommand: it cannot be read, or there is no such object.
            Exception: whatever the query raised.
        """
        if is_deeper(data, NESTING_MAX):
            raise UnknownCommand(f"a question for Replicas is nested more than {NESTING_MAX} deep")
        question = _decoded(data, "question")
        part = self._objects.get(question.name)
        if part is None:
            raise UnknownCommand(f"there is no object {question.name!r} here")
        return part.query(question.data)

    def watch(self, data: bytes) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Subscribe to one of them; called by the service. See `ReplicatedObject.through`.

        Raises:
            UnknownCommand: it cannot be read, or there is no such object.
            ConfigError: that object cannot be watched.
        """
        question = _decoded(data, "subscription")
        part = self._objects.get(question.name)
        if part is None:
            raise UnknownCommand(f"there is no object {question.name!r} here")
        watch = getattr(part, "watch", None)
        if watch is None:
            kind = type(part).__name__
            raise ConfigError(f"{question.name!r} is not to be watched: a {kind} cannot be watched")
        subscription: AbstractAsyncContextManager[AsyncIterator[Any]] = watch(question.data)
        return subscription

    def _due_in_s(self, now_s: float) -> float | None:
        if self._lacking is not None:
            return None
        dues_s = [part.due_in_s(now_s) for part in self._expiring.values()]
        return min((due_s for due_s in dues_s if due_s is not None), default=None)

    def _command_when_due(self, now_s: float) -> bytes:
        def due_s(name: str) -> float:
            due_s = self._expiring[name].due_in_s(now_s)
            return math.inf if due_s is None else due_s

        first = min(self._expiring, key=due_s)
        return _ENCODER.encode(ForPart(first, self._expiring[first].command_when_due(now_s)))

    def snapshot(self) -> Iterator[bytes]:
        """Every object's snapshot, as it is now; called by the node.

        Raises:
            ConfigError: something that a snapshot or the log named is lacking here.
        """
        if self._lacking is not None:
            raise ConfigError(self._lacking_message())
        return _encoded_states({name: part.snapshot() for name, part in self._objects.items()})

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state of every object; called by the node.

        Raises:
            ConfigError: the snapshot is none of ours, or has objects that this node lacks.
        """
        reader = ItemReader(ChunkReader(chunks).head_chunks(_MAGIC, "Replicas"))
        try:
            count = reader.count(is_map=True)
            if count is None:
                raise msgspec.DecodeError("it is no map")
            for _ in range(count):  # an object that the snapshot lacks is new: as it began
                name: str = msgspec.msgpack.decode(reader.one(), type=str)
                if name not in self._objects:
                    self._lacking = name
                    raise ConfigError(self._lacking_message())
                state = reader.binary()
                self._objects[name].restore(state)
                for _ in state:
                    pass  # what its own `load_state` has left
            if not reader.is_at_end():
                raise msgspec.DecodeError("something follows it")
        except UNREADABLE as error:
            raise ConfigError(f"a snapshot of Replicas cannot be read: {error}") from error

    def _lacking_message(self) -> str:
        return (
            f"the cluster has an object {self._lacking!r}, and this node has only "
            f"{sorted(self._objects)}: restart it with the release that has it; its log has "
            "everything that it missed"
        )


def _encoded_states(states: dict[str, Iterable[bytes]]) -> Iterator[bytes]:
    """Each state stands behind its length, and all behind theirs: so nothing can be handed out
    before everything is encoded. An empty chunk for each piece lets others have their turn."""
    pieces = [map_head(len(states))]
    for name, chunks in states.items():
        state: list[bytes] = []
        for chunk in chunks:
            state.append(chunk)
            yield b""
        pieces += [_ENCODER.encode(name), bytes_head(sum(map(len, state))), *state]
    yield head_of(_MAGIC, sum(map(len, pieces)))
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def read_part(data: bytes) -> ForPart | None:
    """A command for one of several objects, for people who look into a log; None: it is none."""
    try:
        return _COMMANDS.decode(data)
    except UNREADABLE:
        return None


def objects_in(reader: ChunkReader) -> list[str] | None:
    """The names of the objects in a snapshot, if it is one of `Replicas`; None: it is not, and
    nothing was read.

    Raises:
        ConfigError: it cannot be read.
    """
    if not reader.begins_with(_MAGIC):
        return None
    try:
        return sorted(_STATES.decode(reader.head(_MAGIC, "Replicas")))
    except UNREADABLE as error:
        raise ConfigError(f"a snapshot of Replicas cannot be read: {error}") from error


def _decoded(data: bytes, what: str) -> ForPart:
    try:
        return _COMMANDS.decode(data)
    except msgspec.MsgspecError as error:
        raise UnknownCommand(f"a {what} for Replicas cannot be read: {error}") from error
