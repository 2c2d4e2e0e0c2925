"""CuttableTransport: a transport of which ways can be cut, for tests and laboratories.

Rules of this file:

* It stands around the real one, which knows nothing of it: nothing of this is in a server that was
  not started by `trioraft cluster --lab`, and no request can bring it there.
* A way that is cut is silent, as an unplugged cable is: connections stay, and what goes over them
  vanishes. Nobody is told that a connection ended behind a cut, either.
* What was said before a cut may still arrive, as on a real line.
"""

from __future__ import annotations

from typing import Any, Protocol, final

import trio

from ..core.config import Limits
from ..core.messages import Introduction, Message
from ..core.types import NodeId
from .base import Transport, TransportOwner


class Scissors(Protocol):
    """Which ways are cut. Asked for every message."""

    def lets_send(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether this message may leave."""

    def lets_receive(self, sender: NodeId, receiver: NodeId) -> bool:
        """Whether what came on this way may be heard."""


@final
class CuttableTransport:
    """A transport with ways that can be cut. All else is the real one's.

    Args:
        transport: the real one.
        scissors: which ways are cut.
    """

    def __init__(self, transport: Transport, scissors: Scissors) -> None:
        self.owner: TransportOwner | None = None
        """Whose it is while it runs."""
        self._transport = transport
        self._scissors = scissors

    def send(self, message: Message) -> None:
        """Send it, unless that way is cut."""
        if self._scissors.lets_send(message.sender, message.receiver):
            self._transport.send(message)

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the real one, for an owner who is not told what came a way that is cut."""
        behind: Any = _Behind(owner, self._transport.node_id, self._scissors)
        self.owner = owner
        try:
            await self._transport.run(
                behind, cluster_id=cluster_id, limits=limits, task_status=task_status
            )
        finally:
            self.owner = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Behind:
    """The node, as its transport sees it behind the cuts."""

    def __init__(self, owner: TransportOwner, node_id: NodeId, scissors: Scissors) -> None:
        self._owner = owner
        self._node_id = node_id
        self._scissors = scissors

    def on_message(self, message: Message, origin: Introduction) -> None:
        if self._scissors.lets_receive(message.sender, message.receiver):
            self._owner.on_message(message, origin)

    def on_peer_lost(self, peer: NodeId) -> None:
        if self._scissors.lets_receive(peer, self._node_id):
            self._owner.on_peer_lost(peer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)
