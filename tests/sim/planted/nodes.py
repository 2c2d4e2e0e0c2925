"""Nodes around sound cores that go wrong: what `tests.sim.planted_nodes` breaks, as bugs to hunt.

Rules of this file: these run in tier 2; what each is stands there.
"""

from __future__ import annotations

from tests.sim import planted_nodes as broken
from trioraft.node.driver import Driver
from trioraft.node.persistence import Persistence

from .bug import patched

BUGS = (
    patched("L9", Driver, "_change_leader_task", broken.keeps_heartbeating, tier=2),
    patched("X1", Driver, "_lead", broken.leaves_a_task_behind, tier=2),
    patched("X1", Driver, "kill", broken.stays_when_killed, tier=2),
    patched("X4", Driver, "propose", broken.answers_when_proposed, tier=2),
    patched("R1", Driver, "_ask_for_reads", broken.reads_without_a_round, tier=2),
    patched("D1", Driver, "_carry_out", broken.promises_too_soon, tier=2),
    patched("D5", Persistence, "_store", broken.goes_on_after_eio, tier=2),
)
