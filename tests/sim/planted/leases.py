"""Reads that are confirmed by too little, and leases that are too long.

Rules of this file: each is hunted where reads are the subject (`trioraft sim --directed reads`); a
storm of everything meets most of them too seldom.
"""

from __future__ import annotations

from trioraft.core import quorum
from trioraft.core.leadership import Leadership
from trioraft.core.messages import AppendEntriesReply
from trioraft.core.progress import Progress
from trioraft.core.raft import Raft
from trioraft.core.types import Configuration, HardState
from trioraft.sim.directed import READS

from .bug import broken_core, patched

WHOLE_NOTE = Leadership._note_promise
WHOLE_ANSWERED = Leadership.on_answered


def any_answer_confirms(leadership: Leadership, reply: AppendEntriesReply, now: float) -> None:
    """Hazard R2: an answer to an earlier round confirms the newest one."""
    WHOLE_ANSWERED(leadership, reply, now)
    leadership.progress[reply.sender].answered_round = leadership.round


def one_answer_too_few(leadership: Leadership, configuration: Configuration) -> int:
    """Hazard R3: a round is confirmed by one answer less than a majority."""
    values = sorted(map(leadership._answered_round, configuration.voters), reverse=True)
    return values[max(0, quorum.majority(len(values)) - 2)]


def one_half_confirms(leadership: Leadership, configuration: Configuration) -> int:
    """Hazard R3: a joint configuration's old half is not asked whether its leader still leads."""
    new_half = Configuration(configuration.voters)
    return quorum.agreed(new_half, leadership._answered_round)


def one_half_gives_the_lease(
    leadership: Leadership, configuration: Configuration, now: float
) -> bool:
    """Hazard Q1: a joint configuration's old half is not asked for a lease."""
    if leadership.timing.lease_clock_drift_max is None or leadership._asked_to_campaign:
        return False
    new_half = Configuration(configuration.voters)
    return now < quorum.agreed(new_half, leadership._promised_until_s)


def _stretched(
    leadership: Leadership, progress: Progress, reply: AppendEntriesReply, by: float
) -> None:
    longer = int(reply.promise_ms * by)
    changed = AppendEntriesReply(
        reply.sender,
        reply.receiver,
        reply.term,
        reply.success,
        reply.match_index,
        round=reply.round,
        promise_ms=longer,
    )
    WHOLE_NOTE(leadership, progress, changed)


def lasts_half_as_long_again(
    leadership: Leadership, progress: Progress, reply: AppendEntriesReply
) -> None:
    """Hazard Q1: a lease is 50 % too long."""
    _stretched(leadership, progress, reply, 1.5)


def lasts_a_little_too_long(
    leadership: Leadership, progress: Progress, reply: AppendEntriesReply
) -> None:
    """Hazard Q1: a lease is 5 % too long."""
    _stretched(leadership, progress, reply, 1.05)


def counts_from_the_answer(leadership: Leadership, reply: AppendEntriesReply, now: float) -> None:
    """Hazard Q1: a lease begins when the answer comes, not when its round left."""
    whole = list(leadership._rounds_left_s)
    leadership._rounds_left_s.extend([now] * len(whole))
    WHOLE_ANSWERED(leadership, reply, now)
    leadership._rounds_left_s.clear()
    leadership._rounds_left_s.extend(whole)


def goes_by_its_own_timing(
    leadership: Leadership, progress: Progress, reply: AppendEntriesReply
) -> None:
    """Hazard Q1: the leader takes its own settings for the promise of its followers."""
    own_ms = leadership.timing.promise_s * 1000
    _stretched(leadership, progress, reply, own_ms / max(1, reply.promise_ms))


def forgets_the_drift(
    leadership: Leadership, progress: Progress, reply: AppendEntriesReply
) -> None:
    """Hazard Q1: the leader takes its clock for right."""
    drift = leadership.timing.lease_clock_drift_max or 0.0
    _stretched(leadership, progress, reply, 1 / (1 - drift))


def believes_in_its_lease_to_the_end(
    leadership: Leadership, configuration: Configuration, now: float
) -> bool:
    """Hazard Q1: a leader that has asked somebody to take over goes on reading by its lease."""
    if leadership.timing.lease_clock_drift_max is None:
        return False
    return now < quorum.agreed(configuration, leadership._promised_until_s)


class SleepsWithItsLease(Raft):
    """Hazard Q2: a lease lasts while the machine is suspended."""

    def on_woken(self, now: float) -> None:
        self._now = now


class VotesAtOnce(Raft):
    """Hazard Q3: a node that restarts does not wait for the end of what it had promised."""

    def start(self, now: float) -> None:
        self._promised_ms = 0
        super().start(now)


class KeepsPromisesInMind(Raft):
    """Hazard Q3: a promise is not stored."""

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.voted_for)


BUGS = (
    patched("R2", Leadership, "on_answered", any_answer_confirms, directed=READS),
    patched("R3", Leadership, "confirmed_round", one_answer_too_few, directed=READS),
    patched("Q1", Leadership, "_note_promise", lasts_half_as_long_again, directed=READS),
    patched("Q1", Leadership, "_note_promise", goes_by_its_own_timing, directed=READS),
    broken_core("Q2", SleepsWithItsLease, directed=READS),
)
IN_SMALL_SPACES = (
    patched("R3", Leadership, "confirmed_round", one_half_confirms, directed=READS),
    patched("Q1", Leadership, "has_lease", one_half_gives_the_lease, directed=READS),
    patched("Q1", Leadership, "_note_promise", lasts_a_little_too_long, directed=READS),
    patched("Q1", Leadership, "_note_promise", forgets_the_drift, directed=READS),
    patched("Q1", Leadership, "on_answered", counts_from_the_answer, directed=READS),
    patched("Q1", Leadership, "has_lease", believes_in_its_lease_to_the_end, directed=READS),
    broken_core("Q3", VotesAtOnce, directed=READS),
    broken_core("Q3", KeepsPromisesInMind, directed=READS),
)
"""Those that a simulated cluster shows in fewer than one seed of fifty, and `tests.exhaustive` each
time."""
