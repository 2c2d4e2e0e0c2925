"""Timeouts that are too short for the network or the disk heal themselves (the seeds' 71 terms).

Rules of this file: whole clusters under a seeded schedule, without faults except where a test
names them; what is measured is the time to the first leader.
"""

from __future__ import annotations

import attrs
import pytest

from trioraft.core import events
from trioraft.core.config import Timing
from trioraft.core.types import NodeId, Role
from trioraft.sim.draw import draw
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.simulation import Simulation

from .conversation import THREE, Actor, Conversation
from .messages_by_hand import append, pre_vote

TOO_SHORT = Timing(election_timeout_s=(0.005, 0.010), heartbeat_interval_s=0.0025)
SEEDS = range(100)
INSTANT = (0.0, 0.0)


Range = tuple[float, float]


def first_leader_s(
    seed: int, size: int, timing: Timing, delay_s: Range, disk_s: Range, *, within_s: float
) -> float | None:
    """When the first leader stood, in seconds, or None: nothing goes wrong, and nobody asks."""
    ids = tuple(str(number) for number in range(size))
    drawn = attrs.evolve(
        draw(seed, nodes=size),
        voters=ids,
        timing=timing,
        intensities={},
        faults=(),
        delay_s=delay_s,
        disk_s=disk_s,
        batch_s=0.0,
        clients=0,
        clock_rates=(1.0, 1.0),
    )
    simulation = Simulation(seed, RunOptions(), drawn=drawn)
    checks, agenda = simulation.checks, simulation.agenda
    simulation.start()
    agenda.run(within_s, lambda: bool(checks.leaders))
    return agenda.now if checks.leaders else None


@pytest.mark.parametrize("pre_vote", [True, False], ids=["pre-vote", "no pre-vote"])
def test_timeouts_below_the_round_trip_still_elect_a_leader_in_100_of_100_seeds(
    pre_vote: bool,
) -> None:
    timing = Timing(
        election_timeout_s=(0.005, 0.010), heartbeat_interval_s=0.0025, pre_vote=pre_vote
    )
    took = [first_leader_s(n, 3, timing, (0.001, 0.005), INSTANT, within_s=2.0) for n in SEEDS]
    assert [seed for seed in SEEDS if took[seed] is None] == []


def test_a_round_trip_of_twice_the_upper_timeout_still_elects_a_leader() -> None:
    slow = (0.010, 0.012)
    took = [first_leader_s(seed, 5, TOO_SHORT, slow, INSTANT, within_s=2.0) for seed in range(40)]
    assert None not in took


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("pre_vote", [True, False], ids=["pre-vote", "no pre-vote"])
def test_a_disk_slower_than_the_election_timeout_still_elects_a_leader(
    size: int, pre_vote: bool
) -> None:
    """A candidate whose vote is not durable in time has not been met with silence."""
    net, slow, timing = (0.001, 0.005), (0.320, 0.400), Timing(pre_vote=pre_vote)
    took = [first_leader_s(seed, size, timing, net, slow, within_s=20.0) for seed in range(10)]
    assert None not in took


def test_an_election_that_was_answered_and_not_won_widens_up_to_the_bound() -> None:
    one = Actor("1", timing=Timing(widening_max=4))
    one.times_out()
    timeouts = []
    for _ in range(4):
        one.hears(pre_vote("2", 0, 1, granted=False))
        one.times_out()
        timeouts.append(one.raft.deadline or 0.0)
        timeouts[-1] -= one.now
    factors = [e.factor for e in one.events if isinstance(e, events.TimeoutsWidened)]
    assert factors == [2, 4]
    low, high = one.timing.election_timeout_s
    assert 2 * low <= timeouts[0] <= 2 * high
    assert all(4 * low <= timeout_s <= 4 * high for timeout_s in timeouts[1:])


def test_elections_in_a_hurry_widen_too_once_they_are_given_a_whole_timeout() -> None:
    """Each is given twice as long as the one before; where the usual timeout would have come first,
    it is an election like any other. Else nobody would ever be elected over a line longer than
    that, if its leader's connection closes."""
    one = Actor("1")
    one.hears(append("2", 1))
    one.loses("2")
    factors: list[int] = []
    for _ in range(12):
        one.times_out()
        one.hears(pre_vote("3", 1, 2, granted=False))
        factors = [e.factor for e in one.events if isinstance(e, events.TimeoutsWidened)]
    assert factors == [2, 4, 8]


def test_the_first_leader_narrows_a_follower() -> None:
    one = widened("1")
    one.hears(append("2", 1))
    assert narrow_again(one)


def test_winning_narrows_the_winner() -> None:
    one = widened("1")
    one.outbox.clear()  # what it asked before is lost
    one.hears(pre_vote("2", 0, 1))
    talk = Conversation(one, Actor("2"), Actor("3"))
    talk.talk()
    assert one.is_now(Role.LEADER)
    assert narrow_again(one)
    one.times_out()  # the others say nothing: it steps down, with a timeout of the plain range
    assert one.is_now(Role.FOLLOWER)
    assert (one.raft.deadline or 0.0) - one.now <= one.timing.election_timeout_s[1]


def test_silence_widens_nothing() -> None:
    one = Actor("1")
    for _ in range(10):
        one.times_out()
    assert one.is_now(Role.PRE_CANDIDATE)
    assert not [e for e in one.events if isinstance(e, events.TimeoutsWidened)]


def test_silence_widens_nothing_without_pre_vote_either() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    for _ in range(10):
        one.times_out()
    assert one.raft.term == 10
    assert not [e for e in one.events if isinstance(e, events.TimeoutsWidened)]


def test_widening_can_be_turned_off() -> None:
    one = Actor("1", timing=Timing(widening_max=1))
    for _ in range(5):
        one.times_out()
        one.hears(pre_vote("2", 0, 1, granted=False))
    assert not [e for e in one.events if isinstance(e, events.TimeoutsWidened)]


def widened(node_id: NodeId) -> Actor:
    """A node that has asked twice and got no majority."""
    one = Actor(node_id, THREE)
    for _ in range(3):
        one.times_out()
        one.hears(pre_vote("2", 0, 1, granted=False))
    one.times_out()
    assert widening_of(one) > 1
    return one


def widening_of(one: Actor) -> int:
    """The last factor that was announced."""
    return [e.factor for e in one.events if isinstance(e, events.TimeoutsWidened)][-1]


def narrow_again(one: Actor) -> bool:
    """Whether the range is the configured one."""
    return widening_of(one) == 1
