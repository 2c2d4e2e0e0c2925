"""What simulated clients ask of a node, and what they get back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ..core.errors import ProposalDropped
from ..core.types import LogIndex, NodeId, Term
from .checks import Checks


@attrs.frozen
class Request:
    """What a client asks of a node."""

    operation: int
    """The client's operation that it is for; an answer to another is stale."""
    command: bytes | None
    """To propose; None: a read by barrier."""
    key: int = 0
    lease: bool = False
    reply: Callable[[Request, Reply], None] = attrs.field(eq=False, repr=False, kw_only=True)


@attrs.frozen
class Reply:
    """What it gets back."""

    result: Any = None
    """What the state machine returned; an error of the session, if there was one."""
    is_refused: bool = False
    """The node does not lead, takes nothing now, or lost track of it: ask another."""
    leader_id: NodeId | None = None
    """Refused: who leads, as far as this node knows."""


class Asked:
    """A proposal, as the member knows it; its outcome goes to the client, and to the checks."""

    def __init__(self, node_id: NodeId, request: Request, checks: Checks) -> None:
        self.index: LogIndex = 0
        self.term: Term = 0
        self._node_id = node_id
        self._request = request
        self._checks = checks

    def resolve(self, value: Any) -> None:
        """It was applied, with this result."""
        self._settle(was_applied=True)
        self._request.reply(self._request, Reply(value))

    def reject(self, error: Exception) -> None:
        """It was applied, and raised this."""
        self.resolve(error)

    def fail(self, error: Exception) -> None:
        """Dropped, or unknown: the same command of the same session may be sent again."""
        if isinstance(error, ProposalDropped):
            self._settle(was_applied=False)
        self._request.reply(self._request, Reply(is_refused=True))

    def _settle(self, *, was_applied: bool) -> None:
        self._checks.on_outcome(self._node_id, self, (self.index, self.term), was_applied)
