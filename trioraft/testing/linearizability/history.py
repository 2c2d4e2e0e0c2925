"""History: what clients did, as they saw it.

* Times are any numbers of one clock that never goes back; only their order counts. A call and an
  answer at the same time overlap: when in doubt, more orders are allowed, never fewer.
* The moment is taken inside the lock: the order of events is the order in which they are recorded,
  whatever threads or tasks record them.
* Nothing is guessed: a block that ends without saying how its operation ended is an error, because
  a history of unknowns passes every check. What is under way when it is read counts as unknown.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NewType, final

import attrs

from ...core.errors import NotLeader, Overloaded, ProposalDropped, RaftError

Token = NewType("Token", int)
"""Names an operation of one `History` while it is under way."""


class HistoryError(RaftError, ValueError):
    """A history is recorded or written in a way that means nothing.

    Fault: the test's.
    Remedy: one call and at most one end for each operation, as the message says.
    """


class OperationOutcome(enum.Enum):
    """What the client knows at the end."""

    OK = "ok"
    """It happened, between call and answer, and gave this result."""
    FAILED = "failed"
    """It certainly did not happen, and never will: `NotLeader`, `ProposalDropped`."""
    UNKNOWN = "unknown"
    """It may happen at any time after the call, or never: `OutcomeUnknown`, a lost connection."""


@attrs.frozen
class Operation:
    """One call of one client."""

    client: str
    """Who called; for people only. The order of calls is told by their times."""
    call: Any
    """What was asked: one of the model's calls."""
    called_at: float
    """When, at the latest, the call left the client."""
    returned_at: float | None = None
    """When, at the earliest, the client had its answer; None without one."""
    outcome: OperationOutcome = OperationOutcome.UNKNOWN
    result: Any = None
    """The answer; means something only if `outcome` is OK."""

    def __attrs_post_init__(self) -> None:
        if self.outcome is not OperationOutcome.OK:
            return
        if self.returned_at is None or not self.called_at <= self.returned_at:
            raise HistoryError(
                f"{self.call!r} of {self.client} was called at {self.called_at} and is said to "
                f"have returned at {self.returned_at}: an answer comes after its call"
            )

    @property
    def is_pending(self) -> bool:
        """Whether nobody knows if it happened."""
        return self.outcome is OperationOutcome.UNKNOWN

    def __str__(self) -> str:
        match self.outcome:
            case OperationOutcome.OK:
                answer = f"-> {self.result!r}"
            case OperationOutcome.FAILED:
                answer = "did not happen"
            case OperationOutcome.UNKNOWN:
                answer = "-> ?"
        end = "" if self.returned_at is None else f"{self.returned_at:g}"
        return f"{self.client}: {describe_call(self.call)} {answer}  [{self.called_at:g}..{end}]"


def describe_call(call: Any) -> str:
    """`KeyValue.Put(key='x', value=1)` reads as `put('x', 1)`; anything else as its repr."""
    fields = getattr(type(call), "__struct_fields__", None)
    if fields is None:
        return repr(call)
    values = ", ".join(repr(getattr(call, name)) for name in fields)
    return f"{type(call).__name__.lower()}({values})"


CERTAINLY_NOT: Final[tuple[type[BaseException], ...]] = (NotLeader, ProposalDropped, Overloaded)
"""Errors that say that a command was not taken, and never will be."""


@final
@attrs.define(eq=False)
class OpenOperation:
    """An operation under way, in its `with` block. Made by `History.operation`."""

    _history: History
    _token: Token
    is_over: bool = attrs.field(default=False, init=False)
    """Whether its outcome is said."""

    def ok(self, result: Any = None) -> None:
        """It happened, and gave `result`."""
        self.is_over = True
        self._history.ok(self._token, result)

    def fail(self) -> None:
        """It certainly did not happen."""
        self.is_over = True
        self._history.fail(self._token)

    def unknown(self) -> None:
        """It may have happened, or may yet."""
        self.is_over = True
        self._history.unknown(self._token)


@final
class History:
    """Records operations; safe from tasks and threads alike. Never blocks for long.

    ```python
    history = History()
    with history.operation("client 1", KeyValue.Put("x", 1)) as operation:
        await node.propose(b"x=1")      # NotLeader: did not happen; any other error: unknown
        operation.ok()
    check_linearizable(history, KeyValue(), timeout_s=60).raise_if_not_linearizable()
    ```
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._operations: list[Operation] = []
        self._is_over: list[bool] = []

    def __len__(self) -> int:
        return len(self._operations)

    def invoke(self, client: str, call: Any) -> Token:
        """A client is about to call. Record this before the call leaves.

        Args:
            client: who; a name for people.
            call: one of the model's calls, such as `KeyValue.Get("x")`.

        Returns:
            What to name the operation by when it ends.
        """
        with self._lock:
            self._operations.append(Operation(client, call, self._tick()))
            self._is_over.append(False)
            return Token(len(self._operations) - 1)

    def ok(self, token: Token, result: Any = None) -> None:
        """The client has its answer. Record this after the answer came.

        Args:
            token: what the beginning of the operation returned.
            result: the answer.

        Raises:
            HistoryError: the operation has ended already, as in the next two.
        """
        self._end(token, OperationOutcome.OK, result)

    def fail(self, token: Token) -> None:
        """It certainly did not happen, and never will."""
        self._end(token, OperationOutcome.FAILED)

    def unknown(self, token: Token) -> None:
        """It may have happened, or may yet; the client gives up."""
        self._end(token, OperationOutcome.UNKNOWN)

    @contextmanager
    def operation(
        self,
        client: str,
        call: Any,
        *,
        certainly_not: tuple[type[BaseException], ...] = CERTAINLY_NOT,
    ) -> Iterator[OpenOperation]:
        """Record one operation around the block that does it; say `ok` within.

        Args:
            client: who; a name for people.
            call: one of the model's calls.
            certainly_not: errors that say that it did not happen. After any other, and after a
                cancellation, it is unknown. All of them are raised on.

        Raises:
            HistoryError: the block ended without an error and did not say how it went.
        """
        recording = OpenOperation(self, self.invoke(client, call))
        try:
            yield recording
        except certainly_not:
            if not recording.is_over:
                recording.fail()
            raise
        except BaseException:
            if not recording.is_over:
                recording.unknown()
            raise
        if not recording.is_over:
            raise HistoryError(
                f"{call!r} of {client} ended, and nobody said how: call ok(result), fail() or "
                "unknown() in the block"
            )

    def operations(self) -> tuple[Operation, ...]:
        """Everything so far, by the time of the calls."""
        with self._lock:
            return tuple(self._operations)

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def _end(self, token: Token, outcome: OperationOutcome, result: Any = None) -> None:
        with self._lock:
            begun = self._operations[token]
            if self._is_over[token]:
                raise HistoryError(f"{begun} has ended already: say one outcome of each")
            self._is_over[token] = True
            self._operations[token] = attrs.evolve(
                begun, returned_at=self._tick(), outcome=outcome, result=result
            )
