"""Lines and disks slower than the timeouts: leaders are elected, stay, and commit.

Rules of this file: whole clusters under a seeded schedule where nothing is wrong but the distance;
what one node does with what it measures is looked at by itself.
"""

from __future__ import annotations

import attrs
import msgspec
import pytest

from trioraft.core.config import Timing
from trioraft.core.leadership import Leadership
from trioraft.core.messages import AppendEntries
from trioraft.core.pace import Pace
from trioraft.core.types import Configuration, NodeId
from trioraft.sim.disk import Fate
from trioraft.sim.draw import draw
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.simulation import Simulation

from .conversation import FIVE, Actor
from .messages_by_hand import append, matched, pre_vote, request_vote, vote

LOW_S, HIGH_S = Timing().election_timeout_s
FAR, FARTHER = (0.2, 0.202), (0.3, 0.303)
SLOW = (0.35, 0.36)
QUICK = (0.0005, 0.001)


def far_cluster(
    seed: int,
    delay_s: tuple[float, float],
    disk_s: tuple[float, float],
    timing: Timing,
    size: int = 3,
) -> Simulation:
    """Some nodes with clients, and nothing wrong but how long everything takes."""
    ids = tuple(str(number) for number in range(size))
    drawn = attrs.evolve(
        draw(seed, nodes=size),
        nodes=ids,
        voters=ids,
        timing=timing,
        intensities={},
        faults=(),
        delay_s=delay_s,
        disk_s=disk_s,
        batch_s=0.0,
        clients=2,
        think_s=0.1,
        clock_rates=(1.0, 1.0),
        hint=1.0,
    )
    simulation = Simulation(seed, RunOptions(), drawn=drawn)
    simulation.start()
    return simulation


LINES = {
    "round trip 0.4 s": (FAR, QUICK),
    "round trip 0.6 s": (FARTHER, QUICK),
    "writes of 0.35 s": (QUICK, SLOW),
    "both": (FAR, SLOW),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("seed", range(3))
def test_p1_a_leader_stays_and_commits_where_answers_take_longer_than_its_patience(
    line: str, seed: int
) -> None:
    simulation = far_cluster(seed, *LINES[line], Timing())
    agenda, checks = simulation.agenda, simulation.checks
    assert agenda.run(20.0, lambda: checks.commit_index >= 3), "nobody leads"
    leaders, committed = len(checks.leaders), checks.commit_index
    agenda.run(agenda.now + 60.0, lambda: False)
    assert len(checks.leaders) == leaders
    assert checks.commit_index - committed > 40


@pytest.mark.parametrize("fast_failover", [True, False], ids=["hint", "no hint"])
@pytest.mark.parametrize("seed", range(3))
def test_the_next_leader_comes_within_few_round_trips(seed: int, fast_failover: bool) -> None:
    """From what the last one measured: none of them is lost on timeouts that are too short."""
    simulation = far_cluster(seed, FAR, QUICK, Timing(fast_failover=fast_failover))
    agenda, checks = simulation.agenda, simulation.checks
    agenda.run(10.0, lambda: False)
    (leader,) = (process for process in simulation.processes.values() if process.leads())
    leaders, committed, killed_s = len(checks.leaders), checks.commit_index, agenda.now
    leader.crash(Fate.SURVIVES, "killed")
    assert agenda.run(killed_s + 10.0, lambda: checks.commit_index > committed + 1)
    assert agenda.now - killed_s < HIGH_S + 6 * 2 * FAR[0]
    assert len(checks.leaders) == leaders + 1


@pytest.mark.parametrize("delay_s", [FAR, FARTHER], ids=["0.4 s", "0.6 s"])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("seed", [3, 5, 10, 14, 15, 18])
def test_p1_the_next_leader_comes_though_the_line_became_long_as_the_last_one_died(
    seed: int, size: int, delay_s: tuple[float, float]
) -> None:
    """Nobody knows how long answers take now, and the connections that close make everybody hurry.
    Late answers tell; and of those who ask at the same time the greatest goes first."""
    simulation = far_cluster(seed, QUICK, QUICK, Timing(), size)
    agenda, processes = simulation.agenda, simulation.processes.values()
    agenda.run(5.0, lambda: False)
    (leader,) = (process for process in processes if process.leads())
    simulation.network.delay(delay_s)
    killed_s = agenda.now
    leader.crash(Fate.SURVIVES, "killed")
    assert agenda.run(killed_s + 30.0, lambda: any(process.leads() for process in processes))
    # Two rounds of asking and voting, and a timeout of four round trips at most between them; and
    # one that was lost while nobody knew.
    assert agenda.now - killed_s < 10 * 2 * delay_s[1]


# -- what is measured ----------------------------------------------------------------------------


def elected(*, took_s: float) -> Actor:
    """Node "1" leads, and its votes took so long."""
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.now += took_s
    one.hears(vote("2", 1))
    one.says()
    return one


def leadership_of(one: Actor) -> Leadership:
    """What it knows because it leads."""
    assert one.raft.leadership is not None
    return one.raft.leadership


def answers(one: Actor, *peers: NodeId, after_s: float) -> None:
    """Its next heartbeats are answered so soon."""
    one.beats()
    one.now += after_s
    one.hears(*(matched(peer, 1, 0, number=leadership_of(one).round) for peer in peers))


def told_ms(one: Actor) -> int:
    """The round trip that its next heartbeats tell."""
    one.outbox.clear()
    one.beats()
    message = one.outbox[0]
    assert isinstance(message, AppendEntries)
    return message.round_trip_ms


def test_a_leader_is_as_patient_as_its_election_was_long() -> None:
    assert leadership_of(elected(took_s=0.140)).patience_s >= 2 * 0.140


def test_it_goes_back_to_its_settings_once_answers_come_quickly() -> None:
    one = elected(took_s=0.140)
    for _ in range(20):
        answers(one, "2", "3", after_s=0.001)
    assert LOW_S <= leadership_of(one).patience_s <= HIGH_S


def test_what_a_quorum_without_the_leader_takes_is_told() -> None:
    """Of five the third of four answers: whoever follows needs two others, and is one itself."""
    one = Actor("1", FIVE, timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1), vote("3", 1))
    for peer, delay_s in (("2", 0.001), ("3", 0.020), ("4", 0.040), ("5", 0.200)):
        one.beats()
        one.now += delay_s
        one.hears(matched(peer, 1, 0, number=leadership_of(one).round))
    assert told_ms(one) in (39, 40)  # cut off to whole milliseconds


def test_who_is_away_is_not_waited_for() -> None:
    one = elected(took_s=0.140)
    answers(one, "2", after_s=0.010)
    assert told_ms(one) == 10


def test_a_late_answer_to_an_earlier_round_is_no_measurement() -> None:
    one = elected(took_s=0.010)
    for _ in range(3):
        answers(one, "2", "3", after_s=0.010)
    one.now += 0.030
    one.hears(matched("2", 1, 0, number=leadership_of(one).round))
    assert told_ms(one) == 10


def test_who_votes_is_patient_until_it_hears_the_one_it_voted_for() -> None:
    one = Actor("1")
    one.hears(msgspec.structs.replace(append("2", 1), round_trip_ms=400))
    one.now += LOW_S
    one.hears(request_vote("3", 2))
    assert "granted" in one.says()
    assert one.raft.deadline is not None
    assert one.raft.deadline - one.now >= 2 * 0.4
    one.hears(append("3", 2))
    assert one.raft.deadline - one.now <= HIGH_S


def test_silence_of_the_leader_is_noticed_as_soon_as_ever() -> None:
    one = Actor("1")
    one.hears(msgspec.structs.replace(append("2", 1), round_trip_ms=400))
    assert one.raft.deadline is not None
    assert one.raft.deadline - one.now <= HIGH_S


def test_patience_is_stretched_no_further_than_widening_goes() -> None:
    pace = Pace(Timing(widening_max=3))
    pace.on_told(3_600_000)
    assert pace.stretch == 3
    pace = Pace(Timing(widening_max=1))
    pace.on_told(3_600_000)
    assert pace.stretch == 1


def test_a_vote_is_two_writes_and_a_round_trip() -> None:
    pace = Pace(Timing())
    pace.on_written(0.1)
    pace.on_told(200)
    assert pace.vote_s == pytest.approx(0.4)


def test_one_measurement_out_of_all_proportion_counts_for_little() -> None:
    """The process stood still; a disk that became slow is believed after a few writes."""
    pace = Pace(Timing())
    pace.on_written(0.001)
    pace.on_written(10.0)
    assert pace.write_s < 0.02
    for _ in range(12):
        pace.on_written(0.35)
    assert pace.write_s > 0.3


# -- what late answers to pre-votes teach --------------------------------------------------------


def asks(one: Actor) -> int:
    """It asks for pre-votes; when, by its own clock."""
    one.times_out()
    one.says()
    return int(one.now * 1000)


def is_answered(one: Actor, *peers: NodeId, asked_ms: int, granted: bool = False) -> None:
    """Its question of then is answered now."""
    for peer in peers:
        answer = pre_vote(peer, 0, 1, granted=granted)
        one.hears(msgspec.structs.replace(answer, asked_ms=asked_ms))


@pytest.mark.parametrize("role", ["asking", "following"])
def test_all_answers_to_one_question_that_were_read_late_stretch_nothing(role: str) -> None:
    """The process stood still meanwhile; each of them alone would be believed a little more."""
    one = Actor("1", FIVE)
    asked_ms = asks(one)
    one.now += 10.0
    if role == "following":
        one.hears(vote("2", 1, granted=False))  # of a later term: it asks for nothing any more
    is_answered(one, "2", "3", "4", "5", asked_ms=asked_ms)
    assert one.raft.pace.stretch == 1


def test_answers_to_question_after_question_are_believed() -> None:
    one = Actor("1", FIVE)
    for _ in range(3):
        asked_ms = asks(one)
        one.now += 0.4
        is_answered(one, "2", asked_ms=asked_ms)
    assert one.raft.pace.round_trip_s == pytest.approx(0.4, abs=0.001)


def test_an_answer_to_what_was_not_asked_yet_keeps_no_other_from_being_believed() -> None:
    """As of an earlier life, before the clock began anew."""
    one = Actor("1", FIVE)
    asked_ms = asks(one)
    is_answered(one, "2", asked_ms=2**40)
    one.now += 0.04
    is_answered(one, "3", asked_ms=asked_ms)
    assert one.raft.pace.round_trip_s == pytest.approx(0.04, abs=0.001)


def test_only_voters_are_learnt_from() -> None:
    """Who is waited for: no learner, no stranger, and no other disk."""
    one = Actor("1")
    one.raft.configuration = Configuration(("1", "2", "4"), learners=("3",), disks={"2": 22})
    asked_ms = asks(one)
    one.now += 0.04
    is_answered(one, "2", "3", "9", asked_ms=asked_ms)
    assert one.raft.pace.round_trip_s == 0
