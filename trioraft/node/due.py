"""DueTask: while a node leads, it proposes what ends by itself in the state machine, when it does.

A lease ends by log time, and log time only goes on with commands: where nobody else proposes
anything, the leader does. One deadline moves, nothing polls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import trio

from ..member.state_machine import Timed
from .proposal import Proposal

PAUSE_S = 0.01
"""Between two commands at least: what does not end by the first is not asked for in a loop."""


@final
class DueTask:
    """Watches one machine for one leader.

    Args:
        machine: what says when something is due.
        propose: puts a command into the log; None: it cannot be taken at this moment.
    """

    def __init__(self, machine: Timed, propose: Callable[[bytes], Proposal | None]) -> None:
        self._machine = machine
        self._propose = propose
        self._scope = trio.CancelScope()
        self._not_before_s = -math.inf

    def look(self) -> None:
        """Something was applied: what is due may be another thing now."""
        self._scope.deadline = self._deadline_s()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._deadline_s()) as self._scope:
                await trio.sleep_forever()
            self._not_before_s = trio.current_time() + PAUSE_S
            if not self._is_due():
                continue
            proposal = self._propose(self._machine.command_when_due(trio.current_time()))
            if proposal is not None:
                await proposal.settled()  # whatever it returned: what is due still, says so

    def _is_due(self) -> bool:
        due_in_s = self._machine.due_in_s(trio.current_time())
        return due_in_s is not None and due_in_s <= 0

    def _deadline_s(self) -> float:
        now_s = trio.current_time()
        due_in_s = self._machine.due_in_s(now_s)
        if due_in_s is None:
            return math.inf
        return max(now_s + due_in_s, self._not_before_s)
