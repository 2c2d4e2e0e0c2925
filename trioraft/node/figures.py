"""Figures: what is known of a node at one moment, for whoever watches over it.

Rules of this file: all of it is read in the node's own thread, in some ten microseconds, and what
is handed out changes no more, so that another thread may have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import final

import attrs
import trio

from ..core.errors import ConfigError
from ..core.types import LogIndex, NodeId, SnapshotMeta
from ..member.status import Status
from .meter import Meter
from .node import Node


@final
@attrs.frozen
class Figures:
    """A node at one moment. Handed out in `View.figures`."""

    status: Status
    cluster_id: str
    budgets: Mapping[str, tuple[int, int | None]]
    """What is used of each bound, and the bound, of the node and of its state machine."""
    snapshot: SnapshotMeta | None
    """Its newest."""
    base_index: LogIndex
    """The last entry that the log has no more."""
    log_bytes: int
    """What the log holds in memory."""
    pending: int
    """Commands of this node's callers that have no outcome yet."""
    unapplied: int
    """Entries that are committed here, and not applied yet."""
    is_restoring: bool
    """Whether the state machine is to be brought to a snapshot of the leader's first."""
    disk_is_full: bool
    disk_waits_s: float
    """For how long the write has waited that waits longest, in seconds."""
    patience_s: float
    """The upper election timeout, stretched by what is measured."""
    round_trips_s: Mapping[NodeId, float]
    """On a leader: to each follower and back, as lately measured."""
    contacts_s: Mapping[NodeId, float]
    """On a leader: how long ago each follower has answered."""
    directory: Path | None
    """Where its storage is, if that has a directory."""
    meter: Meter | None
    """A copy; None: nothing is measured."""


def figures_of(node: Node) -> Figures:
    """What is known of the node now. Only in its own thread."""
    runner = node._runner
    raft, member, now_s = runner.raft, runner.member, trio.current_time()
    leadership = None if raft is None else raft.leadership
    progress = {} if leadership is None else leadership.progress
    waits_since_s = math.inf if raft is None else raft.disk_waits_since_s
    directory = getattr(runner.storage, "directory", None)
    return Figures(
        status=node.status,
        cluster_id=runner.cluster_id,
        budgets={**node.budgets(), **runner.usage()},
        snapshot=None if raft is None else raft.snapshot,
        base_index=0 if raft is None else raft.log.base_index,
        log_bytes=runner.log_bytes[0],
        pending=0 if member is None else member.pending,
        unapplied=0 if raft is None else raft.log.commit_index - raft.log.applied_index,
        is_restoring=member is not None and member.to_restore is not None,
        disk_is_full=raft is not None and raft.disk_is_full,
        disk_waits_s=max(now_s - waits_since_s, 0.0),
        patience_s=runner.timing.election_timeout_s[1] if raft is None else raft.pace.timeout_s,
        round_trips_s={peer: each.round_trip_s for peer, each in progress.items()},
        contacts_s={peer: now_s - each.last_contact_s for peer, each in progress.items()},
        directory=directory if isinstance(directory, Path) else None,
        meter=None if runner.meter is None else runner.meter.copy(),
    )


def commit_index_of(node: Node) -> LogIndex:
    """How far it knows the log to be committed: without the rest of its status, which costs a
    hundred times as much. Only in its own thread."""
    raft = node._runner.raft
    return 0 if raft is None else raft.log.commit_index


def begin_measuring(node: Node) -> None:
    """Have a node counted and timed from here on. Only in its own thread.

    Raises:
        ConfigError: it is measured already.
    """
    if node._runner.meter is not None:
        raise ConfigError(
            f"node {node.id!r} has an HTTP port already: give that one all the routes"
        )
    node._runner.measure(Meter())


def end_measuring(node: Node) -> None:
    """Nobody wants to know any more. Only in its own thread. Idempotent."""
    node._runner.measure(None)
