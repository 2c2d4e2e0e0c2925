"""Clusters that are safe and of no use: nobody leads, or the wrong one does, or for too short.

Rules of this file: nothing here breaks a rule of safety; what is broken shows only in time.
"""

from __future__ import annotations

from collections import deque

from trioraft.core.errors import ProposalDropped
from trioraft.core.leadership import Leadership
from trioraft.core.messages import RequestVote
from trioraft.core.raft import Raft, Transition
from trioraft.core.reasons import Reason
from trioraft.core.transfer import Transfer
from trioraft.core.types import LogIndex, NodeId
from trioraft.sim.lines import LINES

from .bug import broken_core


class StaysDown(Raft):
    """Hazard L2: a node never campaigns again once it has followed somebody."""

    def on_timeout(self, now: float) -> None:
        if self._leadership is not None or self.log.last_index == 0:
            super().on_timeout(now)
        elif self._timer.is_due(now):
            self._now = now
            self._start_timer()


class ProtectsNoLeader(Raft):
    """Hazard L3: whoever asks for a vote gets a hearing, and asks without a pre-vote: a node that
    is deaf deposes everybody for ever."""

    def _become_pre_candidate(self, reason: Reason) -> None:
        self._become_candidate(reason)

    def _protects_leader(self, request: RequestVote) -> bool:
        return False


class RemembersItsLeader(Raft):
    """Hazard L4: a node that asks for pre-votes still names the leader that it has lost."""

    def _become_pre_candidate(self, reason: Reason) -> Transition | None:
        leader_id = self.leader_id
        transition = super()._become_pre_candidate(reason)
        self.leader_id = leader_id
        return transition


class LeadsOnWithoutADisk(Raft):
    """Hazard L7: a leader whose disk is full or hangs goes on leading, and commits nothing."""

    def on_disk_full(self, now: float, lacking: str | None = None) -> None:
        if self._leadership is None:
            super().on_disk_full(now, lacking)

    def _watch_leadership(self, leadership: Leadership) -> Transition | None:
        writes, self._out._writes = self._out._writes, deque()
        transition = super()._watch_leadership(leadership)
        self._out._writes = writes
        return transition


class RefusesAfterATransfer(Raft):
    """Hazard T1: the flag of a transfer is never cleared: a node that leads again takes no
    command."""

    _is_flagged = False

    def transfer(self, to: NodeId | None, now: float, *, patience_s: float) -> Transfer:
        begun = super().transfer(to, now, patience_s=patience_s)
        self._is_flagged = True
        return begun

    def propose(self, data: bytes, now: float) -> LogIndex:
        if self._leadership is not None and self._is_flagged:
            raise ProposalDropped("leadership is being transferred")
        return super().propose(data, now)


class IsAsImpatientAsItIsSet(Raft):
    """Hazard P1: nodes go by their settings, however long answers take."""

    def _start_timer(self) -> None:
        self.pace.round_trip_s = self.pace.write_s = 0.0
        super()._start_timer()

    def _watch_leadership(self, leadership: Leadership) -> Transition | None:
        self.pace.round_trip_s = self.pace.write_s = 0.0
        return super()._watch_leadership(leadership)


BUGS = (
    broken_core("L2", StaysDown),
    broken_core("L3", ProtectsNoLeader),
    broken_core("L4", RemembersItsLeader),
    broken_core("L7", LeadsOnWithoutADisk),
    broken_core("T1", RefusesAfterATransfer),
    broken_core("P1", IsAsImpatientAsItIsSet, directed=LINES),
)
