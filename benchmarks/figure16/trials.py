"""The trials of the Raft paper's figure 16: crash the leader, wait for the next, many times.

Rules of this file:

* The experiment is the paper's (section 9.3; dissertation 9.4 says more of it): five servers;
  the leader's last heartbeats leave together, then it crashes at a moment drawn uniformly from
  its heartbeat interval, which is half of the minimum election timeout; all logs differ in
  length, so that two of the four others cannot win. Measured is the time from the crash until
  another server leads.
* One trial is one seed: the figures do not depend on the number of processes, nor on the machine.
* What the paper leaves open is a named constant below. There are three, told below.

The model. The paper gives one number, a broadcast time of 15 ms, and defines it (section 5.6) as
the time until *every* server asked in parallel has written to its disk and answered:

* A message takes 2.5 ms from one server's decision to the other's, ± 5 %. This one is fitted: it
  decides how often votes are split, and 2.5 ms gives the paper's median for 150-155.
* A durable write takes 4.8 ms on average, exponentially distributed. That is not free: with it
  the slowest of four servers answers after 15 ms on average. A vote needs two answers of three.
* A timer is noticed up to 0.2 ms late. With none of it, servers without randomness would tie for
  ever; with 0.5 ms half of them would be done within ten seconds, and the paper's were not.

Where the model is off: the dissertation's graph for 150-151 has its median near 1.2 s, ours near
3.5 s, so its servers were less alike than ours; and with equal write times instead of exponential
ones the mean for 12-24 would be 60 ms, not about 40 (the paper: 35).

The modes. `paper` switches off all that trioraft adds (pre-vote, widening, check-quorum), and its
candidates ask for votes while their own is being written (dissertation 9.3). `trioraft` is the
core as it ships: everything on, and candidates ask only once their own vote is durable.
`after-write` lies between: nothing added, but the same order of writes as in `trioraft`. In all
of them a crash is silence: nobody is told of a closed connection, so fast failover has no part.

An election that has not ended after two minutes of virtual time is cut there and counted.
"""

from __future__ import annotations

import contextlib
import enum
import multiprocessing
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import attrs

from trioraft.core.config import Timing
from trioraft.core.types import Configuration, Entry, HardState, NodeId, Recovered

from .core_cluster import CoreCluster, Costs, carries_no_entries

ONE_WAY_S: Final = 0.0025
"""From one server's decision to the other's, in seconds: fitted to 150-155, see above."""
ONE_WAY_JITTER: Final = 0.05
"""A message takes up to this share more or less."""
DISK_WRITE_MEAN_S: Final = 0.0048
"""One durable write, in seconds: what makes the broadcast time 15 ms."""
TIMER_LATENESS_S: Final = 0.0002
"""How late a timer is noticed at most, in seconds."""
CUT_S: Final = 120.0
"""After so many virtual seconds an election without end is cut."""
LONG_S: Final = 10.0
"""The paper says of 150-150 only that it took longer than this, in seconds."""

LEADER: Final[NodeId] = "0"
LOG_LENGTHS: Final[dict[NodeId, int]] = {LEADER: 5, "1": 4, "2": 3, "3": 2, "4": 1}
"""All different, as in the paper: of the four that stay, "3" and "4" can never get three votes."""

TRIALS_PER_CHUNK: Final = 20
"""Trials that a process takes at a time."""
NO_RANDOMNESS_SHARE: Final = 10
"""Of a range without randomness, only one trial in so many is run, as in the paper."""


class Mode(enum.Enum):
    """What is switched on; see the head of this file."""

    PAPER = "paper"
    TRIORAFT = "trioraft"
    AFTER_WRITE = "after-write"


@attrs.frozen
class Range:
    """One line of the figure: the election timeouts it draws from, in milliseconds."""

    low_ms: int
    high_ms: int
    paper: tuple[tuple[str, float | str], ...] = ()
    """What the paper gives in numbers: names as in our results, times in milliseconds."""

    def __str__(self) -> str:
        return f"{self.low_ms}–{self.high_ms}"

    @property
    def is_random(self) -> bool:
        """Whether timeouts differ at all."""
        return self.high_ms > self.low_ms


NO_RANDOMNESS: Final = Range(150, 150, (("n", 100), ("over_10_s", "all")))
WIDEST: Final = Range(150, 300)
RANDOMNESS: Final = (
    NO_RANDOMNESS,
    Range(150, 151),
    Range(150, 155, (("n", 1000), ("p50", 287))),
    Range(150, 175),
    Range(150, 200, (("n", 1000), ("max", 513))),
    WIDEST,
)
"""The upper half of the figure."""
SCALE: Final = (
    Range(12, 24, (("n", 1000), ("mean", 35), ("max", 152))),
    Range(25, 50),
    Range(50, 100),
    Range(100, 200),
    WIDEST,
)
"""The lower half."""


# -- one trial -----------------------------------------------------------------------------


def timing_of(mode: Mode, timeouts: Range) -> Timing:
    """The timing of a mode; the heartbeat is half of the minimum election timeout."""
    low_s = timeouts.low_ms / 1000
    everything_on = mode is Mode.TRIORAFT
    return Timing(
        election_timeout_s=(low_s, timeouts.high_ms / 1000),
        heartbeat_interval_s=low_s / 2,
        fast_failover=everything_on,
        pre_vote=everything_on,
        check_quorum=everything_on,
        widening_max=Timing().widening_max if everything_on else 1,
    )


def costs_of(mode: Mode) -> Costs:
    """What things take, in this mode."""
    return Costs(
        one_way_s=ONE_WAY_S,
        one_way_jitter=ONE_WAY_JITTER,
        disk_write_mean_s=DISK_WRITE_MEAN_S,
        timer_lateness_s=TIMER_LATENESS_S,
        vote_requests_overlap_write=mode is Mode.PAPER,
    )


def time_without_leader(mode: Mode, timeouts: Range, seed: str) -> float:
    """One trial: crash the leader, and wait for the next.

    Returns:
        virtual seconds from the crash to the next leader; exactly `CUT_S` if there was none.
    """
    rng = random.Random(seed)
    cluster = CoreCluster(_recovered(), timing_of(mode, timeouts), costs_of(mode), rng)
    cluster.deliver = carries_no_entries  # the logs stay as different as they are
    cluster.start_under(LEADER)
    heartbeat_at = cluster.core(LEADER).heartbeat_deadline
    if heartbeat_at is None:
        raise RuntimeError("the leader that was just elected has no heartbeat to send")
    crash_at = heartbeat_at + rng.uniform(0.0, timeouts.low_ms / 1000 / 2)
    cluster.run_until(crash_at)
    cluster.crash(LEADER)
    if cluster.run_until_leader(at_most_s=crash_at + CUT_S) is None:
        return CUT_S
    return cluster.now - crash_at


def _recovered() -> dict[NodeId, Recovered]:
    configuration = Configuration(tuple(LOG_LENGTHS))
    return {
        node_id: Recovered(
            HardState(term=1),
            tuple(Entry(index, 1) for index in range(1, length + 1)),
            configuration,
        )
        for node_id, length in LOG_LENGTHS.items()
    }


# -- many trials ---------------------------------------------------------------------------


@attrs.frozen
class Line:
    """A range in a mode: what becomes one row of the table and one line of the plot."""

    mode: Mode
    timeouts: Range


@attrs.frozen
class Chunk:
    """Some trials of one line, for one process."""

    line: Line
    first: int
    count: int
    seed: int

    def run(self) -> list[float]:
        """Seconds without a leader, in the order of the trials."""
        mode, timeouts = self.line.mode, self.line.timeouts
        name = f"{self.seed} {mode.value} {timeouts.low_ms} {timeouts.high_ms}"
        return [
            time_without_leader(mode, timeouts, f"{name} {trial}")
            for trial in range(self.first, self.first + self.count)
        ]


Measured = dict[Line, list[float]]
"""Seconds without a leader, per line, in the order of the trials."""


def lines_of(modes: Iterable[Mode]) -> list[Line]:
    """Every line of the figure, those that take longest first."""
    ranges = dict.fromkeys((*RANDOMNESS, *SCALE))
    return [Line(mode, timeouts) for timeouts in ranges for mode in modes]


def trials_of(line: Line, trials: int) -> int:
    """How many trials this line gets."""
    return trials if line.timeouts.is_random else max(1, trials // NO_RANDOMNESS_SHARE)


def measure(
    lines: list[Line],
    *,
    trials: int,
    seed: int,
    jobs: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Run all trials of all lines.

    Args:
        lines: what to measure.
        trials: per line; a tenth of it where timeouts are not random.
        seed: same seed, same figures, whatever `jobs` is.
        jobs: processes; with 1 everything happens in this one.
        on_progress: told now and then how many trials are done, and of how many.
    """
    chunks = [
        Chunk(line, first, min(TRIALS_PER_CHUNK, trials_of(line, trials) - first), seed)
        for line in lines
        for first in range(0, trials_of(line, trials), TRIALS_PER_CHUNK)
    ]
    found: dict[tuple[Line, int], list[float]] = {}
    total = sum(chunk.count for chunk in chunks)
    done = 0
    for chunk, downtimes_s in _run_all(chunks, jobs):
        found[chunk.line, chunk.first] = downtimes_s
        done += chunk.count
        if on_progress is not None:
            on_progress(done, total)
    measured: Measured = {line: [] for line in lines}
    for chunk in chunks:
        measured[chunk.line] += found[chunk.line, chunk.first]
    return measured


def _run_all(chunks: list[Chunk], jobs: int) -> Iterator[tuple[Chunk, list[float]]]:
    if jobs == 1:
        yield from map(_run_chunk, chunks)
        return
    # Spawned, not forked: a forked child would share whatever threads its parent has.
    with _interrupts_ignored():
        pool = multiprocessing.get_context("spawn").Pool(min(jobs, len(chunks)))
    with pool:  # leaving it, by an interrupt too, ends the processes
        yield from pool.imap_unordered(_run_chunk, chunks)


def _run_chunk(chunk: Chunk) -> tuple[Chunk, list[float]]:
    return chunk, chunk.run()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Children inherit this: Ctrl-C is then answered once, by the parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
