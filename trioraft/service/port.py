"""open_service: a client port beside a node.

Plain TCP stays on this machine unless `insecure=True` says otherwise: whoever can reach a plain
port can write, read, and change the cluster. No error of one connection, and no lack of
descriptors, ends the service.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import final

import trio

from ..core.types import Address, NodeId
from ..logs.loggers import AnyLogger, TraceLogger
from ..machines.questions import inner_machine
from ..machines.sessions import SessionMachine
from ..member.state_machine import StateMachine, hosted
from ..net.addresses import AddressRules, host_port
from ..net.connection import Connection
from ..net.listening import Listener, listen
from ..net.tls import ServerTls, TlsContexts, server_tls_of
from ..node.node import Node
from ..rpc.errors import PermissionDenied
from ..rpc.protocol import ServerStatus
from ..tasks.background import running_beside
from ..tasks.event_loop import opened_under
from ..tracing.optional import spans_of
from ..tracing.tracer import Tracer
from .admission import admit
from .context import ServiceContext, ServiceLimits
from .conversation import Conversation
from .roles import NOTHING, Permission, Roles

DESCRIPTORS_RESERVED = 96
"""Of this process's descriptors, left over for its disk and for its peers when clients come."""

_WELL_FORMED = AddressRules(has_tls=False, insecure=True)


@final
class Service:
    """A client port that is open. Made by `open_service`."""

    def __init__(self, context: ServiceContext, sock: socket.socket) -> None:
        self._context = context
        self._conversations: set[Conversation] = set()
        self._leave = trio.Event()
        self._listener = Listener(
            sock,
            door=context.door,
            visitors=context.visitors,
            half_frames=context.half_frames,
            descriptors_reserved=DESCRIPTORS_RESERVED,
            silence_s=context.limits.frame_timeout_s,
            serve=self._converse,
            rejections=context.rejections,
            task_name=lambda remote: f"clients[{context.node.id}].{remote}",
        )
        host, port = sock.getsockname()[:2]
        self.address: Address = (host, port)
        """Where clients are taken, with the real port."""

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return self._context.connections

    def status(self) -> ServerStatus:
        """What the port and its node tell their clients of themselves at this moment."""
        return self._context.server_status(self._context.node.status)

    def set_client_address(self, node_id: NodeId, address: Address | None) -> None:
        """Say where clients reach another server from now on, or (None) say nothing of it. What
        that server says itself comes first (`status.client_addresses`).

        Args:
            node_id: whose address this is.
            address: host and port, or None.

        Raises:
            ConfigError: the address is unusable.
        """
        if address is None:
            self._context.client_addresses.pop(node_id, None)
        else:
            name = f"the client address of {node_id!r}"
            self._context.client_addresses[node_id] = _WELL_FORMED.check(name, address, port_min=1)

    async def reload_roles(self) -> int:
        """Read the roles' file again, and part with whom it gives other rights than before: those
        clients come again, with their new ones or none. Returns how many these are; without roles
        it does nothing.

        Raises:
            ConfigError: the file cannot be used; what was read before still counts.

        Cancelling it leaves the new roles in force; clients that were not parted with yet keep
        their connections.
        """
        roles = self._context.roles
        if roles is None:
            return 0
        roles.reload()
        parting: list[Conversation] = []
        for conversation in self._conversations:
            try:
                permission = roles.permission_of(conversation.shown)
            except PermissionDenied as error:
                permission = Permission(str(error), NOTHING, roles.path.name)
            if permission != conversation.permission:
                conversation.permission = permission
                parting.append(conversation)
        with trio.move_on_after(self._context.limits.leave_timeout_s):
            async with trio.open_nursery() as nursery:
                for conversation in parting:
                    nursery.start_soon(conversation.leave)
        for conversation in parting:
            conversation.hang_up()
        return len(parting)

    def leave(self) -> None:
        """Begin to shut down, as leaving the `async with` does. Idempotent."""
        self._leave.set()

    def close(self) -> None:
        """Give the port back; for a service whose `run` never began. Idempotent."""
        self._listener.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take clients until `leave`, and then part with them.

        Cancelling closes all connections at once, without parting: clients find out what became of
        their commands elsewhere.
        """
        name = f"clients[{self._context.node.id}]"
        async with trio.open_nursery() as nursery:
            self._context.feed.nursery = nursery
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._listener.run, nursery, name=f"{name}.listener")
                task_status.started()
                await self._leave.wait()
                accepting.cancel_scope.cancel()
            self._context.is_leaving = True
            with trio.move_on_after(self._context.limits.leave_timeout_s):
                async with trio.open_nursery() as parting:
                    for conversation in self._conversations:
                        parting.start_soon(conversation.leave, name=f"{name}.parting")
            self._context.feed.nursery = None
            nursery.cancel_scope.cancel()

    async def _converse(self, connection: Connection) -> None:
        try:
            admitted = await admit(self._context, connection)
            if admitted is not None:
                await self._serve(Conversation(self._context, connection, admitted))
        finally:
            connection.hang_up()

    async def _serve(self, conversation: Conversation) -> None:
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)


@opened_under("trio")
@asynccontextmanager
async def open_service(
    node: Node,
    machine: StateMachine,
    listen: Address,
    *,
    cluster_id: str = "trioraft",
    ssl_context: TlsContexts | ServerTls | ssl.SSLContext | None = None,
    insecure: bool = False,
    advertise: Address | None = None,
    client_addresses: Mapping[NodeId, Address] | None = None,
    has_sessions: bool | None = None,
    roles: Roles | None = None,
    limits: ServiceLimits | None = None,
    logger: AnyLogger | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Service]:
    """Take clients for a node, for the body of the `async with`.

        async with (
            open_node(…, machine=machine) as node,
            open_service(node, machine, ("127.0.0.1", 4100)) as service,
        ):
            …

    Args:
        node: the node; open it outside of the service, so that it is there until the last answer.
        machine: the node's state machine: asked by `query` and `watch` (see `Queryable`,
            `Watchable`; a `SessionMachine` is looked through).
        listen: host and port to take clients at; port 0 lets the system choose: `service.address`.
        cluster_id: the node's; clients of another cluster are refused.
        ssl_context: for TLS: `TlsContexts`, `ServerTls`, or an `ssl.SSLContext` for the server's
            side. Clients must show a certificate (`verify_mode = ssl.CERT_REQUIRED`) unless there
            are `roles`. Those made by `from_files` can be read again meanwhile: `reload()`.
        insecure: allow plain TCP beyond this machine, and TLS without clients' certificates.
        advertise: where clients reach this server, if that is not where it listens.
        client_addresses: where clients reach other servers, as far as these do not say so
            themselves: servers tell each other where they take clients, and their clients.
        has_sessions: whether `machine` takes the commands of sessions; None: if it is a
            `SessionMachine`. Clients of the other kind are told so.
        roles: who may read, write and change the cluster (`Roles(path)`); None: whoever gets in.
        limits: bounds. Default: `ServiceLimits()`.
        logger: a structlog logger, or one of the standard library; None logs nothing.
        tracer: an OpenTelemetry tracer, for spans of what traced clients ask for: the node's.

    Leaving is graceful, for up to `ServiceLimits.leave_timeout_s`; transfer leadership before
    (`node.transfer_leadership`), and no client waits for an election. Cancelled, it just closes.

    Raises:
        ConfigError, OSError: an argument cannot work; the address cannot be used.
    """
    has_sessions = _has_sessions(machine) if has_sessions is None else has_sessions
    # With roles, who shows neither certificate nor token gets nothing: TLS need not ask for one.
    tls = _tls_at(listen, ssl_context, may_be_nameless=roles is not None, insecure=insecure)
    known, log = _checked_addresses(client_addresses or {}), TraceLogger(logger, node.id)
    bounds, own = limits or ServiceLimits(), inner_machine(machine)
    context = ServiceContext(node, own, cluster_id, bounds, tls, known, has_sessions, log, roles)
    context.spans = spans_of(tracer, node=node.id)
    _adopt(context, hosted(machine))
    async with _serving(context, listen, advertise) as service:
        yield service


def _has_sessions(machine: StateMachine) -> bool:
    return isinstance(hosted(machine), SessionMachine)


@asynccontextmanager
async def _serving(
    context: ServiceContext, address: Address, advertise: Address | None
) -> AsyncIterator[Service]:
    if advertise is not None:
        advertise = _WELL_FORMED.check("advertise", advertise, port_min=1)
    node_id, host = context.node.id, address[0]
    failure = f"node {node_id!r} cannot take clients at {host_port(address)}"
    service = Service(context, await listen(address, failure))
    context.own_address = advertise or (host, service.address[1])
    context.node.announce(context.own_address)
    try:
        async with running_beside(service.run, stop=service.leave, name=f"clients[{node_id}]"):
            yield service
    finally:
        service.close()


def _adopt(context: ServiceContext, machine: StateMachine) -> None:
    """What the machine around the one that questions are for has to say."""
    if context.roles is not None:
        context.roles.serve(machine, context.machine)
    usage = getattr(machine, "usage", None)  # of what counts against bounds of its own
    if usage is not None:
        context.usage = usage


def _checked_addresses(given: Mapping[NodeId, Address]) -> dict[NodeId, Address]:
    return {
        node_id: _WELL_FORMED.check(f"client_addresses[{node_id!r}]", address, port_min=1)
        for node_id, address in given.items()
    }


def _tls_at(
    listen: Address,
    given: TlsContexts | ServerTls | ssl.SSLContext | None,
    *,
    may_be_nameless: bool,
    insecure: bool,
) -> TlsContexts | ServerTls | None:
    """The server's side of TLS; None for plain TCP, where that may be."""
    tls = server_tls_of(given, insecure=insecure or may_be_nameless)
    rules = AddressRules(tls is not None, insecure, "write and change the cluster")
    rules.check("listen", listen, port_min=0)
    return tls
