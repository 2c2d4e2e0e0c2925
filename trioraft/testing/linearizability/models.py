"""A counter, a queue and a lock; and every model by its name.

Rules of this file: one concept a class, its calls within it; a call's docstring says its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, final

import msgspec

from .key_value import KeyValue
from .model import Model
from .operation import Operation
from .register import Register, Value


@final
class Counter(Model[int]):
    """A number that starts at 0."""

    class Read(msgspec.Struct, frozen=True, tag_field="call", tag="read"):
        """Gives the number."""

    class Add(msgspec.Struct, frozen=True, tag_field="call", tag="add"):
        """Adds; gives the number after it."""

        amount: int = 1

    name = "counter"
    calls = Read | Add
    results = int | None

    def initial(self) -> int:
        """Zero."""
        return 0

    def apply(self, state: int, call: Any) -> tuple[int, Any]:
        """As the calls say."""
        match call:
            case Counter.Read():
                return state, state
            case Counter.Add(amount):
                return state + amount, state + amount
        raise TypeError(f"{call!r} is no call of a counter")

    def only_reads(self, operation: Operation) -> bool:
        """Reads."""
        return isinstance(operation.call, Counter.Read)


@final
class Queue(Model[tuple[Value, ...]]):
    """First in, first out."""

    class Enqueue(msgspec.Struct, frozen=True, tag_field="call", tag="enqueue"):
        """Puts a value at the end; gives None."""

        value: Value

    class Dequeue(msgspec.Struct, frozen=True, tag_field="call", tag="dequeue"):
        """Takes the first value; gives it, or None if there is none."""

    name = "queue"
    calls = Enqueue | Dequeue
    results = Value

    def initial(self) -> tuple[Value, ...]:
        """Empty."""
        return ()

    def apply(self, state: tuple[Value, ...], call: Any) -> tuple[tuple[Value, ...], Any]:
        """As the calls say."""
        match call:
            case Queue.Enqueue(value):
                return (*state, value), None
            case Queue.Dequeue():
                return (state[1:], state[0]) if state else (state, None)
        raise TypeError(f"{call!r} is no call of a queue")

    def only_reads(self, operation: Operation) -> bool:
        """A dequeue that found nothing."""
        return isinstance(operation.call, Queue.Dequeue) and operation.result is None


@final
class Lock(Model[str | None]):
    """A lock that one owner may hold, once. A call that waits for it answers True or not at all."""

    class Acquire(msgspec.Struct, frozen=True, tag_field="call", tag="acquire"):
        """Takes the lock; gives whether it was free."""

        owner: str

    class Release(msgspec.Struct, frozen=True, tag_field="call", tag="release"):
        """Gives the lock back; gives whether this owner held it."""

        owner: str

    name = "lock"
    calls = Acquire | Release
    results = bool | None

    def initial(self) -> str | None:
        """Nobody holds it."""
        return None

    def apply(self, state: str | None, call: Any) -> tuple[str | None, Any]:
        """As the calls say."""
        match call:
            case Lock.Acquire(owner):
                return (owner, True) if state is None else (state, False)
            case Lock.Release(owner):
                return (None, True) if state == owner else (state, False)
        raise TypeError(f"{call!r} is no call of a lock")

    def only_reads(self, operation: Operation) -> bool:
        """Whatever was refused."""
        return operation.result is False


MODELS: Final[Mapping[str, Model[Any]]] = MappingProxyType(
    {model.name: model for model in (Register(), KeyValue(), Counter(), Queue(), Lock())}
)
"""Every model here, by the name that stands in files."""
