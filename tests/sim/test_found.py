"""Mistakes that the simulator has found, each as small as it could be made.

Rules of this file: a case names the seed that found it, and needs no seed itself.
"""

from __future__ import annotations

from tests.core.conversation import Actor, Conversation, entries_of
from trioraft.core.messages import RequestReadIndex
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import Configuration, Role


def a_removal_that_only_one_node_has_finished() -> Conversation:
    """The leader of term 1, node 1, was taking itself out: it has left the joint configuration,
    node 2 has not heard of that; then both crashed."""
    joint = configuration_entry(Configuration(("2",), outgoing=("1", "2")), 2, 1)
    final = configuration_entry(Configuration(("2",)), 3, 1)
    first = entries_of(1)
    return Conversation(
        Actor("1", ("1", "2"), term=1, log=(*first, joint, final)),
        Actor("2", ("1", "2"), term=1, log=(*first, joint)),
    )


def test_a_node_that_was_taken_out_campaigns_until_that_is_committed() -> None:
    """Seed 3135 of tier 1. Node 2 needs a vote of node 1, whose log is longer: so it can never be
    elected, and only node 1 can finish what it began."""
    talk = a_removal_that_only_one_node_has_finished()
    for _ in range(4):
        for node in ("1", "2"):
            talk[node].times_out()
            talk.talk()
    assert any(talk[node].raft.role is Role.LEADER for node in ("1", "2"))


def test_a_read_that_is_asked_again_is_kept_once() -> None:
    """Seen in a trace of tier 1. A follower asks again after an election timeout,
    and the network may double what it says; a leader that cannot confirm reads yet keeps each copy,
    without a bound, and answers each."""
    talk = Conversation.of("1", "2", "3")
    leader = talk.elect("1")
    talk.talk()
    talk.transcript()
    for _ in range(50):
        leader.hears(RequestReadIndex("2", "1", leader.raft.term, 7))
    talk.talk()
    answers = [x for x in talk.transcript().splitlines() if "RequestReadIndexReply" in x]
    assert 1 <= len(answers) <= 2
