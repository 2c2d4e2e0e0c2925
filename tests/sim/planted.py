"""Cores that are broken on purpose, to see that the simulator notices.

Rules of this file: each breaks one rule and leaves the rest alone; functions of a module, so that
they travel to other processes.
"""

from __future__ import annotations

import attrs

from trioraft.core.messages import RequestVote
from trioraft.core.raft import Raft
from trioraft.core.ready import Ready
from trioraft.core.reasons import Reason
from trioraft.core.types import HardState


class ForgetsItsVote(Raft):
    """Hazard V1: the vote is not stored with its term."""

    def ready(self) -> Ready | None:
        ready = super().ready()
        if ready is None or ready.hard_state is None:
            return ready
        return attrs.evolve(ready, hard_state=HardState(ready.hard_state.term, None))


class PromisesTooSoon(Raft):
    """Hazard D1: what waits for the disk leaves at once."""

    def ready(self) -> Ready | None:
        ready = super().ready()
        if ready is None or not ready.messages_after_persist:
            return ready
        everything = ready.messages + ready.messages_after_persist
        return attrs.evolve(ready, messages=everything, messages_after_persist=())


class ReadsWithoutAsking(Raft):
    """Hazard R3: a leader takes itself for confirmed."""

    def ready(self) -> Ready | None:
        leadership = self._leadership
        if leadership is not None:
            leadership.reads.begin_round(leadership.round, self.log.commit_index)
            for request, index in leadership.reads.confirm(leadership.round):
                if request.origin == self.node_id:
                    self._confirmed(request.number, index)
        return super().ready()


class StaysDown(Raft):
    """It never campaigns again once it has followed somebody: safe, and of no use."""

    def on_timeout(self, now: float) -> None:
        if self._leadership is not None or self.log.last_index == 0:
            super().on_timeout(now)
        elif self._timer.is_due(now):
            self._now = now
            self._start_timer()


class ProtectsNoLeader(Raft):
    """Whoever asks for a vote gets a hearing, whether a leader is heard or not, and asks without a
    pre-vote: safe, but a node that is deaf deposes everybody for ever."""

    def _become_pre_candidate(self, reason: Reason) -> None:
        self._become_candidate(reason)

    def _protects_leader(self, request: RequestVote) -> bool:
        return False
