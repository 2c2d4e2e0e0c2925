"""History: what clients did, as they saw it.

Rules of this file:

* The moment is taken inside the lock: the order of events is the order in which they are recorded,
  whatever threads or tasks record them.
* An operation that is under way when the history is read counts as unknown.
* Nothing is guessed: a block that ends without saying how its operation ended is an error, because
  a history of unknowns passes every check.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import attrs

from ...core.errors import NotLeader, Overloaded, ProposalDropped
from .operation import HistoryError, Operation, OperationOutcome, Token

CERTAINLY_NOT: Final[tuple[type[BaseException], ...]] = (NotLeader, ProposalDropped, Overloaded)
"""Errors that say that a command was not taken, and never will be."""


@final
@attrs.define(eq=False)
class OpenOperation:
    """An operation under way, in a `with history.operation(...)` block."""

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
        await node.propose(...)         # NotLeader: did not happen; any other error: unknown
        operation.ok()
    check_linearizable(history, KeyValue(), timeout_s=60).raise_if_not_linearizable()
    ```
    """

    def __init__(self) -> None:
        """Nothing happened yet."""
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
                raise HistoryError(f"{begun} has ended already")
            self._is_over[token] = True
            self._operations[token] = attrs.evolve(
                begun, returned_at=self._tick(), outcome=outcome, result=result
            )
