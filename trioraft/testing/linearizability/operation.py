"""Operation: one call of one client, and what the client learned of it.

Rules of this file:

* Times are any numbers of one clock that never goes back; only their order counts. A call and an
  answer at the same time overlap: when in doubt, more orders are allowed, never fewer.
* Three things can be known of a call: it happened and this was the answer; it certainly did not
  happen; or nothing. A call that nobody heard of again belongs to the third.
"""

from __future__ import annotations

import enum
from typing import Any, NewType

import attrs

from ...core.errors import RaftError

Token = NewType("Token", int)
"""Names an operation of one `History` while it is under way."""


class HistoryError(RaftError, ValueError):
    """A history is recorded or written in a way that means nothing."""


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
