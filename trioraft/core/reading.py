"""Reading: how far this node must have applied to answer a read linearizably (dissertation 6.4).

Rules of this file:

* A leader asks its followers whether it still leads; a follower asks its leader for the index.
* A read that was asked here is answered here, whoever leads: when the leader changes, or does not
  answer, it is asked again. It waits for as long as there is no leader.
* A number is never used twice by a node, not even by its next life: the first one is drawn at
  random from a wide range (hazard R2).
"""

from __future__ import annotations

from typing import Final

from . import messages
from .leadership import Leadership
from .reads import ConfirmedRead, OpenRead, ReadRequest
from .state import State
from .types import LogIndex

FIRST_NUMBER_BITS: Final = 60
"""Width of the range from which a life's first number is drawn."""


class Reading(State):
    """Both sides of a read barrier."""

    def read(self, now: float, *, lease: bool = False) -> int:
        """Ask for a read. Its number comes back in `Ready.reads`, with the index to wait for.

        Args:
            now: the time.
            lease: answer by the clock alone, where `Timing.lease_clock_drift_max` allows it.

        Returns:
            The read's number.
        """
        self._now = now
        if self._read_number is None:
            self._read_number = self._rng.getrandbits(FIRST_NUMBER_BITS)
        self._read_number += 1
        number = self._read_number
        leadership = self._leadership
        may_answer = leadership is not None and lease and leadership.has_lease(now)
        if may_answer and self._has_committed_own_term():
            self._out.reads.append(ConfirmedRead(number, self.log.commit_index))
        else:
            self._open_reads[number] = OpenRead()
        return number

    def forget_read(self, number: int) -> None:
        """Nobody wants this read any more."""
        self._open_reads.pop(number, None)

    def _ask_for_reads(self) -> None:
        """Pass open reads to whoever leads now; called whenever there may be news."""
        leader_id = self.leader_id
        if leader_id is None:
            return
        patience_s = self.timing.election_timeout_s[0]
        for number, read in self._open_reads.items():
            is_patient = self._leadership is not None or self._now - read.asked_s < patience_s
            if read.asked == leader_id and read.asked_term == self.term and is_patient:
                continue
            read.asked, read.asked_term, read.asked_s = leader_id, self.term, self._now
            if self._leadership is not None:
                self._leadership.reads.add(ReadRequest(self.node_id, number))
            else:
                self._send(messages.RequestReadIndex(self.node_id, leader_id, self.term, number))

    # -- leading ---------------------------------------------------------------------------

    def _on_read_request(self, request: messages.RequestReadIndex) -> None:
        if self._leadership is not None and self._leadership.reads.has_room:
            self._leadership.reads.add(ReadRequest(request.sender, request.number))

    def _begin_read_round(self, leadership: Leadership) -> None:
        """Ask the followers whether we still lead, for all reads that wait."""
        if not leadership.reads.want_round or not self._has_committed_own_term():
            return  # hazard R1
        for message in leadership.heartbeats(self._now):
            self._send(message)
        leadership.reads.begin_round(leadership.round, self.log.commit_index)
        self._confirm_reads(leadership)  # a single voter is a quorum

    def _confirm_reads(self, leadership: Leadership) -> None:
        confirmed_round = leadership.confirmed_round(self.configuration)
        for request, index in leadership.reads.confirm(confirmed_round):
            if request.origin == self.node_id:
                self._confirmed(request.number, index)
            else:
                self._send_once_term_is_durable(
                    messages.RequestReadIndexReply(
                        self.node_id, request.origin, self.term, request.number, index
                    )
                )

    # -- at whoever asked ------------------------------------------------------------------

    def _on_read_reply(self, reply: messages.RequestReadIndexReply) -> None:
        """Good whatever its term: a quorum confirmed its sender after the read was asked for."""
        self._confirmed(reply.number, reply.read_index)

    def _confirmed(self, number: int, index: LogIndex) -> None:
        if self._open_reads.pop(number, None) is not None:
            self._out.reads.append(ConfirmedRead(number, index))
