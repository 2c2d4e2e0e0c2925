"""What the tasks of one `TcpTransport.run` share."""

from __future__ import annotations

import random
from typing import final

import attrs
import trio

from ..core.config import Limits, Timing
from ..core.messages import Introduction
from ..core.types import Address, NodeId
from ..net.credentials import Certificate, Evidence, PeerRule
from ..net.door import Door
from ..net.events import TransportEvent
from ..net.resolving import Resolver
from ..net.tls import TlsContexts
from .base import TransportOwner
from .drain import Share


@final
@attrs.frozen
class TransportContext:
    """One run of a transport: who we are, whom we tell, what is allowed."""

    node_id: NodeId
    cluster_id: str
    owner: TransportOwner
    limits: Limits
    tls: TlsContexts | None
    rng: random.Random
    timing: Timing = attrs.Factory(Timing)
    """When the nodes of this cluster lose patience."""
    advertised: Address | None = None
    """Where others can reach us; a wildcard host means the host at which they see us."""

    credentials: PeerRule | None = None
    """Whom we take as a peer; None on plain TCP: everyone."""
    invitation: str = ""
    """What we show to those that were not told our name; empty: nothing."""

    resolver: Resolver = attrs.Factory(lambda: Resolver(trio.socket.getaddrinfo))
    """Looks peers' names up."""
    door: Door = attrs.Factory(Door)
    """What connections of strangers may cost us."""

    share: Share = attrs.Factory(Share)
    """Of what all links of this run hold."""

    def check_certificate(self, peer: NodeId, certificate: Certificate | None) -> None:
        """Check what can be checked before the peer has said anything.

        Raises:
            BadMessage: this is no peer's certificate, or another one's.
        """
        if self.credentials is not None and certificate is not None:
            self.credentials.check_certificate(peer, certificate)

    def check_credentials(
        self, said: Introduction, certificate: Certificate | None, invitation: str
    ) -> None:
        """Check that who says this may speak as a peer; nothing else of it is looked at before.

        Raises:
            BadMessage: it may not; the reason.
        """
        if self.credentials is None or certificate is None:
            return
        named = self.owner.disk_of(said.sender)
        shown = Evidence(self.cluster_id, invitation, said.incarnation, named)
        self.credentials.check(said.sender, certificate, shown)

    def tell(self, event: TransportEvent) -> None:
        self.owner.on_transport_event(event)
