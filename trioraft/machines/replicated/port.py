"""Port: what a replicated object needs of the node that it is attached to.

A `Node` is a port as it is; an object inside another machine gets one that says so in its commands.
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
    """A way into the log, and to what is known of it here, as a `Node` is one."""

    async def propose(self, data: bytes) -> Any: ...

    async def read_barrier(self, *, lease: bool = False) -> LogIndex: ...

    async def wait(self, predicate: Callable[[Status], bool]) -> Status: ...


_ENCODER = msgspec.msgpack.Encoder()


@final
@attrs.frozen
class InnerPort:
    """The way of an object into the log of the machine that is around it."""

    _node: Port
    _part: str | None = None
    """Its name among `Replicas`; None: a `SessionMachine` is around it, and what is proposed here
    has no session."""

    async def propose(self, data: bytes) -> Any:
        if self._part is None:
            return await self._node.propose(encode_plain(data))
        return await self._node.propose(_ENCODER.encode(ForPart(self._part, data)))

    async def read_barrier(self, *, lease: bool = False) -> LogIndex:
        return await self._node.read_barrier(lease=lease)

    async def wait(self, predicate: Callable[[Status], bool]) -> Status:
        return await self._node.wait(predicate)
