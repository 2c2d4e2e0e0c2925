"""RemoteReplica: the commands and queries of an object that lives on other machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol, final

import attrs
import msgspec

from ...core.errors import ConfigError
from .calls import ForPart
from .definition import Definition
from .replica import LOG_NOW, Activate, MethodCall, Question

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
