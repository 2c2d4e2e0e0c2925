"""A dictionary: keys that know nothing of each other, so that each is checked alone.

Rules of this file:

* A key that is not there reads as None; appending to it starts with the empty text.
* A pending write that no answer can depend on is left out: without that, each would double the
  orders to be looked at.
* A value that is not the beginning of any that an answer speaks of is one state with all such:
  whatever is appended to it, nobody reads it. So a wrong order of appends is known at once, and
  all wrong orders are one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, final

import msgspec

from .model import Model
from .operation import Operation
from .register import UNSEEN, Held, Value


@final
class KeyValue(Model[Held]):
    """A dictionary of values. The state in `apply` is that of one key."""

    class Get(msgspec.Struct, frozen=True, tag_field="call", tag="get"):
        """Gives the value, None if there is none."""

        key: str

    class Put(msgspec.Struct, frozen=True, tag_field="call", tag="put"):
        """Replaces the value; gives None."""

        key: str
        value: Value

    class Append(msgspec.Struct, frozen=True, tag_field="call", tag="append"):
        """Continues the text that is there; gives None."""

        key: str
        text: str

    class Delete(msgspec.Struct, frozen=True, tag_field="call", tag="delete"):
        """Removes the key, if it is there; gives None."""

        key: str

    class CompareAndSet(msgspec.Struct, frozen=True, tag_field="call", tag="cas"):
        """Replaces the value if it is `expected`; gives whether it was."""

        key: str
        expected: Value
        value: Value

    Call: TypeAlias = Get | Put | Append | Delete | CompareAndSet

    name = "key-value"
    calls = Call
    results = Value

    def partition(self, operations: Sequence[Operation]) -> Mapping[str, Sequence[Operation]]:
        """By key."""
        keys: dict[str, list[Operation]] = {}
        for operation in operations:
            keys.setdefault(operation.call.key, []).append(operation)
        return {key: _without_unseen(of_key) for key, of_key in keys.items()}

    def initial(self) -> Value:
        """No key is there."""
        return None

    def apply(self, state: Held, call: Any) -> tuple[Held, Any]:
        """As the calls say."""
        match call:
            case KeyValue.Get():
                return state, state
            case KeyValue.Put(_, value):
                return value, None
            case KeyValue.Append(_, text):
                if state is UNSEEN:
                    return UNSEEN, None
                return text if state is None else f"{state}{text}", None
            case KeyValue.Delete():
                return None, None
            case KeyValue.CompareAndSet(_, expected, value):
                return (value, True) if state == expected else (state, False)
        raise TypeError(f"{call!r} is no call of a dictionary")

    def only_reads(self, operation: Operation) -> bool:
        """Reads, and comparisons that failed."""
        return isinstance(operation.call, KeyValue.Get) or _is_refusal(operation)

    def abstraction(self, operations: Sequence[Operation]) -> Callable[[Held], Held]:
        """Values that begin none that was read or compared with are alike."""
        values = _seen(operations)
        texts = _texts(values)

        def seen_one(state: Held) -> Held:
            if state in values or state is None:
                return state
            # In sorted texts, those that begin with this one come right after it.
            text = str(state)
            at = bisect_left(texts, text)
            return state if at < len(texts) and texts[at].startswith(text) else UNSEEN

        return seen_one


def _is_refusal(operation: Operation) -> bool:
    """A comparison that failed saw any other value: each pending write may explain it."""
    return (
        isinstance(operation.call, KeyValue.CompareAndSet)
        and not operation.is_pending
        and not operation.result
    )


def _seen(operations: Sequence[Operation]) -> set[Value]:
    """Every value of which an answer speaks, or may."""
    seen: set[Value] = set()
    for operation in operations:
        match operation.call:
            case KeyValue.Get() if not operation.is_pending:
                seen.add(operation.result)
            case KeyValue.CompareAndSet(_, expected, _):
                seen.add(expected)
    return seen


def _texts(values: set[Value]) -> list[str]:
    """As sorted texts, without those that begin another one: what is in those is in these."""
    return list(_longest(sorted(str(value) for value in values if value is not None)))


def _longest(texts: list[str]) -> Iterator[str]:
    for text, following in pairwise(texts):
        if not following.startswith(text):
            yield text
    yield from texts[-1:]


def _without_unseen(operations: list[Operation]) -> list[Operation]:
    """Leave out pending writes of what nobody saw.

    Between such a write and the next that replaces its value no answer speaks of the value: it
    would have been seen. So an order with it is an order without it as well. Not so if a
    comparison failed: that may have been because of it.
    """
    if not any(operation.is_pending for operation in operations):
        return operations
    if any(_is_refusal(operation) for operation in operations):
        return operations
    texts = _texts(_seen(operations))
    return [op for op in operations if not op.is_pending or _may_be_seen(op.call, texts)]


def _may_be_seen(call: KeyValue.Call, texts: list[str]) -> bool:
    match call:
        case KeyValue.Get():
            return False
        case KeyValue.Put(_, None) | KeyValue.CompareAndSet(_, _, None) | KeyValue.Delete():
            return True
        case KeyValue.Put(_, value) | KeyValue.CompareAndSet(_, _, value):
            written = str(value)
        case KeyValue.Append(_, text):
            written = text
    return any(written in text for text in texts)
