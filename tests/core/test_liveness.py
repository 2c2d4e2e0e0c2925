"""Hazards L1-L6 and L9: a cluster that could have a leader gets one, and keeps it.

Rules of this file: where one node's answer decides, that node stands alone; where several must
get out of each other's way, they talk.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from trioraft.core import events, reasons
from trioraft.core.config import Timing
from trioraft.core.types import Role

from .conversation import Actor, Conversation, between, entries_of, text
from .messages_by_hand import append, matched, pre_vote, request_pre_vote, request_vote, vote

TIMING = Timing()
LOW_S = TIMING.election_timeout_s[0]
PROTECTION_S = TIMING.leader_protection_s


def follower_of_2(*, now: float = 10.0) -> Actor:
    """Node "1" has just heard the leader of term 1, node "2"."""
    one = Actor("1", now=now)
    one.hears(append("2", 1))
    one.says()
    return one


# -- L1, L2: terms and logs that diverged ------------------------------------------------------


def longest_log_and_highest_term() -> Conversation:
    """1 has the longest log, 2 the highest term, 3 is gone."""
    talk = Conversation(
        Actor("1", term=5, log=entries_of(1, 1, 5)),
        Actor("2", term=9, log=entries_of(1, 1)),
        Actor("3"),
    )
    talk.cut_off("1", "2")
    return talk


def test_l1_the_longest_log_and_the_highest_term_do_not_block_each_other() -> None:
    talk = longest_log_and_highest_term()
    talk["1"].times_out()
    talk.talk()
    talk["1"].times_out()
    talk.talk()
    assert between(talk.transcript(), "1", "2") == text("""
        1->2 RequestPreVote term=5 next=6 log=(5,3)
        2->1 RequestPreVoteReply term=9 next=6 refused
        1->2 RequestPreVote term=9 next=10 log=(5,3)
        2->1 RequestPreVoteReply term=9 next=10 granted
        1->2 RequestVote term=10 log=(5,3)
        2->1 RequestVoteReply term=10 granted
        1->2 AppendEntries term=10 prev=(5,3) entries=[10] commit=0
        2->1 AppendEntriesReply term=10 rejected=3 conflict=(0,3)
        1->2 AppendEntries term=10 prev=(1,2) entries=[5,10] commit=0
        2->1 AppendEntriesReply term=10 match=4
    """)


def test_l1_whoever_asks_first_the_longest_log_wins() -> None:
    talk = longest_log_and_highest_term()
    for _ in range(3):
        for node in ("2", "1"):
            if talk[node].raft.role is not Role.LEADER:
                talk.pass_time(LOW_S)
                talk[node].times_out()
                talk.talk()
    assert talk["1"].is_now(Role.LEADER)


def test_l1_without_pre_vote_they_do_not_block_each_other_either() -> None:
    timing = Timing(pre_vote=False)
    talk = Conversation(
        Actor("1", term=5, log=entries_of(1, 1, 5), timing=timing),
        Actor("2", term=9, log=entries_of(1, 1), timing=timing),
        Actor("3", timing=timing),
    )
    talk.cut_off("1", "2")
    for node in ("2", "1"):
        talk[node].times_out()
        talk.talk()
    assert talk["1"].is_now(Role.LEADER)


def test_l2_a_restarted_node_with_an_old_term_grants_and_catches_up() -> None:
    two = Actor("2", term=7, log=entries_of(1, 7))
    restarted = Actor("3", term=2, log=entries_of(1))
    talk = Conversation(Actor("1"), two, restarted)
    talk.cut_off("2", "3")
    restarted.times_out()
    talk.talk()
    assert restarted.raft.term == 7  # refused, and it knows why
    talk["2"].times_out()
    talk.talk()
    assert two.is_now(Role.LEADER)
    assert restarted.raft.leader_id == "2"


# -- L3: the former leader, and what a granted pre-vote is not ---------------------------------


def test_l3_a_follower_grants_the_pre_vote_of_its_own_former_leader() -> None:
    one = follower_of_2()
    one.hears(request_pre_vote("3", 1, 2), request_pre_vote("2", 1, 2))
    assert one.says() == text("""
        1->3 RequestPreVoteReply term=1 next=2 refused
        1->2 RequestPreVoteReply term=1 next=2 granted
    """)


def test_l3_a_follower_grants_the_vote_of_its_own_former_leader() -> None:
    one = follower_of_2()
    one.hears(request_vote("2", 2))
    assert one.says() == "1->2 RequestVoteReply term=2 granted"


def test_l3_granting_a_pre_vote_is_no_contact_with_a_leader() -> None:
    one = follower_of_2()
    one.now += PROTECTION_S
    deadline = one.raft.deadline
    one.hears(request_pre_vote("3", 1, 2))
    one.hears(request_pre_vote("3", 1, 2), request_pre_vote("2", 1, 2))
    assert one.says().count("granted") == 3
    assert one.raft.deadline == deadline


def test_a_late_refusal_of_an_earlier_question_does_not_outweigh_the_answer_to_this_one() -> None:
    """The first was refused by somebody who still heard the leader; that comes back only when the
    second is under way, about the same term. On long lines it cost a whole timeout."""
    one = Actor("1", ("1", "2", "3"))
    one.times_out()
    one.times_out()
    one.says()
    one.hears(pre_vote("2", 0, 1, granted=False), pre_vote("2", 0, 1))
    assert one.is_now(Role.CANDIDATE)


# -- L4, L5, L6: when a follower lets go of its leader -----------------------------------------


def test_l4_a_pre_candidate_knows_no_leader_and_protects_none() -> None:
    one = follower_of_2()
    one.loses("2")
    one.times_out()
    assert one.is_now(Role.PRE_CANDIDATE)
    assert one.raft.leader_id is None
    one.says()
    one.hears(request_pre_vote("3", 1, 2))
    assert one.says() == "1->3 RequestPreVoteReply term=1 next=2 granted"


def test_l5_a_tie_of_timer_and_protection_costs_nothing() -> None:
    """Both heard the leader at the same moment; the quicker one's question is not refused."""
    one = follower_of_2()
    one.now += LOW_S
    one.hears(request_pre_vote("3", 1, 2))
    assert one.says() == "1->3 RequestPreVoteReply term=1 next=2 granted"


def test_l5_protection_ends_a_little_before_the_lowest_timeout() -> None:
    one = follower_of_2()
    one.now = 10.0 + LOW_S - TIMING.heartbeat_interval_s / 2 - 0.001
    one.hears(request_pre_vote("3", 1, 2))
    one.now += 0.002
    one.hears(request_pre_vote("3", 1, 2))
    assert one.says() == text("""
        1->3 RequestPreVoteReply term=1 next=2 refused
        1->3 RequestPreVoteReply term=1 next=2 granted
    """)


def test_l6_a_heartbeat_handled_before_the_expired_timer_disarms_it() -> None:
    one = follower_of_2()
    one.now += 5.0  # the process stood still: the timer is long due, a heartbeat waits
    one.hears(append("2", 1))
    one.says()
    one.does(lambda: one.raft.on_timeout(one.now))
    assert (one.raft.role, one.says()) == (Role.FOLLOWER, "")


# -- L9: one timer, one heartbeat loop ---------------------------------------------------------


def test_l9_stepping_down_within_a_term_leaves_one_timer() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    asked_until = one.raft.deadline
    assert asked_until is not None
    one.now += 0.1
    one.hears(append("2", 1))
    one.now = asked_until  # the candidate's timer would ring now
    one.does(lambda: one.raft.on_timeout(one.now))
    assert one.is_now(Role.FOLLOWER)
    assert one.raft.deadline is not None
    assert one.raft.deadline > asked_until


def test_l9_a_candidate_that_meets_a_later_term_starts_its_timer_anew() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.now = (one.raft.deadline or 0.0) - 0.001
    one.hears(vote("2", 7, granted=False))
    assert one.is_now(Role.FOLLOWER)
    assert (one.raft.deadline or 0.0) >= one.now + LOW_S


def test_l9_a_deposed_leader_beats_no_more() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1))
    beat_at = one.raft.heartbeat_deadline
    assert beat_at is not None
    one.hears(append("2", 2))
    one.says()
    assert one.raft.heartbeat_deadline is None
    one.now = beat_at
    one.does(lambda: one.raft.on_heartbeat_due(one.now))
    assert one.says() == ""


def test_l9_a_leader_reelected_within_one_interval_beats_once_an_interval() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1))
    one.hears(vote("3", 2, granted=False))
    assert one.is_now(Role.FOLLOWER)
    one.times_out()
    one.hears(vote("2", 3))
    assert one.is_now(Role.LEADER)
    one.says()
    first = one.now
    one.beats()
    assert one.now == first + TIMING.heartbeat_interval_s
    assert len(one.says().splitlines()) == 2
    one.does(lambda: one.raft.on_heartbeat_due(one.now))
    assert one.says() == ""


# -- fast failover: a hint, never proof --------------------------------------------------------


def test_a_lost_connection_to_the_leader_brings_the_election_forward() -> None:
    one = follower_of_2()
    one.loses("2")
    assert one.raft.deadline is not None
    assert one.raft.deadline <= one.now + TIMING.fast_failover_spread_s
    one.times_out()
    assert one.is_now(Role.PRE_CANDIDATE)
    assert one.raft.last_reason == reasons.PeerLost("2")


def test_a_node_that_lost_its_leader_for_good_asks_for_ever_and_never_slower_than_usual() -> None:
    """Cut off for hours: the haste of the first attempts doubles away, it does not overflow."""
    one = follower_of_2()
    one.loses("2")
    for _ in range(3000):
        before = one.now
        one.times_out()
        assert one.now - before <= TIMING.election_timeout_s[1]
    assert one.is_now(Role.PRE_CANDIDATE)


def test_a_lost_connection_to_anyone_else_means_nothing() -> None:
    one = follower_of_2()
    deadline = one.raft.deadline
    one.loses("3")
    assert one.raft.deadline == deadline


def test_a_heartbeat_after_the_hint_takes_it_back() -> None:
    one = follower_of_2()
    deadline = one.raft.deadline
    one.loses("2")
    one.hears(append("2", 1))
    assert one.raft.deadline == deadline
    one.says()
    one.hears(request_pre_vote("3", 1, 2))
    assert one.says() == "1->3 RequestPreVoteReply term=1 next=2 refused"


def test_after_a_heartbeat_the_next_loss_is_news_again_and_silence_is_only_silence() -> None:
    one = follower_of_2()
    one.loses("2")
    one.hears(append("2", 1))
    one.loses("2")
    assert (one.raft.deadline or 0.0) <= one.now + TIMING.fast_failover_spread_s
    one.hears(append("2", 1))
    one.times_out()
    assert isinstance(one.raft.last_reason, reasons.NoContact)
    assert (one.raft.deadline or 0.0) >= one.now + LOW_S  # no haste: nobody's connection closed


def test_a_broken_cable_between_two_nodes_disturbs_nobody() -> None:
    talk = Conversation.of("1", "2", "3")
    talk.elect("2")
    talk["1"].loses("2")
    talk.lost |= {("1", "2"), ("2", "1")}
    talk["1"].times_out()
    talk.transcript()
    talk.talk()
    assert talk.transcript() == text("""
        1->2 RequestPreVote term=1 next=2 log=(1,1) (lost)
        1->3 RequestPreVote term=1 next=2 log=(1,1)
        3->1 RequestPreVoteReply term=1 next=2 refused
    """)
    assert talk["2"].is_now(Role.LEADER)


def test_both_connections_of_a_lost_leader_are_one_hint() -> None:
    """Drawn anew for each, the least of several draws would crowd the followers together."""
    one = follower_of_2()
    one.loses("2")
    deadline = one.raft.deadline
    one.loses("2")
    one.loses("2")
    assert one.raft.deadline == deadline


def test_of_two_that_lost_their_leader_at_once_one_goes_first() -> None:
    """Both would win the pre-vote, and split the votes."""
    talk = Conversation.of("1", "2", "3")
    talk.elect("3")
    talk.lost |= {("1", "3"), ("2", "3")}
    for node_id in ("1", "2"):
        talk[node_id].loses("3")
        talk[node_id].times_out()
    talk.talk()
    assert talk["2"].is_now(Role.LEADER)
    assert talk["2"].raft.term == 2


def test_a_campaign_that_goes_first_in_vain_is_in_nobodys_way_after_that() -> None:
    one = Actor("1", voters=("0", "1", "2"))
    one.hears(append("2", 1))
    one.times_out()
    one.says()
    one.hears(request_pre_vote("0", 1, 2))
    assert one.says() == "1->0 RequestPreVoteReply term=1 next=2 refused"
    one.times_out()
    one.says()
    one.hears(request_pre_vote("0", 1, 2))
    assert one.says() == "1->0 RequestPreVoteReply term=1 next=2 granted"


@pytest.mark.parametrize("why", ["all hurry", "the way is long"])
def test_where_elections_are_tight_it_goes_first_again_but_not_always(why: str) -> None:
    """Two that ask within a message's way of each other would split the votes in each round."""
    one = Actor("1", voters=("0", "1", "2"))
    if why == "all hurry":
        one.hears(append("2", 1))
        one.loses("2")
    else:
        one.hears(replace(append("2", 1), round_trip_ms=400))
    said = []
    for _ in range(3):
        one.times_out()
        one.says()
        one.hears(request_pre_vote("0", 1, 2))
        said.append(one.says().split()[-1])
    assert said == ["refused", "refused", "granted"]


def test_a_campaign_goes_first_for_no_longer_than_patience_is_stretched() -> None:
    """However long a round trip is said to be: else it is in everybody's way for an hour."""
    one = Actor("1", voters=("0", "1", "2"))
    one.hears(replace(append("2", 1), round_trip_ms=3_600_000))
    one.times_out()
    one.now += one.timing.election_timeout_s[0] * one.timing.widening_max
    one.says()
    one.hears(request_pre_vote("0", 1, 2))
    assert one.says() == "1->0 RequestPreVoteReply term=1 next=2 granted"


def test_a_hurried_campaign_is_tried_again_soon_and_ever_less_soon() -> None:
    one = follower_of_2()
    one.loses("2")
    patience_s = []
    for _ in range(4):
        one.times_out()
        assert one.raft.deadline is not None
        patience_s.append(one.raft.deadline - one.now)
    spread_s = TIMING.fast_failover_spread_s
    for attempt, patience in enumerate(patience_s):
        assert spread_s * 2**attempt <= patience <= 2 * spread_s * 2**attempt


def test_no_fast_failover_without_pre_vote() -> None:
    """Without the question, a hint alone would depose a healthy leader."""
    one = Actor("1", timing=Timing(pre_vote=False))
    one.hears(append("2", 1))
    deadline = one.raft.deadline
    one.loses("2")
    assert one.raft.deadline == deadline


# -- a leader that loses a follower's connection, or its messages ------------------------------


def test_a_lost_message_is_found_out_by_the_next_heartbeats() -> None:
    talk = Conversation.of("1", "2", "3")
    one = talk.elect("1")
    one.beats()
    talk.talk()
    talk.lost.add(("1", "2"))
    one.proposes(b"a")
    talk.talk()
    talk.heal()
    talk.transcript()
    for _ in range(3):  # the commit index; a regular heartbeat; one that finds nothing has moved
        one.beats()
        talk.talk()
    one.beats()
    talk.talk()
    assert between(talk.transcript(), "1", "2") == text("""
        1->2 AppendEntries term=1 prev=(1,1) entries=[] commit=2
        2->1 AppendEntriesReply term=1 match=1
        1->2 AppendEntries term=1 prev=(1,1) entries=[] commit=2
        2->1 AppendEntriesReply term=1 match=1
        1->2 AppendEntries term=1 prev=(1,1) entries=[] commit=2
        1->2 AppendEntries term=1 prev=(1,2) entries=[] commit=2
        2->1 AppendEntriesReply term=1 match=1
        2->1 AppendEntriesReply term=1 rejected=2 conflict=(0,2)
        1->2 AppendEntries term=1 prev=(1,1) entries=[1] commit=2
        2->1 AppendEntriesReply term=1 match=2
        1->2 AppendEntries term=1 prev=(1,2) entries=[] commit=2
        2->1 AppendEntriesReply term=1 match=2
    """)
    assert talk["2"].applied_commands() == [b"a"]


def test_after_a_lost_connection_everything_unacknowledged_is_sent_again() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.hears(vote("2", 1), matched("2", 1, 1), matched("3", 1, 1))
    one.proposes(b"a")
    one.proposes(b"b")
    one.says()
    one.loses("2")
    assert one.says() == "1->2 AppendEntries term=1 prev=(1,1) entries=[1,1] commit=1"


def test_a_won_pre_vote_is_told_as_such() -> None:
    one = Actor("1")
    one.times_out()
    one.hears(pre_vote("2", 0, 1))
    won = [event for event in one.events if isinstance(event, events.RoleChanged)][-1]
    assert (won.role, str(won.reason)) == (Role.CANDIDATE, "pre-vote won with 2 votes")
