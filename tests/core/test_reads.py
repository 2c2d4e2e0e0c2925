"""Read barriers (dissertation 6.4): by rounds of heartbeats, and by leases."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trioraft.core.config import Timing
from trioraft.core.errors import ConfigError
from trioraft.core.messages import RequestReadIndexReply
from trioraft.core.types import HardState, Role

from .conversation import FIVE, Actor, Conversation, between, text
from .messages_by_hand import append, matched, pre_vote, request_pre_vote, request_vote, vote

LEASES = Timing(fast_failover=False, lease_clock_drift_max=0.1)
LEASE_S = int(LEASES.leader_protection_s / 1.1 * 1000) / 1000 * 0.9 - 1e-9
"""How long one round's promises last."""


def led_by_1(*nodes: str, timing: Timing | None = None) -> Conversation:
    talk = Conversation.of(*(nodes or ("1", "2", "3")), timing=timing)
    talk.elect("1").proposes(b"a")
    talk.talk()
    talk.transcript()
    return talk


def test_a_leader_asks_its_followers_once_and_answers_with_its_commit_index() -> None:
    talk = led_by_1()
    number = talk["1"].asks_to_read()
    assert talk["1"].reads == {}
    talk.talk()
    assert talk["1"].reads == {number: 2}
    assert between(talk.transcript(), "1", "2") == text("""
        1->2 AppendEntries term=1 prev=(1,2) entries=[] commit=2
        2->1 AppendEntriesReply term=1 match=2
    """)


def test_a_follower_asks_its_leader_for_the_index() -> None:
    talk = led_by_1()
    number = talk["2"].asks_to_read()
    talk.talk()
    assert talk["2"].reads == {number: 2}
    lines = between(talk.transcript(), "1", "2").splitlines()
    assert lines[0] == "2->1 RequestReadIndex term=1 asked"
    assert lines[-1] == "1->2 RequestReadIndexReply term=1 index=2"


def test_many_reads_share_a_round_and_those_that_come_meanwhile_the_next() -> None:
    talk = led_by_1()
    one = talk["1"]
    first = [one.asks_to_read() for _ in range(5)]
    assert len(one.outbox) == 2  # the first began a round: one heartbeat for each follower
    talk.talk()
    assert sorted(one.reads) == first
    assert talk.transcript().count("AppendEntries term=1") == 4  # one more round for the others


def test_nothing_is_read_before_the_leader_has_committed_an_entry_of_its_own() -> None:
    """Hazard R1: until then it does not know what earlier leaders have committed."""
    two = Actor("2", term=1, log=led_by_1()["1"].disk.entries)
    two.times_out()
    two.hears(pre_vote("3", 1, 2, to="2"))
    two.hears(vote("3", 2, to="2"))
    assert two.is_now(Role.LEADER)
    number = two.asks_to_read()
    two.beats()
    answered = matched("3", 2, 2, to="2")
    two.hears(msgspec.structs.replace(answered, round=2))
    assert number not in two.reads  # heard by a quorum, but its own entry is not there yet
    two.hears(matched("3", 2, 3, to="2"))
    two.hears(msgspec.structs.replace(matched("3", 2, 3, to="2"), round=9))
    assert two.reads == {number: 3}


def test_a_new_leader_waits_for_its_first_commit_and_then_answers() -> None:
    talk = led_by_1(*FIVE)
    talk.cut_off("1")
    talk.elect("2")
    talk.transcript()
    number = talk["2"].asks_to_read()
    talk.talk()
    assert talk["2"].reads[number] == talk["2"].raft.log.commit_index


def test_a_leader_that_hears_no_quorum_answers_nothing() -> None:
    """Hazard R3: three of five have to answer, the leader included."""
    talk = led_by_1(*FIVE)
    talk.cut_off("1", "2")
    number = talk["1"].asks_to_read()
    talk.talk()
    talk["1"].beats()
    talk.talk()
    assert number not in talk["1"].reads
    talk.lost = {link for link in talk.lost if "3" not in link}
    talk["1"].beats()
    talk.talk()
    assert number in talk["1"].reads


def test_answers_to_an_earlier_round_confirm_nothing() -> None:
    """Hazard R2."""
    talk = led_by_1()
    one = talk["1"]
    one.beats()
    earlier = list(one.outbox)
    one.outbox.clear()
    number = one.asks_to_read()
    one.outbox.clear()  # that round is lost
    for message in earlier:
        talk[message.receiver].hears(message)
    talk.talk()  # the answers to the round before
    assert number not in one.reads
    one.beats()
    talk.talk()
    assert number in one.reads


def test_a_deposed_leader_passes_its_readers_on() -> None:
    talk = led_by_1()
    talk.cut_off("1")
    number = talk["1"].asks_to_read()
    talk.elect("2").proposes(b"b")
    talk.talk()
    assert number not in talk["1"].reads
    talk.heal()
    talk["2"].beats()
    talk.talk()
    assert talk["1"].reads == {number: talk["2"].raft.log.commit_index}


def test_a_read_waits_while_no_leader_is_known() -> None:
    one = Actor("1")
    number = one.asks_to_read()
    assert one.says() == ""
    one.hears(append("2", 1))
    assert "1->2 RequestReadIndex term=1 asked" in one.says()
    assert number not in one.reads


def test_a_question_that_is_lost_is_asked_again() -> None:
    talk = led_by_1()
    talk.lost.add(("2", "1"))
    number = talk["2"].asks_to_read()
    talk.talk()
    talk.lost.clear()
    asked_s = talk["2"].now
    while talk["2"].now - asked_s <= talk["2"].timing.election_timeout_s[0]:
        talk["1"].beats()
        talk.talk()
    assert number in talk["2"].reads


def test_an_answer_for_an_earlier_life_is_no_answer() -> None:
    """Hazard R2: numbers are not used twice, whatever is forgotten."""
    talk = led_by_1()
    two = talk["2"]
    number = two.asks_to_read()
    two.outbox.clear()
    two.crash_and_restart()
    again = two.asks_to_read()
    assert abs(again - number) > 1000
    two.hears(RequestReadIndexReply("1", "2", 1, number, 2))
    assert two.reads == {}


def test_a_read_that_nobody_wants_is_forgotten() -> None:
    talk = led_by_1()
    number = talk["2"].asks_to_read()
    talk["2"].raft.forget_read(number)
    talk.talk()
    assert talk["2"].reads == {}


def test_a_single_voter_answers_at_once() -> None:
    alone = Actor("1", ("1",))
    alone.times_out()
    number = alone.asks_to_read()
    assert alone.reads == {number: 1}


# -- leases (dissertation 6.4.1) ---------------------------------------------------------------


def test_a_lease_answers_at_once_until_it_ends() -> None:
    talk = led_by_1(timing=LEASES)
    one = talk["1"]
    one.beats()
    sent_s = one.now
    talk.talk()
    number = one.asks_to_read(lease=True)
    assert one.reads == {number: 2}
    one.now = sent_s + LEASE_S
    last = one.asks_to_read(lease=True)
    assert last in one.reads
    one.now += 0.0011  # promises are told in whole milliseconds
    late = one.asks_to_read(lease=True)
    assert late not in one.reads


def test_without_asking_for_it_a_lease_is_not_used() -> None:
    talk = led_by_1(timing=LEASES)
    talk["1"].beats()
    talk.talk()
    assert talk["1"].asks_to_read() not in talk["1"].reads


def test_a_leader_that_has_asked_another_to_take_over_has_no_lease() -> None:
    talk = led_by_1(timing=LEASES)
    talk["1"].beats()
    talk.talk()
    talk.lost.add(("1", "2"))
    talk["1"].hands_over("2", patience_s=0.01)
    talk["1"].times_out()
    talk["1"].beats()
    talk.talk()
    assert talk["1"].is_now(Role.LEADER)
    assert talk["1"].asks_to_read(lease=True) not in talk["1"].reads


def test_q1_a_lease_is_what_a_quorum_promises_and_not_what_the_leader_would() -> None:
    """Hazard Q1: two followers' own settings protect a leader for less long than its own would."""
    talk = Conversation.of("1", "2", "3", timing=LEASES)
    hasty = Timing(
        election_timeout_s=(0.04, 0.05),
        heartbeat_interval_s=0.02,
        fast_failover=False,
        lease_clock_drift_max=0.1,
    )
    for follower in ("2", "3"):
        talk[follower].timing = hasty
        talk[follower].crash_and_restart()
    talk.elect("1").proposes(b"a")
    talk.talk()
    one = talk["1"]
    one.beats()
    sent_s = one.now
    talk.talk()
    assert one.asks_to_read(lease=True) in one.reads
    one.now = sent_s + hasty.leader_protection_s * 0.9 / 1.1 + 0.001
    assert one.asks_to_read(lease=True) not in one.reads


@pytest.mark.parametrize("check_quorum", [False, True])
def test_q1_who_promises_nothing_gives_no_lease(check_quorum: bool) -> None:
    """Hazard Q1: with fast failover, or votes for whoever asks, a leader is not protected."""
    talk = Conversation.of("1", "2", "3", timing=LEASES)
    for follower in ("2", "3"):
        talk[follower].timing = Timing(check_quorum=check_quorum)
        talk[follower].crash_and_restart()
    talk.elect("1").proposes(b"a")
    talk.talk()
    talk["1"].beats()
    talk.talk()
    assert talk["1"].asks_to_read(lease=True) not in talk["1"].reads


def test_q1_a_lease_counts_from_when_its_round_left() -> None:
    """Hazard Q1: an answer that took long promises what is half over."""
    talk = led_by_1(timing=LEASES)
    one = talk["1"]
    one.now += 1.0
    one.beats()
    one.now += LEASE_S + 0.001
    talk.talk()  # followers' clocks stand where the message found them
    assert one.asks_to_read(lease=True) not in one.reads


def test_q2_a_lease_does_not_last_while_the_machine_sleeps() -> None:
    """Hazard Q2: the leader's clock stood still, and answers to older rounds change nothing."""
    talk = led_by_1(timing=LEASES)
    one = talk["1"]
    one.beats()
    talk.talk(1)  # the answers are on their way
    one.does(lambda: one.member.on_woken(one.now))
    talk.talk()
    asleep = one.asks_to_read(lease=True)
    assert asleep not in one.reads
    talk.talk()  # it asked a round, and that left after the machine woke
    assert asleep in one.reads
    assert one.asks_to_read(lease=True) in one.reads


def test_q3_a_promise_is_durable_before_it_is_given() -> None:
    """Hazard Q3."""
    two = Actor("2", timing=LEASES)
    two.disk_waits = True
    two.hears(append("1", 1, (0, 0), to="2"))
    assert two.says() == ""
    two.persist()
    assert two.disk.hard_state == HardState(1, None, promised_ms=125)
    (reply,) = two.outbox
    assert reply == msgspec.structs.replace(reply, promise_ms=113)


@pytest.mark.parametrize(
    "timing",
    [
        LEASES,
        Timing(),
        Timing((0.02, 0.03), 0.01),
        Timing((0.02, 0.03), 0.01, check_quorum=False, pre_vote=False),
    ],
)
def test_q3_a_promise_outlives_its_giver(timing: Timing) -> None:
    """Hazard Q3: an earlier life may have promised just before it ended, and longer than this one
    would: neither a vote nor a campaign before that is over."""
    two = Actor("2", timing=LEASES)
    two.hears(append("1", 1, (0, 0), to="2"))
    two.timing = timing
    two.crash_and_restart()
    born_s = two.now
    two.says()
    while (two.raft.deadline or 0.0) < born_s + 0.125:
        two.times_out()
        assert two.says() == ""
    two.now = born_s + 0.124
    two.hears(request_pre_vote("3", 8, 9, (9, 9), to="2"), request_vote("3", 9, (9, 9), to="2"))
    refused = two.says().splitlines()
    assert refused[0].endswith("next=9 refused")
    assert refused[1] == "2->3 RequestVoteReply term=1 refused"
    two.now = born_s + 0.126
    two.hears(request_vote("3", 9, (9, 9), to="2"))
    assert two.says() == "2->3 RequestVoteReply term=9 granted"


def test_q3_a_longer_promise_holds_under_the_leader_who_has_it() -> None:
    """Hazard Q3: that this life promises its leader less ends nothing."""
    two = Actor("2", timing=LEASES)
    two.hears(append("1", 1, (0, 0), to="2"))
    two.timing = Timing((0.02, 0.03), 0.01)
    two.crash_and_restart()
    two.hears(append("1", 1, (0, 0), to="2"))
    two.says()
    two.now += 0.1
    two.hears(request_vote("3", 9, (9, 9), to="2"))
    assert two.says() == "2->3 RequestVoteReply term=1 refused"


def test_a_promise_that_is_over_is_forgotten() -> None:
    """Otherwise a node that once had long timeouts would wait for them at every start."""
    two = Actor("2", timing=LEASES)
    two.hears(append("1", 1, (0, 0), to="2"))
    two.timing = Timing()
    two.crash_and_restart()
    two.now += 0.2
    two.hears(append("1", 1, (0, 0), to="2"))
    assert two.disk.hard_state == HardState(1, None)


def test_an_answer_to_a_leader_that_was_deposed_promises_nothing() -> None:
    two = Actor("2", timing=LEASES, term=5)
    two.hears(append("1", 1, (0, 0), to="2"))
    (reply,) = two.outbox
    assert reply == msgspec.structs.replace(reply, promise_ms=0)


@pytest.mark.parametrize(
    "options",
    [
        {"lease_clock_drift_max": 0.1},
        {"lease_clock_drift_max": 1.0, "fast_failover": False},
        {"lease_clock_drift_max": -0.1, "fast_failover": False},
        {"lease_clock_drift_max": 0.1, "fast_failover": False, "pre_vote": False},
        {"lease_clock_drift_max": 0.1, "fast_failover": False, "check_quorum": False},
    ],
)
def test_leases_need_what_makes_them_safe(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="lease_clock_drift_max"):
        Timing(**options)
