"""Disks that are taken for one another.

Rules of this file: each leaves out one rule of docs/identity.md and keeps the others.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trioraft.core.leadership import Leadership
from trioraft.core.messages import Introduction
from trioraft.core.raft import Raft
from trioraft.core.types import Incarnation, NodeId
from trioraft.member import identity
from trioraft.member.identity import Identity
from trioraft.member.lineage import Lineage
from trioraft.sim import injection, process
from trioraft.sim.directed import DISKS

from .bug import broken_core, patched


class CountsVotesById(Raft):
    """Hazard I1: a vote counts whatever disk it comes from."""

    def _counts(self, voter: NodeId, disk: Incarnation) -> bool:
        return True


def feeds_and_counts_by_id(leadership: Leadership, peer: NodeId, disk: Incarnation) -> bool:
    """Hazard I2: what any disk under a follower's id acknowledges counts towards a commit."""
    return peer in leadership.progress


class NamesALostDiskInOneStep(Raft):
    """Hazard I2: a voter with an emptied disk is named anew while it is a voter."""

    def _replace_lost_disks(self, leadership: Leadership) -> None:
        for voter in self._other_voters():
            if leadership.progress[voter].foreign_disk and self._may_reconfigure(leadership):
                disks = {**self.configuration.disks, voter: self.seen[voter]}
                named = msgspec.structs.replace(self.configuration, disks=disks)
                self._append_configuration(leadership, named)
                return


def opened_by_name(stored: bytes | None, *, node_id: NodeId, **given: Any) -> Identity:
    """Hazard I2: a disk's number is its node's name, so an emptied one is taken for the old."""
    found = identity.opened(stored, node_id=node_id, **given)
    number = 1 + int(node_id)
    if stored is None and found.record is not None:
        return msgspec.structs.replace(found, incarnation=number, record={node_id: number})
    return msgspec.structs.replace(found, incarnation=number)


def speaks_with_any_history(lineage: Lineage, said: Introduction) -> None:
    """Hazard I3: whoever bears the cluster's name is spoken with."""


def recovers_the_same_history(stored: bytes | None, **given: Any) -> Identity:
    """Hazard I3: a node that is recovered by force keeps the uuid of the history that it leaves."""
    new = identity.recovered_by_force(stored, **given)
    before = None if stored is None else identity.decode_identity(stored).uuid
    return msgspec.structs.replace(new, uuid=before or new.uuid)


def remembers_nobody(lineage: Lineage, said: Introduction, *, is_live: bool) -> bool:
    """Hazard I5: nobody remembers which opening of a disk was there, so an older copy is heeded."""
    return True


BUGS = (
    broken_core("I1", CountsVotesById, directed=DISKS),
    patched("I2", Leadership, "names", feeds_and_counts_by_id, directed=DISKS),
    broken_core("I2", NamesALostDiskInOneStep, directed=DISKS),
    patched("I2", process, "opened", opened_by_name, directed=DISKS),
    patched("I3", Lineage, "_check_history", speaks_with_any_history, directed=DISKS),
    patched("I3", injection, "recovered_by_force", recovers_the_same_history, directed=DISKS),
    patched("I5", Lineage, "_remember", remembers_nobody, directed=DISKS),
)
