"""StatusWaits: everybody who waits for something of a node's status.

Rules of this file:

* Nobody is woken to look for himself: all predicates are asked about one status, in one place, and
  whoever's holds is woken with it. A thousand tasks that were woken by each input would cost more
  than all else that a proposal does.
* A change of role, term, leader or members is looked at at once. The indices change with every
  input: with many who wait they are looked at so seldom that it takes a small part of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs
import trio

from ..core.errors import NodeDead
from ..core.raft import Raft
from ..core.types import LogIndex, NodeId, Role, Term
from ..member.status import Status

EACH_S = 20e-6
"""For so long per predicate none is asked again because of indices alone: ten times what asking a
usual one takes."""
FEW_MAX = 32
"""So many are always asked at once."""


_GONE = object()
_NOTHING_YET = LookupError("nobody has woken this task")


@attrs.define(eq=False)
class _Wait:
    predicate: Callable[[Status], bool]
    task: trio.lowlevel.Task
    told: Status | Exception = _NOTHING_YET
    """The status of which it holds, or what ended the wait instead."""


@final
class StatusWaits:
    """Those of one node.

    Args:
        look_later: starts `look_at` as a task of the node, given until when to sleep before.
    """

    def __init__(self, look_later: Callable[[float], None]) -> None:
        self.waiting: dict[_Wait, None] = {}
        """Who waits; not to be changed from outside."""
        self._look_later = look_later
        self._not_before_s = 0.0
        self._is_due_later = False
        self._seen: tuple[Role, Term, NodeId | None, LogIndex] | None = None

    def __bool__(self) -> bool:
        return bool(self.waiting)

    async def add(self, predicate: Callable[[Status], bool]) -> Status:
        """Wait until it holds of a status that is looked at; returns that.

        Raises:
            NodeDead: the node died, and it does not hold of that.
            Exception: what the predicate raised.

        It can be cancelled.
        """
        wait = _Wait(predicate, trio.lowlevel.current_task())
        self.waiting[wait] = None

        def give_up(_: object) -> trio.lowlevel.Abort:
            self.waiting.pop(wait, None)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)
        if isinstance(wait.told, Exception):
            raise wait.told
        return wait.told

    def on_input(self, raft: Raft, now: float, status: Callable[[], Status]) -> None:
        """Something may have changed.

        Args:
            raft: the core, where the little that is looked at each time stands.
            now: the time.
            status: makes the whole status.
        """
        seen = (raft.role, raft.term, raft.leader_id, raft.configuration.index)
        if seen != self._seen or len(self.waiting) <= FEW_MAX or now >= self._not_before_s:
            self._seen = seen
            self._not_before_s = now + EACH_S * len(self.waiting)
            self.look(status())
        elif not self._is_due_later:
            self._is_due_later = True
            self._look_later(self._not_before_s)

    async def look_at(self, until_s: float, status: Callable[[], Status]) -> None:
        """Sleep until then, and look: a task of the node."""
        await trio.sleep_until(until_s)
        self._is_due_later = False
        self._not_before_s = trio.current_time() + EACH_S * len(self.waiting)
        self.look(status())

    def look(self, status: Status) -> None:
        """Wake all those whose predicate holds of this."""
        for wait in [*self.waiting]:
            if wait not in self.waiting:
                continue  # a predicate has cancelled it
            try:
                if not wait.predicate(status):
                    continue
                wait.told = status
            except Exception as error:  # noqa: BLE001 - its own, raised where it waits
                wait.told = error
            if self.waiting.pop(wait, _GONE) is None:
                trio.lowlevel.reschedule(wait.task)

    def on_dead(self, status: Status) -> None:
        """The node is Dead: nothing else will ever hold."""
        self.look(status)
        waiting, self.waiting = self.waiting, {}
        for wait in waiting:
            wait.told = never(status.node_id)
            trio.lowlevel.reschedule(wait.task)


def never(node_id: NodeId) -> NodeDead:
    """Why a wait at a node that is Dead is over."""
    return NodeDead(f"node {node_id!r} is Dead; what was waited for will not happen")
