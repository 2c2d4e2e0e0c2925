"""Port: what a replicated object needs of the node that it is attached to.

Rules of this file: a `Node` is a port as it is; a part of `Replicas` gets one that says whose
commands they are, and an object inside a `SessionMachine` one that says that they have no session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, final

import attrs
import msgspec

from ...core.types import LogIndex
from ...member.status import Status
from ..sessions import encode_plain


class ForPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A command, or a question, for one of several objects."""

    name: str
    data: bytes


class Port(Protocol):
    """A way into the log, and to what is known of it here."""

    async def propose(self, data: bytes) -> Any:
        """As `Node.propose`."""

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """As `Node.read_barrier`."""

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """As `Node.wait`."""


@final
@attrs.frozen
class PlainPort:
    """The way into a log whose machine is a `SessionMachine`, for commands without a session."""

    _node: Port

    async def propose(self, data: bytes) -> Any:
        """As `Node.propose`."""
        return await self._node.propose(encode_plain(data))

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        """As `Node.read_barrier`."""
        return await self._node.read_barrier(lease=lease)

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        """As `Node.wait`."""
        return await self._node.wait(predicate)
