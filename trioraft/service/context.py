"""What all connections of one client port share: its bounds, its node, its addresses."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Final, final

import attrs
import trio

from ..core.config import FRAME_BYTES_LIMIT, check_bounds
from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from ..logs.loggers import TraceLogger
from ..member.state_machine import StateMachine
from ..member.status import Status
from ..net.addresses import is_well_formed, is_wildcard
from ..net.door import Door
from ..net.events import ConnectionRejected
from ..net.holdings import Holdings
from ..net.rejections import Rejections
from ..net.tls import ServerTls, TlsContexts
from ..net.visitors import Visitors
from ..node.figures import commit_index_of
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
from ..tasks.slices import Slices
from .feed import StatusFeed
from .openings import Openings
from .roles import UNLIMITED, Credentials, Permission, Roles

if TYPE_CHECKING:
    from ..tracing.spans import Spans

WRITING_S: Final = 0.100
"""So long after a commit, writes are taken to be under way, in seconds."""


@attrs.frozen
class ServiceLimits:
    """Every bound of a client port. Reaching one slows or refuses; it never grows memory.

    Raises:
        ConfigError: a bound is not a positive number, or a number of things not a whole one.
    """

    connections_max: int = 1024
    """Clients connected at the same time; for one more, the one that was idle longest goes. If all
    are busy, the new one is told so and closed."""
    connections_of_host_max: int = 768
    """Of them, from one address; the rest is for others."""
    strangers_max: int = 128
    """Connections that have not said yet who they are; for one more, the one that kept silent
    longest goes."""
    half_frames_bytes_max: int = 16 * 1024 * 1024
    """Bytes of half-read requests of all clients together; beyond it the oldest goes."""
    unsent_total_bytes_max: int = 16 * 1024 * 1024
    """Answers that wait for all clients together; beyond it the client goes that has taken nothing
    for the longest time."""
    waiting_bytes_max: int = 16 * 1024 * 1024
    """Requests of all clients together that wait for their turn; beyond it the client goes whose
    have waited longest."""
    subscriptions_max: int = 4096
    """Subscriptions of all clients together; one more is refused."""
    status_watches_max: int = 1024
    """Of them, to the status of this node; the more there are, the fewer statuses each gets."""
    changes_max: int = 64
    """Requests that change the cluster, of all clients together, under way at the same time."""
    backups_max: int = 2
    """Backups that are read at the same time; one more is refused. Each has a piece of 256 KiB in
    memory, and may have a snapshot taken."""
    backup_bytes_per_s_max: int = 64 * 1024 * 1024
    """How fast each of them is sent, so that it leaves room on the line, the processor and the
    client's disk; in bytes a second."""
    sessions_of_client_max: int = 2000
    """Sessions that one client may have opened here and not closed; then further ones are refused
    (`Overloaded`). A client is who shows the same names and token, or comes from the same host if
    it shows nothing. As sessions that are not used are forgotten some day, a six hundredth of this
    number comes back each second. (How many there are of all, the state machine bounds.)"""
    requests_max: int = 1024
    """Unanswered requests of one connection, without its subscriptions; then it is not read any
    further."""
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
        check_bounds(self)
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
    certificates: TlsContexts | ServerTls | None = attrs.field(alias="tls")
    """None: plain TCP."""
    client_addresses: dict[NodeId, Address]
    """Where clients reach servers, as the operator says; what servers say themselves comes
    beside it."""
    has_sessions: bool
    log: TraceLogger
    roles: Roles | None = None
    """None: whoever gets in may do everything."""
    spans: Spans | None = None
    """None: nobody traces."""
    usage: Callable[[], Mapping[str, tuple[int, int | None]]] = dict
    """What the state machine counts against bounds of its own."""
    own_address: Address | None = None
    """Where clients reach this very port; a wildcard host stands for the one at which peers reach
    its node."""
    is_leaving: bool = False
    slices: Slices = attrs.field(init=False)
    """What all connections together may keep the loop for."""
    door: Door = attrs.Factory(Door)
    visitors: Visitors = attrs.field(init=False)
    half_frames: Holdings = attrs.field(init=False)
    unsent: Holdings = attrs.field(init=False)
    waiting: Holdings = attrs.field(init=False)
    rejections: Rejections = attrs.field(init=False)
    subscriptions: int = 0
    status_watches: int = 0
    changes: int = 0
    backups: int = 0
    feed: StatusFeed = attrs.field(init=False)
    openings: Openings = attrs.field(init=False)
    _commit_index: int = 0
    _committed_s: float = -inf

    def __attrs_post_init__(self) -> None:
        limits = self.limits
        self.slices = Slices(is_pressed=self._is_writing)
        self.visitors = Visitors(
            self.door.knows,
            limits.strangers_max,
            limits.connections_max,
            limits.connections_of_host_max,
        )
        self.half_frames = Holdings("half requests", limits.half_frames_bytes_max)
        self.unsent = Holdings("answers that wait to be taken", limits.unsent_total_bytes_max)
        self.waiting = Holdings("requests that wait", limits.waiting_bytes_max)
        self.rejections = Rejections(self._tell_rejected)
        self.openings = Openings(limits.sessions_of_client_max)
        self.feed = StatusFeed(self.node, limits.watch_interval_min_s, self.server_status)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For the next handshake."""
        return None if self.certificates is None else self.certificates.server

    @property
    def connections(self) -> int:
        """Clients that are connected, and have said who they are."""
        return len(self.visitors.guests)

    def budgets(self) -> dict[str, tuple[int, int | None]]:
        """Every budget that is shared by all, of this port, its node and the state machine: what is
        used of it, and its bound."""
        limits, visitors = self.limits, self.visitors
        return {
            "connections": (len(visitors.guests), limits.connections_max),
            "strangers_cpu_ms": self.door.used_ms(trio.current_time()),
            "strangers": (len(visitors.strangers), limits.strangers_max),
            "half_frames_bytes": (self.half_frames.bytes, limits.half_frames_bytes_max),
            "unsent_bytes": (self.unsent.bytes, limits.unsent_total_bytes_max),
            "waiting_bytes": (self.waiting.bytes, limits.waiting_bytes_max),
            "subscriptions": (self.subscriptions, limits.subscriptions_max),
            "status_watches": (self.status_watches, limits.status_watches_max),
            "changes": (self.changes, limits.changes_max),
            "backups": (self.backups, limits.backups_max),
            "sessions_of_client": self.openings.used(trio.current_time()),
            **self.node.budgets(),
            **self.usage(),
        }

    def addresses_of(self, node_id: NodeId, announced: Address | None) -> list[Address]:
        """Where clients may reach a server, the likeliest first.

        What a server says itself counts first, for it may have moved since the operator of this
        one was told. One that listens on all interfaces knows only its port: then the host at which
        peers reach it is a guess, and comes last.
        """
        given = self.client_addresses.get(node_id)
        found = [] if given is None else [given]
        if announced is not None and not is_wildcard(announced[0]):
            found.insert(0, announced)
        elif announced is not None:
            of_peers = self.node.address_of(node_id)
            if of_peers is not None and not is_wildcard(of_peers[0]):
                found.append((of_peers[0], announced[1]))
        return [address for address in dict.fromkeys(found) if is_well_formed(address)]

    def leader_address(self, leader_id: NodeId) -> Address | None:
        """Where clients reach the leader, if that is known."""
        found = self.addresses_of(leader_id, self.node.status.client_addresses.get(leader_id))
        return found[0] if found else None

    def _client_addresses(self, status: Status) -> dict[NodeId, list[Address]]:
        """Of all servers of which anything is known."""
        own = {} if self.own_address is None else {status.node_id: self.own_address}
        announced = {**status.client_addresses, **own}
        names = dict.fromkeys((*self.client_addresses, *announced))
        found = {name: self.addresses_of(name, announced.get(name)) for name in names}
        return {name: addresses for name, addresses in found.items() if addresses}

    def _is_writing(self) -> bool:
        """Whether the cluster has committed something lately, so that others may wait for more."""
        index, now_s = commit_index_of(self.node), trio.current_time()
        if index != self._commit_index:
            self._commit_index, self._committed_s = index, now_s
        return now_s - self._committed_s < WRITING_S

    def server_status(self, status: Status) -> ServerStatus:
        """The node's status for its clients: all of it, and what only the port knows."""
        addresses = self._client_addresses(status)
        fields = attrs.asdict(status, recurse=False)
        fields["role"] = status.role.value
        fields["last_role_change"] = str(status.last_role_change)
        fields["links"] = dict(status.links)
        fields["problems"] = dict(status.problems)
        fields["differing"] = dict(status.differing)
        fields["client_addresses"] = {name: found[0] for name, found in addresses.items()}
        fields["other_client_addresses"] = {
            name: tuple(found[1:]) for name, found in addresses.items() if found[1:]
        }
        fields["progress"] = {
            peer: PeerStatus(**attrs.asdict(progress)) for peer, progress in status.progress.items()
        }
        if status.change is not None:
            fields["change"] = ChangeStatus(**attrs.asdict(status.change, recurse=False))
        return ServerStatus(
            **fields,
            cluster_id=self.cluster_id,
            configuration_index=status.configuration_index,
            connections=self.connections,
            budgets=self.budgets(),
            turned_away=self.visitors.turned_away + self.door.closed,
            rejected=self.rejections.count,
            client_certificate_expires_s=(
                None if self.certificates is None else self.certificates.expires_s
            ),
        )

    def permission_of(self, names: Iterable[str], token: str) -> tuple[Credentials, Permission]:
        """What a client may do that shows this; and what it showed, without the token.

        Raises:
            PermissionDenied: nothing.
        """
        shown = Credentials.of(names, token)
        return shown, UNLIMITED if self.roles is None else self.roles.permission_of(shown)

    def welcome(
        self, refused: str = "", reason: str = "", version: int = PROTOCOL_VERSION
    ) -> Welcome:
        """The first frame to a client; the version is what is spoken."""
        if refused:
            return Welcome(MAGIC, version, refused, reason)
        return Welcome(
            MAGIC,
            version,
            node_id=self.node.id,
            cluster_id=self.cluster_id,
            requests_max=self.limits.requests_max,
            frame_bytes_max=self.limits.frame_bytes_max,
            has_sessions=self.has_sessions,
        )

    def reject(self, remote: str, reason: str) -> None:
        """Tell why a connection was closed, if it is not too often."""
        self.rejections.add(remote, None, reason)

    def _tell_rejected(self, remote: str, _peer: NodeId | None, reason: str) -> None:
        if self.log.enabled:
            told = f"client: {reason}"
            self.log.event(ConnectionRejected(trio.current_time(), remote, None, told))
