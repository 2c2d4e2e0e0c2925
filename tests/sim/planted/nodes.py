"""Nodes around sound members that go wrong: what `tests.sim.planted_nodes` breaks, as bugs to hunt.

Rules of this file: these run in tier 2; what each is stands there.
"""

from __future__ import annotations

from tests.sim import planted_nodes as broken
from trioraft.member.member import Member
from trioraft.node.runner import NodeRunner

from .bug import patched

BUGS = (
    patched("L9", NodeRunner, "_change_leader_tasks", broken.keeps_heartbeating, tier=2),
    patched("X1", NodeRunner, "_lead", broken.leaves_a_task_behind, tier=2),
    patched("X1", NodeRunner, "kill", broken.stays_when_killed, tier=2),
    patched("X4", NodeRunner, "propose", broken.answers_when_proposed, tier=2),
    patched("D1", Member, "_take", broken.promises_too_soon, tier=2),
    patched("D5", NodeRunner, "_until_there_is_room", broken.goes_on_after_eio, tier=2),
)
