"""Which links there are: one to each member whose address is known, one to each caller.

Rules of this file:

* A non-member is who connects to us without being in our table: to a node that joins everyone is
  one, and a node that was removed comes as one and is told so. Whether it has anything to say is
  for the core to judge; the handshake has checked only who it is.
* A member that is not at its address is looked for where the configuration says that it is,
  where it says itself while it is connected to us, and where others have seen it: it may have
  moved, and so may we.
* A non-member is answered over a link to the address that it told in its handshake. That link
  lives as long as its connection to us, or until it is a member; nothing is kept of one that has
  gone.
* Nobody answers an answer: the link to a non-member tells no address, or two nodes that have left
  each other's table would answer each other for ever.
* Non-members are bounded, apart from members: no number of them keeps a member out. A further one
  takes the place of the one that has been there longest: it may be a member, even our leader, of
  whom our configuration does not know yet, so none is refused for there being many.
"""

from __future__ import annotations

from functools import partial
from typing import final

import trio

from ..core.errors import ConfigError
from ..core.types import MEMBERS_MAX, Address, NodeId
from ..net.addresses import AddressRules, is_wildcard
from .base import AddressUnusable
from .context import TransportContext
from .link import Link
from .peers import PeerTable

NON_MEMBERS_MAX = 2 * MEMBERS_MAX
"""Nodes outside of our table that may be connected at the same time: to a node that joins, all
members are."""

UNREACHABLE_TOLD_MAX = 64
"""Nodes without an address of which that is told; names may come from anybody."""


@final
class Links:
    """The links of one run, kept in step with the table and with who is connected to us.

    Args:
        context: the run.
        nursery: where the links live.
        table: the members' addresses; call `fit` after each change of it.
        rules: what an address that a non-member tells must be like.
    """

    def __init__(
        self,
        context: TransportContext,
        nursery: trio.Nursery,
        table: PeerTable,
        rules: AddressRules,
    ) -> None:
        self.by_peer: dict[NodeId, Link] = {}
        """The links that there are; to be read only."""
        self._context = context
        self._nursery = nursery
        self._table = table
        self._rules = rules
        self._callers: dict[NodeId, Address | None] = {}  # who is connected: where it can be met
        self._unreachable: set[NodeId] = set()  # told of once

    def fit(self, peer: NodeId) -> None:
        """Make the link to this peer lead where it should, or end it if it should lead nowhere."""
        address = self.address_of(peer)
        self._unreachable.discard(peer)
        is_answer = self._is_non_member(peer)
        link = self.by_peer.get(peer)
        if link is not None:
            if link.address == address:
                link.is_answer = is_answer
                return
            del self.by_peer[peer]
            link.close()
        if address is not None:
            link = self.by_peer[peer] = Link(
                self._context,
                peer,
                address,
                is_answer=is_answer,
                elsewhere=partial(self._others_of, peer),
            )
            name = f"raft[{self._context.node_id}].link[{peer}]"
            self._nursery.start_soon(link.run, name=name)

    def address_of(self, peer: NodeId) -> Address | None:
        """Where this member or non-member can be reached, if it is known."""
        return self._table.member_address(peer) or self._callers.get(peer)

    def told_by(self, peer: NodeId) -> Address | None:
        """Where a peer that is connected to us says that it is."""
        return self._callers.get(peer)

    def _others_of(self, peer: NodeId) -> list[Address]:
        """Where a peer may be that is not where it should be: it has moved, or the entry that says
        so is not committed yet, which may take its answer."""
        found = [self._table.configured_address(peer), self._callers.get(peer)]
        told_of = getattr(self._context.owner, "addresses_told_of", None)  # as with `timing`
        found += [] if told_of is None else [self._checked(peer, each) for each in told_of(peer)]
        return [address for address in found if address is not None]

    def _checked(self, peer: NodeId, address: Address) -> Address | None:
        """What somebody says of a third one, if it can be used."""
        try:
            return self._rules.check_peer("an address", peer, address)
        except ConfigError:
            return None

    def note_unreachable(self, peer: NodeId) -> None:
        """There is something to say to this peer, and no address for it: tell so once."""
        is_known = peer in self._callers or peer in self._unreachable
        if is_known or len(self._unreachable) >= UNREACHABLE_TOLD_MAX:
            return
        self._unreachable.add(peer)
        reason = "no address is known: give one in peers=, or in node.add_learner"
        self._context.tell(AddressUnusable(trio.current_time(), peer, reason))

    # -- who connects to us: see `inbound.Admission` ----------------------------------------------

    def who_gives_way(self, peer: NodeId) -> NodeId | None:
        """Whose place this peer takes, which is about to arrive: that of the non-member that came
        first, if there are too many. None: there is room."""
        if peer in self._callers or not self._is_non_member(peer):
            return None
        others = [caller for caller in self._callers if self._is_non_member(caller)]
        return others[0] if len(others) >= NON_MEMBERS_MAX else None

    def on_arrival(self, peer: NodeId, told: Address | None, remote_host: str) -> None:
        """A peer has connected, and told where it can be reached."""
        self._callers[peer] = usable = self._usable(peer, told, remote_host)
        on_seen_at = getattr(self._context.owner, "on_seen_at", None)
        if usable is not None and on_seen_at is not None:
            on_seen_at(peer, usable)
        self.fit(peer)
        link = self.by_peer.get(peer)
        if link is not None:
            link.peer_is_back()

    def on_doubt(self, peer: NodeId) -> None:
        """A peer has connected beside a connection that it had."""
        link = self.by_peer.get(peer)
        if link is not None:
            link.peer_doubts()

    def on_departure(self, peer: NodeId) -> None:
        """A peer's last connection has ended, or what it told is not to be used any more."""
        self._callers.pop(peer, None)
        self.fit(peer)

    def _is_non_member(self, peer: NodeId) -> bool:
        return self._table.member_address(peer) is None

    def _usable(self, peer: NodeId, told: Address | None, remote_host: str) -> Address | None:
        """What it told, with the host that we see if it did not know its own; None if useless."""
        if told is None:
            return None
        host, port = told
        if not host or is_wildcard(host):
            host = remote_host
        try:
            return self._rules.check_peer("the address in its handshake", peer, (host, port))
        except ConfigError as error:
            if self._is_non_member(peer):  # of a member we know better
                self._context.tell(AddressUnusable(trio.current_time(), peer, str(error)))
            return None
