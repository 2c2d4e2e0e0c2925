"""Hazards V1-V6: one vote a term, whatever happens.

Rules of this file: node "1" is real, the others are played by hand. Expected effects are the
lines that node "1" says.
"""

from __future__ import annotations

import pytest

from trioraft.core.config import Timing
from trioraft.core.types import HardState, Role

from .conversation import FIVE, Actor, Conversation, entries_of, text
from .messages_by_hand import append, pre_vote, request_pre_vote, request_vote, vote

NO_PRE_VOTE = Timing(pre_vote=False)


def leader_of_term_1(voters: tuple[str, ...] = ("1", "2", "3")) -> Actor:
    """Node "1" as everybody's choice."""
    one = Actor("1", voters, timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(*(vote(voter, 1) for voter in voters if voter != "1"))
    assert one.is_now(Role.LEADER)
    one.says()
    return one


# -- V1: nothing is promised before it is durable ----------------------------------------------


def test_v1_a_vote_leaves_only_once_it_is_durable() -> None:
    one = Actor("1")
    one.disk_waits = True
    one.hears(request_vote("2", 1))
    assert one.says() == ""
    one.persist()
    assert one.says() == "1->2 RequestVoteReply term=1 granted"


def test_v1_a_voter_that_crashes_before_its_vote_is_durable_never_gave_it() -> None:
    one = Actor("1")
    one.disk_waits = True
    one.hears(request_vote("2", 1))
    one.crash_and_restart()
    one.disk_waits = False
    one.hears(request_vote("3", 1))
    assert one.says() == "1->3 RequestVoteReply term=1 granted"


def test_v1_a_voter_that_crashes_after_its_vote_was_durable_keeps_it() -> None:
    one = Actor("1")
    one.hears(request_vote("2", 1))
    one.crash_and_restart()
    one.hears(request_vote("3", 1), request_vote("2", 1))
    assert one.says() == text("""
        1->2 RequestVoteReply term=1 granted
        1->3 RequestVoteReply term=1 refused
        1->2 RequestVoteReply term=1 granted
    """)


def test_v1_a_candidate_asks_for_votes_only_once_its_own_is_durable() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.disk_waits = True
    one.times_out()
    assert one.is_now(Role.CANDIDATE)
    assert one.says() == ""
    one.persist()
    assert one.says() == text("""
        1->2 RequestVote term=1 log=(0,0)
        1->3 RequestVote term=1 log=(0,0)
    """)


def test_v1_a_candidate_that_crashes_before_its_vote_is_durable_may_vote_again() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.disk_waits = True
    one.times_out()
    one.crash_and_restart()
    one.disk_waits = False
    one.hears(request_vote("3", 1))
    assert one.says() == "1->3 RequestVoteReply term=1 granted"


def test_v1_a_candidates_own_vote_counts_only_once_it_is_durable() -> None:
    alone = Actor("1", ("1",))
    alone.disk_waits = True
    alone.times_out()
    assert alone.is_now(Role.CANDIDATE)
    alone.persist()
    assert alone.is_now(Role.LEADER)


def test_v1_a_write_of_an_earlier_candidacy_does_not_vouch_for_the_next() -> None:
    alone = Actor("1", ("1",))
    alone.disk_waits = True
    alone.times_out()
    alone.times_out()
    assert alone.raft.term == 2
    alone.persist(1)  # the write of term 1
    assert alone.disk.hard_state == HardState(1, "1")
    assert alone.is_now(Role.CANDIDATE)
    alone.persist()
    assert alone.is_now(Role.LEADER)


def test_v1_a_refusal_waits_until_the_term_it_bears_is_durable() -> None:
    one = Actor("1", log=entries_of(1, 1), term=1)
    one.disk_waits = True
    one.hears(request_vote("2", 5))  # a short log: refused, but the term is adopted
    assert one.says() == ""
    one.persist()
    assert one.says() == "1->2 RequestVoteReply term=5 refused"
    assert one.disk.hard_state == HardState(5, None)


# -- V2: a vote of a term never changes --------------------------------------------------------


def test_v2_stepping_down_within_a_term_keeps_the_vote() -> None:
    one = leader_of_term_1()
    one.times_out()  # no quorum answers: it steps down and stays in its term
    assert (one.raft.role, one.raft.term) == (Role.FOLLOWER, 1)
    one.says()
    one.hears(request_vote("2", 1, (9, 9)))
    assert one.says() == "1->2 RequestVoteReply term=1 refused"


def test_v2_a_candidate_that_loses_keeps_the_vote_for_itself() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(append("2", 1))
    assert one.is_now(Role.FOLLOWER)
    one.says()
    one.hears(request_vote("3", 1, (9, 9)))
    assert one.says() == "1->3 RequestVoteReply term=1 refused"
    assert one.raft.voted_for == "1"


def test_v2_a_new_term_frees_the_vote() -> None:
    one = Actor("1", term=1, voted_for="2")
    one.hears(request_vote("3", 2))
    assert one.says() == "1->3 RequestVoteReply term=2 granted"


def test_v2_a_message_of_the_same_term_does_not_free_the_vote() -> None:
    one = Actor("1", term=3, voted_for="2")
    one.hears(vote("3", 3), append("2", 3), request_vote("3", 3, (3, 9)))
    assert one.raft.voted_for == "2"
    assert one.says().splitlines()[-1] == "1->3 RequestVoteReply term=3 refused"


# -- V3: only answers to this very question count ----------------------------------------------


def test_v3_a_vote_of_an_older_term_does_not_count() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.times_out()
    one.hears(vote("2", 1), vote("3", 1))
    assert (one.raft.role, one.raft.term) == (Role.CANDIDATE, 2)
    one.hears(vote("3", 2))
    assert one.is_now(Role.LEADER)


def test_v3_a_vote_counts_once_however_often_it_arrives() -> None:
    one = Actor("1", FIVE, timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(vote("2", 1), vote("2", 1), vote("2", 1))
    assert one.is_now(Role.CANDIDATE)
    one.hears(vote("3", 1))
    assert one.is_now(Role.LEADER)


def test_v3_a_vote_of_someone_who_is_no_voter_does_not_count() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(vote("8", 1), vote("9", 1))
    assert one.is_now(Role.CANDIDATE)


def test_v3_a_vote_that_arrives_after_stepping_down_does_not_count() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(append("3", 1), vote("2", 1))
    assert one.is_now(Role.FOLLOWER)
    assert one.raft.leader_id == "3"


def test_v3_a_refusal_is_not_turned_into_a_vote_by_a_later_message() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(vote("2", 1, granted=False), vote("2", 1))
    assert one.is_now(Role.CANDIDATE)


# -- V4: a pre-vote is only a question ---------------------------------------------------------


@pytest.mark.parametrize("log", [(0, 0), (9, 9)], ids=["refused", "granted"])
def test_v4_a_pre_vote_changes_neither_term_nor_vote_nor_timer(log: tuple[int, int]) -> None:
    one = Actor("1", term=4, voted_for="3", log=entries_of(1, 4))
    before = (one.raft.hard_state, one.raft.deadline, one.raft.role, one.raft.leader_id)
    one.now += 0.1
    one.hears(request_pre_vote("2", 8, 9, log))
    verdict = "granted" if log == (9, 9) else "refused"
    assert one.says() == f"1->2 RequestPreVoteReply term=4 next=9 {verdict}"
    assert before == (one.raft.hard_state, one.raft.deadline, one.raft.role, one.raft.leader_id)


def test_v4_a_pre_vote_is_not_a_vote() -> None:
    one = Actor("1")
    one.times_out()
    one.hears(pre_vote("2", 0, 1))
    assert (one.raft.role, one.raft.term) == (Role.CANDIDATE, 1)
    one.hears(pre_vote("3", 0, 1), pre_vote("2", 0, 1), pre_vote("3", 1, 2))
    assert one.is_now(Role.CANDIDATE)


def test_v4_a_vote_is_not_a_pre_vote() -> None:
    one = Actor("1")
    one.times_out()
    one.hears(vote("2", 0), vote("3", 0))
    assert (one.raft.role, one.raft.term) == (Role.PRE_CANDIDATE, 0)


def test_v4_a_pre_vote_for_another_term_does_not_count() -> None:
    one = Actor("1", term=3)
    one.times_out()
    one.hears(pre_vote("2", 3, 3), pre_vote("3", 3, 5))
    assert (one.raft.role, one.raft.term) == (Role.PRE_CANDIDATE, 3)


def test_v4_a_pre_vote_for_a_term_that_is_not_ahead_is_refused() -> None:
    one = Actor("1", term=4)
    one.hears(request_pre_vote("2", 3, 4, (9, 9)))
    assert one.says() == "1->2 RequestPreVoteReply term=4 next=4 refused"


def test_v4_pre_voting_for_one_does_not_keep_from_voting_for_another() -> None:
    one = Actor("1")
    one.hears(request_pre_vote("2", 0, 1), request_vote("3", 1))
    assert one.says().splitlines()[-1] == "1->3 RequestVoteReply term=1 granted"


# -- V6: (term, index) is compared as a pair ---------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "granted"),
    [
        ((3, 3), True),  # the very same
        ((3, 9), True),  # same term, longer
        ((3, 2), False),  # same term, shorter
        ((4, 1), True),  # later term, though shorter
        ((2, 9), False),  # longer, though of an earlier term
        ((4, 9), True),
        ((2, 2), False),
    ],
)
def test_v6_logs_are_compared_by_last_term_and_only_then_by_length(
    theirs: tuple[int, int], granted: bool
) -> None:
    verdict = "granted" if granted else "refused"
    one = Actor("1", term=4, log=entries_of(1, 1, 3))
    one.hears(request_vote("2", 5, theirs))
    assert one.says() == f"1->2 RequestVoteReply term=5 {verdict}"
    one = Actor("1", term=4, log=entries_of(1, 1, 3))
    one.hears(request_pre_vote("2", 4, 5, theirs))
    assert one.says() == f"1->2 RequestPreVoteReply term=4 next=5 {verdict}"


def test_an_election_reads_like_this() -> None:
    talk = Conversation.of("1", "2", "3")
    talk["1"].times_out()
    talk.talk()
    assert talk.transcript() == text("""
        1->2 RequestPreVote term=0 next=1 log=(0,0)
        1->3 RequestPreVote term=0 next=1 log=(0,0)
        2->1 RequestPreVoteReply term=0 next=1 granted
        3->1 RequestPreVoteReply term=0 next=1 granted
        1->2 RequestVote term=1 log=(0,0)
        1->3 RequestVote term=1 log=(0,0)
        2->1 RequestVoteReply term=1 granted
        3->1 RequestVoteReply term=1 granted
        1->2 AppendEntries term=1 prev=(0,0) entries=[1] commit=0
        1->3 AppendEntries term=1 prev=(0,0) entries=[1] commit=0
        2->1 AppendEntriesReply term=1 match=1
        3->1 AppendEntriesReply term=1 match=1
    """)
