"""Errors as answers: one table, read in both directions.

Rules of this file:

* The kind is what both sides agree on; the message is prose of the server's, for people.
* What is not in the table was raised by the state machine for this command: it travels as
  "command" with its class's name, and becomes the same class again if the client was told of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..core.errors import (
    ConfigError,
    ConfigurationConflict,
    DescriptorsExhausted,
    DiskFull,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    RaftError,
    SessionExpired,
    ThreadsExhausted,
    TransferFailed,
    Unreachable,
)
from ..core.types import Address
from ..machines.sessions import CommandFailed, SessionFull, UnknownCommand, error_from, message_of
from ..net.sentences import printable
from .errors import PermissionDenied, ServerLeaving
from .protocol import Failure, RequestId

COMMAND: Final = "command"
"""The kind of what a state machine raised."""

_KINDS: Final[Mapping[str, type[RaftError]]] = {
    "not-leader": NotLeader,
    "dropped": ProposalDropped,
    "unknown": OutcomeUnknown,
    "overloaded": Overloaded,
    "session-full": SessionFull,
    "dead": NodeDead,
    "leaving": ServerLeaving,
    "expired": SessionExpired,
    "config": ConfigError,
    "unreadable": UnknownCommand,
    "transfer": TransferFailed,
    "conflict": ConfigurationConflict,
    "full": DiskFull,
    "no-descriptors": DescriptorsExhausted,
    "no-threads": ThreadsExhausted,
    "denied": PermissionDenied,
    "unreachable": Unreachable,
}
_KIND_OF: Final[Mapping[type, str]] = {error: kind for kind, error in _KINDS.items()}
_OF_MACHINES: Final = frozenset(
    {OutcomeUnknown, SessionExpired, SessionFull, ConfigError, UnknownCommand}
)
"""What means the same whoever raises it. Any other of the cluster's errors would tell the client
that the command was not applied, and make it send the command again."""


def failure_of(
    request_id: RequestId,
    error: Exception,
    leader_address: Address | None = None,
    *,
    by_machine: bool = False,
) -> Failure:
    """The answer that says this error.

    Args:
        request_id: whose answer it is.
        error: what went wrong.
        leader_address: for `NotLeader`: where its leader takes clients, if that is known. (The
            address in the error itself is the peers'.)
        by_machine: the state machine raised it, so the command is applied.
    """
    kind = _KIND_OF.get(type(error), COMMAND)
    if by_machine and type(error) not in _OF_MACHINES:
        kind = COMMAND
    if isinstance(error, NotLeader) and not by_machine:
        return Failure(
            request_id, kind, "", leader_id=error.leader_id, leader_address=leader_address
        )
    if isinstance(error, CommandFailed):
        message = message_of(error).removeprefix(f"{error.type_name}: ")
        return Failure(request_id, COMMAND, message, error.type_name)
    type_name = type(error).__qualname__ if kind == COMMAND else ""
    return Failure(request_id, kind, message_of(error), type_name)


def error_of(failure: Failure, error_types: Mapping[str, type[Exception]]) -> Exception:
    """The error that the answer says, to be raised.

    Args:
        failure: the answer.
        error_types: by name: what a state machine raises on purpose. Another type becomes
            `CommandFailed`, and so does one that cannot be made from its message alone.
    """
    if failure.kind == "not-leader":
        return NotLeader(failure.leader_id, failure.leader_address)
    if failure.kind == COMMAND:
        return error_from(failure.type_name, failure.message, error_types)
    known = _KINDS.get(failure.kind)
    if known is None:
        return RaftError(f"{printable(failure.kind)}: {printable(failure.message)}")
    return known(failure.message)
