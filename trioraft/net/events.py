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
class CertificatesReloaded(TransportEvent):
    """The certificates of a port were read again: new connections use what the files hold now."""

    port: str
    """ "peers" or "clients"."""
    files: tuple[str, ...]
    expires: str | None
    """When they cannot be used any more, as an ISO date and time; None: not known."""


@attrs.frozen
class CertificatesUnusable(TransportEvent):
    """The files of a port's certificates changed, and cannot be used: the port goes on with what it
    had."""

    port: str
    reason: str
    """A sentence."""


@attrs.frozen
class CertificateExpires(TransportEvent):
    """A certificate in use will expire soon, or has expired."""

    port: str
    file: str
    expires: str
    """When, as an ISO date and time."""
    left_days: int
    """Whole days that are left; negative: it has expired."""


@attrs.frozen
class ConnectionRejected(TransportEvent):
    """An incoming connection was closed because of what it sent, or did not send in time."""

    remote: str
    """Address of the other side, as far as it is known."""
    peer: NodeId | None
    """Who it said it was, once the handshake had succeeded."""
    reason: str
    """A sentence: what was wrong, with the values."""
