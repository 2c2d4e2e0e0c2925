"""Proposal: a command on its way, as its caller holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from ..core.types import LogIndex, Term, TraceContext
from ..tasks.byte_budget import ByteBudget

if TYPE_CHECKING:
    from ..tracing.spans import CommandSpans


class Proposal:
    """A command that is in the leader's log. Its `index` is known, its outcome comes later.
    Made by `Node.submit`."""

    __slots__ = (
        "_budget",
        "_error",
        "_event",
        "_then",
        "_value",
        "_waiter",
        "index",
        "is_done",
        "is_repeatable",
        "size_bytes",
        "spans",
        "term",
        "was_applied",
    )

    def __init__(self, size_bytes: int, budget: ByteBudget) -> None:
        self.index: LogIndex = 0
        """Where in the log it stands, if it stays there."""
        self.term: Term = 0
        """The term in which it was proposed."""
        self.size_bytes: int = size_bytes
        self.is_done: bool = False
        """Whether the outcome is known."""
        self.is_repeatable: bool = False
        """Whether it may be sent again without harm, so that nobody waits for its outcome here once
        another leads."""
        self.was_applied: bool = False
        """Whether the command is applied here: an error as its outcome is the machine's then."""
        self.spans: CommandSpans | None = None
        """Where it is traced."""
        self._budget = budget
        self._value: Any = None
        self._error: Exception | None = None
        self._waiter: trio.lowlevel.Task | None = None  # the common case: just one
        self._event: trio.Event | None = None  # further ones
        self._then: Callable[[Proposal], None] | None = None  # who waits in no task

    async def result(self) -> Any:
        """Wait for the outcome. It can be asked for again, by any number of tasks.

        Returns:
            What the state machine's `apply` returned.

        Raises:
            ProposalDropped: certainly not in the log.
            OutcomeUnknown: the node died, or lost its leadership and did not learn in time what
                became of the command; it may or may not be applied.
            Exception: whatever `apply` raised for this command.

        Cancelling the wait does not undo the command.
        """
        await self.settled()
        error, value = self._error, self._value
        if error is None:
            return value
        try:
            raise error
        finally:
            del self, error  # the error refers to this frame: nothing here may refer to the error

    async def settled(self) -> None:
        """Wait until there is an outcome, whatever it is.

        Cancelling the wait does not undo the command; it may be waited for again.
        """
        if self.is_done:
            await trio.lowlevel.checkpoint_if_cancelled()
        elif self._waiter is None:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        else:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()

    def resolve(self, value: Any) -> None:
        """It was applied, with this result."""
        self.was_applied = True
        self._value = value
        self._finish()

    def reject(self, error: Exception) -> None:
        """It was applied, and raised this."""
        self.was_applied = True
        self.fail(error)

    def fail(self, error: Exception) -> None:
        """It has this error as its outcome, and was not applied here."""
        self._error = error
        self._finish()

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    @property
    def trace(self) -> TraceContext | None:
        """Travels with it to the leader, where somebody traces."""
        return None if self.spans is None else self.spans.context

    def _finish(self) -> None:
        self.is_done = True
        if self.spans is not None:
            self.spans.finished(self._error)
        self._budget.give_back(self.size_bytes)
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None
        if self._event is not None:
            self._event.set()
        if self._then is not None:
            then, self._then = self._then, None
            then(self)


def when_settled(proposal: Proposal, then: Callable[[Proposal], None]) -> None:
    """Have something called as soon as there is an outcome: for who has no task that waits.

    Args:
        proposal: one without an outcome.
        then: called in the middle of whatever brings the outcome about: it notes it, no more. It
            must not raise.
    """
    proposal._then = then


def outcome_of(proposal: Proposal) -> tuple[Any, Exception | None]:
    """What `apply` returned, or the error that `result` would raise, of one that is done."""
    return proposal._value, proposal._error
