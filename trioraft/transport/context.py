"""What the tasks of one `TcpTransport.run` share."""

from __future__ import annotations

import random
from typing import final

import attrs

from ..core.config import Limits, Timing
from ..core.types import Address, NodeId
from ..net.events import TransportEvent
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

    share: Share = attrs.Factory(Share)
    """Of what all links of this run hold."""

    def tell(self, event: TransportEvent) -> None:
        self.owner.on_transport_event(event)
