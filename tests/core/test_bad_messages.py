"""What no correct peer sends costs its sender the connection, and changes nothing here.

Rules of this file: before and after a refused message the core is the same, durable state and
all; what is refused says why, with the values.
"""

from __future__ import annotations

import pytest

from trioraft.core import events
from trioraft.core.config import Timing
from trioraft.core.errors import BadMessage
from trioraft.core.messages import Message
from trioraft.core.types import TERM_END, TERM_MAX, Role

from .conversation import Actor, entries_of, terms_of
from .messages_by_hand import append, matched, request_vote, vote

NO_PRE_VOTE = Timing(pre_vote=False)


def state_of(one: Actor) -> tuple[object, ...]:
    """Everything that a refused message must leave alone."""
    raft = one.raft
    return (
        raft.role,
        raft.hard_state,
        raft.leader_id,
        raft.deadline,
        terms_of(raft),
        raft.log.commit_index,
        one.disk.hard_state,
    )


def refuse(one: Actor, message: Message, why: str) -> None:
    """The message is refused for this reason, and nothing comes of it."""
    one.says()
    before = state_of(one)
    with pytest.raises(BadMessage, match=why):
        one.hears(message)
    assert state_of(one) == before
    assert one.says() == ""


GAP = append("2", 9, (1, 1), entries_of(9, first=3))
BACKWARDS = append("2", 9, (1, 1), entries_of(8, 7, first=2))
FROM_THE_FUTURE = append("2", 9, (1, 1), entries_of(10, first=2))
BEFORE_ITS_PREDECESSOR = append("2", 9, (5, 1), entries_of(4, first=2))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(GAP, id="gap"),
        pytest.param(BACKWARDS, id="terms go back"),
        pytest.param(FROM_THE_FUTURE, id="term beyond the leader's"),
        pytest.param(BEFORE_ITS_PREDECESSOR, id="term before prev_log_term"),
    ],
)
def test_entries_that_no_leader_sends_change_nothing_not_even_the_term(message: Message) -> None:
    refuse(Actor("1", term=1, log=entries_of(1)), message, r"does not continue")


def test_entries_that_no_leader_sends_do_not_end_a_candidacy() -> None:
    one = Actor("1", term=1, log=entries_of(1), timing=NO_PRE_VOTE)
    one.times_out()
    refuse(one, append("2", 2, (1, 1), entries_of(2, first=3)), r"does not continue")
    assert one.is_now(Role.CANDIDATE)


def test_entries_that_no_leader_sends_do_not_depose_a_leader() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(vote("2", 1))
    refuse(one, append("2", 9, (1, 1), entries_of(9, first=3)), r"does not continue")
    assert one.is_now(Role.LEADER)


def test_nobody_replaces_a_committed_entry() -> None:
    one = Actor("1", term=1, log=entries_of(1, 1))
    one.hears(append("2", 1, (1, 2), commit=2))
    refuse(
        one,
        append("3", 2, (1, 1), entries_of(2, first=2)),
        r"'3' would replace entry 2, but everything up to 2 is committed",
    )


def test_a_deposed_leaders_late_entries_are_stale_not_bad() -> None:
    """They may well contradict what was committed since: that is no offence."""
    one = Actor("1", term=2, log=entries_of(1, 2))
    one.hears(append("2", 2, (2, 2), commit=2))
    one.says()
    one.hears(append("3", 1, (1, 1), entries_of(1, first=2)))
    assert one.says() == "1->3 AppendEntriesReply term=2 rejected=1 conflict=(0,0)"


def test_a_second_leader_of_one_term_is_refused_by_a_follower() -> None:
    one = Actor("1")
    one.hears(append("2", 1))
    refuse(one, append("3", 1), r"'3' claims to lead term 1, which '2' leads")


def test_a_second_leader_of_one_term_is_refused_by_the_first() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(vote("2", 1))
    refuse(one, append("3", 1), r"'3' claims to lead term 1, which '1' leads")


def test_a_message_for_someone_else_is_refused_before_its_term_is_looked_at() -> None:
    refuse(Actor("1"), request_vote("2", 7, to="3"), r"from '2' to '3' arrived at '1'")


def test_a_message_from_oneself_is_refused() -> None:
    refuse(Actor("1"), request_vote("1", 7), r"from '1' to '1' arrived at '1'")


def test_an_acknowledgement_beyond_the_log_is_refused() -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    one.times_out()
    one.hears(vote("2", 1))
    refuse(one, matched("2", 1, 5), r"acknowledges entry 5, but the log of its leader ends at 1")


# -- terms that no elections explain ------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(append("2", 2**62), id="entries"),
        pytest.param(request_vote("2", TERM_MAX + 1, transfer=True), id="a request for a vote"),
        pytest.param(vote("2", TERM_MAX + 1, granted=False), id="an answer"),
    ],
)
@pytest.mark.parametrize("leads", [False, True])
def test_g2_no_term_is_believed_that_leaves_none_for_later(message: Message, leads: bool) -> None:
    one = Actor("1", timing=NO_PRE_VOTE)
    if leads:
        one.times_out()
        one.hears(vote("2", 1))
    refuse(one, message, rf"none after {TERM_MAX} is believed")


def test_a_jump_of_the_term_is_told_and_gone_along_with() -> None:
    one = Actor("1", term=7, timing=NO_PRE_VOTE)
    one.hears(append("2", TERM_MAX))
    told = [event for event in one.events if isinstance(event, events.TermJumped)]
    assert [(event.sender, event.previous, event.term) for event in told] == [("2", 7, TERM_MAX)]
    two = Actor("2", term=TERM_MAX, timing=NO_PRE_VOTE)
    one.times_out()
    asked = request_vote("1", TERM_MAX + 1, to="2")
    two.hears(asked)  # who stands there already believes the next one
    one.hears(vote("2", TERM_MAX + 1))
    assert two.raft.voted_for == "1"
    assert one.is_now(Role.LEADER)


def test_a_node_that_was_away_comes_back_to_a_quorum_beyond_the_bound() -> None:
    """One member's word took the others to the bound, and an election beyond it."""
    one = Actor("1", term=7, timing=NO_PRE_VOTE)
    beyond = TERM_MAX + 3
    for _ in range(2):  # however often one says so
        refuse(one, append("2", beyond), rf"none after {TERM_MAX} is believed")
    refuse(one, vote("9", beyond, granted=False), "is believed")  # no voter
    one.hears(vote("3", beyond, granted=False))
    assert one.raft.term == beyond
    told = [event for event in one.events if isinstance(event, events.TermJumped)]
    assert [(event.previous, event.term) for event in told] == [(7, beyond)]
    one.hears(append("2", beyond))
    assert one.raft.leader_id == "2"
    refuse(one, append("3", 2**62), rf"none after {TERM_MAX} is believed")


def test_the_most_that_a_quorum_says_bounds_what_one_of_it_says() -> None:
    one = Actor("1", term=7, timing=NO_PRE_VOTE)
    refuse(one, vote("2", TERM_MAX + 3, granted=False), "is believed")
    refuse(one, append("3", 2**62), "is believed")
    one.hears(append("2", TERM_MAX + 3))
    assert one.raft.term == TERM_MAX + 3


def test_an_empty_node_that_knows_no_voters_believes_who_feeds_it() -> None:
    joins = Actor("1", voters=())
    joins.hears(append("2", TERM_MAX + 3))
    assert joins.raft.term == TERM_MAX + 3


def test_g2_a_majority_that_lies_leaves_terms_for_later_too() -> None:
    """Else its word would take a node to a number that cannot be counted up."""
    one = Actor("1", term=7, timing=NO_PRE_VOTE)
    refuse(one, append("2", TERM_END + 1), "is believed")
    refuse(one, append("3", TERM_END + 1), "is believed")
    joins = Actor("1", voters=())
    refuse(joins, append("2", TERM_END + 1), "is believed")


@pytest.mark.parametrize("term", [0, 10])
def test_an_empty_node_or_a_few_elections_are_no_jump(term: int) -> None:
    one = Actor("1", term=term)
    one.hears(append("2", 10 + 2**20))
    assert not any(isinstance(event, events.TermJumped) for event in one.events)
