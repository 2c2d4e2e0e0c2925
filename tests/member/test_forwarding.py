"""Commands that are brought to a member which does not lead: taken once, and never mistaken."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from tests.member.by_hand import Asked, ByHand
from trioraft.core.config import Limits
from trioraft.core.errors import ConfigError, NotLeader, OutcomeUnknown, ProposalDropped
from trioraft.core.messages import Forward, Forwarded, Message
from trioraft.core.types import Role
from trioraft.member import forwarding
from trioraft.member.actions import AdmitClients
from trioraft.member.forwarding import ANSWERS_MAX, FORWARDS_MAX
from trioraft.member.outcomes import Outcomes

MESSAGES = get_args(Message)


class Pair:
    """Two members that hear each other when the test says so."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.one = ByHand(("1", "2"), limits)
        self.two = ByHand(("2", "1"), limits)
        self.read = {self.one: 0, self.two: 0}
        self.lost: set[type[Message]] = set()
        """Messages of these kinds do not arrive."""
        self.kept: list[Message] = []
        """What was lost."""
        for each in (self.one, self.two):
            each.stores_at_once = True
        self.elect(self.one)

    def other(self, of: ByHand) -> ByHand:
        """The one that is not this one."""
        return self.two if of is self.one else self.one

    def elect(self, who: ByHand) -> None:
        """Let time pass until this one leads; whoever does hands over."""
        before = self.other(who)
        if before.member.raft.leadership is not None:
            me = who.member.raft.node_id
            before.member.raft.transfer(me, before.now, patience_s=1.0)
            self.settle()
            assert who.member.raft.leadership is not None
        while who.member.raft.role is not Role.LEADER:
            for each in (self.one, self.two):
                each.now = who.now = max(who.now, who.member.deadline or 0.0)
            who.member.on_timeout(who.now)
            self.settle()

    def settle(self) -> None:
        """Carry everything to and fro until nothing is left."""
        moved = True
        while moved:
            moved = False
            for each in (self.one, self.two):
                each.applied()
                for action in each.actions[self.read[each] :]:
                    moved = True
                    if isinstance(action, AdmitClients):
                        each.member.go_on()
                    if isinstance(action, MESSAGES):
                        self.carry(each, action)
                self.read[each] = len(each.actions)

    def carry(self, sender: ByHand, message: Message) -> None:
        """One message, if it is not of those that are lost."""
        if type(message) in self.lost:
            self.kept.append(message)
        else:
            to = self.other(sender)
            to.member.receive(message, to.now)

    def beat(self) -> None:
        """The leader is heard, and what is committed told."""
        for each in (self.one, self.two):
            due_s = each.member.raft.heartbeat_deadline
            if due_s is not None:
                self.one.now = self.two.now = max(each.now, due_s)
                each.member.on_heartbeat_due(each.now)
        self.settle()

    def wait(self, seconds: float) -> None:
        """So much time passes, and whoever waited for it is told."""
        self.one.now = self.two.now = self.one.now + seconds
        for each in (self.one, self.two):
            each.member.on_timeout(each.now)
        self.settle()


def forwarded(pair: Pair, data: bytes = b"x") -> Asked:
    """A command that is brought to the second member, and given time."""
    asked = Asked()
    pair.two.member.forward(data, asked, pair.two.now)
    pair.settle()
    pair.beat()
    return asked


def test_a_follower_has_the_leader_take_it_and_learns_the_outcome_from_its_own_log() -> None:
    pair = Pair()
    asked = forwarded(pair)
    assert asked.outcomes == [1]
    assert pair.two.machine.commands == pair.one.machine.commands == [b"x"]
    failing = forwarded(pair, b"raise")
    assert [str(error) for error in failing.outcomes] == ["the command says so"]
    assert not pair.two.member.forwards
    assert pair.two.member.outcomes.kept is None


def test_without_a_leader_nothing_is_taken() -> None:
    alone = ByHand(("1", "2"))
    with pytest.raises(NotLeader):
        alone.member.forward(b"x", Asked(), 0.0)


def test_f1_what_arrives_twice_stands_in_the_log_once_and_is_answered_alike() -> None:
    pair = Pair()
    asked = forwarded(pair)
    sent = next(action for action in pair.two.actions if isinstance(action, Forward))
    for _ in range(3):
        pair.one.member.receive(sent, pair.one.now)
    pair.settle()
    answers = [action for action in pair.one.actions if isinstance(action, Forwarded)]
    assert len(answers) == 4
    assert len({answer.index for answer in answers}) == 1
    assert pair.one.machine.commands == [b"x"]
    assert asked.outcomes == [1]


def test_f1_a_refusal_stays_one_when_the_command_arrives_again() -> None:
    pair = Pair()
    pair.one.member._make_room = lambda _message: None  # type: ignore[misc] # it is full
    asked = forwarded(pair)
    assert [type(error) for error in asked.outcomes] == [ProposalDropped]
    pair.one.member._make_room = lambda _message: Asked()  # type: ignore[misc] # not any more
    sent = next(action for action in pair.two.actions if isinstance(action, Forward))
    pair.one.member.receive(sent, pair.one.now)
    pair.settle()
    assert pair.one.machine.commands == []


def test_what_is_not_answered_is_asked_again() -> None:
    pair = Pair()
    pair.lost = {Forwarded}
    asked = forwarded(pair)
    assert asked.outcomes == []
    pair.lost = set()
    pair.wait(pair.one.member._patience_s())
    assert pair.one.machine.commands == [b"x"]
    assert asked.outcomes == [1]  # it was applied here before it was known whose it was
    assert pair.two.member.forwards.deadline_s is None


def test_a_late_answer_without_its_outcome_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.member.outcomes.KEPT_MAX", 1)
    pair = Pair()
    pair.lost = {Forwarded}
    asked, later = forwarded(pair), forwarded(pair, b"y")
    pair.lost = set()
    pair.wait(pair.one.member._patience_s())
    assert [type(error) for error in asked.outcomes] == [OutcomeUnknown]
    assert later.outcomes == [2]


def test_f2_an_answer_counts_for_the_command_the_leader_and_the_term_that_were_asked() -> None:
    pair = Pair()
    pair.lost = {Forward}
    asked = forwarded(pair)
    sent = next(action for action in pair.two.actions if isinstance(action, Forward))
    for answer in (
        Forwarded("1", "2", sent.term, sent.number + 1, 1),
        Forwarded("1", "2", sent.term + 1, sent.number, 1),
        Forwarded("3", "2", sent.term, sent.number, 1),
    ):
        pair.two.member.receive(answer, pair.two.now)
    pair.settle()
    assert asked.outcomes == []


def test_f2_another_life_begins_with_another_number() -> None:
    lives = [forwarding.Forwards("1", random.Random(seed)) for seed in (1, 2)]
    assert len({life._new_number() for life in lives}) == 2


def test_f2_what_stands_there_in_another_term_is_not_the_command() -> None:
    """The leader has said where, and another one has put something else there."""
    pair = Pair()
    index = pair.one.member.raft.log.last_index + 1
    asked = Asked()
    pair.two.member.forward(b"x", asked, pair.two.now)
    pair.two.run()
    sent = next(action for action in pair.two.actions if isinstance(action, Forward))
    pair.read[pair.two] = len(pair.two.actions)
    answer = Forwarded("1", "2", sent.term, sent.number, index)
    pair.two.member.receive(answer, pair.two.now)
    pair.elect(pair.two)  # its own first entry stands at that index
    pair.beat()
    assert [type(error) for error in asked.outcomes] == [ProposalDropped]


def test_a_leader_that_does_not_know_says_so() -> None:
    pair = Pair()
    term = pair.one.member.raft.term
    pair.one.member.receive(Forward("2", "1", term - 1, 7, b"x"), pair.one.now)
    pair.one.member.receive(Forward("9", "1", term, 7, b"x"), pair.one.now)
    pair.one.run()
    answers = [action for action in pair.one.actions if isinstance(action, Forwarded)]
    assert [(a.index, a.refusal) for a in answers] == [(0, ""), (0, "")]
    assert isinstance(forwarding.refusal_of(answers[0]), OutcomeUnknown)


def test_who_led_the_term_knows_afterwards_what_it_did_not_take() -> None:
    """It will not lead it again: nothing that arrives later can be taken in it."""
    pair = Pair()
    term = pair.one.member.raft.term
    pair.elect(pair.two)
    pair.one.member.receive(Forward("2", "1", term, 7, b"x"), pair.one.now)
    pair.one.run()
    answer = next(action for action in pair.one.actions if isinstance(action, Forwarded))
    assert answer.refusal
    assert isinstance(forwarding.refusal_of(answer), ProposalDropped)


def test_what_was_lost_on_the_way_to_a_deposed_leader_is_asked_of_it_and_dropped() -> None:
    pair = Pair()
    pair.lost = {Forward}
    asked = forwarded(pair)
    pair.elect(pair.two)
    assert asked.outcomes == []
    pair.lost = set()
    pair.wait(pair.one.member._patience_s())
    assert [type(error) for error in asked.outcomes] == [ProposalDropped]


def test_what_may_be_sent_again_is_not_waited_for_once_another_leads() -> None:
    pair = Pair()
    pair.lost = {Forward}
    asked = Asked()
    asked.is_repeatable = True
    pair.two.member.forward(b"x", asked, pair.two.now)
    pair.settle()
    pair.elect(pair.two)
    assert [type(error) for error in asked.outcomes] == [OutcomeUnknown]


def test_nobody_waits_for_ever_for_a_leader_that_is_gone() -> None:
    pair = Pair()
    pair.lost = {Forward}
    asked = forwarded(pair)
    pair.elect(pair.two)
    for _ in range(20):
        pair.wait(1.0)
    assert [type(error) for error in asked.outcomes] == [OutcomeUnknown]
    assert pair.two.member.forwards.deadline_s is None


def test_a_large_command_is_refused_for_good() -> None:
    pair = Pair(Limits(command_bytes_max=10))
    asked = forwarded(pair, b"more than ten")
    assert [type(error) for error in asked.outcomes] == [ConfigError]


def test_so_many_wait_for_an_answer_and_the_others_for_them() -> None:
    pair = Pair()
    pair.lost = {Forwarded}
    asked = [Asked() for _ in range(FORWARDS_MAX + 10)]
    for each in asked:
        pair.two.member.forward(b"x", each, pair.two.now)
    pair.settle()
    assert len(pair.two.member.forwards.open) == FORWARDS_MAX
    assert pair.two.member.forget_forward(asked[-1])
    assert not pair.two.member.forget_forward(asked[0])
    pair.lost = set()
    pair.wait(pair.one.member._patience_s())
    pair.beat()
    assert [len(each.outcomes) for each in asked] == [1] * (FORWARDS_MAX + 9) + [0]
    assert len(pair.one.machine.commands) == FORWARDS_MAX + 9


def test_f1_what_a_leader_has_forgotten_it_does_not_take() -> None:
    pair = Pair()
    term, leader = pair.one.member.raft.term, pair.one.member
    for number in range(3 * ANSWERS_MAX):
        leader.receive(Forward("2", "1", term, 1000 + number, b"x"), pair.one.now)
    before = leader.raft.log.last_index
    leader.receive(Forward("2", "1", term, 1000, b"x"), pair.one.now)
    pair.one.run()
    assert leader.raft.log.last_index == before
    answer = [action for action in pair.one.actions if isinstance(action, Forwarded)][-1]
    assert (answer.index, answer.refusal) == (0, "")
    kept = leader._answers._askers["2"].answers
    assert len(kept) <= 2 * ANSWERS_MAX + 1


def test_who_dies_tells_everybody() -> None:
    pair = Pair()
    pair.lost = {Forward}
    asked = forwarded(pair)
    pair.two.member.stop("killed", pair.two.now)
    assert [type(error) for error in asked.outcomes] == [OutcomeUnknown]


def test_f2_a_later_leader_puts_another_command_there_and_nobody_is_forgotten() -> None:
    """What the earlier one had put there is committed as far as this member knows, by the index
    alone, and waits to be applied."""
    outcomes = Outcomes()
    first, second = Asked(), Asked()
    first.index = second.index = 10
    first.term, second.term = 5, 6
    outcomes.wait_for(first)
    outcomes.wait_for(second)
    assert [type(error) for error in first.outcomes] == [ProposalDropped]
    assert outcomes.waiting == {10: second}
    assert second.outcomes == []
