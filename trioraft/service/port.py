"""open_service: a client port beside a node.

Rules of this file:

* Peers and clients never share a port.
* Plain TCP stays on this machine unless `insecure=True` says otherwise: whoever can reach a plain
  port can write, read, and change the cluster.
* No error of one connection, and no lack of descriptors, ends the service.
* Leaving the body is graceful: nothing new is taken, what is under way is answered, clients are
  told to go elsewhere; then it is over, at the latest after `leave_timeout_s`. Being cancelled is
  not.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import final

import trio

from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from ..logs.loggers import EventLogger, TraceLogger
from ..machines.sessions import SessionMachine
from ..member.state_machine import StateMachine
from ..net.addresses import AddressRules, host_port, is_wildcard, numeric_host
from ..net.tls import TlsContexts
from ..node.node import Node
from ..tasks.background import running_beside
from ..transport.session import Connection, tune_socket
from .context import ServiceContext
from .conversation import Conversation
from .limits import ServiceLimits
from .machines import inner_machine

LISTEN_BACKLOG = 128
"""Connections the kernel may hold for us before we accept them."""
ACCEPT_PAUSE_S = 0.100
"""Pause, in seconds, before accepting again when the machine is out of descriptors or memory."""
REFUSED_EXTRA = 64
"""Connections beyond `connections_max` that are let in to be told why they are refused."""

_RULES = AddressRules(has_tls=False, insecure=True)
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


@final
class Service:
    """A client port that is open. Made by `open_service`."""

    def __init__(self, context: ServiceContext, listener: trio.SocketListener) -> None:
        self._context = context
        self._listener = listener
        self._conversations: set[Conversation] = set()
        self._leave = trio.Event()
        host, port = listener.socket.getsockname()[:2]
        self.address: Address = (host, port)
        """Where clients are taken, with the real port."""

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return self._context.connections

    def set_client_address(self, node_id: NodeId, address: Address | None) -> None:
        """Say where clients reach another server from now on, or (None) that nobody knows.

        Raises:
            ConfigError: the address is unusable.
        """
        if address is None:
            self._context.client_addresses.pop(node_id, None)
        else:
            name = f"the client address of {node_id!r}"
            self._context.client_addresses[node_id] = _RULES.check(name, address, port_min=1)

    def leave(self) -> None:
        """Begin to shut down, as leaving the `async with` does. Idempotent."""
        self._leave.set()

    def close(self) -> None:
        """Give the port back; for a service whose `run` never began. Idempotent."""
        self._listener.socket.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take clients until `leave`, and then part with them."""
        name = f"clients[{self._context.node.id}]"
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(self._accept_forever, nursery, name=f"{name}.listener")
                task_status.started()
                await self._leave.wait()
                accepting.cancel_scope.cancel()
            self._context.is_leaving = True
            with trio.move_on_after(self._context.limits.leave_timeout_s):
                async with trio.open_nursery() as parting:
                    for conversation in self._conversations:
                        parting.start_soon(conversation.leave, name=f"{name}.parting")
            nursery.cancel_scope.cancel()

    async def _accept_forever(self, nursery: trio.Nursery) -> None:
        is_short = False
        try:
            while True:
                try:
                    stream = await self._listener.accept()
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    if not is_short:
                        is_short = True
                        reason = f"cannot accept: {os.strerror(error.errno)}"
                        self._context.reject("", reason)
                    await trio.sleep(ACCEPT_PAUSE_S)  # no event says when there are some again
                else:
                    is_short = False
                    self._receive(stream, nursery)
        finally:
            self._listener.socket.close()

    def _receive(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        context = self._context
        try:
            remote = host_port(stream.socket.getpeername()[:2])
        except OSError:
            remote = "unknown"  # it was reset before we looked
        if context.connections >= context.limits.connections_max + REFUSED_EXTRA:
            stream.socket.close()
            return
        context.connections += 1
        tune_socket(stream, context.limits.frame_timeout_s)
        nursery.start_soon(
            self._converse,
            Connection.over(stream, remote),
            name=f"clients[{context.node.id}].{remote}",
        )

    async def _converse(self, connection: Connection) -> None:
        conversation = Conversation(self._context, connection)
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)
            self._context.connections -= 1


@asynccontextmanager
async def open_service(
    node: Node,
    machine: StateMachine,
    listen: Address,
    *,
    cluster_id: str = "trioraft",
    ssl_context: TlsContexts | ssl.SSLContext | None = None,
    insecure: bool = False,
    advertise: Address | None = None,
    client_addresses: Mapping[NodeId, Address] | None = None,
    has_sessions: bool | None = None,
    limits: ServiceLimits | None = None,
    logger: EventLogger | None = None,
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
        ssl_context: for TLS: `TlsContexts`, or an `ssl.SSLContext` for the server's side. Clients
            must show a certificate (`verify_mode = ssl.CERT_REQUIRED`): whoever gets in may do
            everything.
        insecure: allow plain TCP beyond this machine, and TLS without clients' certificates.
        advertise: where clients reach this server, if that is not where it listens.
        client_addresses: where clients reach the other servers. It is told to clients, so that
            they find the leader with one address of any server; without it they find those they
            were given.
        has_sessions: whether `machine` takes the commands of sessions; None: if it is a
            `SessionMachine`. Clients of the other kind are told so.
        limits: bounds. Default: `ServiceLimits()`.
        logger: a structlog logger; None logs nothing.

    Leaving is graceful, for up to `ServiceLimits.leave_timeout_s`; hand leadership over before
    (`node.transfer_leadership`), and no client waits for an election.

    Raises:
        ConfigError: an argument cannot work.
        OSError: the address cannot be used.
    """
    has_sessions = isinstance(machine, SessionMachine) if has_sessions is None else has_sessions
    tls, log = _tls_at(listen, ssl_context, insecure=insecure), TraceLogger(logger, node.id)
    known, own = _checked_addresses(client_addresses or {}), inner_machine(machine)
    bounds = limits or ServiceLimits()
    context = ServiceContext(node, own, cluster_id, bounds, tls, known, has_sessions, log)
    async with _serving(context, listen, advertise) as service:
        yield service


@asynccontextmanager
async def _serving(
    context: ServiceContext, listen: Address, advertise: Address | None
) -> AsyncIterator[Service]:
    if advertise is not None:
        advertise = _RULES.check("advertise", advertise, port_min=1)
    node_id, host = context.node.id, listen[0]
    service = Service(context, await _listener_at(node_id, *listen))
    own = advertise or (None if is_wildcard(host) else (host, service.address[1]))
    if own is not None:
        context.client_addresses[node_id] = own
    try:
        async with running_beside(service.run, stop=service.leave, name=f"clients[{node_id}]"):
            yield service
    finally:
        service.close()


def _checked_addresses(given: Mapping[NodeId, Address]) -> dict[NodeId, Address]:
    return {
        node_id: _RULES.check(f"client_addresses[{node_id!r}]", address, port_min=1)
        for node_id, address in given.items()
    }


def _tls_at(
    listen: Address, given: TlsContexts | ssl.SSLContext | None, *, insecure: bool
) -> ssl.SSLContext | None:
    """The server's side of TLS; None for plain TCP, where that may be."""
    host, port = _RULES.check("listen", listen, port_min=0)
    tls = _server_context(given, insecure=insecure)
    if tls is None and not insecure and not _stays_here(host):
        raise ConfigError(
            f"listen is {host_port((host, port))}, and there is no ssl_context: over plain TCP "
            "whoever reaches the port can write and change the cluster. Give "
            "ssl_context=TlsContexts(…), stay on 127.0.0.1, or say insecure=True if the network "
            "is trusted"
        )
    return tls


async def _listener_at(node_id: NodeId, host: str, port: int) -> trio.SocketListener:
    try:
        listeners = await trio.open_tcp_listeners(
            port, host=numeric_host(host), backlog=LISTEN_BACKLOG
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise OSError(
            error.errno,
            f"node {node_id!r} cannot take clients at {host_port((host, port))}: {reason}",
        ) from error
    for extra in listeners[1:]:
        extra.socket.close()
    return listeners[0]


def _server_context(
    given: TlsContexts | ssl.SSLContext | None, *, insecure: bool
) -> ssl.SSLContext | None:
    if given is None:
        return None
    context = given.server if isinstance(given, TlsContexts) else given
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(f"ssl_context is {given!r}: give TlsContexts or an ssl.SSLContext")
    if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ConfigError(
            "ssl_context was made with PROTOCOL_TLS_CLIENT, which serves the other side only: use "
            "ssl.PROTOCOL_TLS_SERVER"
        )
    if context.verify_mode is not ssl.CERT_REQUIRED and not insecure:
        raise ConfigError(
            f"ssl_context has verify_mode {context.verify_mode.name}: anyone could write and "
            "change the cluster; set verify_mode = ssl.CERT_REQUIRED and load the authority, or "
            "say insecure=True if the network is trusted"
        )
    return context


def _stays_here(host: str) -> bool:
    try:
        info = socket.getaddrinfo(numeric_host(host), 0, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False  # a name: where it leads is not ours to say
    return all(str(where[0]).startswith("127.") or where[0] == "::1" for *_, where in info)
