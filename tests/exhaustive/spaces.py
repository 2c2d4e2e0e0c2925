"""Spaces: what is explored, how far, and which planted bugs show in it.

Rules of this file: each space is named for what may go wrong in it. `in_suite` ones take a second
or less; the others run with `python -m tests.long exhaustive`. A planted bug is put into a space
and has to be found there; without it, the whole space is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from trioraft.core.config import Timing

from .space import Budget, Space

TWO: Final = ("1", "2")
THREE: Final = ("1", "2", "3")

PLAIN: Final = Timing(fast_failover=False, pre_vote=False, check_quorum=False, widening_max=1)
"""For where time stands still: nobody is protected, and whoever wants to campaigns."""

DRIFT: Final = 0.25
PATIENT: Final = Timing(
    (0.15625, 0.15625),
    0.0625,
    fast_failover=False,
    lease_clock_drift_max=DRIFT,
    widening_max=1,
)
"""It protects a leader for 125 ms of its clock: 100 ms, if that is as fast as it may be."""
IMPATIENT: Final = attrs.evolve(
    PATIENT, election_timeout_s=(0.0625, 0.0625), heartbeat_interval_s=0.03125
)
"""It campaigns after 50 ms, and again and again."""
TICK_S: Final = 0.0252
"""Four of them are a little more than a promise; a lease that is 5 % too long is longer."""


@attrs.frozen
class Bounds:
    """One space."""

    what: str
    make: Callable[[], Space]
    bugs: tuple[str, ...] = ()
    """Planted ones that show in it, by name."""
    in_suite: bool = True
    states_max: int | None = None
    """So many states, the nearest first: it is too large to be looked at as a whole."""


def _untimed(budget: Budget, **options: Any) -> Callable[[], Space]:
    return lambda: Space(THREE, PLAIN, budget, **options)


def _leases(budget: Budget, actor: str = "1", **options: Any) -> Callable[[], Space]:
    """Node 1 leads, and its clock is as slow as it may be; node 3 wants to, and the clocks of 2 and
    3 are as fast as they may be."""
    return lambda: Space(
        THREE,
        PATIENT,
        budget._replace(ticks=4, timeouts=1),
        leader="1",
        timings={"3": IMPATIENT},
        patience=("3",),
        actors=(actor,),
        tick_s=TICK_S,
        rates={"1": 1 - DRIFT, "2": 1 + DRIFT, "3": 1 + DRIFT},
        **options,
    )


SPACES: Final[dict[str, Bounds]] = {
    "two nodes": Bounds(
        "two nodes: an election, a read anywhere, a crash",
        lambda: Space(TWO, PLAIN, Budget(timeouts=1, reads=1, crashes=1), leader="1"),
    ),
    "two candidates": Bounds(
        "an election from nothing, two candidates, and their voter crashes",
        _untimed(Budget(timeouts=2, crashes=1), patience=("1", "2"), actors=("3",)),
        ("ForgetsItsVote",),
        in_suite=False,
    ),
    "a deposed leader reads": Bounds(
        "somebody else is elected, and the leader is asked to read",
        _untimed(Budget(timeouts=1, reads=1), leader="1", patience=("2",), actors=("1",)),
        ("one_answer_too_few", "ReadsWithoutAsking"),
        in_suite=False,
    ),
    "an old round": Bounds(
        "as before, and the answers to a heartbeat are under way",
        _untimed(
            Budget(timeouts=1, reads=1, heartbeats=1), leader="1", patience=("2",), actors=("1",)
        ),
        ("any_answer_confirms",),
        in_suite=False,
    ),
    "a joint read": Bounds(
        "as before, while the leader makes itself the only voter",
        _untimed(
            Budget(timeouts=1, reads=1, changes=1),
            leader="1",
            patience=("2",),
            actors=("1",),
            change_to=("1",),
        ),
        ("one_half_confirms",),
        in_suite=False,
    ),
    "a lease": Bounds(
        "a lease, to the tick on which it must be over",
        _leases(Budget()),
        ("lasts_a_little_too_long", "forgets_the_drift", "lasts_half_as_long_again"),
    ),
    "a lease and a sleep": Bounds(
        "the leader's machine is suspended for as long as you like, once",
        _leases(Budget(sleeps=1)),
        ("SleepsWithItsLease",),
    ),
    "a lease and a restart": Bounds(
        "the follower that promised restarts",
        _leases(Budget(crashes=1), "2"),
        ("VotesAtOnce", "KeepsPromisesInMind"),
    ),
    "a lease and other settings": Bounds(
        "the follower that promised restarts, and promises less from then on",
        _leases(Budget(crashes=1), "2", next_life=IMPATIENT),
        ("VotesAtOnce", "KeepsPromisesInMind"),
    ),
    "a lease and a late answer": Bounds(
        "a round of heartbeats, whose answers come when they like",
        _leases(Budget(heartbeats=1)),
        ("counts_from_the_answer",),
        in_suite=False,
    ),
    "a lease and a transfer": Bounds(
        "the leader asks somebody to take over",
        _leases(Budget(transfers=1)),
        ("believes_in_its_lease_to_the_end",),
        in_suite=False,
    ),
    "a lease and a joint configuration": Bounds(
        "the leader makes itself the only voter",
        _leases(Budget(changes=1), change_to=("1",)),
        ("one_half_gives_the_lease",),
        in_suite=False,
        states_max=300_000,
    ),
}
