"""What is known of a call while it is tried: may it have been applied already?

Rules of this file: every error of an attempt is sorted here, once. Either the command certainly is
not in the log because of this attempt, or it may be; nothing in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import attrs

from ..core.errors import (
    ConfigError,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    SessionExpired,
)
from ..rpc.errors import DeadlineExceeded, DeadlineOutcomeUnknown, ServerLeaving, ServerLost
from .connection import NotSent

NOT_TAKEN: Final = (NotLeader, ProposalDropped, Overloaded, NodeDead, ServerLeaving, NotSent)
"""After these the command certainly is not in the log: it may be sent again, also without a
session."""
MAYBE_TAKEN: Final = (OutcomeUnknown, ServerLost)
"""After these it may be."""


def checked_error_types(error_types: Iterable[type[Exception]]) -> dict[str, type[Exception]]:
    """What a state machine raises on purpose, by name.

    Raises:
        ConfigError: one of them is what this file sorts: a command that raised it would be taken
            for one that was not applied, and sent again.
    """
    checked: dict[str, type[Exception]] = {}
    for error_type in error_types:
        if issubclass(error_type, (*NOT_TAKEN, *MAYBE_TAKEN, SessionExpired)):
            raise ConfigError(
                f"error_types has {error_type.__name__}, by which servers say whether they took a "
                "command: let the state machine raise a class of its own"
            )
        checked[error_type.__qualname__] = error_type
    return checked


@final
@attrs.define
class Attempt:
    """One call, over all the times it is sent."""

    is_underway: bool = False
    """It was sent, and has no answer yet."""
    maybe_applied: bool = False
    """An earlier time it was sent has an unknown outcome."""

    def failed(self, error: Exception) -> None:
        """It was answered with this error, or not at all."""
        self.is_underway = False
        if isinstance(error, MAYBE_TAKEN) and not isinstance(error, NotSent):
            self.maybe_applied = True

    def deadline_error(self, timeout_s: float, last_problem: str) -> DeadlineExceeded:
        if self.maybe_applied or self.is_underway:
            return DeadlineOutcomeUnknown(
                f"no answer within {timeout_s:g} s (last: {last_problem}); the command was sent: "
                "it may or may not be applied"
            )
        return DeadlineExceeded(
            f"not done within {timeout_s:g} s (last: {last_problem}); nothing was applied"
        )
