"""Replica: what stands behind one replicated object: its calls, its version, its log time.

* Whatever decides what a command does comes out of the log: the arguments, the log time, and the
  *active version*. Nothing that this node alone knows takes part.
* The first command of a cluster makes its proposer's version the active one; later, only
  `activate_version` raises it. A command of a version that is not active is refused on every node
  alike, whether it knows the command or not.
* A node whose class is older than the active version cannot know what the others do. It applies
  nothing from there on, answers nothing and saves no snapshot; restarted with the new class it goes
  on from where it stopped, since its log has everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Protocol, TypeAlias, final

import attrs
import msgspec
import trio

from ...core.decoding import UNREADABLE
from ...core.errors import ConfigError, OutcomeUnknown
from ...core.types import LogIndex
from ...member.state_machine import is_local
from ..chunks import ChunkReader, framed
from ..log_clock import LogClock, LogTime
from ..nesting import NESTING_MAX, check_nesting, check_result_nesting, is_deeper
from ..sessions import UnknownCommand
from .calls import ForPart, Port
from .definition import BadArguments, Definition, Method


class MethodCall(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A command, as it stands in the log."""

    name: str
    version: int
    """Of the proposer's class."""
    at_s: LogTime
    arguments: msgspec.Raw


class Activate(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Make a version of the class the active one."""

    version: int
    at_s: LogTime


_Command: TypeAlias = MethodCall | Activate


class Question(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A query that came from another machine."""

    name: str
    """Of the query, or `LOG_NOW`."""
    arguments: msgspec.Raw


LOG_NOW = ""
"""Asks for `LogClock.reading_s`."""


class _ObjectHead(msgspec.Struct, frozen=True, array_like=True):
    """What precedes the state in a snapshot."""

    format: int
    active_version: int | None
    writer_version: int
    log_time_s: LogTime


HEAD_FORMAT = 1
"""Version of `_ObjectHead`; fields may be appended to it, with a default, without a new one."""
_MAGIC = b"trioraft object\n"
_ENCODER = msgspec.msgpack.Encoder()
_COMMANDS: msgspec.msgpack.Decoder[_Command] = msgspec.msgpack.Decoder(_Command)
_QUESTIONS = msgspec.msgpack.Decoder(Question)
_HEADS = msgspec.msgpack.Decoder(_ObjectHead)
_STATES = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


@final
class Replica:
    """Runs the commands and queries of one object. It is the object's only private attribute."""

    def __init__(self, definition: Definition, instance: Any) -> None:
        self.definition = definition
        self.clock: LogClock = LogClock()
        self.active_version: int | None = None
        self.port: Port | None = None
        self.is_running: bool = False
        """Whether a command or a query runs at this moment."""
        self.is_writable: bool = True
        """Whether the state may be assigned to: until it is attached, and inside commands."""
        self._instance = instance
        self._proposing = 0
        self._declared: tuple[type[Exception], ...] = ()  # by the command that was run last

    def attach(self, port: Port) -> None:
        """Belong to this node from here on.

        Raises:
            ConfigError: it belongs to another, or a field has no value.
        """
        name = self.definition.cls_name
        if self.port == port:
            return
        if self.port is not None:
            raise ConfigError(
                f"this {name} belongs to {self.port!r} already, and its state with it: make a new "
                f"{name}() for every node that you open"
            )
        for field in self.definition.fields:
            if field not in vars(self._instance):
                raise ConfigError(
                    f"{name}.{field} has no value: give it a default, or set it in __init__"
                )
        self.port = port
        self.is_writable = False
        self.clock.start(trio.current_time())

    def require_port(self) -> Port:
        """The node, if there is one."""
        if self.port is None:
            name = self.definition.cls_name
            raise ConfigError(
                f"this {name} has no node: give it to open_node as `machine`, then "
                f"`{name.lower()}.attach(node)`"
            )
        return self.port

    # -- calls from outside ----------------------------------------------------------------

    async def propose(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a command applied everywhere; returns its result here."""
        port = self.require_port()
        method = self.definition.methods[name]
        arguments = msgspec.Raw(method.encode(args, kwargs))
        self._check_is_current()
        call = MethodCall(name, self.definition.version, self._reading_s(), arguments)
        return method.result.decode(await self._send(port, call))

    async def activate_version(self) -> int:
        """Make this class's version the active one; returns the one that is active now."""
        self._check_is_current()
        activate = Activate(self.definition.version, self._reading_s())
        version: int = msgspec.msgpack.decode(
            await self._send(self.require_port(), activate), type=int
        )
        return version

    async def _send(self, port: Port, command: _Command) -> bytes:
        self._proposing += 1
        try:
            result: bytes = await port.propose(_ENCODER.encode(command))
        finally:
            self._proposing -= 1
        return result

    def _reading_s(self) -> float:
        now_s = trio.current_time()
        if not self.clock.is_started:
            self.clock.start(now_s)  # nobody attached it, and somebody far away asks
        return self.clock.reading_s(now_s)

    async def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a query here, behind a read barrier."""
        port = self.require_port()
        method = self.definition.methods[name]
        arguments = method.encode(args, kwargs)
        await port.read_barrier(lease=method.mark.lease)
        return method.result.copy(self._look(method, arguments))

    def answer(self, data: bytes) -> bytes:
        """Answer a `Question`, whose asker has seen to the read barrier.

        Raises:
            UnknownCommand: it cannot be read, or there is no such query.
            Exception: whatever the query raised.
        """
        name = self.definition.cls_name
        if is_deeper(data, NESTING_MAX):
            raise UnknownCommand(f"a question for {name} is nested more than {NESTING_MAX} deep")
        try:
            question = _QUESTIONS.decode(data)
            if question.name == LOG_NOW:
                return _ENCODER.encode(self._reading_s())
            method = self.definition.methods.get(question.name)
            if method is None or method.mark.is_command:
                raise UnknownCommand(f"{name} has no query {question.name!r} here")
            return method.result.encode(self._look(method, question.arguments))
        except (msgspec.MsgspecError, BadArguments) as error:
            raise UnknownCommand(f"a question for {name} cannot be read: {error}") from error

    def _look(self, method: Method, arguments: bytes | msgspec.Raw) -> Any:
        self._check_is_current()
        self.is_running = True
        try:
            return method.call(self._instance, arguments)
        finally:
            self.is_running = False

    def _check_is_current(self) -> None:
        if self._is_outdated:
            raise ConfigError(self._outdated_message())

    # -- commands out of the log -----------------------------------------------------------

    def apply(self, _index: LogIndex, data: bytes) -> bytes:
        """Apply one command; the result is encoded.

        Raises:
            UnknownCommand: it cannot be read, or is not of the active version; nothing changed.
            OutcomeUnknown: this node's class is too old to say.
            Exception: whatever the method raised.
        """
        self._declared = ()
        command = self._decoded(data)
        if self.active_version is None or isinstance(command, Activate):
            self.active_version = max(self.active_version or 1, command.version)
        if self._is_outdated:
            raise OutcomeUnknown(self._outdated_message())
        if isinstance(command, Activate):
            self._advance(command.at_s)
            return _ENCODER.encode(self.active_version)
        return self._run(self._method(command, self.active_version), command)

    def prepare_command(self, data: bytes) -> bytes:
        """Refuse what cannot be read, or is nested too deep, before it is proposed.

        Raises:
            UnknownCommand, ConfigError: that is so.
        """
        check_nesting(data)
        self._decoded(data)
        return data

    def _decoded(self, data: bytes) -> _Command:
        try:
            return _COMMANDS.decode(data)
        except msgspec.MsgspecError as error:
            raise UnknownCommand(
                f"a command for {self.definition.cls_name} cannot be read: {error}"
            ) from error

    def is_result(self, error: Exception) -> bool:
        """Whether what the last `apply` raised is a result: its command declared it, or it is
        nothing that this machine may have alone."""
        return isinstance(error, self._declared) or not is_local(error)

    def _method(self, command: MethodCall, active_version: int) -> Method:
        name = f"{self.definition.cls_name}.{command.name}"
        method = self.definition.methods.get(command.name)
        if method is None or not method.mark.is_command or method.mark.since > active_version:
            raise UnknownCommand(
                f"{name} is not a command of version {active_version}, which is the active one; "
                f"it was proposed by version {command.version}. Once every node has the new "
                "class, await activate_version()"
            )
        return method

    def _run(self, method: Method, command: MethodCall) -> bytes:
        before_s = self.clock.log_time_s
        self._advance(command.at_s)
        self.is_running = self.is_writable = True
        self._declared = method.mark.errors
        try:
            result = method.call(self._instance, command.arguments)
        except BadArguments as error:
            self.clock.log_time_s = before_s
            raise UnknownCommand(
                f"{self.definition.cls_name}.{method.name} cannot read the arguments that version "
                f"{command.version} gave it: {error}. Do not change a command that was released; "
                "add another, with since="
            ) from error
        finally:
            self.is_running = False
            self.is_writable = self.port is None
        self._declared = ()
        encoded = method.result.encode(result)
        check_result_nesting(encoded)
        return encoded

    def _advance(self, at_s: float) -> None:
        self.clock.advance(at_s)
        if not self._proposing and self.clock.is_started:
            self.clock.adopt(trio.current_time())

    @property
    def _is_outdated(self) -> bool:
        return (self.active_version or 1) > self.definition.version

    def _outdated_message(self) -> str:
        definition = self.definition
        return (
            f"version {self.active_version} of {definition.cls_name} is active in the cluster, "
            f"and this node has version {definition.version}: it can neither apply commands nor "
            "answer. Restart it with the new class; its log has everything that it missed"
        )

    # -- snapshots -------------------------------------------------------------------------

    def head(self) -> bytes:
        """What precedes the state in a snapshot.

        Raises:
            ConfigError: this node's state is not that of the others any more.
        """
        self._check_is_current()
        version = self.definition.version
        head = _ObjectHead(HEAD_FORMAT, self.active_version, version, self.clock.log_time_s)
        return framed(_MAGIC, _ENCODER.encode(head))

    def dump(self) -> bytes:
        """All fields, as they are."""
        state = {
            name: msgspec.Raw(field.codec.encode(getattr(self._instance, name)))
            for name, field in self.definition.fields.items()
        }
        return _ENCODER.encode(state)

    def read_head(self, chunks: Iterable[bytes]) -> tuple[_ObjectHead, Iterator[bytes]]:
        """The head of a snapshot, and the state after it.

        Raises:
            ConfigError: it is none of ours, or of a later version.
        """
        name = self.definition.cls_name
        reader = ChunkReader(chunks)
        try:
            head = _HEADS.decode(reader.head(_MAGIC, f"a {name}"))
        except UNREADABLE as error:
            raise ConfigError(
                f"the head of a snapshot of {name} cannot be read: {error}"
            ) from error
        if head.format != HEAD_FORMAT or (head.active_version or 1) > self.definition.version:
            raise ConfigError(
                f"the snapshot has version {head.active_version} of {name} active (format "
                f"{head.format}), and this node has version {self.definition.version}: run the "
                "newer release"
            )
        return head, reader.rest()

    def take_head(self, head: _ObjectHead) -> None:
        """The state has been restored; so is what precedes it."""
        self.active_version = head.active_version
        self.clock.log_time_s = head.log_time_s

    def load(self, chunks: Iterable[bytes]) -> None:
        """All fields, as `dump` left them, in one step: queries see the old or the new state.

        A field that the snapshot lacks gets its default; one that the class has no more is
        dropped.

        Raises:
            ConfigError: the snapshot is not one of this class.
        """
        name = self.definition.cls_name
        try:
            stored = _STATES.decode(b"".join(chunks))
            state = {
                field_name: field.codec.decode(stored[field_name])
                if field_name in stored
                else _default(name, field_name, self.definition)
                for field_name, field in self.definition.fields.items()
            }
        except UNREADABLE as error:
            raise ConfigError(
                f"the snapshot does not fit {name}: {error}. A field may be added, with a default, "
                "or removed; to change its type, give it another name"
            ) from error
        vars(self._instance).update(state)


def _default(cls_name: str, name: str, definition: Definition) -> Any:
    field = definition.fields[name]
    if not field.has_default:
        raise ConfigError(
            f"the snapshot has no {cls_name}.{name}, and it has no default: a field that a new "
            "release adds needs one"
        )
    return field.new_default()


ASK_AGAIN_S = 60.0
"""How long a remote object counts on by its own clock. Two that part by 100 ppm are 6 ms apart."""

_ENCODER = msgspec.msgpack.Encoder()


class Remote(Protocol):
    """What is needed of a `Client`: its methods of these names."""

    async def call(self, data: bytes, *, result_type: Any = ...) -> Any: ...

    async def query(self, data: bytes, *, result_type: Any = ...) -> Any: ...


@final
class RemoteReplica:
    """Stands behind an object made by `ReplicatedObject.through`."""

    def __init__(self, definition: Definition, client: Remote, now_s: Callable[[], float]) -> None:
        self.is_running = False
        self._definition = definition
        self._client = client
        self._now_s = now_s
        self._known_s = 0.0
        self._known_since_s: float | None = None

    def __getattr__(self, name: str) -> NoReturn:
        """All else that a local replica has: refused, and said why."""
        cls = self._definition.cls_name
        raise ConfigError(
            f"this {cls} stands for one on other machines: only its commands and queries are here"
        )

    async def propose(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a command applied everywhere, once."""
        method = self._definition.methods[name]
        arguments = msgspec.Raw(method.encode(args, kwargs))
        at_s = await self._reading_s()
        call = MethodCall(name, self._definition.version, at_s, arguments)
        return method.result.decode(
            await self._client.call(_ENCODER.encode(call), result_type=bytes)
        )

    async def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have the leader answer a query."""
        method = self._definition.methods[name]
        question = Question(name, msgspec.Raw(method.encode(args, kwargs)))
        answer = await self._client.query(_ENCODER.encode(question), result_type=bytes)
        return method.result.decode(answer)

    async def activate_version(self) -> int:
        """Make this class's version the active one; returns the one that is active now."""
        activate = Activate(self._definition.version, await self._reading_s())
        result = await self._client.call(_ENCODER.encode(activate), result_type=bytes)
        version: int = msgspec.msgpack.decode(result, type=int)
        return version

    async def _reading_s(self) -> float:
        since_s = self._known_since_s
        if since_s is None or self._now_s() - since_s > ASK_AGAIN_S:
            question = Question(LOG_NOW, msgspec.Raw(_ENCODER.encode(())))
            answer = await self._client.query(_ENCODER.encode(question), result_type=bytes)
            self._known_s = msgspec.msgpack.decode(answer, type=float)
            self._known_since_s = since_s = self._now_s()
        return self._known_s + self._now_s() - since_s


@final
@attrs.frozen
class RemotePart:
    """The way to one of several objects."""

    _client: Remote
    _name: str

    async def call(self, data: bytes, *, result_type: Any = Any) -> Any:
        command = _ENCODER.encode(ForPart(self._name, data))
        return await self._client.call(command, result_type=result_type)

    async def query(self, data: bytes, *, result_type: Any = Any) -> Any:
        question = _ENCODER.encode(ForPart(self._name, data))
        return await self._client.query(question, result_type=result_type)


@final
class Elsewhere:
    """A field of an object that lives on other machines."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise ConfigError(
            f"this {owner.__name__} stands for one on other machines: its state is not here; ask a "
            "query"
        )

    def __set__(self, instance: object, value: object) -> None:
        self.__get__(instance, type(instance))
