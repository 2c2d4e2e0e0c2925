"""Reads that are stale.

Rules of this file: each breaks one rule of dissertation 6.4 and leaves the rest alone.
"""

from __future__ import annotations

from trioraft.core.leadership import Leadership
from trioraft.core.raft import Raft
from trioraft.core.ready import Ready

from .bug import broken_core


class ReadsTooEarly(Raft):
    """Hazard R1: a new leader reads before it has committed an entry of its own term."""

    def _begin_read_round(self, leadership: Leadership) -> None:
        if leadership.reads.want_round:
            for message in leadership.heartbeats(self._now):
                self._send(message)
            leadership.reads.begin_round(leadership.round, self.log.commit_index)
            self._confirm_reads(leadership)


class CountsReadsAnew(Raft):
    """Hazard R2: each life of a node numbers its reads from 1."""

    def start(self, now: float) -> None:
        super().start(now)
        self._open_reads._last_number = 0


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


BUGS = (
    broken_core("R1", ReadsTooEarly),
    broken_core("R2", CountsReadsAnew),
    broken_core("R3", ReadsWithoutAsking),
)
