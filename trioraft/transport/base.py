"""What a transport is: moves messages between nodes, promises nothing else.

Rules of this file:

* `send` never blocks and never raises: Raft retries whatever is lost, so a full queue drops.
* `run` is the transport's whole life. When it is cancelled, every task, socket and file
  descriptor of the transport is gone before it returns.
* A transport calls its owner from its own tasks, in the same Trio thread; the owner's methods do
  not block. `BadMessage` out of `on_message` costs that connection its life, nobody else's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import attrs
import trio

from ..core.config import Limits, Timing
from ..core.messages import Introduction, Message
from ..core.types import Address, Incarnation, NodeId
from ..net.events import CertificateExpires as CertificateExpires
from ..net.events import CertificatesReloaded as CertificatesReloaded
from ..net.events import CertificatesUnusable as CertificatesUnusable
from ..net.events import ConnectionRejected as ConnectionRejected
from ..net.events import TransportEvent as TransportEvent


@attrs.frozen
class Listening(TransportEvent):
    """The node accepts connections at this address."""

    address: str


@attrs.frozen
class LinkUp(TransportEvent):
    """The outgoing connection to this peer is ready."""

    peer: NodeId


@attrs.frozen
class LinkDown(TransportEvent):
    """The outgoing connection to this peer ended or could not be made."""

    peer: NodeId
    reason: str


@attrs.frozen
class LinkReplaced(TransportEvent):
    """The outgoing connection to this peer was silent; another one has taken its place."""

    peer: NodeId


@attrs.frozen
class AddressUnusable(TransportEvent):
    """This peer cannot be reached at the address that the configuration, or it itself, told."""

    peer: NodeId
    reason: str
    """A sentence: what was wrong, with the values."""


@attrs.frozen
class MessagesDropped(TransportEvent):
    """The queue to this peer was full."""

    peer: NodeId
    count: int


class TransportOwner(Protocol):
    """The node, as its transport sees it. None of these may block."""

    @property
    def timing(self) -> Timing:
        """When nodes lose patience: a transport judges its connections by it."""

    def introduction(self, peer: NodeId) -> Introduction:
        """What this node says of itself to that peer: it opens each connection, both ways."""

    def disk_of(self, peer: NodeId) -> Incarnation | None:
        """Which disk this node's configuration names for that peer; None: none. May be old."""

    def on_introduction(self, said: Introduction) -> None:
        """A peer has said whose disk it is; nothing else of it was passed on yet.

        Raises:
            BadMessage: nothing is to be exchanged with it; the reason, for it to be told.
        """

    def on_message(self, message: Message, origin: Introduction) -> None:
        """A message from a peer whose identity the transport has checked.

        Args:
            message: what it says.
            origin: what the sender has last said of itself, over this very connection. The same
                object until it says something else.

        Raises:
            BadMessage: no correct peer sends this; close the connection it came from.
        """

    def on_batch_end(self) -> None:
        """What had arrived so far was handed over, message by message: act on it now."""

    def on_peer_lost(self, peer: NodeId) -> None:
        """A connection with this peer ended (EOF, reset, refused). A hint, never proof."""

    def on_seen_at(self, peer: NodeId, address: Address) -> None:
        """This peer has connected, and says that it is reached there. For transports that have
        addresses, as is the next one.

        Args:
            peer: who has connected.
            address: host and port where it says that it is reached.
        """

    def addresses_told_of(self, peer: NodeId) -> Collection[Address]:
        """Where other nodes have seen this peer: to be tried after all else."""

    def on_transport_event(self, event: TransportEvent) -> None:
        """Something that belongs into the log."""


class Transport(Protocol):
    """Moves messages between the nodes of one cluster. One instance serves one node's life;
    after `run` has ended it may be run again (a restarted node)."""

    @property
    def node_id(self) -> NodeId:
        """Whose transport this is; `open_node` checks that it is the node's."""

    async def run(
        self,
        owner: TransportOwner,
        *,
        cluster_id: str,
        limits: Limits,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Carry messages until cancelled; `started()` once the node can be reached.

        Tasks are named `raft[ID].…`: `raft[0].listener`, `raft[0].link[1]`, ….

        Args:
            owner: the node, which is told what comes.
            cluster_id: whose messages these are; those of another cluster are refused.
            limits: the bounds of queues and frames.

        Raises:
            OSError: the listening address cannot be used.

        Cancelling is how it ends: connections are closed, and what was queued is lost.
        """

    @property
    def given_peers(self) -> Collection[NodeId]:
        """Whose addresses its operator gave: a new cluster forms once it has heard of all."""

    def send(self, message: Message) -> None:
        """Queue a message for `message.receiver`; drop it if that peer is unknown or slow."""

    def set_peer(self, peer: NodeId, address: Address | None) -> None:
        """Learn from the configuration where a member can be reached; takes effect at once.

        Never raises: the address was replicated, and each node makes of it what it can. One that
        cannot be used counts as none, and is told as an `AddressUnusable`.

        Args:
            peer: a member, or who was one; the node's own id is ignored.
            address: where it can be reached, unless the operator of this node has said otherwise.
                None: it *left the cluster*; its connections are closed, and it may come back only
                as a non-member. (Nothing is called for a member without an address.)
        """

    def address_of(self, peer: NodeId) -> Address | None:
        """Where this peer can be reached, if the transport knows; of the node's own id: where
        others can reach it. None of a member means that only it can make a connection."""
