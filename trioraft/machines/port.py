"""Port: what a node is to whatever calls through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ..core.types import LogIndex
from ..member.attempts import Attempt
from ..member.status import Status


class Port(Protocol):
    """A way into the log, and to what is known of it here, as a `Node` is one."""

    async def propose(self, data: bytes) -> Any: ...

    async def forward(self, data: bytes, *, attempt: Attempt | None = None) -> Any: ...

    async def read_barrier(self, *, lease: bool = False) -> LogIndex: ...

    async def wait(self, predicate: Callable[[Status], bool]) -> Status: ...

    def before_leaving(self, job: Callable[[], Awaitable[None]]) -> None: ...
