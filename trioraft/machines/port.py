"""Port: what a node is to whatever calls through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..core.types import LogIndex
from ..member.attempts import Attempt
from ..member.status import Status


class Port(Protocol):
    """A way into the log, and to what is known of it here, as a `Node` is one.

    Each method is as `Node` has it.
    """

    async def propose(self, data: bytes) -> Any:
        """Have a command agreed upon and applied; returns its result."""

    async def forward(self, data: bytes, *, attempt: Attempt | None = None) -> Any:
        """Have whoever leads take a command; returns its result."""

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """Wait until what was committed before is applied here."""

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """Wait until the status is such."""

    def before_leaving(self, job: Callable[[], Awaitable[None]]) -> None:
        """Have something done when the node is left."""
