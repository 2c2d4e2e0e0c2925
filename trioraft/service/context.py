"""What all connections of one client port share: its bounds, its node, its addresses."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import final

import attrs
import trio

from ..core.config import FRAME_BYTES_LIMIT
from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from ..logs.loggers import TraceLogger
from ..member.state_machine import StateMachine
from ..member.status import Status
from ..net.events import ConnectionRejected
from ..net.listening import Listener
from ..node.node import Node
from ..rpc.protocol import (
    FRAME_BYTES_MAX,
    MAGIC,
    PROTOCOL_VERSION,
    ChangeStatus,
    PeerStatus,
    ServerStatus,
    Welcome,
)
from .roles import UNLIMITED, Credentials, Permission, Roles


@attrs.frozen
class ServiceLimits:
    """Every bound of a client port. Reaching one slows or refuses; it never grows memory.

    Raises:
        ConfigError: a bound is not positive.
    """

    connections_max: int = 1024
    """Clients connected at the same time; one more is told so and closed."""
    requests_max: int = 1024
    """Unanswered requests of one connection; then it is not read any further."""
    frame_bytes_max: int = FRAME_BYTES_MAX
    """Largest request; checked before anything is allocated."""
    unsent_bytes_max: int = 4 * 1024 * 1024
    """Answers that wait for one client to take them; then its connection is not read further."""
    handshake_timeout_s: float = 5.0
    """How long a new connection may take to say who it is, in seconds."""
    frame_timeout_s: float = 10.0
    """How long a half-read request, or an answer that nobody takes, may last, in seconds."""
    leave_timeout_s: float = 2.0
    """How long a shutdown waits for what is under way to be answered, in seconds."""
    watch_interval_min_s: float = 0.02
    """Shortest time between two statuses of a subscription, whatever was asked, in seconds."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(ServiceLimits):
            value = getattr(self, field.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not value > 0:
                raise ConfigError(
                    f"ServiceLimits.{field.name} is {value!r}: give a positive number"
                )
        if self.frame_bytes_max > FRAME_BYTES_LIMIT:
            raise ConfigError(
                f"ServiceLimits.frame_bytes_max is {self.frame_bytes_max}: the length of a frame "
                f"has 30 bits; give at most {FRAME_BYTES_LIMIT}"
            )


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
    roles: Roles | None = None
    """None: whoever gets in may do everything."""
    usage: Callable[[], Mapping[str, tuple[int, int | None]]] = dict
    """What the state machine counts against bounds of its own."""
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
        fields["problems"] = dict(status.problems)
        fields["differing"] = dict(status.differing)
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
            budgets=dict(self.usage()),
        )

    def permission_of(self, names: Iterable[str], token: str) -> tuple[Credentials, Permission]:
        """What a client may do that shows this; and what it showed, without the token.

        Raises:
            PermissionDenied: nothing.
        """
        shown = Credentials.of(names, token)
        return shown, UNLIMITED if self.roles is None else self.roles.permission_of(shown)

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
