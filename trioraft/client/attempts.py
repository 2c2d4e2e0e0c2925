"""A call over all its attempts, as a client makes them: what errors say of it, and its pauses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import anyio

from ..core.errors import (
    ConfigError,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    SessionExpired,
)
from ..machines.numbering import SPREAD_MAX as SPREAD_MAX
from ..machines.numbering import Attempt as Attempt
from ..machines.numbering import Backoff as Backoff
from ..machines.numbering import Numbering as Numbering
from ..rpc.errors import ServerLeaving, ServerLost
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


def failed(attempt: Attempt, error: Exception) -> None:
    """A server answered with this error, or not at all."""
    maybe_taken = isinstance(error, MAYBE_TAKEN) and not isinstance(error, NotSent)
    attempt.failed(error, maybe_taken=maybe_taken)


async def pause(backoff: Backoff) -> None:
    """The next pause of a call, or of a search."""
    await anyio.sleep(backoff.next_s())
