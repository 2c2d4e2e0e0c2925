"""What all connections of one client port share.

Rules of this file: nothing here waits.
"""

from __future__ import annotations

import ssl
from typing import final

import attrs
import trio

from ..core.types import Address, NodeId
from ..logs.loggers import TraceLogger
from ..member.state_machine import StateMachine
from ..member.status import Status
from ..net.events import ConnectionRejected
from ..net.listening import Listener
from ..node.node import Node
from ..rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    ChangeStatus,
    PeerStatus,
    ServerStatus,
    Welcome,
)
from .limits import ServiceLimits


@final
@attrs.define(eq=False)
class ServiceContext:
    """One client port, as its connections see it."""

    node: Node
    machine: StateMachine
    """The one that questions are for."""
    cluster_id: str
    limits: ServiceLimits
    tls: ssl.SSLContext | None
    client_addresses: dict[NodeId, Address]
    has_sessions: bool
    log: TraceLogger
    listener: Listener | None = None
    is_leaving: bool = False

    @property
    def connections(self) -> int:
        """Those that are open, admitted or not."""
        return 0 if self.listener is None else self.listener.connections

    def server_status(self, status: Status) -> ServerStatus:
        """The node's status for its clients: all of it, and what only the port knows."""
        fields = attrs.asdict(status, recurse=False)
        fields["role"] = status.role.value
        fields["last_role_change"] = str(status.last_role_change)
        fields["links"] = dict(status.links)
        fields["progress"] = {
            peer: PeerStatus(**attrs.asdict(progress)) for peer, progress in status.progress.items()
        }
        if status.change is not None:
            fields["change"] = ChangeStatus(**attrs.asdict(status.change, recurse=False))
        return ServerStatus(
            **fields,
            cluster_id=self.cluster_id,
            configuration_index=status.configuration_index,
            client_addresses=dict(self.client_addresses),
            connections=self.connections,
        )

    def welcome(self, refused: str = "", reason: str = "") -> Welcome:
        """The first frame to a client."""
        if refused:
            return Welcome(MAGIC, PROTOCOL_VERSION, refused, reason)
        return Welcome(
            MAGIC,
            PROTOCOL_VERSION,
            node_id=self.node.id,
            cluster_id=self.cluster_id,
            requests_max=self.limits.requests_max,
            frame_bytes_max=self.limits.frame_bytes_max,
            has_sessions=self.has_sessions,
        )

    def reject(self, remote: str, reason: str) -> None:
        """Log why a connection was closed."""
        if self.log.enabled:
            self.log.event(
                ConnectionRejected(trio.current_time(), remote, None, f"client: {reason}")
            )
