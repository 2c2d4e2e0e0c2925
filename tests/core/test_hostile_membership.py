"""Changes of members as an enemy would ask for them: each of these broke something once.

Rules of this file: one mistake a test; it says what went wrong when the rule was missing.
"""

from __future__ import annotations

import msgspec
import pytest

from trioraft.core.config import Timing
from trioraft.core.errors import BadMessage, ConfigError
from trioraft.core.reconfiguration import (
    AddLearner,
    ChangeVoters,
    MembershipChange,
    Remove,
    Stage,
    configuration_entry,
    goal_of,
)
from trioraft.core.types import Configuration, Role

from .conversation import Actor
from .messages_by_hand import append, chunk, snapshot_of
from .test_membership import THREE, configurations_of, led_by_1, settle


def stage_of(change: MembershipChange) -> Stage:
    """How far it is by now."""
    return change.stage


def test_a_learner_that_was_added_before_has_to_catch_up_too() -> None:
    """One that never answered got a vote, and a cluster of one was dead for good."""
    talk = led_by_1(("1",), joining=("2",))
    talk.cut_off("2")
    talk["1"].changes(AddLearner("2"))
    settle(talk)
    change = talk["1"].changes(ChangeVoters(("1", "2")))
    settle(talk, beats=12)
    assert stage_of(change) is Stage.CATCHING_UP
    talk["1"].proposes(b"still alive")
    assert talk["1"].applied_commands() == [b"a", b"still alive"]
    talk.heal()
    settle(talk)
    assert stage_of(change) is Stage.DONE
    assert talk["2"].applied_commands() == [b"a", b"still alive"]


def test_a_change_that_is_given_up_and_asked_for_again_waits_again() -> None:
    talk = led_by_1(joining=("4",))
    talk.cut_off("4")
    first = talk["1"].changes(ChangeVoters((*THREE, "4")))
    settle(talk)
    talk["1"].raft.abandon_change(first, talk["1"].now)
    second = talk["1"].changes(ChangeVoters((*THREE, "4")))
    settle(talk)
    assert (stage_of(first), stage_of(second)) == (Stage.ABANDONED, Stage.CATCHING_UP)


def test_one_that_is_ready_at_once_does_not_take_the_others_along() -> None:
    """4 holds the log when catching up begins; 5 was never heard, and got a vote with it."""
    talk = led_by_1(joining=("4", "5"))
    talk.cut_off("5")
    talk["1"].changes(AddLearner("4"))
    settle(talk)
    change = talk["1"].changes(ChangeVoters(("1", "2", "3", "4", "5")))
    talk.lost.update({("2", "1"), ("3", "1")})
    talk.talk()  # 4 holds it before it is committed
    talk.lost.difference_update({("2", "1"), ("3", "1")})
    settle(talk, beats=12)
    assert stage_of(change) is Stage.CATCHING_UP
    assert "5" not in talk["1"].raft.configuration.voters


def test_a_change_whose_steps_would_be_too_large_is_refused_before_it_begins() -> None:
    """No configuration holds both, those that join and those that leave: an entry that nobody
    takes stood in the log for ever."""
    old, new = (tuple(f"{kind}{number}" for number in range(34)) for kind in ("old", "new"))
    with pytest.raises(ConfigError, match="at a time"):
        goal_of(ChangeVoters(new), Configuration(old))
    with pytest.raises(ConfigError, match="at a time"):
        goal_of(ChangeVoters(new), Configuration(("1",), learners=old[:30]))


def test_a_node_that_comes_back_empty_is_not_taken_for_what_it_was() -> None:
    """Taken out, emptied and added again before the leader had let go of it: what its earlier
    life held counted, and a command was committed that one node had."""
    talk = led_by_1()
    talk["1"].changes(Remove("3"))
    talk.talk()
    assert talk["1"].raft.configuration.voters == ("1", "2")
    talk.actors["3"] = Actor("3", (), checks=talk.checks, now=talk["1"].now)
    talk.checks.on_restart("3")
    talk.cut_off("3")
    change = talk["1"].changes(ChangeVoters(THREE))
    settle(talk, beats=3)
    assert stage_of(change) is Stage.CATCHING_UP
    talk.heal()
    settle(talk)
    assert stage_of(change) is Stage.DONE
    assert talk["3"].applied_commands() == [b"a"]


def test_a_change_of_members_waits_while_the_leadership_is_handed_over() -> None:
    """The joint configuration came after the request to take over: the target's log was no longer
    up to date, and nobody was elected by it."""
    talk = led_by_1(joining=("4",))
    talk.lost.add(("4", "1"))
    change = talk["1"].changes(ChangeVoters((*THREE, "4")))
    settle(talk)
    assert stage_of(change) is Stage.CATCHING_UP
    talk.lost = {("1", "2")}
    talk["1"].hands_over("2", patience_s=0.1)
    talk["1"].beats()
    talk.talk()
    assert configurations_of(talk["1"])[-1] == (THREE, ())
    talk.pass_time(0.1)
    talk["1"].times_out()  # given up
    talk.lost.clear()
    settle(talk)
    assert stage_of(change) is Stage.DONE


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(()),
        Configuration(("1", "1")),
        Configuration(("1",), learners=("1",)),
        Configuration(THREE, index=9),
    ],
)
def test_a_snapshot_with_a_configuration_that_cannot_be_is_refused(
    configuration: Configuration,
) -> None:
    one = Actor("1")
    meta = msgspec.structs.replace(snapshot_of(b"\x90", 5, 1), configuration=configuration)
    with pytest.raises(BadMessage, match="snapshot"):
        one.hears(chunk("2", 1, meta, 0, b"\x90"))
    assert one.raft.term == 0


def test_a_node_that_learns_by_a_snapshot_that_it_is_out_knows_it() -> None:
    talk = led_by_1()
    three = talk["3"]
    out = Configuration(("1", "2"), index=4)
    meta = msgspec.structs.replace(snapshot_of(b"\x90", 5, 1), configuration=out)
    three.hears(chunk("1", 1, meta, 0, b"\x90", to="3"))
    assert three.raft.removed_index == 4
    three.outbox.clear()
    three.times_out()
    assert (three.says(), three.is_now(Role.FOLLOWER)) == ("", True)


@pytest.mark.parametrize("pre_vote_first", [True, False])
def test_a_node_that_holds_its_own_removal_is_told_that_it_is_committed(
    pre_vote_first: bool,
) -> None:
    """It had the entry, and never heard of its commit: it asked for votes for ever (hazard L8)."""
    log = (
        configuration_entry(Configuration(THREE), 1, 1),
        configuration_entry(Configuration(("1", "2"), THREE), 2, 1),
        configuration_entry(Configuration(("1", "2")), 3, 1),
    )
    timing = Timing(pre_vote=pre_vote_first)
    one, three = (Actor(node, log=log, term=1, timing=timing) for node in "13")
    one.hears(append("2", 1, (1, 3), commit=3))
    one.outbox.clear()
    three.times_out()
    one.hears(*(message for message in three.outbox if message.receiver == "1"))
    three.outbox.clear()
    three.hears(*(message for message in one.outbox if message.receiver == "3"))
    assert three.raft.removed_index == 3
    three.times_out()
    assert (three.says(), three.is_now(Role.FOLLOWER)) == ("", True)
