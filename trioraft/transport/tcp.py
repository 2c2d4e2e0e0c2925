"""TCP between nodes: one directed connection per peer, dialed by the one who writes on it.

Rules of this file:

* Addresses and certificates are checked when they are given (`addresses` has the rules). What the
  operator gives wrong never starts; what the configuration says wrong is told, and left out.
* No error of one connection, and no lack of descriptors, ends the transport. Only the listening
  address being unusable does, before `started()`.
* Cancelling `run` closes every descriptor at once; peers are not told.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Collection, Mapping
from typing import Final, final

import attrs
import trio

from ..core.config import Limits, Timing
from ..core.errors import ConfigError, InvariantViolation, Unreachable
from ..core.messages import Message
from ..core.types import Address, NodeId
from ..net.addresses import AddressRules, host_port, is_service_name, is_wildcard
from ..net.credentials import PeerRule
from ..net.invitations import CHARS_MAX, PREFIX
from ..net.listening import Listener, listen, listen_now
from ..net.resolving import Resolver
from ..net.tls import TlsContexts, check_certifiable, contexts_of
from .base import AddressUnusable, Listening, TransportOwner
from .context import TransportContext
from .inbound import Inbound
from .link import Link
from .links import Links
from .peers import PeerTable

DESCRIPTORS_RESERVED: Final = 32
"""Of this process's descriptors, left over for its disk when peers come."""


@final
@attrs.define
class _Run:
    """What exists only while `TcpTransport.run` does."""

    context: TransportContext
    nursery: trio.Nursery
    inbound: Inbound
    links: Links
    news: trio.Event = attrs.Factory(trio.Event)
    """An unusable address is to be told."""


@final
class TcpTransport:
    """Carries messages over TCP, with mutual TLS if contexts are given.

    Args:
        node_id: whose transport this is.
        listen: host and port to accept connections at; port 0 lets the system choose (see
            `bind`). For all interfaces say "0.0.0.0" or "::".
        peers: where the other nodes are: a host by name, all of whose addresses are tried, or an
            address written out ("::1" without brackets), or `("srv+NAME", 0)` for the SRV records
            of NAME (`trioraft[dns]`). The node's own entry may be in it and is ignored, so
            that all nodes can share one table. It wins over what the cluster's configuration
            says; who is missing is found through the configuration, or comes by itself, so a
            node that joins may give nobody.
        ssl_context: `TlsContexts`, which says what the two contexts must be like. Each node's
            certificate bears its id as a DNS name. Contexts made by `TlsContexts.from_files` can
            be read again while the transport runs: `reload()`. (One `ssl.SSLContext` is taken only
            if it was made for both sides.)
        insecure: allow plain TCP beyond this machine. Then every host that can reach the port
            can pose as a node.
        rng: jitter of the reconnect pauses; its own if None.
        advertise: where the others reach this node, if not at `listen`; port 0 stands for the
            port it listens at. With a `listen` on all interfaces and no `advertise`, others take
            the host at which they see this node's connections, and `address_of` cannot say it.
        invite_key: the cluster's invitation key, the same on all members: with it this node
            writes invitations and takes them (16 bytes or more). Over TLS only.
        invitation: what a node that joins was given (`trioraft admin invite`), where its name is
            not among the others' `TlsContexts.peer_names`. On plain TCP nobody asks for one.
        resolver: how names are looked up, for each attempt to connect anew; default: the system's.

    Raises:
        ConfigError: an address is unusable, plain TCP would leave this machine, an id cannot
            stand in a certificate, or cryptography is not there to read one.
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
        advertise: Address | None = None,
        invite_key: bytes | None = None,
        invitation: str = "",
        resolver: Resolver | None = None,
    ) -> None:
        self._node_id = node_id
        self._tls = contexts_of(ssl_context)
        self._invitation = _checked_invitation(invitation)
        self._rules = AddressRules(self._tls is not None, insecure)
        self._rng = random.Random() if rng is None else rng
        self._resolver = resolver or Resolver(trio.socket.getaddrinfo, rng=self._rng)
        self._listen = self._rules.check("listen", listen, port_min=0)
        self._advertise = self._checked_advertise(advertise)
        self._table = PeerTable()
        self._credentials: PeerRule | None = None
        self._unusable: dict[NodeId, str] = {}  # the configuration's addresses: why not
        self._untold: set[NodeId] = set()  # of them
        self._bound: socket.socket | None = None
        self._active: _Run | None = None
        self._running = False
        if self._tls is not None:
            check_certifiable(node_id)
            self._credentials = PeerRule(
                names=self._tls.peer_names,
                given=lambda: self._table.given,
                invite_key=invite_key,
            )
        for peer, address in peers.items():
            self.add_peer(peer, address)

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is."""
        return self._node_id

    @property
    def given_peers(self) -> Collection[NodeId]:
        """Whose addresses the operator gave: a new cluster forms once it has heard of all."""
        return self._table.given

    @property
    def address(self) -> Address:
        """Where this node listens, or will; its port is 0 until `bind` or `run` has got one."""
        return self._listen

    def address_of(self, peer: NodeId) -> Address | None:
        """Where this peer is reached, or None if it is not known.

        Of this node's own id: where others reach it; None while its port is open, or if it listens
        on all interfaces and does not advertise one. Of who has left: what the operator gave for
        it. Of a non-member: what it told, as long as it is connected.
        """
        if peer == self._node_id:
            host, port = self._reachable_at()
            return None if port == 0 or is_wildcard(host) else (host, port)
        links = None if self._active is None else self._active.links
        known = (
            None if links is None else links.address_of(peer),
            self._table.member_address(peer),
            self._table.given_address(peer),
            None if links is None else links.told_by(peer),
        )
        # What stands for SRV records is good for this node only: others may be without dnspython.
        found = (each for each in known if each is not None and not is_service_name(each[0]))
        return next(found, None)

    def budgets(self) -> dict[str, tuple[int, int]]:
        """What all who connect to this node share, by name: what is used, and the bound."""
        if self._active is None:
            return {}
        inbound = self._active.inbound
        strangers, half = inbound.visitors.strangers, inbound.half_frames
        return {
            "peers_strangers_cpu_ms": self._active.context.door.used_ms(trio.current_time()),
            "peers_strangers": (len(strangers), inbound.visitors.strangers_max),
            "peers_half_frames_bytes": (half.bytes, half.bytes_max),
        }

    def invite(self, node_id: NodeId, valid_s: float, *, cluster_id: str) -> str:
        """Write an invitation, with which a node may join whose name the others were not told.

        Args:
            node_id: its name, which its certificate bears.
            valid_s: for how long, in seconds. By then its name is to be among the others'.
            cluster_id: the cluster's name.

        Raises:
            ConfigError: nobody asks for one here (plain TCP), there is no `invite_key`, or the
                time or the name cannot be.
        """
        if self._credentials is None:
            raise ConfigError(
                "peers speak plain TCP here, and nobody asks for an invitation: start the new node "
                "without one"
            )
        return self._credentials.invite(node_id, valid_s, cluster_id=cluster_id)

    @property
    def certificate_expires_s(self) -> float | None:
        """When its certificates cannot be used any more, in seconds since the epoch; None: there
        are none, or it is not known."""
        return None if self._tls is None else self._tls.expires_s

    def add_peer(self, peer: NodeId, address: Address) -> None:
        """Add a peer, or move it to another address, as if `peers` had said so from the start.

        It wins over what the configuration says, and takes effect at once.

        Args:
            peer: the name of a node; this node's own is ignored.
            address: host and port where it is reached.

        Raises:
            ConfigError: the address is unusable, or plain TCP would leave this machine.
        """
        if peer != self._node_id:
            given = self._rules.check_peer(f"peers[{peer!r}]", peer, address)
            self._resolver.check(given)
            self._table.give(peer, given)
            self._unusable.pop(peer, None)
            self._fit_links(peer)

    async def check_reachable(self, peer: NodeId, address: Address) -> None:
        """Check that a node answers at an address, by connecting to it there and hanging up.

        Args:
            peer: who is to answer; this very node too.
            address: where, names looked up.

        Raises:
            Unreachable: nobody does within three seconds, or somebody else.
            ConfigError: the address is unusable, or plain TCP would leave this machine.

        Cancelling closes the connection; nothing is left of it.
        """
        name = f"the new address of node {peer!r}"
        address = self._rules.check_peer(name, peer, address)
        if is_wildcard(address[0]):
            raise ConfigError(
                f"{name} is {host_port(address)}, which nobody can dial: give one of its own"
            )
        if self._active is None:
            raise Unreachable(
                f"the transport of {self._node_id!r} does not run: ask while its node is open"
            )
        reason = await Link(self._active.context, peer, address).ask_whether_there()
        if reason is not None:
            raise Unreachable(
                f"node {peer!r} does not answer at {host_port(address)} ({reason}), as node "
                f"{self._node_id!r} finds; nothing was changed"
            )

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """As `Transport.set_peer`; the operator's is `add_peer`."""
        if peer == self._node_id:
            return
        if address is None:
            self._unusable.pop(peer, None)
            if self._table.dismiss(peer) and self._active is not None:
                self._active.links.on_departure(peer)
                self._active.inbound.disconnect(peer)
            return
        name = f"the address of node {peer!r} in the configuration"
        try:
            usable = self._rules.check_peer(name, peer, address)
        except ConfigError as error:
            self._table.configure(peer, None)
            if self._table.given_address(peer) is None:
                self._note_unusable(peer, str(error))
        else:
            self._table.configure(peer, usable)
            self._unusable.pop(peer, None)
        self._fit_links(peer)

    def bind(self) -> Address:
        """Take the listening address now, before `run`, and return it with its real port.

        Connections queue up in the kernel until `run` takes them. May be called outside of Trio.
        Give the host as a literal address, or this blocks on the resolver. Idempotent; without a
        `run` to follow, `close` gives the port back.

        Raises:
            OSError: the address cannot be used.
        """
        if self._bound is None and not self._running:
            self._keep(listen_now(self._listen, self._cannot_listen))
        return self._listen

    def close(self) -> None:
        """Give back what `bind` took, if `run` has not taken it over. Idempotent."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def send(self, message: Message) -> None:
        """Queue a message for its receiver; drop it if that peer is unknown, down or slow."""
        if self._active is not None:
            link = self._active.links.by_peer.get(message.receiver)
            if link is not None:
                link.offer(message)
            else:
                self._active.links.note_unreachable(message.receiver)

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
        try:
            if self._bound is None:
                self._keep(await listen(self._listen, self._cannot_listen))
            where = self._reachable_at()
            timing = getattr(owner, "timing", Timing())  # owners of others may not have it yet
            context = TransportContext(
                self._node_id,
                cluster_id,
                owner,
                limits,
                self._tls,
                self._rng,
                timing,
                where,
                credentials=self._credentials,
                invitation=self._invitation,
                resolver=self._resolver,
            )
            async with trio.open_nursery() as nursery:
                links = Links(context, nursery, self._table, self._rules)
                run = _Run(context, nursery, Inbound(context, links), links)
                await self._live(run, task_status)
        finally:
            self._running = False
            self.close()

    async def _live(self, run: _Run, task_status: trio.TaskStatus[None]) -> None:
        self._active = run
        try:
            name = f"raft[{self._node_id}].listener"
            run.nursery.start_soon(self._listener(run).run, run.nursery, name=name)
            for peer in self._table.members:
                run.links.fit(peer)
            run.context.tell(Listening(trio.current_time(), host_port(self._listen)))
            task_status.started()
            self._untold.update(self._unusable)
            while True:
                self._tell_unusable(run.context)
                run.news = trio.Event()
                await run.news.wait()
        finally:
            self._active = None  # while the nursery is still open: nobody can miss that it closes

    # -- peers ---------------------------------------------------------------------------------

    def _fit_links(self, peer: NodeId) -> None:
        if self._active is not None:
            self._active.links.fit(peer)

    def _note_unusable(self, peer: NodeId, reason: str) -> None:
        """Have it told, from a task of ours: the owner is in the middle of something else."""
        if self._unusable.get(peer) == reason:
            return
        self._unusable[peer] = reason
        if self._active is not None:
            self._untold.add(peer)
            self._active.news.set()

    def _tell_unusable(self, context: TransportContext) -> None:
        untold, self._untold = sorted(self._untold), set()
        for peer in untold:
            if peer in self._unusable:
                context.tell(AddressUnusable(trio.current_time(), peer, self._unusable[peer]))

    def _reachable_at(self) -> Address:
        """Where others are to dial; a wildcard host means where they see us."""
        host, port = self._listen if self._advertise is None else self._advertise
        return (host, port or self._listen[1])

    def _checked_advertise(self, address: Address | None) -> Address | None:
        if address is None:
            return None
        checked = self._rules.check("advertise", address, port_min=0)
        if is_wildcard(checked[0]):
            raise ConfigError(
                f"advertise is {host_port(checked)}, which nobody can dial: give the name or the "
                "address at which the other nodes reach this one"
            )
        return checked

    # -- listening -----------------------------------------------------------------------------

    @property
    def _cannot_listen(self) -> str:
        return f"node {self._node_id!r} cannot listen at {self._listen!r}"

    def _keep(self, bound: socket.socket) -> None:
        """Remember the port, so that a restart has it again."""
        self._bound = bound
        self._listen = (self._listen[0], bound.getsockname()[1])

    def _listener(self, run: _Run) -> Listener:
        bound, limits = self._bound, run.context.limits
        if bound is None:
            raise InvariantViolation(f"node {self._node_id!r} runs without a listening socket")
        return Listener(
            bound,
            door=run.context.door,
            visitors=run.inbound.visitors,
            half_frames=run.inbound.half_frames,
            descriptors_reserved=DESCRIPTORS_RESERVED,
            silence_s=limits.frame_timeout_s,
            serve=run.inbound.serve,
            rejections=run.inbound.rejections,
            task_name=lambda remote: f"raft[{self._node_id}].inbound[{remote}]",
        )


def _checked_invitation(text: str) -> str:
    """What was given, without the line end that it may come with.

    Raises:
        ConfigError: it is none.
    """
    said = text.strip()
    if said and (not said.startswith(f"{PREFIX}.") or len(said) > CHARS_MAX):
        raise ConfigError(
            f"the invitation is none: one begins with {PREFIX}, and is made by trioraft admin "
            "invite"
        )
    return said
