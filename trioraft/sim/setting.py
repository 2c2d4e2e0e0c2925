"""Setting: what all nodes of one simulated cluster share.

Rules of this file: whatever could differ between two implementations under test is made here, by
a function that a caller may replace: the core, and the disk.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import attrs

from ..core.config import Limits, Timing
from ..core.raft import Raft
from ..core.types import Configuration, NodeId, Recovered
from .agenda import Agenda
from .checks import Checks
from .disk import Disk
from .draw import Draw
from .network import SimulatedNetwork
from .recording import RunRecording


class MakeCore(Protocol):
    """Makes a core: `Raft`, or a broken one that shall be found out."""

    def __call__(
        self,
        node_id: NodeId,
        recovered: Recovered,
        timing: Timing,
        limits: Limits,
        rng: random.Random,
        *,
        tracing: bool = False,
    ) -> Raft:
        """A node's core, not started."""


@attrs.define(eq=False)
class Setting:
    """The world of a cluster."""

    seed: int
    draw: Draw
    agenda: Agenda
    recording: RunRecording
    network: SimulatedNetwork
    checks: Checks
    make_core: MakeCore
    sessions_max: int = 64

    def bootstrap_of(self, node_id: NodeId) -> Configuration:
        """Who is in the cluster, to a new node: a voter knows, and whoever joins knows nobody."""
        voters = self.draw.voters
        return Configuration(voters if node_id in voters else ())


MakeDisk = Callable[[], Disk]
