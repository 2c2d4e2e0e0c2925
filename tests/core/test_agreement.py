"""Agreement on results, by hand: who asks, who answers, and that nobody answers an answer."""

from __future__ import annotations

from functools import partial

from trioraft.core.agreement import POINTS_EVERY
from trioraft.core.messages import ResultsCheck
from trioraft.core.types import Role

from .conversation import Conversation


def test_e4_an_answer_is_never_taken_for_a_question() -> None:
    """Found by the simulator, on a network that duplicates: a leader that had stepped down within
    its term answered the answers to its question, and was answered in turn, without end."""
    talk = Conversation.of("1", "2", "3")
    leader = talk.elect("1")
    for actor in (leader, talk["2"]):
        actor.does(partial(actor.raft.on_results, POINTS_EVERY, 10))
    term = leader.raft.term
    question = ResultsCheck("1", "2", term, POINTS_EVERY, 10)
    talk["2"].says()
    talk["2"].hears(question)
    answer = ResultsCheck("2", "1", term, POINTS_EVERY, 10)
    assert list(talk["2"].outbox) == [answer]
    talk.cut_off("1")
    while leader.is_now(Role.LEADER):
        leader.times_out()
    assert leader.raft.term == term
    leader.says()
    leader.hears(answer, answer)
    assert leader.says() == ""
