"""Where the other nodes are: what the operator gave, and what the configuration says.

Rules of this file:

* The operator comes first: a node that was restarted with new `peers` is not sent back to the old
  ones by an old entry of its log. The configuration fills in what was not given, and what does not
  lead to the peer (see `links`).
* Who left the cluster has no address here, not even the operator's, until it is a member again.
* Values only: links and connections follow from the table, and are others' business.
"""

from __future__ import annotations

from typing import final

from ..core.types import Address, NodeId


@final
class PeerTable:
    """The members' addresses, as far as they are known. The node itself is never in it."""

    def __init__(self) -> None:
        self._given: dict[NodeId, Address] = {}
        self._configured: dict[NodeId, Address] = {}
        self._departed: set[NodeId] = set()  # of those given: the operator may not know it yet

    def give(self, peer: NodeId, address: Address) -> None:
        """The operator says where a peer is."""
        self._given[peer] = address
        self._departed.discard(peer)

    def configure(self, peer: NodeId, address: Address | None) -> None:
        """The configuration says where a member is; None: it says nothing that can be used."""
        self._departed.discard(peer)
        if address is None:
            self._configured.pop(peer, None)
        else:
            self._configured[peer] = address

    def dismiss(self, peer: NodeId) -> bool:
        """A peer has left the cluster. Return whether it was in the table until now."""
        was_known = self.member_address(peer) is not None
        self._configured.pop(peer, None)
        if peer in self._given:
            self._departed.add(peer)
        return was_known

    def member_address(self, peer: NodeId) -> Address | None:
        """Where a link to this member is to lead; None if it is no member, as far as we know."""
        if peer in self._departed:
            return None
        return self._given.get(peer) or self._configured.get(peer)

    def configured_address(self, peer: NodeId) -> Address | None:
        """What the configuration says of a member, whatever the operator gave."""
        return self._configured.get(peer)

    def given_address(self, peer: NodeId) -> Address | None:
        """What the operator gave, also of a peer that has left: it may be taken in again."""
        return self._given.get(peer)

    @property
    def given(self) -> frozenset[NodeId]:
        """Everyone whose address the operator gave."""
        return frozenset(self._given)

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everyone who has an address here."""
        known = {**self._given, **self._configured}
        return tuple(peer for peer in known if peer not in self._departed)
