"""What a port tells of its connections, for logs."""

from __future__ import annotations

import attrs

from ..core.types import NodeId


@attrs.frozen
class TransportEvent:
    """Base of what a transport tells about its connections."""

    at_s: float
    """`trio.current_time()` when it happened."""


@attrs.frozen
class ConnectionRejected(TransportEvent):
    """An incoming connection was closed because of what it sent, or did not send in time."""

    remote: str
    """Address of the other side, as far as it is known."""
    peer: NodeId | None
    """Who it said it was, once the handshake had succeeded."""
    reason: str
    """A sentence: what was wrong, with the values."""
