"""A register: one value, read, written, compared and set.

Rules of this file:

* All values that no answer speaks of are one state, `UNSEEN`.
* A write that nobody knows the outcome of, and whose value nobody saw, is left out of the search:
  whether it happened makes no difference to any answer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, final

import msgspec

from .model import Model
from .operation import Operation

Value: TypeAlias = str | int | bool | None
"""What registers and dictionaries hold; None is nothing."""


class Unseen(enum.Enum):
    """The one state that stands for every value of which no answer speaks."""

    UNSEEN = "a value that nobody saw"


UNSEEN: Final = Unseen.UNSEEN

Held: TypeAlias = Value | Literal[Unseen.UNSEEN]


@final
class Register(Model[Held]):
    """One value. `Read` gives it, `Write` gives None, `CompareAndSet` gives whether it did."""

    class Read(msgspec.Struct, frozen=True, tag_field="call", tag="read"):
        """Gives the value."""

    class Write(msgspec.Struct, frozen=True, tag_field="call", tag="write"):
        """Replaces the value; gives None."""

        value: Value

    class CompareAndSet(msgspec.Struct, frozen=True, tag_field="call", tag="cas"):
        """Replaces the value if it is `expected`; gives whether it was."""

        expected: Value
        value: Value

    name = "register"
    calls = Read | Write | CompareAndSet
    results = Value

    def __init__(self, initial: Value = None) -> None:
        """Args: initial: the value before the first write."""
        self._initial = initial

    def partition(self, operations: Sequence[Operation]) -> Mapping[str, Sequence[Operation]]:
        """One part: there is one value."""
        if any(_is_refusal(operation) for operation in operations):
            return {"": operations}
        seen = _seen(operations)
        return {"": [operation for operation in operations if _matters(operation, seen)]}

    def initial(self) -> Value:
        """The value before the first write."""
        return self._initial

    def apply(self, state: Held, call: Any) -> tuple[Held, Any]:
        """As the calls say."""
        match call:
            case Register.Read():
                return state, state
            case Register.Write(value):
                return value, None
            case Register.CompareAndSet(expected, value):
                return (value, True) if state == expected else (state, False)
        raise TypeError(f"{call!r} is no call of a register")

    def only_reads(self, operation: Operation) -> bool:
        """Reads, and comparisons that failed."""
        return isinstance(operation.call, Register.Read) or _is_refusal(operation)

    def abstraction(self, operations: Sequence[Operation]) -> Callable[[Held], Held]:
        """Values that were neither read nor compared with are alike."""
        seen = _seen(operations)
        return lambda state: state if state in seen else UNSEEN


def _is_refusal(operation: Operation) -> bool:
    """A comparison that failed saw any other value: each pending write may explain it."""
    return (
        isinstance(operation.call, Register.CompareAndSet)
        and not operation.is_pending
        and not operation.result
    )


def _seen(operations: Sequence[Operation]) -> set[Value]:
    """Every value of which an answer speaks, or may."""
    seen: set[Value] = set()
    for operation in operations:
        match operation.call:
            case Register.Read() if not operation.is_pending:
                seen.add(operation.result)
            case Register.CompareAndSet(expected, _):
                seen.add(expected)
    return seen


def _matters(operation: Operation, seen: set[Value]) -> bool:
    if not operation.is_pending:
        return True
    match operation.call:
        case Register.Read():
            return False
        case Register.Write(value) | Register.CompareAndSet(_, value):
            return value in seen
    return True
