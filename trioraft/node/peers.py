"""Peers: the transport follows the members of the cluster (paper, section 6).

Rules of this file:

* Addresses travel in the configuration: whoever has the log knows where everyone is.
* A link is closed only when the configuration without that node is committed, and the leader has
  nothing more to tell it: a leader that is being taken out still needs its answers.
"""

from __future__ import annotations

from typing import final

from ..core.raft import Raft
from ..core.types import Configuration, LogIndex, NodeId
from ..transport.base import Transport


@final
class MemberLinks:
    """Whom the transport of one node is told to reach."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._configuration: Configuration | None = None
        self._known: frozenset[NodeId] = frozenset()
        self._is_settled = False

    def follow(self, core: Raft) -> None:
        """The core may have changed: cheap if its members have not."""
        if self._is_settled and core.configuration is self._configuration:
            return
        configuration = core.configuration
        if configuration is not self._configuration:
            self._configuration = configuration
            for peer in configuration.members:
                if peer in configuration.addresses and peer != core.node_id:
                    self._transport.set_peer(peer, configuration.addresses[peer])
        commit_index: LogIndex = core.log.commit_index
        committed = core.membership.at(commit_index)
        fed = () if core.leadership is None else core.leadership.progress
        needed = frozenset((*configuration.members, *committed.members, *fed))
        for peer in sorted(self._known - needed):
            self._transport.set_peer(peer, None)
        self._known = needed
        self._is_settled = configuration.index <= commit_index and not (
            core.leadership is not None and core.leadership.departing
        )
