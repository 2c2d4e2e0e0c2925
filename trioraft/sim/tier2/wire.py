"""Wire: one life's end of the network. A fenced life neither sends nor hears.

Rules of this file: a promise is checked against the disk at the moment at which it leaves; what
left before the fence is on its way, and arrives.
"""

from __future__ import annotations

from typing import Protocol, final

import trio

from ...core.config import Limits
from ...core.errors import InvariantViolation
from ...core.messages import Message
from ...core.types import Address, NodeId
from ...transport.base import Transport, TransportEvent, TransportOwner
from .world import World


class WireOwner(Protocol):
    """A life, as its wire sees it."""

    @property
    def is_fenced(self) -> bool:
        """Whether it is over."""


@final
class Wire:
    """A `Transport` around another."""

    def __init__(self, inner: Transport, owner: WireOwner, world: World) -> None:
        self._inner = inner
        self._owner = owner
        self._world = world
        self._scope = trio.CancelScope()

    def break_down(self) -> None:
        """Fail, now: what a node cannot survive, whatever it is shielded from."""
        self._scope.cancel()

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._inner.node_id

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Transport.run`."""
        with self._scope:
            await self._inner.run(
                _Receiver(owner, self._owner, self._world),
                cluster_id=cluster_id,
                limits=limits,
                task_status=task_status,
            )
        raise OSError("the network is gone: the run was cut short")

    def send(self, message: Message) -> None:
        """See `Transport.send`."""
        if self._owner.is_fenced:
            return
        try:
            self._world.checks.on_sent(message)
        except InvariantViolation as error:
            self._world.fail(error)
        self._inner.send(message)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """See `Transport.set_peer`."""
        self._inner.set_peer(peer, address)

    def address_of(self, peer: NodeId) -> Address | None:
        """See `Transport.address_of`."""
        return self._inner.address_of(peer)


@final
class _Receiver:
    """The node, unless its life is over."""

    def __init__(self, owner: TransportOwner, life: WireOwner, world: World) -> None:
        self._owner = owner
        self._life = life
        self._recording = world.recording

    def on_message(self, message: Message) -> None:
        if not self._life.is_fenced:
            self._recording.delivered += 1
            self._recording.note("message", message)
            self._owner.on_message(message)

    def on_batch_end(self) -> None:
        if not self._life.is_fenced:
            self._owner.on_batch_end()

    def on_peer_lost(self, peer: NodeId) -> None:
        if not self._life.is_fenced:
            self._owner.on_peer_lost(peer)

    def on_transport_event(self, event: TransportEvent) -> None:
        if not self._life.is_fenced:
            self._owner.on_transport_event(event)
