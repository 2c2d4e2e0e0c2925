"""What `trioraft recover` says: what a node has, and what recovering it means.

Rules of this file: plain words, for somebody who has a broken cluster and little time.
"""

from __future__ import annotations

from typing import Any

from ...core.types import Configuration
from ...storage.recovery import Plan, StoppedNode

_WIDTH = 15


def shown(found: StoppedNode) -> str:
    """What a node has, for people; lines, the last without its end."""
    recovered, configuration = found.stored.recovered, found.configuration
    voted_for = found.hard_state.voted_for
    snapshot = recovered.snapshot
    first = recovered.base_index + 1
    rows = [
        ("directory", str(found.directory)),
        ("cluster", found.stored.cluster_id),
        ("node", found.node_id),
        ("term", f"{found.hard_state.term}, voted for {voted_for or 'nobody'}"),
        ("last entry", f"index {found.last_index}, term {found.last_term}"),
        ("entries", f"{first} to {found.last_index}" if recovered.entries else "none"),
        (
            "snapshot",
            "none"
            if snapshot is None
            else f"up to index {snapshot.index}, term {snapshot.term}, {snapshot.size_bytes} bytes",
        ),
        ("configuration", _in_words(configuration)),
    ]
    for node, (host, port) in configuration.addresses.items():
        rows.append(("", f"{node} at {host}:{port}"))
    rows += [("notice", text) for text in found.stored.notices]
    return "\n".join(f"{name:<{_WIDTH}}{text}".rstrip() for name, text in rows)


def _in_words(configuration: Configuration) -> str:
    if not configuration.voters:
        return "none"
    parts = [f"voters {', '.join(configuration.voters)}"]
    if configuration.outgoing:
        parts.append(f"joint with the outgoing {', '.join(configuration.outgoing)}")
    if configuration.learners:
        parts.append(f"learners {', '.join(configuration.learners)}")
    return f"index {configuration.index}: {'; '.join(parts)}"


def as_json(found: StoppedNode) -> dict[str, Any]:
    """What a node has, for programs."""
    recovered, configuration = found.stored.recovered, found.configuration
    snapshot = recovered.snapshot
    return {
        "directory": str(found.directory),
        "cluster_id": found.stored.cluster_id,
        "node_id": found.node_id,
        "term": found.hard_state.term,
        "voted_for": found.hard_state.voted_for,
        "last_index": found.last_index,
        "last_term": found.last_term,
        "base_index": recovered.base_index,
        "snapshot": None
        if snapshot is None
        else {
            "index": snapshot.index,
            "term": snapshot.term,
            "size_bytes": snapshot.size_bytes,
        },
        "configuration": {
            "index": configuration.index,
            "voters": list(configuration.voters),
            "outgoing": list(configuration.outgoing),
            "learners": list(configuration.learners),
            "is_joint": bool(configuration.outgoing),
            "addresses": {
                node: f"{host}:{port}" for node, (host, port) in configuration.addresses.items()
            },
        },
        "notices": list(found.stored.notices),
    }


def warning(plan: Plan) -> str:
    """What the plan is and what it may cost; paragraphs, the last without its end."""
    found, entry = plan.found, plan.entry
    others = [node for node in plan.configuration.voters if node != found.node_id]
    left_out = [
        node for node in found.configuration.members if node not in plan.configuration.voters
    ]
    paragraphs = [
        f"Node {found.node_id} would go on with the voters "
        f"{', '.join(plan.configuration.voters)}: configuration entry {entry.index} and term "
        f"{entry.term} would be written at the end of its log.",
        "This is only for a cluster that has lost a majority of its voters for good. If they can "
        "come back, wait for them: then nothing is lost.",
        f"What can be lost: this log ends at index {found.last_index}, term {found.last_term}. "
        "Whatever the cluster acknowledged after that is gone, and commands whose clients were "
        "never answered may turn out to be done. Recover exactly one node: the survivor with the "
        "highest last term, and among those the highest last index. Compare all survivors with "
        "trioraft recover --show first.",
    ]
    if others:
        paragraphs.append(
            f"Nodes {', '.join(others)} must begin with empty directories: they get everything "
            f"from node {found.node_id}. Do not start them with what they have now, which may "
            "contradict this log. Nothing can be committed until a majority of the new voters runs."
        )
    if left_out:
        paragraphs.append(
            f"Nodes {', '.join(left_out)} must never be started again with their old directories: "
            "together they could form a second cluster of the same name. To take one back, empty "
            "its directory and add it as a new node."
        )
    return "\n\n".join(paragraphs)


def done(plan: Plan) -> str:
    """What comes next."""
    others = [node for node in plan.configuration.voters if node != plan.found.node_id]
    start = f"Start node {plan.found.node_id}."
    if others:
        start = (
            f"Empty the directories of {', '.join(others)}, and start them and node "
            f"{plan.found.node_id}."
        )
    return (
        f"{start} Then add nodes until the cluster has as many as before: trioraft admin "
        "add-learner and promote, or node.add_learner and node.change_voters."
    )
