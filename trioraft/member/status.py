"""Status: what a node says of itself at one moment.

Frozen values, built when asked for; nothing here changes behind your back.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ..core.raft import Raft
from ..core.reasons import Reason, Started
from ..core.types import Address, Configuration, Incarnation, LogIndex, NodeId, Role, Term
from .lineage import Lineage


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
    waiting_for: tuple[NodeId, ...] = ()
    """While a new cluster forms: of whom this node has to hear before it may campaign."""
    problems: Mapping[NodeId, str] = attrs.field(factory=dict)
    """Why each of them is waited for, in a few words."""
    uuid: str | None = None
    """The history that this node's log belongs to; None: none yet. It is the same on all members,
    and another one in every other cluster, whatever its name."""
    incarnation: Incarnation = 0
    """Which disk this is: drawn when the storage was new."""
    differing: Mapping[NodeId, LogIndex] = attrs.field(factory=dict)
    """On a leader: whose results were others than its own when it asked last, and up to which
    entry."""
    peer_certificate_expires_s: float | None = None
    """When the certificates of its transport cannot be used any more, in seconds since the epoch;
    None: there are none, or it is not known."""
    client_addresses: Mapping[NodeId, Address] = attrs.field(factory=dict)
    """Where each other member takes clients, as it has told this node itself; of who is away, what
    it said last. A wildcard host stands for the one at which peers reach it."""
    can: Mapping[NodeId, tuple[str, ...]] = attrs.field(factory=dict)
    """Which features each member's release can do, as it has told this node, itself included;
    `configuration.features` are on. Who has not spoken with this node is not there."""

    @property
    def configuration_index(self) -> LogIndex:
        """Where `configuration` stands in the log; 0 for the bootstrap configuration."""
        return self.configuration.index


def status_of(
    raft: Raft,
    links: Mapping[NodeId, bool],
    lineage: Lineage | None = None,
    peer_certificate_expires_s: float | None = None,
) -> Status:
    """What a member is now.

    Args:
        raft: its core.
        links: which peers its outgoing connections reach; those of non-members are left out.
        lineage: whose disk it is.
        peer_certificate_expires_s: of its transport, if that has certificates.
    """
    members = raft.configuration.members
    return Status(
        node_id=raft.node_id,
        role=raft.role,
        term=raft.term,
        leader_id=raft.leader_id,
        last_index=raft.log.last_index,
        commit_index=raft.log.commit_index,
        applied_index=raft.log.applied_index,
        configuration=raft.configuration,
        progress=_progress(raft),
        last_role_change=raft.last_reason,
        links={peer: is_up for peer, is_up in links.items() if peer in members},
        is_removed=raft.removed_index is not None,
        change=_change(raft),
        waiting_for=() if lineage is None else lineage.waiting_for,
        problems={} if lineage is None or not lineage.is_forming else lineage.problems(),
        uuid=None if lineage is None else lineage.identity.uuid,
        incarnation=0 if lineage is None else lineage.identity.incarnation,
        differing={} if raft.leadership is None else dict(raft.agreement.differing),
        peer_certificate_expires_s=peer_certificate_expires_s,
        client_addresses={
            peer: address
            for peer, address in ({} if lineage is None else lineage.announced()).items()
            if peer in members
        },
        can={
            peer: can
            for peer, can in {**raft.can, raft.node_id: raft.features}.items()
            if peer in members or peer == raft.node_id
        },
    )


def status_before_start(node_id: NodeId, role: Role, configuration: Configuration) -> Status:
    """Of a node whose storage is not open yet, or never was."""
    return Status(
        node_id=node_id,
        role=role,
        term=0,
        leader_id=None,
        last_index=0,
        commit_index=0,
        applied_index=0,
        configuration=configuration,
        progress={},
        last_role_change=Started(),
    )


def _change(raft: Raft) -> ChangeProgress | None:
    change = None if raft.leadership is None else raft.leadership.change
    if change is None:
        return None
    behind = (node for node, catch_up in change.joining.items() if not catch_up.is_done)
    return ChangeProgress(change.stage.value, change.goal.voters, tuple(behind))


def _progress(raft: Raft) -> dict[NodeId, PeerProgress]:
    if raft.leadership is None:
        return {}
    return {
        peer: PeerProgress(progress.match_index, progress.next_index, progress.state.value)
        for peer, progress in raft.leadership.progress.items()
    }
