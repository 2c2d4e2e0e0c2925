"""Reads as an enemy would ask for them: each of these broke something once.

Rules of this file: one mistake a test; it says what went wrong when the rule was missing.
"""

from __future__ import annotations

import pytest

from trioraft.core import reads
from trioraft.core.config import Timing
from trioraft.core.messages import AppendEntriesReply, RequestReadIndex
from trioraft.core.types import Role

from .conversation import THREE, Actor, Conversation
from .messages_by_hand import append, pre_vote, request_vote

LEASES = Timing(fast_failover=False, lease_clock_drift_max=0.0)


def test_a_promise_to_a_leader_outlives_its_term() -> None:
    """A follower heard its leader, and then of a later term by an answer that was on its way:
    it voted at once, while that leader still answered by its lease, and such a read was stale."""
    two = Actor("2", THREE, timing=LEASES, term=1)
    two.now = 10.0
    two.times_out()  # asks 1 and 3; both answers are late
    two.hears(append("1", 1, to="2"))
    assert two.raft.leader_id == "1"
    two.outbox.clear()
    two.now += 0.02
    two.hears(pre_vote("3", 2, 2, granted=False, to="2"))  # 3 campaigns in term 2
    assert two.raft.term == 2
    two.outbox.clear()
    two.hears(request_vote("3", 2, (9, 9), to="2"), request_vote("3", 3, (9, 9), to="2"))
    assert "granted" not in two.says()
    two.now += LEASES.leader_protection_s
    two.hears(request_vote("3", 4, (9, 9), to="2"))
    assert two.says() == "2->3 RequestVoteReply term=4 granted"


def test_a_promise_does_not_keep_a_leader_from_handing_over() -> None:
    two = Actor("2", THREE, timing=LEASES, term=1)
    two.now = 10.0
    two.hears(append("1", 1, to="2"))
    two.outbox.clear()
    two.hears(request_vote("3", 2, (9, 9), to="2", transfer=True))
    assert "granted" in two.says()


def test_a_lease_is_not_believed_while_another_leads() -> None:
    """The same with everyone in it: the old leader must not answer by its clock what the new one
    has overtaken."""
    talk = Conversation.of(*THREE, timing=LEASES)
    one = talk.elect("1")
    one.proposes(b"a")
    talk.talk()
    talk.cut_off("3")
    talk.pass_time(0.2)
    talk["2"].hears(append("1", 1, (1, 2), commit=2, to="2"))
    one.beats()
    talk.talk()  # its lease begins
    three = talk["3"]
    while not three.is_now(Role.CANDIDATE):
        three.times_out()
        three.hears(pre_vote("2", 1, three.raft.term + 1, to="3"))
    held = [message for message in three.outbox if message.receiver == "2"]
    talk["2"].now = one.now + 0.01
    talk["2"].hears(pre_vote("3", three.raft.term, 2, granted=False, to="2"), *held)
    talk.lost = {("1", "3"), ("3", "1"), ("1", "2"), ("2", "1")}
    talk.talk()
    assert not three.is_now(Role.LEADER)
    assert one.asks_to_read(lease=True) in one.reads


def test_a_refusal_of_an_earlier_term_confirms_no_round() -> None:
    """A message of a leader's earlier term came late: its refusal bears the new term, and the old
    round. The same node led again, and took it for the answer to a round that it had not begun
    (hazard R2)."""
    talk = Conversation.of(*THREE)
    one = talk.elect("1")
    talk.talk()
    for _ in range(9):
        one.beats()
    late = [message for message in one.outbox if message.receiver == "2"][-1]
    one.outbox.clear()
    talk["2"].hears(append("3", 2, to="2"))  # of a leader that is gone again at once
    talk["2"].outbox.clear()
    talk["2"].hears(late)
    (refusal,) = talk["2"].outbox
    assert isinstance(refusal, AppendEntriesReply)
    assert (refusal.term, refusal.success, refusal.round) == (2, False, 0)


def test_a_leader_keeps_only_so_many_questions_of_its_followers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is not kept asks again; its own readers are always kept."""
    monkeypatch.setattr(reads, "REQUESTS_MAX", 100)
    talk = Conversation.of("1", "2", "3")
    one = talk.elect("1")
    talk.cut_off("1")
    one.asks_to_read()
    for number in range(110):
        one.raft.step(RequestReadIndex("2", "1", 1, number), one.now)
    mine = one.asks_to_read()
    talk.heal()
    one.beats()
    talk.talk()
    assert mine in one.reads
    answers = talk.transcript().count("RequestReadIndexReply")
    assert answers == 99  # and the first of its own
