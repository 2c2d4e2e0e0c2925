"""Models: what a single, well-behaved copy of the thing would do; and a register, a dictionary,
transactions on one, a counter, a queue and a lock by their names. A model has no state: it goes in
and comes out.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, final

import msgspec

from .history import Operation

S = TypeVar("S", bound=Hashable)


class Model(ABC, Generic[S]):
    """The sequential behaviour that a history is checked against. Write your own:

    ```python
    class Sticky(Model[str | None]):
        '''A cell that keeps the first value it is given, and answers with it.'''

        name = "sticky"

        def initial(self):
            return None

        def apply(self, state, call):
            value = call if state is None else state
            return value, value
    ```
    """

    name: str
    """Stands in the files of histories."""
    calls: Any = Any
    """The type of calls, in terms of msgspec: for reading them back from a file."""
    results: Any = Any
    """The type of results, likewise."""

    @abstractmethod
    def initial(self) -> S:
        """The state before the first operation; hashable, as every state."""

    @abstractmethod
    def apply(self, state: S, call: Any) -> tuple[S, Any]:
        """What `call` does to `state`: the state after it, and its result. Pure.

        Results are compared with `==` to what was recorded.

        Args:
            state: before the call.
            call: one of `calls`.
        """

    def partition(self, operations: Sequence[Operation]) -> Mapping[str, Sequence[Operation]]:
        """Split into parts that know nothing of each other, such as the keys of a dictionary.

        A history is linearizable exactly if each part is, and small parts are checked much
        sooner. Pending operations that no answer can depend on may be left out here: each of
        them costs, because it may have happened at any time or never.

        Args:
            operations: all but those that certainly did not happen.

        Returns:
            The operations of each part, by a name for people.
        """
        return {"": operations}

    def only_reads(self, operation: Operation) -> bool:
        """Whether an operation with this answer leaves every state as it is in which it can have
        that answer. Such a one is placed as soon as it fits, and nothing else is tried there."""
        return False

    def abstraction(self, operations: Sequence[Operation]) -> Callable[[S], S]:
        """Which states of a part are as good as equal: no answer recorded in it can tell them,
        nor what becomes of them, apart. A checker that knows looks at them once.

        Args:
            operations: one part.

        Returns:
            A function that gives one state for all that are alike.
        """
        return _itself


def _itself(state: S) -> S:
    return state


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
        """As `Model.initial`."""
        return self._initial

    def apply(self, state: Held, call: Any) -> tuple[Held, Any]:
        """As `Model.apply`."""
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
        isinstance(operation.call, Register.CompareAndSet | KeyValue.CompareAndSet)
        and not operation.is_pending
        and not operation.result
    )


def _seen(operations: Sequence[Operation]) -> set[Value]:
    """Every value of which an answer speaks, or may."""
    seen: set[Value] = set()
    for operation in operations:
        match operation.call:
            case Register.Read() | KeyValue.Get() if not operation.is_pending:
                seen.add(operation.result)
            case Register.CompareAndSet(expected) | KeyValue.CompareAndSet(_, expected):
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
        """As `Model.apply`."""
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
        """Values that begin none that was read or compared with are alike: whatever is appended to
        them, nobody reads it. So all wrong orders of appends are one, and known at once."""
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
        """As `Model.initial`."""
        return 0

    def apply(self, state: int, call: Any) -> tuple[int, Any]:
        """As `Model.apply`."""
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
        """As `Model.initial`."""
        return ()

    def apply(self, state: tuple[Value, ...], call: Any) -> tuple[tuple[Value, ...], Any]:
        """As `Model.apply`."""
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
        """As `Model.apply`."""
        match call:
            case Lock.Acquire(owner):
                return (owner, True) if state is None else (state, False)
            case Lock.Release(owner):
                return (None, True) if state == owner else (state, False)
        raise TypeError(f"{call!r} is no call of a lock")

    def only_reads(self, operation: Operation) -> bool:
        """Whatever was refused."""
        return operation.result is False


Kept: TypeAlias = tuple[tuple[str, Value], ...]
"""A dictionary as a state: its pairs, by key."""


@final
class Transactions(Model[Kept]):
    """A dictionary whose keys are read and written together."""

    class Do(msgspec.Struct, frozen=True, tag_field="call", tag="do"):
        """Writes if all is as expected; then reads. Gives whether it wrote, and what it read."""

        compares: dict[str, Value] = {}
        """By key: what must be there; None: nothing."""
        writes: dict[str, Value] = {}
        """By key: what is there afterwards; None: nothing."""
        reads: tuple[str, ...] = ()
        """Keys that are read, after the writes if there were any."""

    name = "transactions"
    calls = Do
    results = tuple[bool, tuple[Value, ...]] | None

    def initial(self) -> Kept:
        """No key is there."""
        return ()

    def apply(self, state: Kept, call: Any) -> tuple[Kept, Any]:
        """As `Model.apply`."""
        match call:
            case Transactions.Do(compares, writes, reads):
                pairs = dict(state)
                is_so = all(pairs.get(key) == value for key, value in compares.items())
                if is_so:
                    pairs |= writes
                found = tuple(pairs.get(key) for key in reads)
                held = {key: value for key, value in pairs.items() if value is not None}
                return tuple(sorted(held.items())), (is_so, found)
        raise TypeError(f"{call!r} is no transaction")

    def partition(self, operations: Sequence[Operation]) -> Mapping[str, Sequence[Operation]]:
        """By keys that are ever touched together."""
        group_of: dict[str, str] = {}

        def root(key: str) -> str:
            while group_of.setdefault(key, key) != key:
                key = group_of[key]
            return key

        for operation in operations:
            first, *others = _touched(operation.call) or ("",)
            for other in others:
                group_of[root(other)] = root(first)
        parts: dict[str, list[Operation]] = {}
        for operation in operations:
            first, *_ = _touched(operation.call) or ("",)
            parts.setdefault(root(first), []).append(operation)
        return parts

    def only_reads(self, operation: Operation) -> bool:
        """What wrote nothing, or had nothing to write."""
        if not operation.call.writes:
            return True
        return not operation.is_pending and operation.result[0] is False


def _touched(call: Transactions.Do) -> list[str]:
    return sorted({*call.compares, *call.writes, *call.reads})


@final
class Semaphore(Model[frozenset[str]]):
    """So many owners may hold it, each once. A call that waits for it answers True, or never."""

    class Acquire(msgspec.Struct, frozen=True, tag_field="call", tag="acquire"):
        """Takes a permit; gives whether there was one."""

        owner: str

    class Release(msgspec.Struct, frozen=True, tag_field="call", tag="release"):
        """Gives it back; gives whether this owner held one."""

        owner: str

    name = "semaphore"
    calls = Acquire | Release
    results = bool | None

    def __init__(self, permits: int = 1) -> None:
        """Args: permits: how many may hold it."""
        self._permits = permits

    def initial(self) -> frozenset[str]:
        """Nobody holds it."""
        return frozenset()

    def apply(self, state: frozenset[str], call: Any) -> tuple[frozenset[str], Any]:
        """As `Model.apply`."""
        match call:
            case Semaphore.Acquire(owner):
                is_free = len(state) < self._permits and owner not in state
                return (state | {owner}, True) if is_free else (state, False)
            case Semaphore.Release(owner):
                return state - {owner}, owner in state
        raise TypeError(f"{call!r} is no call of a semaphore")

    def only_reads(self, operation: Operation) -> bool:
        """Whatever was refused."""
        return operation.result is False


@final
class Election(Model[str | None]):
    """An office that one may have, and anybody may ask who has it."""

    class Campaign(msgspec.Struct, frozen=True, tag_field="call", tag="campaign"):
        """Takes the office; gives whether it was free."""

        name: str

    class Resign(msgspec.Struct, frozen=True, tag_field="call", tag="resign"):
        """Gives it up; gives whether this one had it."""

        name: str

    class Look(msgspec.Struct, frozen=True, tag_field="call", tag="look"):
        """Gives who has it, None if nobody does."""

    name = "election"
    calls = Campaign | Resign | Look
    results = bool | str | None

    def initial(self) -> str | None:
        """Nobody has it."""
        return None

    def apply(self, state: str | None, call: Any) -> tuple[str | None, Any]:
        """As `Model.apply`."""
        match call:
            case Election.Campaign(name):
                return (name, True) if state is None else (state, False)
            case Election.Resign(name):
                return (None, True) if state == name else (state, False)
            case Election.Look():
                return state, state
        raise TypeError(f"{call!r} is no call of an election")

    def only_reads(self, operation: Operation) -> bool:
        """Looks, and whatever was refused."""
        return isinstance(operation.call, Election.Look) or operation.result is False


MODELS: Final[Mapping[str, Model[Any]]] = MappingProxyType(
    {
        model.name: model
        for model in (
            *(Register(), KeyValue(), Transactions(), Counter(), Queue(), Lock()),
            *(Semaphore(), Election()),
        )
    }
)
"""Every model here, by the name that stands in files."""
