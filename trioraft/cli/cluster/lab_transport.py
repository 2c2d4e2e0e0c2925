"""CuttableTransport: a member's transport, of which a laboratory can cut ways.

Rules of this file:

* It stands around the real one, which knows nothing of it: nothing of this is in a server that was
  not started by `trioraft cluster --lab`, and no request can bring it there.
* A way that is cut is silent, as an unplugged cable is: connections stay, and what goes over them
  vanishes. Nobody is told that a connection ended behind a cut, either.
* What was said before a cut may still arrive, as on a real line.
"""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import trio

from ...core.config import Limits
from ...core.messages import Introduction, Message
from ...core.types import NodeId
from ...transport.tcp import TcpTransport

NOBODY: Final[frozenset[NodeId]] = frozenset()


@final
@attrs.define(eq=False)
class Cuts:
    """Which ways of this member are cut. Replaced as a whole, from whatever thread."""

    to: frozenset[NodeId] = NOBODY
    """What it sends to these does not leave."""
    come_from: frozenset[NodeId] = NOBODY
    """What these send does not get to it."""


@final
class CuttableTransport:
    """A transport with ways that can be cut. All else is the real one's.

    Args:
        transport: the real one.
        cuts: looked at for every message.
    """

    def __init__(self, transport: TcpTransport, cuts: Cuts) -> None:
        self._transport = transport
        self._cuts = cuts

    def send(self, message: Message) -> None:
        """Send it, unless that way is cut."""
        if message.receiver not in self._cuts.to:
            self._transport.send(message)

    async def run(
        self,
        owner: Any,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the real one, for an owner who is not told what came a way that is cut."""
        await self._transport.run(
            _Behind(owner, self._cuts),
            cluster_id=cluster_id,
            limits=limits,
            task_status=task_status,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Behind:
    """The node, as its transport sees it behind the cuts."""

    def __init__(self, owner: Any, cuts: Cuts) -> None:
        self._owner = owner
        self._cuts = cuts

    def on_message(self, message: Message, origin: Introduction) -> None:
        if message.sender not in self._cuts.come_from:
            self._owner.on_message(message, origin)

    def on_peer_lost(self, peer: NodeId) -> None:
        if peer not in self._cuts.come_from:
            self._owner.on_peer_lost(peer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner, name)
