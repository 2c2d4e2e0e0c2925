"""Handing over the leadership (dissertation 3.10), and resigning for a reason."""

from __future__ import annotations

import pytest

from trioraft.core import reasons
from trioraft.core.errors import ConfigError, NotLeader, ProposalDropped, TransferFailed
from trioraft.core.messages import AppendEntries, TimeoutNow
from trioraft.core.types import Role

from .conversation import FIVE, Actor, Conversation, between, text
from .messages_by_hand import append


def led_by_1(*nodes: str) -> Conversation:
    talk = Conversation.of(*(nodes or ("1", "2", "3")))
    talk.elect("1").proposes(b"a")
    talk.talk()
    talk.transcript()
    return talk


def test_a_target_that_holds_everything_takes_over_in_two_round_trips() -> None:
    talk = led_by_1()
    talk["1"].hands_over("2")
    talk.talk(3)
    assert between(talk.transcript(), "1", "2") == text("""
        1->2 TimeoutNow term=1
        2->1 RequestVote term=2 log=(1,2)
        1->2 RequestVoteReply term=2 granted
    """)
    talk.talk()
    assert talk["2"].is_now(Role.LEADER)
    assert talk["1"].raft.leader_id == "2"


def test_the_reasons_say_from_whom_and_to_whom() -> None:
    talk = led_by_1()
    talk["1"].hands_over("2")
    talk.talk(2)
    assert talk["2"].raft.last_reason == reasons.TransferFrom("1")
    assert talk["1"].raft.last_reason == reasons.TransferTo("2")


def test_a_target_that_lacks_entries_gets_them_first() -> None:
    talk = led_by_1()
    talk.lost.add(("1", "2"))
    talk["1"].proposes(b"b", b"c")
    talk.talk()
    talk.lost.clear()
    talk["1"].hands_over("2")
    assert not any(isinstance(message, TimeoutNow) for message in talk["1"].outbox)
    talk["1"].loses("2")  # whatever was on its way is lost: the probe finds where they part
    talk["1"].beats()
    talk.talk()
    assert talk["2"].is_now(Role.LEADER)
    assert talk["2"].applied_commands() == [b"a", b"b", b"c"]


def test_nobody_is_asked_before_everything_is_committed() -> None:
    """So that every caller has its result when the leadership goes."""
    talk = led_by_1(*FIVE)
    talk.cut_off("3", "4", "5")
    talk["1"].proposes(b"b")
    talk["1"].hands_over("2")
    talk.talk()
    assert talk["2"].raft.log.last_index == 3
    assert talk["1"].is_now(Role.LEADER)
    talk.heal()
    while talk["1"].is_now(Role.LEADER):
        talk["1"].beats()
        talk.talk()
    assert talk["2"].is_now(Role.LEADER)
    assert talk["1"].raft.log.commit_index >= 3


def test_commands_are_dropped_meanwhile_and_certainly_not_in_the_log() -> None:
    talk = led_by_1()
    talk["1"].hands_over("2")
    with pytest.raises(ProposalDropped, match="'2'"):
        talk["1"].proposes(b"b")
    talk.talk()
    assert talk["2"].applied_commands() == [b"a"]


def test_the_request_is_repeated_with_each_heartbeat() -> None:
    talk = led_by_1()
    talk.lost.add(("1", "2"))
    talk["1"].hands_over("2")
    talk.talk()
    talk.lost.clear()
    talk["1"].beats()
    talk.talk()
    assert talk["2"].is_now(Role.LEADER)


def test_it_is_given_up_at_its_deadline_and_commands_are_taken_again() -> None:
    """Hazard T1."""
    talk = led_by_1()
    talk.lost.add(("1", "2"))
    transfer = talk["1"].hands_over("2", patience_s=0.1)
    talk.talk()
    deadline = talk["1"].raft.deadline
    assert deadline == pytest.approx(talk["1"].now + 0.1)
    talk["1"].times_out()
    assert transfer.has_failed
    assert talk["1"].is_now(Role.LEADER)
    talk["1"].proposes(b"b")
    talk.talk()
    assert talk["3"].applied_commands() == [b"a"]  # the commit is told later
    assert talk["1"].applied_commands() == [b"a", b"b"]


def test_losing_the_leadership_leaves_no_flag() -> None:
    """Hazard T1: whoever leads again later takes commands."""
    talk = led_by_1()
    talk.lost.add(("1", "2"))
    talk["1"].hands_over("2")
    talk["1"].hears(append("3", 5))
    talk.lost.clear()
    talk["1"].outbox.clear()
    assert talk["1"].raft.leadership is None
    one = Actor("1")
    one.times_out()
    assert one.raft.leadership is None


def test_without_a_name_the_one_that_holds_most_takes_over() -> None:
    talk = led_by_1()
    talk.lost.add(("1", "2"))
    talk["1"].proposes(b"b")
    talk.talk()
    assert talk["1"].hands_over().target == "3"


def test_what_cannot_be_is_refused() -> None:
    talk = led_by_1()
    with pytest.raises(NotLeader):
        talk["2"].hands_over("3")
    with pytest.raises(ConfigError, match="'9'"):
        talk["1"].hands_over("9")
    with pytest.raises(ConfigError, match="other voters"):
        talk["1"].hands_over("1")
    talk["1"].hands_over("2")
    with pytest.raises(TransferFailed, match="already"):
        talk["1"].hands_over("3")
    alone = Actor("1", ("1",))
    alone.times_out()
    assert alone.is_now(Role.LEADER)
    with pytest.raises(TransferFailed, match="nobody"):
        alone.hands_over()


def test_a_request_of_an_earlier_term_moves_nobody() -> None:
    talk = led_by_1()
    talk.elect("2")
    talk.transcript()
    talk["3"].hears(TimeoutNow("1", "3", 1))
    assert talk["3"].is_now(Role.FOLLOWER)
    assert talk["3"].raft.term == talk["2"].raft.term


def test_t2_a_request_that_was_given_up_moves_nobody_however_late_it_comes() -> None:
    """Commands are taken again by then, and would be in doubt."""
    talk = led_by_1()
    one, two = talk["1"], talk["2"]
    one.hands_over("2", patience_s=0.1)
    late = next(message for message in one.outbox if isinstance(message, TimeoutNow))
    talk.cut_off("2")
    talk.talk()
    one.times_out()
    talk.heal()
    one.beats()
    talk.talk()
    two.hears(late)
    assert two.is_now(Role.FOLLOWER)
    one.hands_over("2")
    talk.talk()
    assert two.is_now(Role.LEADER)


def test_t2_what_is_taken_after_it_was_given_up_already_says_so() -> None:
    """The first entries may arrive before the request does, and no heartbeat may be due before."""
    talk = led_by_1()
    one, two = talk["1"], talk["2"]
    one.hands_over("2", patience_s=0.01)
    late = one.outbox.popleft()
    assert isinstance(late, TimeoutNow)
    one.times_out()
    one.proposes(b"b")
    entries = [m for m in one.outbox if isinstance(m, AppendEntries) and m.entries]
    two.hears(*(message for message in entries if message.receiver == "2"))
    assert two.raft.log.last_index == one.raft.log.last_index
    two.hears(late)
    assert two.is_now(Role.FOLLOWER)


def test_a_learner_takes_nothing_over() -> None:
    """Hazard M7."""
    learner = Actor("9", ())
    learner.hears(append("1", 1, to="9"))
    learner.hears(TimeoutNow("1", "9", 1))
    assert learner.is_now(Role.FOLLOWER)


# -- a disk that hangs (hazard L7) -------------------------------------------------------------


def test_a_leader_whose_disk_hangs_steps_down_and_asks_a_successor_to_take_over() -> None:
    talk = led_by_1()
    one = talk["1"]
    one.disk_waits = True
    began_s = one.now
    one.proposes(b"b")
    while one.is_now(Role.LEADER):
        talk.talk(2)
        if (one.raft.deadline or 0) <= (one.raft.heartbeat_deadline or 0):
            one.times_out()
        else:
            one.beats()
    reason = one.raft.last_reason
    assert "TimeoutNow" in {type(message).__name__ for message in one.outbox}
    assert isinstance(reason, reasons.DiskStalled)
    low_s, high_s = one.timing.election_timeout_s
    assert low_s <= reason.waited_s <= high_s + 0.001
    assert one.now - began_s <= high_s + 0.001
    talk.talk()
    assert sum(talk[node].is_now(Role.LEADER) for node in "23") == 1


def test_a_node_whose_disk_hangs_does_not_campaign() -> None:
    """Hazard L7."""
    one = Actor("1", term=1)
    one.disk_waits = True
    one.hears(append("2", 2))
    for _ in range(3):
        one.times_out()
    one.outbox.clear()
    one.times_out()
    assert one.is_now(Role.FOLLOWER) or one.says() == ""
    one.persist()
    one.times_out()
    one.times_out()
    assert "RequestPreVote" in one.says()


def test_a_single_voter_waits_for_its_disk_and_leads_on() -> None:
    alone = Actor("1", ("1",))
    alone.times_out()
    alone.disk_waits = True
    alone.proposes(b"a")
    for _ in range(5):
        alone.times_out()
    assert alone.is_now(Role.LEADER)


def test_a_full_disk_asks_a_successor_too() -> None:
    one = led_by_1()["1"]
    one.does(lambda: one.raft.on_disk_full(one.now))
    assert "TimeoutNow" in one.says()
    assert one.raft.last_reason == reasons.NoRoom()
