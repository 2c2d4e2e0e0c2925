"""Hazards A1-A9: entries are taken, acknowledged and committed by the letter of figure 2.

Rules of this file: node "1" is real, the others are played by hand.
"""

from __future__ import annotations

import pytest

from trioraft.core.config import Timing
from trioraft.core.errors import BadMessage
from trioraft.core.messages import AppendEntries
from trioraft.core.progress import Progress, ProgressState
from trioraft.core.types import Entry, NodeId, Role

from .conversation import FIVE, THREE, Actor, entries_of, terms_of, text
from .messages_by_hand import append, matched, rejected, vote

NO_PRE_VOTE = Timing(pre_vote=False)


def leader(*terms: int, voters: tuple[str, ...] = THREE, disk_waits: bool = False) -> Actor:
    """Node "1" as leader of the term after the last in `terms`, its no-op appended."""
    term = terms[-1] if terms else 0
    one = Actor("1", voters, term=term, log=entries_of(*terms), timing=NO_PRE_VOTE)
    one.times_out()
    one.disk_waits = disk_waits
    one.hears(*(vote(voter, term + 1) for voter in voters if voter != "1"))
    assert (one.raft.role, one.raft.term) == (Role.LEADER, term + 1)
    one.says()
    return one


def follower(*terms: int) -> Actor:
    """Node "1" as a follower with this log."""
    return Actor("1", term=terms[-1] if terms else 0, log=entries_of(*terms))


def progress_of(one: Actor, peer: NodeId) -> Progress:
    """What the leader knows of one follower."""
    leadership = one.raft.leadership
    assert leadership is not None
    return leadership.progress[peer]


# -- A1, A2: whose entries are committed by counting -------------------------------------------


def test_a1_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    one = leader(1, 2, voters=FIVE)  # leads term 3
    one.hears(matched("2", 3, 2), matched("3", 3, 2), matched("4", 3, 2), matched("5", 3, 2))
    assert one.raft.log.commit_index == 0
    one.hears(matched("2", 3, 3), matched("3", 3, 3))
    assert one.raft.log.commit_index == 3


def test_a2_entries_of_an_earlier_term_do_not_keep_later_ones_from_committing() -> None:
    one = leader(1, 1, 2, voters=FIVE)
    one.proposes(b"x")  # index 5; the no-op is 4
    one.hears(matched("2", 3, 3), matched("3", 3, 1))
    assert one.raft.log.commit_index == 0
    one.hears(matched("2", 3, 5), matched("3", 3, 5))
    assert one.raft.log.commit_index == 5
    assert [entry.index for entry in one.applied] == [1, 2, 3, 4, 5]


# -- A3: messages that come late, twice or empty -----------------------------------------------


@pytest.mark.parametrize(
    ("late", "reply"),
    [
        pytest.param(append("2", 2, (1, 1), entries_of(1, first=2)), "match=2", id="late"),
        pytest.param(append("2", 2, (2, 5)), "match=5", id="heartbeat"),
        pytest.param(append("2", 2, (1, 2)), "match=2", id="late heartbeat"),
        pytest.param(append("2", 2, (0, 0)), "match=0", id="heartbeat from the very start"),
        pytest.param(append("2", 2, (0, 0), entries_of(1, 1, 1, 2, 2)), "match=5", id="twice"),
    ],
)
def test_a3_a_message_whose_entries_are_here_removes_nothing(
    late: AppendEntries, reply: str
) -> None:
    one = follower(1, 1, 1, 2, 2)
    one.hears(late)
    assert terms_of(one.raft) == (1, 1, 1, 2, 2)
    assert one.says() == f"1->2 AppendEntriesReply term=2 {reply}"
    assert not one.unwritten


def test_a3_a_message_that_overlaps_adds_only_what_is_new() -> None:
    one = follower(1, 1)
    one.disk_waits = True
    one.hears(append("2", 1, (1, 1), entries_of(1, 1, first=2)))
    assert [ready.append for ready in one.unwritten] == [entries_of(1, first=3)]


def test_a3_only_a_real_conflict_removes_entries_and_all_after_it() -> None:
    one = follower(1, 1, 1, 1)
    one.hears(append("2", 2, (1, 1), entries_of(1, 2, first=2)))
    assert terms_of(one.raft) == (1, 1, 2)
    assert one.disk.entries[2].term == 2


# -- A4: nothing goes back ---------------------------------------------------------------------


def test_a4_reordered_acknowledgements_take_nothing_back() -> None:
    one = leader()
    one.proposes(b"a", b"b")
    one.hears(matched("2", 1, 3))
    assert (progress_of(one, "2").match_index, one.raft.log.commit_index) == (3, 3)
    one.hears(matched("2", 1, 1), matched("2", 1, 0))
    assert (progress_of(one, "2").match_index, one.raft.log.commit_index) == (3, 3)
    assert progress_of(one, "2").next_index == 4


def test_a4_a_followers_commit_index_does_not_go_back() -> None:
    one = follower(1, 1, 1)
    one.hears(append("2", 1, (1, 3), commit=3), append("2", 1, (1, 3), commit=1))
    one.hears(append("2", 1, (1, 1), commit=3))
    assert one.raft.log.commit_index == 3


# -- A5: what an answer says, and what it does not ---------------------------------------------


def test_a5_the_hint_of_a_rejection_is_never_a_match() -> None:
    one = leader(1, 1, 1)
    one.hears(rejected("2", 2, 3, conflict=(1, 2)))
    assert progress_of(one, "2").match_index == 0
    one.hears(rejected("3", 2, 3, conflict=(0, 3)))
    assert progress_of(one, "3").match_index == 0
    assert one.raft.log.commit_index == 0


def test_a5_an_acknowledgement_covers_what_its_message_covered() -> None:
    one = follower(1, 1, 1, 1, 1)
    one.hears(append("2", 2, (1, 1), entries_of(1, first=2), commit=5))
    assert one.says() == "1->2 AppendEntriesReply term=2 match=2"


def test_a5_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    one = leader()
    with pytest.raises(BadMessage, match=r"'2' acknowledges entry 7, but .* ends at 1"):
        one.hears(matched("2", 1, 7))
    assert progress_of(one, "2").match_index == 0


# -- A6: rejections that come late -------------------------------------------------------------


def test_a6_a_stale_rejection_does_not_move_next_below_match() -> None:
    one = leader(1, 1, 1)
    one.hears(rejected("2", 2, 3, conflict=(0, 2)), matched("2", 2, 4))
    before = progress_of(one, "2")
    assert (before.match_index, before.next_index) == (4, 5)
    one.says()
    one.hears(rejected("2", 2, 3, conflict=(0, 2)), rejected("2", 2, 4, conflict=(0, 1)))
    after = progress_of(one, "2")
    assert (after.match_index, after.next_index) == (4, 5)
    assert after.state is ProgressState.REPLICATE
    assert one.says() == ""


def test_a6_while_probing_only_the_answer_to_the_open_question_counts() -> None:
    one = leader(1, 1, 1)
    one.hears(rejected("2", 2, 3, conflict=(0, 2)))
    assert progress_of(one, "2").next_index == 2
    one.hears(rejected("2", 2, 3, conflict=(0, 1)))
    assert progress_of(one, "2").next_index == 2


def test_a6_a_rejection_after_a_gap_moves_back_to_the_gap_and_not_below_match() -> None:
    one = leader()
    one.hears(matched("2", 1, 1))
    for command in (b"a", b"b", b"c"):
        one.proposes(command)
    one.hears(matched("2", 1, 2))
    one.says()
    one.hears(rejected("2", 1, 3, conflict=(0, 1)))  # a hint below the match is not believed
    assert one.says() == "1->2 AppendEntries term=1 prev=(1,2) entries=[1,1] commit=2"


# -- A7: how far a follower may commit ---------------------------------------------------------


def test_a7_a_follower_commits_no_further_than_the_message_reaches() -> None:
    """Entries 3 to 5 are here, but nobody said that they are the leader's."""
    one = follower(1, 1, 1, 1, 1)
    one.hears(append("2", 2, (1, 2), commit=5))
    assert one.raft.log.commit_index == 2
    one.hears(append("2", 2, (1, 2), entries_of(1, first=3), commit=5))
    assert one.raft.log.commit_index == 3


def test_a7_a_rejected_message_commits_nothing() -> None:
    one = follower(1, 1)
    one.hears(append("2", 2, (2, 2), commit=2))
    assert one.raft.log.commit_index == 0


# -- A8: who counts ----------------------------------------------------------------------------


def test_a8_a_leader_does_not_commit_alone() -> None:
    one = leader()
    one.proposes(b"x")
    one.beats()
    assert one.raft.log.commit_index == 0


def test_a8_the_leaders_own_copy_counts_only_once_it_is_durable() -> None:
    one = leader(disk_waits=True)
    one.hears(matched("2", 1, 1))
    assert one.raft.log.commit_index == 0
    one.persist()
    assert one.raft.log.commit_index == 1


def test_a8_a_single_voters_entry_counts_only_once_it_is_durable() -> None:
    one = Actor("1", ("1",))
    one.times_out()
    assert one.is_now(Role.LEADER)
    one.disk_waits = True
    one.proposes(b"x")
    assert one.raft.log.commit_index == 1
    one.persist()
    assert one.applied_commands() == [b"x"]


def test_a8_a_majority_without_the_leader_commits_and_the_leader_applies_later() -> None:
    one = leader(disk_waits=True)
    one.hears(matched("2", 1, 1), matched("3", 1, 1))
    assert one.raft.log.commit_index == 1
    assert one.applied == []  # not before it is durable here
    one.persist()
    assert [entry.index for entry in one.applied] == [1]


def test_a8_who_is_no_voter_does_not_count() -> None:
    one = leader()
    one.hears(matched("9", 1, 1))
    assert one.raft.log.commit_index == 0


# -- A9: heartbeats take the same road ---------------------------------------------------------


def test_a9_a_heartbeat_of_a_later_term_is_obeyed_like_any_append() -> None:
    one = leader()
    one.hears(append("2", 5))
    assert (one.raft.role, one.raft.term, one.raft.leader_id) == (Role.FOLLOWER, 5, "2")
    assert one.disk.hard_state.term == 5


def test_a9_the_answer_of_a_later_term_deposes_a_leader_once() -> None:
    one = leader()
    one.hears(rejected("2", 4, 0), rejected("3", 4, 0), matched("3", 1, 1))
    assert (one.raft.role, one.raft.term, one.raft.voted_for) == (Role.FOLLOWER, 4, None)


# -- batches and windows -----------------------------------------------------------------------


def test_what_was_proposed_together_leaves_in_one_message_a_follower() -> None:
    one = leader()
    one.hears(matched("2", 1, 1), matched("3", 1, 1))
    one.says()
    one.proposes(b"a", b"b", b"c")
    assert one.says() == text("""
        1->2 AppendEntries term=1 prev=(1,1) entries=[1,1,1] commit=1
        1->3 AppendEntries term=1 prev=(1,1) entries=[1,1,1] commit=1
    """)


def test_an_entry_is_what_was_proposed() -> None:
    one = leader()
    one.proposes(b"a")
    assert one.disk.entries[-1] == Entry(2, 1, b"a")
