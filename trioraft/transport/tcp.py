"""TCP between nodes: one directed connection per peer, dialed by the one who writes on it.

Rules of this file:

* Addresses and certificates are checked when they are given; what cannot work never starts.
* Plain TCP stays on this machine unless `insecure=True` says otherwise: whoever can reach a
  plain port can vote.
* No error of one connection, and no lack of descriptors, ends the transport. Only the listening
  address being unusable does, before `started()`.
* Cancelling `run` closes every descriptor at once; no peer is said goodbye to.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any, final

import attrs
import trio

from ..core.config import Limits
from ..core.errors import ConfigError
from ..core.messages import Message
from ..core.types import Address, NodeId
from .base import Listening, TransportOwner
from .inbound import Inbound
from .link import Link
from .session import Connection, Session, host_port, numeric_host, tune_socket
from .tls import TlsContexts, check_certifiable, contexts_of

LISTEN_BACKLOG = 128
"""Connections the kernel may hold for us before we accept them."""

ACCEPT_PAUSE_S = 0.100
"""Pause, in seconds, before accepting again when the machine is out of descriptors or memory."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


@final
@attrs.define
class _Run:
    """What exists only while `TcpTransport.run` does."""

    session: Session
    nursery: trio.Nursery
    inbound: Inbound
    links: dict[NodeId, Link] = attrs.Factory(dict)
    connections: int = 0
    """Incoming connections, admitted or not."""


@final
class TcpTransport:
    """Carries messages over TCP, with mutual TLS if contexts are given.

    Args:
        node_id: whose transport this is.
        listen: host and port to accept connections at; port 0 lets the system choose (see
            `bind`). For all interfaces say "0.0.0.0" or "::".
        peers: where the other nodes are. The node's own entry may be in it and is ignored, so
            that all nodes can share one table.
        ssl_context: `TlsContexts`, which says what the two contexts must be like. Each node's
            certificate bears its id as a DNS name. (One `ssl.SSLContext` is taken only if it was
            made for both sides.)
        insecure: allow plain TCP beyond this machine. Then every host that can reach the port
            can pose as a node.
        rng: jitter of the reconnect pauses; its own if None.

    Raises:
        ConfigError: an address is unusable, plain TCP would leave this machine, or an id cannot
            stand in a certificate.
    """

    def __init__(
        self,
        node_id: NodeId,
        listen: Address,
        peers: Mapping[NodeId, Address],
        ssl_context: TlsContexts | ssl.SSLContext | None = None,
        insecure: bool = False,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._node_id = node_id
        self._tls = contexts_of(ssl_context)
        self._insecure = insecure
        self._rng = random.Random() if rng is None else rng
        self._listen = self._checked("listen", listen, port_min=0)
        self._peers: dict[NodeId, Address] = {}
        self._bound: socket.socket | None = None
        self._active: _Run | None = None
        self._running = False
        if self._tls is not None:
            check_certifiable(node_id)
        for peer, address in peers.items():
            if peer != node_id:
                self._peers[peer] = self._checked_peer(peer, address)

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._node_id

    @property
    def address(self) -> Address:
        """Where this node listens, or will; its port is 0 until `bind` or `run` has got one."""
        return self._listen

    def address_of(self, peer: NodeId) -> Address | None:
        """Where this peer is reached, or None if it is not known."""
        return self._listen if peer == self._node_id else self._peers.get(peer)

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """Add a peer, move it to another address, or (None) forget it. Takes effect at once.

        A forgotten peer is refused from now on, and its connections are closed.

        Raises:
            ConfigError: the address is unusable, or plain TCP would leave this machine.
        """
        if peer == self._node_id:
            return
        if address is None:
            self._peers.pop(peer, None)
        else:
            checked = self._checked_peer(peer, address)
            if self._peers.get(peer) == checked:
                return
            self._peers[peer] = checked
        if self._active is not None:
            self._relink(self._active, peer)

    def bind(self) -> Address:
        """Take the listening address now, before `run`, and return it with its real port.

        Connections queue up in the kernel until `run` takes them. May be called outside of Trio.
        Give the host as a literal address, or this blocks on the resolver. Idempotent; without a
        `run` to follow, `close` gives the port back.

        Raises:
            OSError: the address cannot be used.
        """
        if self._bound is None and not self._running:
            host, port = self._listen
            self._bind_first(
                socket.getaddrinfo(
                    numeric_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            )
        return self._listen

    def close(self) -> None:
        """Give back what `bind` took, if `run` has not taken it over. Idempotent."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def send(self, message: Message) -> None:
        """Queue a message for its receiver; drop it if that peer is unknown, down or slow."""
        if self._active is not None:
            link = self._active.links.get(message.receiver)
            if link is not None:
                link.offer(message)

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and keep a link to each peer until cancelled. May be run again, at the same port.

        Args:
            owner: the node; called from this transport's tasks.
            cluster_id: connections that name another cluster are refused.
            limits: bounds and deadlines.
            task_status: `started()` once connections are accepted.

        Raises:
            OSError: the listening address cannot be used.
            trio.BusyResourceError: it is already running.
        """
        if self._running:
            raise trio.BusyResourceError(f"the transport of {self._node_id!r} already runs")
        self._running = True
        session = Session(self._node_id, cluster_id, owner, limits, self._tls, self._rng)
        inbound = Inbound(session, self._peers, self._peer_is_back)
        try:
            sock = await self._listening_socket()
            async with trio.open_nursery() as nursery:
                await self._live(_Run(session, nursery, inbound), sock, task_status)
        finally:
            self._running = False
            self.close()

    async def _live(
        self, run: _Run, sock: trio.socket.SocketType, task_status: trio.TaskStatus[None]
    ) -> None:
        self._active = run
        try:
            run.nursery.start_soon(
                self._accept_forever, run, sock, name=f"raft[{self._node_id}].listener"
            )
            for peer in self._peers:
                self._relink(run, peer)
            run.session.tell(Listening(trio.current_time(), host_port(self._listen)))
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._active = None  # while the nursery is still open: nobody can miss that it closes

    # -- peers ---------------------------------------------------------------------------------

    def _relink(self, run: _Run, peer: NodeId) -> None:
        """Make the links fit the table of peers again."""
        old = run.links.pop(peer, None)
        if old is not None:
            old.close()
        address = self._peers.get(peer)
        if address is None:
            run.inbound.disconnect(peer)
        else:
            link = run.links[peer] = Link(run.session, peer, address)
            run.nursery.start_soon(link.run, name=f"raft[{self._node_id}].link[{peer}]")

    def _peer_is_back(self, peer: NodeId) -> None:
        if self._active is not None and peer in self._active.links:
            self._active.links[peer].peer_is_back()

    # -- listening -----------------------------------------------------------------------------

    async def _listening_socket(self) -> trio.socket.SocketType:
        if self._bound is None:
            host, port = self._listen
            self._bind_first(
                await trio.socket.getaddrinfo(
                    numeric_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
            )
        if self._bound is None:
            raise OSError(errno.EADDRNOTAVAIL, f"no address found for {self._listen!r}")
        return trio.socket.from_stdlib_socket(self._bound)

    def _bind_first(self, found: list[tuple[Any, ...]]) -> None:
        """Listen at the first address found; remember the port, so that a restart has it again."""
        family, kind, protocol, _, where = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(LISTEN_BACKLOG)
        except OSError as error:
            sock.close()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                error.errno, f"node {self._node_id!r} cannot listen at {self._listen!r}: {reason}"
            ) from error
        self._bound = sock
        self._listen = (self._listen[0], sock.getsockname()[1])

    async def _accept_forever(self, run: _Run, sock: trio.socket.SocketType) -> None:
        listener = trio.SocketListener(sock)
        out_of_resources = False
        try:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _OUT_OF_RESOURCES:
                        raise
                    if not out_of_resources:
                        out_of_resources = True
                        run.inbound.reject("", None, f"cannot accept: {os.strerror(error.errno)}")
                    await trio.sleep(ACCEPT_PAUSE_S)  # no event says when there are some again
                else:
                    out_of_resources = False
                    self._receive(run, stream)
        finally:
            sock.close()

    def _receive(self, run: _Run, stream: trio.SocketStream) -> None:
        """Give a new connection its task, or close it if there are too many."""
        remote = _remote_of(stream)
        limit = run.session.limits.inbound_connections_max
        if run.connections >= limit:
            stream.socket.close()
            run.inbound.reject(remote, None, f"there are already {limit} incoming connections")
            return
        run.connections += 1
        tune_socket(stream, run.session.limits.frame_timeout_s)
        run.nursery.start_soon(
            partial(_serve_counted, run, Connection.over(stream, remote)),
            name=f"raft[{self._node_id}].inbound[{remote}]",
        )

    # -- checks --------------------------------------------------------------------------------

    def _checked_peer(self, peer: NodeId, address: Address) -> Address:
        if self._tls is not None:
            check_certifiable(peer)
        return self._checked(f"peers[{peer!r}]", address, port_min=1)

    def _checked(self, name: str, address: Address, *, port_min: int) -> Address:
        try:
            host, port = address
        except (TypeError, ValueError):
            raise ConfigError(f"{name} is {address!r}: give (host, port)") from None
        if not isinstance(host, str) or not host or host != host.strip():
            raise ConfigError(
                f"{name} has the host {host!r}: give a name or an address, such as '127.0.0.1', "
                "or '0.0.0.0' to listen on all interfaces"
            )
        if isinstance(port, bool) or not isinstance(port, int) or not port_min <= port <= 65535:
            raise ConfigError(f"{name} has the port {port!r}: give one of {port_min}..65535")
        if self._tls is None and not self._insecure and not _is_loopback(host):
            raise ConfigError(
                f"{name} is {host_port((host, port))}, and there is no ssl_context: over plain "
                "TCP whoever reaches the port can vote. Give ssl_context=TlsContexts(…), stay on "
                "127.0.0.1, or say insecure=True if the network is trusted"
            )
        return (host, port)


async def _serve_counted(run: _Run, connection: Connection) -> None:
    try:
        await run.inbound.serve(connection)
    finally:
        run.connections -= 1


def _remote_of(stream: trio.SocketStream) -> str:
    try:
        host, port = stream.socket.getpeername()[:2]
    except OSError:
        return "unknown"  # it was reset before we looked
    return host_port((host, port))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(numeric_host(host)).is_loopback
    except ValueError:
        return False  # a name: where it leads is not ours to say
