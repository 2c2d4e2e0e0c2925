"""What `benchmarks.election` measures: how long a cluster is without a leader, case by case.

Rules of this file:

* What starts the clock and what ends it stands with the trials: `in_process`, `process_trials`.
* The theoretical best of a trial is the least of what the followers' timers had left when the
  clock started, plus one round trip. The timers' rest is the trial's own, as it was drawn; the
  round trip is what heartbeats and their answers took in the same trials. A trial cannot be
  faster: someone must lose patience, and must be answered once.
* Where fast failover's hint applies (`crash`, `kill`), what a timer has left is what the hint left
  of it.
* Leadership that is handed over waits for no timer: `transfer` and `rolling` have no best.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable

import attrs

from trioraft import Timing


class Case(enum.Enum):
    """How the cluster comes to be without a leader."""

    BOOTSTRAP = "bootstrap"
    """All nodes have just been opened; there never was a leader."""
    DISCONNECT = "disconnect"
    """The leader is cut off silently: every connection stays open, nothing arrives."""
    CRASH = "crash"
    """The leader's node dies, in a process that lives on: its connections close."""
    KILL = "kill"
    """The leader's process is killed: kill -9."""
    TRANSFER = "transfer"
    """The leadership is handed over, under load."""
    ROLLING = "rolling"
    """All nodes are restarted, one after the other, under load."""

    @property
    def has_processes(self) -> bool:
        """Whether each node has a process of its own."""
        return self in (Case.KILL, Case.TRANSFER, Case.ROLLING)


@attrs.frozen
class Trial:
    """One election."""

    took_s: float
    """From the cause to a (new) leader, as the case has it."""
    timers_s: float | None
    """The least that the followers' timers had left at the cause; None if no timer counts."""
    terms: int
    """Terms that were begun; more than one election needs means that votes were split."""
    round_trips_s: tuple[float, ...] = ()
    """Heartbeats to their answers, while there was a leader."""
    calls: int = 0
    """Of clients that had to do with it."""
    failed_calls: int = 0
    """Those of unknown outcome."""


@attrs.frozen
class Setup:
    """What one run of trials is about."""

    case: Case
    nodes: int
    timing: Timing
    seed: int

    @property
    def name(self) -> str:
        """The seed of all its chance, and how it is called."""
        return f"{self.seed}/{self.case.value}/{self.nodes}"


def round_trip_s(trials: Iterable[Trial]) -> float:
    """What one round trip takes: the median over all heartbeats of these trials; 0 if none."""
    every = [trip_s for trial in trials for trip_s in trial.round_trips_s]
    return statistics.median(every) if every else 0.0


def expected_best_s(setup: Setup) -> float | None:
    """What the timers' rest should be on average, from the way in which they are drawn; None where
    no timer counts.

    The least of k timers, each uniform over a range, is one (k + 1)th into it, on average; a
    leader is lost half a heartbeat interval after it was heard, on average.
    """
    low, high = setup.timing.election_timeout_s
    if setup.case is Case.BOOTSTRAP:
        return low + (high - low) / (setup.nodes + 1)
    if setup.case in (Case.TRANSFER, Case.ROLLING):
        return None
    followers = setup.nodes - 1
    if setup.case in (Case.CRASH, Case.KILL) and setup.timing.fast_failover:
        return setup.timing.fast_failover_spread_s / (followers + 1)
    return low + (high - low) / (followers + 1) - setup.timing.heartbeat_interval_s / 2
