"""What all connections of one client port share.

Rules of this file: nothing here waits.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import final

import attrs
import trio

from ..core.types import Address, NodeId
from ..logs.loggers import TraceLogger
from ..member.state_machine import StateMachine
from ..member.status import Status
from ..node.node import Node
from ..rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    ChangeStatus,
    PeerStatus,
    ServerStatus,
    Welcome,
)
from ..transport.base import ConnectionRejected
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
    connections: int = 0
    """Those that are open, admitted or not."""
    is_leaving: bool = False

    def status(self) -> ServerStatus:
        """What the node is now."""
        return server_status(
            self.node.status, self.cluster_id, self.client_addresses, self.connections
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


def server_status(
    status: Status,
    cluster_id: str,
    client_addresses: Mapping[NodeId, Address],
    connections: int,
) -> ServerStatus:
    """A node's status for its clients."""
    change = status.change
    return ServerStatus(
        node_id=status.node_id,
        cluster_id=cluster_id,
        role=status.role.value,
        term=status.term,
        leader_id=status.leader_id,
        last_index=status.last_index,
        commit_index=status.commit_index,
        applied_index=status.applied_index,
        configuration=status.configuration,
        configuration_index=status.configuration_index,
        progress={
            peer: PeerStatus(progress.match_index, progress.next_index, progress.state)
            for peer, progress in status.progress.items()
        },
        last_role_change=str(status.last_role_change),
        is_removed=status.is_removed,
        change=None
        if change is None
        else ChangeStatus(change.stage, change.voters, change.catching_up),
        client_addresses=dict(client_addresses),
        connections=connections,
        links=dict(status.links),
    )
