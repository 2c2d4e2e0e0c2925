"""Status: what a node says of itself at one moment.

Rules of this file: frozen values, built when asked for; nothing here changes behind your back.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ..core.reasons import Reason
from ..core.types import Configuration, LogIndex, NodeId, Role, Term


@attrs.frozen
class PeerProgress:
    """How far a leader knows one of its followers to be."""

    match_index: LogIndex
    """The follower holds everything up to here, durably."""
    next_index: LogIndex
    """What it is sent next."""
    state: str
    """How it is sent entries: "probe", "replicate" (dissertation 10.2) or "snapshot"."""


@attrs.frozen
class ChangeProgress:
    """How far a change of members has come."""

    stage: str
    """"adding learners", "catching up", "joint" or "final" (paper, section 6)."""
    voters: tuple[NodeId, ...]
    """Who shall vote when it is through."""
    catching_up: tuple[NodeId, ...]
    """Joining nodes that do not hold enough of the log yet; see `Status.progress`."""


@attrs.frozen
class Status:
    """A node at one moment."""

    node_id: NodeId
    role: Role
    term: Term
    leader_id: NodeId | None
    """The leader of `term`, as far as this node knows."""
    last_index: LogIndex
    commit_index: LogIndex
    applied_index: LogIndex
    configuration: Configuration
    progress: Mapping[NodeId, PeerProgress]
    """Each other member, on a leader; empty elsewhere."""
    last_role_change: Reason
    """Why the node is what it is."""
    links: Mapping[NodeId, bool] = attrs.field(factory=dict)
    """Which of its peers this node's outgoing connection reaches at the moment, where the transport
    has connections."""
    is_removed: bool = False
    """Whether the node has learnt that it is no member of the cluster any more."""
    change: ChangeProgress | None = None
    """On a leader: the change of members that is under way."""

    @property
    def configuration_index(self) -> LogIndex:
        """Where `configuration` stands in the log; 0 for the bootstrap configuration."""
        return self.configuration.index
