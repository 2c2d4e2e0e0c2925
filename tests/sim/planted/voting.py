"""Elections that go wrong: votes given twice, counted wrongly, or to the wrong one.

Rules of this file: each breaks one rule of the vote and leaves the rest alone.
"""

from __future__ import annotations

import attrs
import msgspec

from trioraft.core import messages, reasons
from trioraft.core.election import Election
from trioraft.core.errors import CorruptStorage
from trioraft.core.log import RaftLog
from trioraft.core.raft import Raft, Transition
from trioraft.core.ready import Ready
from trioraft.core.reasons import Reason
from trioraft.core.types import (
    Configuration,
    HardState,
    Incarnation,
    LogIndex,
    NodeId,
    Recovered,
    Role,
    SnapshotMeta,
    Term,
)
from trioraft.sim.disk import Disk

from .bug import broken_core, broken_disk, patched


class ForgetsItsVote(Raft):
    """Hazard V1: the vote is not stored with its term."""

    def ready(self) -> Ready | None:
        ready = super().ready()
        if ready is None or ready.hard_state is None:
            return ready
        return attrs.evolve(ready, hard_state=HardState(ready.hard_state.term, None))


class AsksBeforeItsVoteIsDurable(Raft):
    """Hazard V1: a candidate asks for votes while its own is on its way to the disk."""

    def ready(self) -> Ready | None:
        ready = super().ready()
        if ready is None or not ready.messages_after_persist:
            return ready
        waiting = ready.messages_after_persist
        asking = tuple(m for m in waiting if isinstance(m, messages.RequestVote))
        rest = tuple(m for m in waiting if not isinstance(m, messages.RequestVote))
        return attrs.evolve(ready, messages=ready.messages + asking, messages_after_persist=rest)


class StepsDownWithoutItsVote(Raft):
    """Hazard V2: stepping down within a term clears the vote."""

    def _become_follower(self, term: Term, leader_id: NodeId | None, reason: Reason) -> None:
        super()._become_follower(term, leader_id, reason)
        self.voted_for = None


class CountsOldVotes(Raft):
    """Hazard V3: a vote counts in whatever term it comes."""

    def _on_request_vote_reply(
        self, reply: messages.RequestVoteReply, election: Election, disk: Incarnation
    ) -> Transition | None:
        reply = msgspec.structs.replace(reply, term=self.term)
        return super()._on_request_vote_reply(reply, election, disk)


class TakesAPreVoteForAVote(Raft):
    """Hazard V4: the answer to a pre-vote counts as a vote."""

    def _on_request_pre_vote_reply(
        self, reply: messages.RequestPreVoteReply, election: Election, disk: Incarnation
    ) -> Transition | None:
        if self.role is Role.CANDIDATE and reply.next_term == self.term:
            return self._record_vote(election, reply.sender, disk, granted=reply.vote_granted)
        return super()._on_request_pre_vote_reply(reply, election, disk)


class APreVoteChangesItsTerm(Raft):
    """Hazard V4: whoever is asked for a pre-vote takes the term that it is about."""

    def _on_request_pre_vote(self, request: messages.RequestPreVote) -> None:
        super()._on_request_pre_vote(request)
        if request.next_term > self.term:
            reason = reasons.HigherTerm(request.next_term, request.sender)
            self._become_follower(request.next_term, None, reason)


class ASnapshotLowersItsTerm(Raft):
    """Hazard V5: whoever installs a snapshot takes its term."""

    def _install(self, meta: SnapshotMeta, sender: NodeId) -> None:
        super()._install(meta, sender)
        self.term = meta.term


def either_part_will_do(log: RaftLog, last_index: LogIndex, last_term: Term) -> bool:
    """Hazard V6: a later term or a longer log is up to date, whichever it is."""
    return last_term >= log.last_term or last_index >= log.last_index


def both_parts_must_do(log: RaftLog, last_index: LogIndex, last_term: Term) -> bool:
    """Hazard L1: a log is up to date only if it has a later term and is longer: two nodes block
    each other for ever."""
    return last_term >= log.last_term and last_index >= log.last_index


class StartsAnew(Disk):
    """Hazard V7: a node whose disk cannot be read comes back as if new."""

    def recover(self, configuration: Configuration) -> Recovered:
        try:
            return super().recover(configuration)
        except CorruptStorage:
            return Recovered(HardState(), (), configuration)


BUGS = (
    broken_core("V1", ForgetsItsVote),
    broken_core("V1", AsksBeforeItsVoteIsDurable),
    broken_core("V2", StepsDownWithoutItsVote),
    broken_core("V3", CountsOldVotes),
    broken_core("V4", TakesAPreVoteForAVote),
    broken_core("V4", APreVoteChangesItsTerm),
    broken_core("V5", ASnapshotLowersItsTerm),
    patched("V6", RaftLog, "is_up_to_date", either_part_will_do),
    patched("L1", RaftLog, "is_up_to_date", both_parts_must_do),
    broken_disk("V7", StartsAnew),
)
