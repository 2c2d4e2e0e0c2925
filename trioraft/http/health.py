"""Health: whether a node is alive, and whether it is ready, and in words why not.

Rules of this file:

* *Alive* is a process that would get no better by waiting if it is not: whoever supervises it
  starts it anew. A node without a leader, or with a full disk, is alive.
* *Ready* is a member that can serve clients now: it follows a leader or leads, has applied what is
  committed, and its disk takes writes.
* A probe has a moment, not a history: what is told is what holds now.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from ..core.types import Role
from ..node.figures import Figures

SILENT_S_MAX: Final = 10.0
"""A loop that does not answer for so long is not alive, in seconds."""
UNAPPLIED_MAX: Final = 10_000
"""A node with more entries to apply than that is not caught up: a second's work, or some."""


@attrs.frozen
class Check:
    """One of the things that make a node ready."""

    name: str
    problem: str = ""
    """In words; empty: it is well."""


def why_not_alive(figures: Figures | None, silent_s: float) -> str:
    """Why this node is not alive; empty: it is.

    Args:
        figures: what is known of it; None: its loop did not answer in time.
        silent_s: for how long it has not, in seconds.
    """
    if figures is None:
        if silent_s < SILENT_S_MAX:
            return ""
        return f"the node's event loop has not answered for {silent_s:.0f} s"
    if figures.status.role is Role.DEAD:
        return f"the node is Dead: {figures.status.last_role_change}"
    return ""


def checks(figures: Figures | None, silent_s: float) -> list[Check]:
    """What makes a node ready, each with its problem, if it has one."""
    if figures is None:
        return [
            Check("loop", f"the node's event loop has not answered for {silent_s:.1f} s"),
        ]
    return [
        Check("member", _why_no_member(figures)),
        Check("leader", _why_no_leader(figures)),
        Check("caught-up", _why_behind(figures)),
        Check("disk", _why_no_writes(figures)),
    ]


def problems(found: list[Check]) -> Iterator[str]:
    """In words, why a node is not ready."""
    return (check.problem for check in found if check.problem)


def _why_no_member(figures: Figures) -> str:
    status = figures.status
    if status.role is Role.DEAD:
        return f"the node is Dead: {status.last_role_change}"
    if status.is_removed:
        return "it was removed from the cluster"
    if status.waiting_for:
        who = (f"{peer} ({status.problems.get(peer, 'not met')})" for peer in status.waiting_for)
        return f"the cluster is forming: waiting for {', '.join(who)}"
    if status.node_id not in status.configuration.members:
        return "it was not added to the cluster yet"
    return ""


def _why_no_leader(figures: Figures) -> str:
    status = figures.status
    if status.leader_id is not None:
        return ""
    return f"it knows no leader ({status.role.value}, term {status.term})"


def _why_behind(figures: Figures) -> str:
    if figures.is_restoring:
        return "it restores a snapshot from its leader"
    if figures.unapplied > UNAPPLIED_MAX:
        status = figures.status
        return f"it has applied {status.applied_index} of {status.commit_index} committed entries"
    status = figures.status
    if status.applied_index == 0 and status.commit_index == 0:
        return "it has heard of no committed entry yet"
    return ""


def _why_no_writes(figures: Figures) -> str:
    if figures.disk_is_full:
        return "its disk takes no writes: no room is left, or no descriptors or threads are"
    if figures.disk_waits_s > figures.patience_s:
        return f"a write has waited for its disk for {figures.disk_waits_s:.1f} s"
    return ""
