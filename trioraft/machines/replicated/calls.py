"""command and query: what makes a method one of the whole cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, final, overload

import attrs
import msgspec
import trio

from ...core.errors import ConfigError, NotLeader, NotMember, ProposalDropped
from ...core.types import LogIndex
from ...member.attempts import Attempt
from ...member.status import Status
from ..local import LocalSession, barrier_within, checked_timeout_s
from ..port import Port as Port
from ..sessions import encode_plain


class ForPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A command, or a question, for one of several objects."""

    name: str
    data: bytes


_ENCODER = msgspec.msgpack.Encoder()


@final
class NodePort:
    """The way of an object into the log of its node, whose machine has sessions around it.

    Args:
        node: the node.
        forward: whether commands go to whoever leads, each once; otherwise they are proposed here.
        timeout_s: deadline of a call, in seconds.
        spread_max: commands on their way at the same time.
    """

    def __init__(self, node: Port, *, forward: bool, timeout_s: float, spread_max: int) -> None:
        self.node = node
        self._timeout_s = checked_timeout_s(timeout_s)
        self._session = LocalSession(node, spread_max) if forward else None

    async def propose(self, data: bytes) -> Any:
        """Have a command applied everywhere, and return its result here."""
        session = self._session
        if session is None:
            return await self.node.propose(encode_plain(data))
        attempt = Attempt(is_local=True)
        with trio.move_on_after(self._timeout_s):
            try:  # where the leader is, a session would cost more than all the rest of a call
                return await self.node.forward(encode_plain(data), attempt=attempt)
            except (NotLeader, ProposalDropped) as error:
                if not attempt.is_refused or isinstance(error, NotMember):
                    raise  # the command's own
            attempt = Attempt(is_repeatable=True)
            return await session.call(data, attempt)
        raise attempt.deadline_error(self._timeout_s)

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """As the node's, under the deadline."""
        if self._session is None:
            return await self.node.read_barrier(lease=lease)
        return await barrier_within(self._timeout_s, self.node, lease=lease)

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """As the node's."""
        return await self.node.wait(predicate)


class Way(Protocol):
    """What an object calls through: its node, or its place among `Replicas`.

    Each method is as `Node` has it.
    """

    async def propose(self, data: bytes) -> Any:
        """Have a command agreed upon and applied; returns its result."""

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """Wait until what was committed before is applied here."""

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """Wait until the status is such."""


@final
@attrs.frozen
class InnerPort:
    """The way of an object into the log, by its name among `Replicas`."""

    _way: Way
    _part: str

    async def propose(self, data: bytes) -> Any:
        return await self._way.propose(_ENCODER.encode(ForPart(self._part, data)))

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        return await self._way.read_barrier(lease=lease)

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        return await self._way.wait(predicate)


S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")

_Plain: TypeAlias = Callable[Concatenate[S, P], R]
_Awaitable: TypeAlias = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


@final
@attrs.frozen
class MethodMark:
    """What a decorator leaves on a method, for `definition` to read."""

    method: Callable[..., Any]
    """As it was written."""
    is_command: bool
    since: int = 1
    """The version of the class that brought this command."""
    lease: bool = False
    """Whether the read barrier may rely on the leader's lease."""
    errors: tuple[type[Exception], ...] = ()
    """Exceptions of this command that are results, whatever they are."""


class Caller(Protocol):
    """A replica, as a marked method sees it."""

    @property
    def is_running(self) -> bool:
        """Whether a command or a query of the object runs at this moment."""

    async def propose(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a command applied everywhere."""

    async def ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a query here, behind a read barrier."""


@overload
def command(method: _Plain[S, P, R], /) -> _Awaitable[S, P, R]: ...


@overload
def command(
    *, since: int = 1, errors: Iterable[type[Exception]] = ()
) -> Callable[[_Plain[S, P, R]], _Awaitable[S, P, R]]: ...


def command(
    method: Callable[..., Any] | None = None,
    /,
    *,
    since: int = 1,
    errors: Iterable[type[Exception]] = (),
) -> Any:
    """Make a method of a `ReplicatedObject` a command: it goes through the log to every node.

    The method is deterministic: it reads its arguments, its object, `self.log_time_s` and
    `self.log_index`, and nothing else. It must not iterate over a `set`, whose order differs
    between processes.

    Args:
        since: the `version` of the class that brought it; see `ReplicatedObject.version`.
        errors: exceptions that the method raises on purpose although they look like errors of one
            machine (an `OSError` with an error number, say): on every node alike.
        method: the method, where the decorator stands without parentheses.

    Awaiting a call returns what the method returned on this node, and raises what it raised; a
    command that raises counts as applied, with what it had changed until then. What may be raised
    on one machine alone (`MemoryError`, `RecursionError`, an `OSError` with an error number) is no
    result: it ends the node (docs/replicated-objects.md). It works on any node, and is applied
    once: see `ReplicatedObject.attach`. It also raises `DeadlineExceeded` (not applied, unless that
    is an `OutcomeUnknown` too), what `Node.forward` raises, and `ConfigError` if an argument is not
    what its annotation says: then nothing was sent. Cancelling it does not undo it.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return _caller(self, method.__name__).propose(method.__name__, args, kwargs)

        declared = tuple(errors)
        return _marked(call, MethodMark(method, is_command=True, since=since, errors=declared))

    return mark if method is None else mark(method)


@overload
def query(method: _Plain[S, P, R], /) -> _Awaitable[S, P, R]: ...


@overload
def query(*, lease: bool = False) -> Callable[[_Plain[S, P, R]], _Awaitable[S, P, R]]: ...


def query(method: Callable[..., Any] | None = None, /, *, lease: bool = False) -> Any:
    """Make a method of a `ReplicatedObject` a query: it sees every command completed before it.

    It works on any node that reaches the leader, and changes nothing. For what this node happens
    to know, without a barrier, write a plain method or read the attribute.

    Args:
        lease: trust the leader's clock instead of asking a majority: see `Node.read_barrier`.
        method: the method, where the decorator stands without parentheses.

    Awaiting a call returns a copy of what the method returned. It raises what the method and
    `Node.read_barrier` raise, `DeadlineExceeded` if no leader confirms it in time, and
    `ConfigError` as a command does. It can be cancelled.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return _caller(self, method.__name__).ask(method.__name__, args, kwargs)

        return _marked(call, MethodMark(method, is_command=False, lease=lease))

    return mark if method is None else mark(method)


_MARK = "__trioraft_mark__"


def mark_of(attribute: object) -> MethodMark | None:
    """What a decorator left on this attribute of a class, if one did."""
    found = getattr(attribute, _MARK, None)
    return found if isinstance(found, MethodMark) else None


def _marked(call: Callable[..., Any], mark: MethodMark) -> Callable[..., Any]:
    setattr(call, _MARK, mark)
    return call


def _caller(instance: object, name: str) -> Caller:
    caller: Caller | None = getattr(instance, "_replica", None)
    cls = type(instance).__name__
    if caller is None:
        raise ConfigError(
            f"{cls}.{name} is marked, but {cls} is no replicated class: write "
            f"`class {cls}(ReplicatedObject):`"
        )
    if caller.is_running:
        raise ConfigError(
            f"{cls}.{name} was called inside a command or query of the same object, where it would "
            f"wait for itself. Put what they share into a plain method, and call that from both:\n"
            f"    await self.{name}(…)  # incorrect!\n"
            f"    self._{name}(…)       # correct: no decorator on _{name}"
        )
    return caller
