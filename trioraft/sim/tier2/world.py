"""World: what all nodes, clients and faults of one simulated cluster share.

* Whatever finds something wrong, wherever it runs, says so to `World.fail` and nowhere else: an
  exception in a state machine would be a command's result, and one in an instrument a log line.
* The first failure counts, and ends the run.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

import attrs
import trio
import trio.testing

from ...core.types import LogIndex, NodeId, Role
from ...testing.leaks import LeakError, check_roles
from ...transport.memory import MemoryNetwork
from ..agenda import Agenda
from ..checks import Checks
from ..disk import Disk
from ..draw import Draw
from ..outcomes import RunRecording, kind_of

if TYPE_CHECKING:
    from .life import Life, NodeDisk


@final
@attrs.define(eq=False)
class World:
    """The world of one run."""

    seed: int
    draw: Draw
    network: MemoryNetwork
    recording: RunRecording
    checks: Checks
    disks: Mapping[NodeId, Disk]
    node_disks: dict[NodeId, NodeDisk]
    watch: Agenda
    """Tells the recording what time it is; nothing is ever put on it."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around everything that runs."""
    failure: Exception | None = None
    failure_kind: str = ""
    """By which two failures are the same one: the rule that was broken, without its values."""
    lives: dict[NodeId, Life] = attrs.field(factory=dict)
    """The present or last one of each node."""
    stalled_s: float = 0.0
    """How long time has been standing still for everyone, in all."""
    executed: dict[int, LogIndex] = attrs.field(factory=dict)
    """Every operation that a state machine has carried out, and where."""
    _milestones: list[tuple[Callable[[], bool], trio.Event]] = attrs.field(factory=list)

    def fail(self, error: Exception) -> None:
        """Something is wrong: the run ends here."""
        if self.failure is None:
            self.failure = error
            self.failure_kind = kind_of(error, sys._getframe(1).f_code.co_name)
            self.recording.note("fail", type(error).__name__)
        self.scope.cancel()

    def cut_short(self) -> None:
        """The run ends: a node that is broken may be shielded from being cancelled."""
        for life in self.lives.values():
            life.cut_short()

    def rng(self, *names: object) -> random.Random:
        """A source of chance of its own for whatever these names say."""
        return chance(self.seed, *names)

    # -- looking ---------------------------------------------------------------------------

    def open_lives(self) -> list[Life]:
        """Those that can be asked for something."""
        return [life for life in self.lives.values() if life.is_open]

    def leader(self) -> Life | None:
        """Whoever leads the newest term, as far as nodes believe so."""
        leading = [
            (life.node.status.term, life)
            for life in self.open_lives()
            if life.node is not None and life.node.status.role is Role.LEADER
        ]
        return max(leading, key=lambda found: found[0])[1] if leading else None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds after a step of a node."""
        if not condition():
            reached = trio.Event()
            self._milestones.append((condition, reached))
            await reached.wait()

    async def check_roles(self) -> None:
        """Every node has just the tasks that its role owns, once all have had their turn."""
        await trio.testing.wait_all_tasks_blocked()
        nodes = [life.node for life in self.open_lives() if life.node is not None]
        try:
            check_roles(expected={f"raft[{node.id}]": node.expected_tasks() for node in nodes})
        except LeakError as error:
            self.fail(error)

    def look(self) -> None:
        """A node took a step: whoever waits for something may have it now."""
        if self._milestones:
            reached = [milestone for milestone in self._milestones if milestone[0]()]
            for milestone in reached:
                self._milestones.remove(milestone)
                milestone[1].set()


def chance(seed: int, *names: object) -> random.Random:
    """The seed's source of chance for whatever these names say."""
    return random.Random(" ".join(map(str, (seed, "tier 2", *names))))
