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

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, final

import msgspec

from ...core.decoding import UNREADABLE
from ...core.errors import ConfigError, OutcomeUnknown
from ...core.types import LogIndex
from ...member.state_machine import StateMachine, is_local
from ...tasks.event_loop import require_event_loop
from ...tasks.monotonic import monotonic_s
from ..chunks import ChunkReader, framed
from ..items import ItemReader
from ..log_clock import LogClock, LogTime
from ..msgpack_heads import map_head
from ..nesting import NESTING_MAX, check_nesting, check_result_nesting, is_deeper
from ..sessions import CommandFailed, SessionMachine, UnknownCommand, error_from
from ..viewed import Discarded
from .calls import Way
from .definition import BadArguments, Definition, Field, Method

RAISED_MAX = 256
"""Kinds of exceptions that are remembered, to raise them again."""


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


class Tick(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Log time goes on: what is over by now, ends. Proposed by the leader (`Expiring`)."""

    version: int
    at_s: LogTime


_Command: TypeAlias = MethodCall | Activate | Tick


class Expires(Protocol):
    """What is asked of an object in which something ends by itself (`Expiring`)."""

    def next_expiry_s(self) -> float | None: ...

    def expire(self) -> None: ...


class Question(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A query that came from another machine."""

    name: str
    """Of the query, or `LOG_NOW`."""
    arguments: msgspec.Raw


LOG_NOW = ""
"""Asks for `LogClock.reading_s`, as clients did that wrote it into their commands."""


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


@final
class Replica:
    """Runs the commands and queries of one object. It is the object's only private attribute."""

    def __init__(
        self, definition: Definition, instance: Any, expires: Expires | None = None
    ) -> None:
        self.definition = definition
        self._expires = expires
        self.clock: LogClock = LogClock()
        self.active_version: int | None = None
        self.port: Way | None = None
        self.around: SessionMachine | None = None
        """What a node has this object in; None: it was not asked for."""
        self.is_running: bool = False
        """Whether a command or a query runs at this moment."""
        self.is_writable: bool = True
        """Whether the state may be assigned to: until it is attached, and inside commands."""
        self._node: object = None
        self._raised: dict[str, type[Exception]] = {}  # by commands, here, by name
        self._instance = instance
        self._discarded = Discarded()
        self._log_index: LogIndex | None = None  # of the command that runs
        self._declared: tuple[type[Exception], ...] = ()  # by the command that was run last

    def attach(self, node: object, way: Callable[[], Way]) -> None:
        """Belong to this node from here on.

        Args:
            node: which one.
            way: makes what calls go through.

        Raises:
            ConfigError: it belongs to another, or a field has no value.
        """
        name = self.definition.cls_name
        if self._node == node:
            return
        if self._node is not None:
            raise ConfigError(
                f"this {name} belongs to {self._node!r} already, and its state with it: make a new "
                f"{name}() for every node that you open"
            )
        for field in self.definition.fields:
            if field not in vars(self._instance):
                raise ConfigError(
                    f"{name}.{field} has no value: give it a default, or set it in __init__"
                )
        require_event_loop(f"{name}.attach", "trio")
        self.port, self._node = way(), node
        self.is_writable = False
        self.clock.start(monotonic_s())

    def require_port(self) -> Way:
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
        require_event_loop(f"{self.definition.cls_name}.{name}", "trio")
        port = self.require_port()
        method = self.definition.methods[name]
        arguments = msgspec.Raw(method.encode(args, kwargs))
        self._check_is_current()
        at_s = self._stamp_s(monotonic_s())
        call = MethodCall(name, self.definition.version, at_s, arguments)
        return method.result.decode(await self._send(port, call, method.mark.errors))

    async def activate_version(self) -> int:
        """Make this class's version the active one; returns the one that is active now."""
        require_event_loop(f"{self.definition.cls_name}.activate_version", "trio")
        self._check_is_current()
        port = self.require_port()
        activate = Activate(self.definition.version, self._stamp_s(monotonic_s()))
        version: int = msgspec.msgpack.decode(await self._send(port, activate), type=int)
        return version

    def _stamp_s(self, now_s: float) -> float:
        self._reading_at_s(now_s)  # starts the clock
        return self.clock.stamp(now_s)

    async def _send(
        self, port: Way, command: _Command, errors: tuple[type[Exception], ...] = ()
    ) -> bytes:
        try:
            result: bytes = await port.propose(_ENCODER.encode(command))
        except CommandFailed as failed:  # it was applied when it was sent before
            known = {**self._raised, **{error.__qualname__: error for error in errors}}
            raise error_from(failed.type_name, failed.message, known) from None
        return result

    def _reading_s(self) -> float:
        return self._reading_at_s(monotonic_s())

    def _reading_at_s(self, now_s: float) -> float:
        if not self.clock.is_started:
            self.clock.start(now_s)  # nobody attached it, and somebody far away asks
        return self.clock.reading_s(now_s)

    async def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a query here, behind a read barrier."""
        require_event_loop(f"{self.definition.cls_name}.{name}", "trio")
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

    def apply(self, index: LogIndex, data: bytes) -> bytes:
        """Apply one command; the result is encoded.

        Raises:
            UnknownCommand: it cannot be read, or is not of the active version; nothing changed.
            OutcomeUnknown: this node's class is too old to say.
            Exception: whatever the method raised.
        """
        self._declared = ()
        if self._discarded:
            self._discarded.let_go()
        command = self._decoded(data)
        if isinstance(command, Activate) or (
            self.active_version is None and isinstance(command, MethodCall)
        ):
            self.active_version = max(self.active_version or 1, command.version)
        if self._is_outdated:
            raise OutcomeUnknown(self._outdated_message())
        self._log_index = index
        try:
            if isinstance(command, MethodCall):
                return self._run(self._method(command, self.active_version or 1), command)
            self._advance(command.at_s)
            self._end_what_is_over()
            return _ENCODER.encode(self.active_version or 1)
        finally:
            self._log_index = None

    def _end_what_is_over(self) -> None:
        """By log time, before anything else happens at that time."""
        if self._expires is None:
            return
        expiry_s = self._expires.next_expiry_s()
        if expiry_s is None or expiry_s > self.clock.log_time_s:
            return
        self.is_running = self.is_writable = True
        try:
            self._expires.expire()
        finally:
            self.is_running = False
            self.is_writable = self.port is None

    # -- what ends by itself ---------------------------------------------------------------

    def due_in_s(self, now_s: float) -> float | None:
        """How long until something ends, counted from `now_s` on; None: nothing will."""
        expiry_s = None if self._expires is None else self._expires.next_expiry_s()
        return None if expiry_s is None else expiry_s - self._reading_at_s(now_s)

    def tick(self, now_s: float) -> bytes:
        """The command that ends what is over by now."""
        return _ENCODER.encode(Tick(self.definition.version, self._stamp_s(now_s)))

    def require_log_index(self) -> LogIndex:
        """Of the command that runs, if one does."""
        if self._log_index is None:
            raise ConfigError(
                "log_index is known inside a command only, on every node alike: keep it in a "
                "field, or return it"
            )
        return self._log_index

    def prepare_command(self, data: bytes) -> bytes:
        """Give a command this node's log time, which leads; whatever its sender's clock said.

        Raises:
            UnknownCommand, ConfigError: it cannot be read, or is nested too deep.
        """
        check_nesting(data)
        command = self._decoded(data)
        at_s = self._stamp_s(monotonic_s())
        if command.at_s == at_s:
            return data
        return _ENCODER.encode(msgspec.structs.replace(command, at_s=at_s))

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
        try:
            values = method.values_of(command.arguments)
        except BadArguments as error:
            raise UnknownCommand(
                f"{self.definition.cls_name}.{method.name} cannot read the arguments that version "
                f"{command.version} gave it: {error}. Do not change a command that was released; "
                "add another, with since="
            ) from error
        self._advance(command.at_s)
        self._end_what_is_over()
        self.is_running = self.is_writable = True
        self._declared = method.mark.errors
        try:
            result = method.run(self._instance, values)
        except Exception as error:
            if len(self._raised) < RAISED_MAX:
                self._raised[type(error).__qualname__] = type(error)
            raise
        finally:
            self.is_running = False
            self.is_writable = self.port is None
            self.keep_views()
        self._declared = ()
        encoded = method.result.encode(result)
        check_result_nesting(encoded)
        return encoded

    def _advance(self, at_s: float) -> None:
        self.clock.apply(at_s, monotonic_s() if self.clock.is_started else None)

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

    def dump(self) -> Iterator[bytes]:
        """All fields, as they are now; they are encoded later, piece by piece."""
        self.keep_views()
        fields = self.definition.fields
        views = [(name, each.view(getattr(self._instance, name))) for name, each in fields.items()]
        return _encoded_state(views)

    def keep_views(self) -> None:
        """See to it that views can be taken of the dicts that the state has by now."""
        state = vars(self._instance)
        for name, field in self.definition.dicts:
            held = state.get(name)
            if held is not None and type(held) is not field.viewed_type:
                state[name] = field.viewed(held)

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
        name, fields = self.definition.cls_name, self.definition.fields
        reader = ItemReader(chunks)
        try:
            stored = dict(_fields_read(reader, fields))
        except UNREADABLE as error:
            raise ConfigError(
                f"the snapshot does not fit {name}: {error}. A field may be added, with a default, "
                "or removed; to change its type, give it another name"
            ) from error
        state = {
            field_name: stored[field_name]
            if field_name in stored
            else fields[field_name].viewed(_default(name, field_name, self.definition))
            for field_name in fields
        }
        before = [vars(self._instance).get(field_name) for field_name in state]
        vars(self._instance).update(state)
        self._discarded.add(*(each for each in before if isinstance(each, dict | list)))


def _encoded_state(views: list[tuple[str, Iterator[bytes]]]) -> Iterator[bytes]:
    yield map_head(len(views))
    for name, pieces in views:
        yield _ENCODER.encode(name)
        yield from pieces


def _fields_read(reader: ItemReader, fields: Mapping[str, Field]) -> Iterator[tuple[str, Any]]:
    """Those of the stored fields that there still are, with their values.

    Raises:
        MsgspecError: it is no such state.
    """
    count = reader.count(is_map=True)
    if count is None:
        raise msgspec.DecodeError("the state is no map")
    for _ in range(count):
        name: str = msgspec.msgpack.decode(reader.one(), type=str)
        if name in fields:
            yield name, fields[name].read(reader)
        else:
            reader.one()
    if not reader.is_at_end():
        raise msgspec.DecodeError("something follows the state")


def _default(cls_name: str, name: str, definition: Definition) -> Any:
    field = definition.fields[name]
    if not field.has_default:
        raise ConfigError(
            f"the snapshot has no {cls_name}.{name}, and it has no default: a field that a new "
            "release adds needs one"
        )
    return field.new_default()


RESULTS_MAX = 4096
RESULTS_BYTES_MAX = 16 * 1024 * 1024
"""What a session may have of results whose commands are on their way, where an object or `Replicas`
are a node's machine: many calls at once, with large results."""


def around(machine: StateMachine) -> SessionMachine:
    """Sessions around an object, or `Replicas`, as a node has them."""
    return SessionMachine(
        machine, results_max=RESULTS_MAX, results_bytes_max=RESULTS_BYTES_MAX, reads_bare=True
    )


def read_call(data: bytes) -> tuple[str, Any] | None:
    """A command as it stands in the log, for people who look into one: the method's name, and its
    arguments as msgpack has them. None: it is no command of an object."""
    try:
        command = _COMMANDS.decode(data)
        match command:
            case MethodCall(name=name, arguments=arguments):
                return name, msgspec.msgpack.decode(arguments)
            case Activate(version=version):
                return "activate", [version]
            case Tick():
                return "tick", []
    except UNREADABLE:
        return None
