"""Handles: how a replicated object is used from where its state is not.

Rules of this file: a handle has no state, so it has no attributes of the object's either, to type
checkers or at run time; its commands and queries are called by naming them on the class.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

import attrs
import msgspec

from ...core.errors import ConfigError
from .calls import ForPart
from .definition import Definition, Method
from .replica import Activate, MethodCall, Question

_ENCODER = msgspec.msgpack.Encoder()
ACTIVATE_VERSION = "activate_version"
"""The one method of every object that is neither a command nor a query, and works from afar."""

P = ParamSpec("P")
R = TypeVar("R")
S_co = TypeVar("S_co", covariant=True)


class Remote(Protocol):
    """What is needed of a `Client`, or of a node that has its methods of these names.

    Each method is as `Client` has it.
    """

    async def call(self, data: bytes, *, result_type: Any = ...) -> Any:
        """Send a command; returns its result."""

    async def query(self, data: bytes, *, result_type: Any = ...) -> Any:
        """Ask a question; returns the answer."""

    def watch(
        self, data: bytes, *, item_type: Any = ...
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Follow answers as they change."""


class BlockingRemote(Protocol):
    """What is needed of a `BlockingClient`, or of a node for threads."""

    def run(self, function: Callable[[Any], Awaitable[R]], /) -> R:
        """Call an async function with a `Remote`, in a thread with an event loop."""


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

    def watch(
        self, data: bytes, *, item_type: Any = Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        subscription = _ENCODER.encode(ForPart(self._name, data))
        return self._client.watch(subscription, item_type=item_type)


class Handle(Generic[S_co]):
    """An object that lives on other machines, for Trio and asyncio. Made by
    `ReplicatedObject.through`.

    ```python
    counter = Counter.through(client)
    print(await counter(Counter.add, 5))  # any command or query of the class
    ```

    Handles of the structures that come with trioraft have methods as well: `await counter.add(5)`.
    """

    def __init__(self, definition: Definition, client: Remote) -> None:
        self._definition = definition
        self._client = client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a {self._definition.cls_name}, through {self._client!r}>"

    async def __call__(
        self,
        method: Callable[Concatenate[S_co, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call a command or query of the object.

        Args:
            method: of its class, as `Stock.sell`.
            args, kwargs: the method's.

        Raises:
            ConfigError: it is no command or query of that class; or an argument is not what its
                annotation says. Nothing was sent.
            Exception: what `Client.call` or `Client.query` raises, or the method raised there.

        A command is applied exactly once. Cancelling it does not undo it.
        """
        result: R = await self._send(_name_of(self._definition, method), args, kwargs)
        return result

    async def activate_version(self) -> int:
        """As `ReplicatedObject.activate_version`."""
        command = Activate(self._definition.version, 0.0)  # the leader writes its time into it
        result = await self._client.call(_ENCODER.encode(command), result_type=bytes)
        version: int = msgspec.msgpack.decode(result, type=int)
        return version

    async def _send(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == ACTIVATE_VERSION:
            return await self.activate_version()
        method = self._definition.methods[name]
        arguments = msgspec.Raw(method.encode(args, kwargs))
        result = await (self._command if method.mark.is_command else self._query)(method, arguments)
        return method.result.decode(result)

    async def _command(self, method: Method, arguments: msgspec.Raw) -> bytes:
        call = MethodCall(method.name, self._definition.version, 0.0, arguments)
        result: bytes = await self._client.call(_ENCODER.encode(call), result_type=bytes)
        return result

    async def _query(self, method: Method, arguments: msgspec.Raw) -> bytes:
        question = Question(method.name, arguments)
        result: bytes = await self._client.query(_ENCODER.encode(question), result_type=bytes)
        return result

    if (
        not TYPE_CHECKING
    ):  # which has to be told the method's types, and is, by `handle(Cls.method)`

        def __getattr__(self, name: str) -> Any:
            """A command or query by its name."""
            _check_is_method(self._definition, name)

            async def call(*args: Any, **kwargs: Any) -> Any:
                return await self._send(name, args, kwargs)

            return call


class BlockingHandle(Generic[S_co]):
    """An object that lives on other machines, for threads: as `Handle`, without `await`. Made by
    `ReplicatedObject.through`, of a `BlockingClient`."""

    def __init__(
        self, definition: Definition, client: BlockingRemote, part: str | None, made: type[Any]
    ) -> None:
        self._definition = definition
        self._client = client
        self._part = part
        self._made = made
        self._handle: Any = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a {self._definition.cls_name}, through {self._client!r}>"

    def __call__(
        self,
        method: Callable[Concatenate[S_co, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call a command or query of the object, as `Handle` does; from any thread.

        Raises:
            Exception: as `Handle`.
        """
        result: R = self._send(_name_of(self._definition, method), args, kwargs)
        return result

    def activate_version(self) -> int:
        """As `ReplicatedObject.activate_version`."""
        version: int = self._run(lambda handle: handle.activate_version())
        return version

    def _send(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._run(lambda handle: handle._send(name, args, kwargs))

    def _run(self, function: Callable[[Any], Awaitable[R]]) -> R:
        """Call an async function with the handle of the other kind, where that lives."""

        async def call(client: Remote) -> R:
            if self._handle is None:
                reached = client if self._part is None else RemotePart(client, self._part)
                self._handle = self._made(self._definition, reached)
            return await function(self._handle)

        return self._client.run(call)

    if not TYPE_CHECKING:  # as in `Handle`

        def __getattr__(self, name: str) -> Any:
            """A command or query by its name."""
            _check_is_method(self._definition, name)
            return lambda *args, **kwargs: self._send(name, args, kwargs)


def _name_of(definition: Definition, method: Any) -> str:
    known = definition.name_of(method)
    if known is not None:
        return known
    name: str = getattr(method, "__name__", repr(method))
    if name == ACTIVATE_VERSION:
        return name
    raise ConfigError(
        f"{name} is no command or query of {definition.cls_name}: name one on the class, as in "
        f"`await handle({definition.cls_name}.{next(iter(definition.methods), 'method')}, …)`"
    )


def _check_is_method(definition: Definition, name: str) -> None:
    if name.startswith("__") or name in definition.methods:
        if name not in definition.methods:
            raise AttributeError(name)
        return
    cls = definition.cls_name
    raise ConfigError(
        f"this handle stands for a {cls} on other machines: {name!r} is not here, only its "
        "commands and queries are; ask a query"
    )
