"""The checks themselves: a state that must not be is found, and named with its values.

Rules of this file: take a healthy state, break it by hand in one place, and see the check bite.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trioraft.core.config import Timing
from trioraft.core.errors import InvariantViolation
from trioraft.core.invariants import ClusterInvariants, NodeFacts, check_node, check_progressed
from trioraft.core.raft import Raft
from trioraft.core.types import Entry, EntryKind, Role

from .conversation import Actor, Conversation, entries_of
from .messages_by_hand import append, request_vote, vote

NO_PRE_VOTE = Timing(pre_vote=False)


def follower(*terms: int, node_id: str = "1", commit: int = 0) -> Raft:
    """A follower with this log, committed up to `commit`."""
    other = "2" if node_id == "1" else "1"
    actor = Actor(node_id, term=max(terms, default=0), log=entries_of(*terms))
    last = terms[-1] if terms else 0
    actor.hears(append(other, last, (last, len(terms)), commit=commit, to=node_id))
    return actor.raft


def leader(node_id: str = "1", *terms: int) -> Raft:
    """A leader of the term after its log's last."""
    term = max(terms, default=0) + 1
    actor = Actor(node_id, term=term - 1, log=entries_of(*terms), timing=NO_PRE_VOTE)
    actor.times_out()
    other = "2" if node_id == "1" else "1"
    actor.hears(vote(other, term, to=node_id))
    assert actor.is_now(Role.LEADER)
    return actor.raft


def test_healthy_nodes_pass() -> None:
    for raft in (follower(), follower(1, 1, 2, commit=2), leader(), leader("1", 1, 2)):
        check_node(raft)


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (lambda r: setattr(r.log, "commit_index", 9), r"commit 9 <= last 3 does not hold"),
        (lambda r: setattr(r.log, "applied_index", 3), r"applied 3 <= commit 2"),
        (lambda r: setattr(r.log, "handed_index", 2), r"stable 3 <= handed out 2"),
        (lambda r: setattr(r.log, "stable_index", 1), r"applied 2, durable only up to 1"),
        (lambda r: setattr(r, "term", 1), r"last entry is of term 2, the node in term 1"),
        (lambda r: setattr(r, "role", Role.LEADER), r"leadership exists exactly while"),
        (lambda r: setattr(r, "role", Role.CANDIDATE), r"it campaigned, but its vote is None"),
        (lambda r: setattr(r, "role", Role.PRE_CANDIDATE), r"knows the leader '2' \(hazard L4\)"),
        (lambda r: setattr(r, "leader_id", "1"), r"takes itself for the leader"),
        (lambda r: r._timer.stop(), r"no election timer runs"),
    ],
)
def test_a_broken_follower_is_found(break_it: Callable[[Raft], None], found: str) -> None:
    raft = follower(1, 1, 2, commit=2)
    break_it(raft)
    with pytest.raises(InvariantViolation, match=found):
        check_node(raft)


@pytest.mark.parametrize(
    ("match", "next_index"), [(2, 2), (-1, 1), (0, 9)], ids=["next = match", "negative", "beyond"]
)
def test_a_broken_progress_is_found(match: int, next_index: int) -> None:
    raft = leader("1", 1, 2)
    assert raft.leadership is not None
    progress = raft.leadership.progress["2"]
    progress.match_index, progress.next_index = match, next_index
    with pytest.raises(InvariantViolation, match=rf"match {match} < next {next_index}"):
        check_node(raft)


def test_a_leader_that_knows_another_leader_is_found() -> None:
    raft = leader()
    raft.leader_id = "2"
    with pytest.raises(InvariantViolation, match=r"it leads, and takes '2' for the leader"):
        check_node(raft)


def test_a_leader_without_an_entry_of_its_term_is_found() -> None:
    raft = leader("1", 1, 1)
    raft.log.truncate(3)
    with pytest.raises(InvariantViolation, match="a leader has an entry of its own term"):
        check_node(raft)


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (lambda r: setattr(r, "term", 1), r"the term went back from 2"),
        (lambda r: setattr(r, "voted_for", "3"), r"its vote went from '2' to '3'"),
        (lambda r: setattr(r, "voted_for", None), r"its vote went from '2' to None"),
        (lambda r: setattr(r.log, "commit_index", 1), r"commit index went from 2 to 1"),
        (lambda r: setattr(r.log, "applied_index", 1), r"applied index went from 2 to 1"),
        (
            lambda r: r.log._entries.__setitem__(1, Entry(2, 1, b"other")),
            r"committed Entry\(index=2, .* has become Entry\(index=2, .*b'other'",
        ),
    ],
)
def test_going_back_is_found(break_it: Callable[[Raft], None], found: str) -> None:
    raft = follower(1, 1, 2, commit=2)
    raft.voted_for = "2"
    before = NodeFacts.of(raft)
    check_progressed(before, raft)
    break_it(raft)
    with pytest.raises(InvariantViolation, match=found):
        check_progressed(before, raft)


def test_a_new_term_may_take_the_vote() -> None:
    raft = follower(1)
    raft.voted_for = "2"
    before = NodeFacts.of(raft)
    raft.term, raft.voted_for = 2, None
    check_progressed(before, raft)


# -- across nodes ------------------------------------------------------------------------------


def test_two_leaders_of_one_term_are_found() -> None:
    checks = ClusterInvariants()
    checks.observe(leader("1"))
    with pytest.raises(InvariantViolation, match=r"'1' has led this very term"):
        checks.observe(leader("2"))


def test_two_leaders_of_one_term_are_found_though_the_first_is_long_gone() -> None:
    checks = ClusterInvariants()
    first = leader("1")
    checks.observe(first)
    first.stop("killed", 99.0)
    checks.observe(first)
    with pytest.raises(InvariantViolation, match="election safety"):
        checks.observe(leader("2"))


def test_logs_that_part_before_an_equal_entry_are_found() -> None:
    checks = ClusterInvariants()
    checks.observe(follower(1, 2, 3))
    with pytest.raises(InvariantViolation, match="log matching"):
        checks.observe(follower(1, 1, 3, node_id="2"))


def test_different_committed_entries_are_found() -> None:
    checks = ClusterInvariants()
    checks.observe(follower(1, 1, commit=2))
    with pytest.raises(InvariantViolation, match="state-machine safety"):
        checks.observe(follower(1, 2, node_id="2", commit=2))


def test_a_snapshot_of_something_else_is_found() -> None:
    checks = ClusterInvariants()
    checks.observe(follower(1, 1, 1, commit=3))
    other = follower(1, 2, 2, node_id="2", commit=3)
    other.log.compact(2)
    with pytest.raises(InvariantViolation, match="a snapshot of term 2 stands for committed"):
        checks.observe(other)


def test_a_leader_that_lacks_a_committed_entry_is_found() -> None:
    checks = ClusterInvariants()
    checks.observe(follower(1, 2, commit=2))
    with pytest.raises(InvariantViolation, match="leader completeness"):
        checks.observe(leader("3", 1, 1, 2))


def test_a_leader_of_an_earlier_term_may_lack_what_was_committed_after_it() -> None:
    checks = ClusterInvariants()
    stale = leader("3", 1)  # of term 2
    checks.observe(stale)
    checks.observe(follower(1, 3, commit=2))
    checks.observe(stale)


def test_a_second_vote_of_one_term_is_found_across_lives() -> None:
    checks = ClusterInvariants()
    checks.on_sent(vote("1", 5, to="2"))
    checks.on_sent(vote("1", 5, to="2"))
    checks.on_sent(vote("1", 5, granted=False, to="3"))
    checks.on_restart("1")
    with pytest.raises(InvariantViolation, match=r"'1' voted for '2' and for '3' in term 5"):
        checks.on_sent(vote("1", 5, to="3"))
    with pytest.raises(InvariantViolation, match=r"'1' voted for '2' and for '1' in term 5"):
        checks.on_sent(request_vote("1", 5, to="3"))


def test_a_restart_may_forget_what_was_not_durable() -> None:
    checks = ClusterInvariants()
    checks.observe(follower(1, 1, 2, commit=2))
    checks.on_restart("1")
    checks.observe(follower(1, 1))


def test_a_whole_conversation_passes_and_is_counted() -> None:
    talk = Conversation.of("1", "2", "3")
    talk.elect("1").proposes(b"a", b"b")
    talk.talk()
    talk["1"].beats()
    talk.talk()
    assert talk.checks.leaders == {1: "1"}
    first, *commands = talk.checks.committed.values()
    assert first.kind == EntryKind.CONFIGURATION
    assert [entry.data for entry in commands] == [b"a", b"b"]
