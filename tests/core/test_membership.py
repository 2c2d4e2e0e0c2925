"""Changing the members (paper, section 6): rule by rule, and with a crash at every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import attrs
import msgspec
import pytest

from trioraft.core import reasons
from trioraft.core.errors import BadMessage, ConfigError, ConfigurationConflict, NotLeader
from trioraft.core.messages import Message
from trioraft.core.reconfiguration import (
    AddLearner,
    ChangeVoters,
    Membership,
    MembershipChange,
    Remove,
    Stage,
    configuration_entry,
    configuration_of,
)
from trioraft.core.types import Configuration, Entry, EntryKind, Role

from .conversation import Actor, Conversation
from .messages_by_hand import append, matched, pre_vote, request_pre_vote, vote

THREE = ("1", "2", "3")


def led_by_1(voters: tuple[str, ...] = THREE, joining: tuple[str, ...] = ()) -> Conversation:
    """A cluster that 1 leads and that has committed a command; more nodes that wait to join."""
    actors = [Actor(node, voters) for node in voters] + [Actor(node, ()) for node in joining]
    talk = Conversation(*actors)
    talk.elect("1").proposes(b"a")
    talk.talk()
    talk.transcript()
    return talk


def settle(talk: Conversation, beats: int = 6) -> None:
    """Let whoever leads be heard until nothing is left to do."""
    for _ in range(beats):
        for actor in talk.actors.values():
            if actor.raft.leadership is not None:
                actor.beats()
        talk.talk()


def configurations_of(actor: Actor) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(voters, outgoing) of each configuration in its log."""
    found = [configuration_of(entry) for entry in actor.disk.entries if entry.kind == 2]
    return [(configuration.voters, configuration.outgoing) for configuration in found]


def stage_of(change: MembershipChange) -> Stage:
    """How far it is by now."""
    return change.stage


def standing(actor: Actor) -> tuple[tuple[str, ...], int]:
    """The voters by its configuration, and where that stands."""
    return actor.raft.configuration.voters, actor.raft.configuration.index


# -- step by step ------------------------------------------------------------------------------


def test_the_first_leader_writes_down_who_is_in_the_cluster() -> None:
    talk = led_by_1()
    assert configurations_of(talk["2"]) == [(THREE, ())]
    assert talk["2"].raft.configuration.index == 1
    talk.elect("2")
    assert configurations_of(talk["2"]) == [(THREE, ())]  # once is enough


def test_voters_change_through_a_joint_configuration_which_is_left() -> None:
    talk = led_by_1()
    change = talk["1"].changes(ChangeVoters(("1", "2")))
    assert stage_of(change) is Stage.JOINT
    settle(talk)
    assert stage_of(change) is Stage.DONE
    assert configurations_of(talk["1"]) == [(THREE, ()), (("1", "2"), THREE), (("1", "2"), ())]
    assert change.goal.index == talk["1"].raft.configuration.index == 4


def test_a_joining_voter_is_a_learner_until_it_has_caught_up() -> None:
    talk = led_by_1(joining=("4",))
    talk.lost.add(("4", "1"))
    change = talk["1"].changes(ChangeVoters((*THREE, "4"), {"4": ("10.0.0.4", 7000)}))
    settle(talk)
    assert stage_of(change) is Stage.CATCHING_UP
    assert talk["1"].raft.configuration.learners == ("4",)
    assert talk["1"].raft.configuration.addresses == {"4": ("10.0.0.4", 7000)}
    talk.lost.clear()
    settle(talk)
    assert stage_of(change) is Stage.DONE
    assert talk["4"].raft.configuration.voters == (*THREE, "4")
    assert talk["4"].applied_commands() == [b"a"]


def test_a_learner_has_the_log_and_neither_votes_nor_counts() -> None:
    """Hazard M7."""
    talk = led_by_1(joining=("4",))
    talk["1"].changes(AddLearner("4"))
    settle(talk)
    assert talk["4"].applied_commands() == [b"a"]
    talk.cut_off("1", "4")
    talk["1"].proposes(b"b")
    talk.talk()
    assert talk["1"].raft.log.commit_index < talk["1"].raft.log.last_index
    talk["4"].times_out()
    assert talk["4"].is_now(Role.FOLLOWER)  # hazard M7


def test_nothing_commits_in_a_joint_configuration_without_both_majorities() -> None:
    """Hazard M4."""
    talk = led_by_1(joining=("4", "5"))
    for node in "45":
        talk["1"].changes(AddLearner(node))
        settle(talk)
    talk["1"].disk_waits = False
    talk.cut_off("2", "3")
    change = talk["1"].changes(ChangeVoters(("1", "4", "5")))
    settle(talk, beats=3)
    assert stage_of(change) is Stage.JOINT  # 1, 4 and 5 are all of the new, and one of the old
    assert talk["1"].raft.configuration.outgoing == THREE  # hazard M4
    talk.lost.clear()
    settle(talk)
    assert stage_of(change) is Stage.DONE


def test_one_change_at_a_time() -> None:
    talk = led_by_1()
    talk["1"].changes(ChangeVoters(("1", "2")))
    with pytest.raises(ConfigurationConflict, match="under way"):
        talk["1"].changes(Remove("3"))
    settle(talk)
    talk["1"].changes(Remove("2"))


def test_no_change_before_an_entry_of_the_own_term_is_committed() -> None:
    """Hazard M1: Ongaro's correction of 2015."""
    two = Actor("2", THREE, term=1, log=led_by_1()["1"].disk.entries)
    two.times_out()
    two.hears(pre_vote("3", 1, 2, to="2"))
    two.hears(vote("3", 2, to="2"))
    assert two.is_now(Role.LEADER)
    with pytest.raises(ConfigurationConflict, match="committed first"):
        two.changes(Remove("1"))
    two.hears(matched("3", 2, 3, to="2"))
    assert two.changes(Remove("1")).stage is Stage.JOINT


def test_only_a_leader_changes_anything() -> None:
    with pytest.raises(NotLeader):
        led_by_1()["2"].changes(Remove("1"))


def test_whoever_looked_at_another_configuration_is_refused() -> None:
    talk = led_by_1()
    with pytest.raises(ConfigurationConflict, match="at index 1, not at 7"):
        talk["1"].changes(Remove("3"), expected_index=7)
    assert talk["1"].changes(Remove("3"), expected_index=1).stage is Stage.JOINT


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (ChangeVoters(()), "no voter would be left"),
        (ChangeVoters(("1", "1")), "twice"),
        (Remove("9"), "no member"),
        (ChangeVoters(tuple(map(str, range(99)))), "most is 64"),
    ],
)
def test_what_cannot_be_is_refused(change: ChangeVoters | Remove, says: str) -> None:
    talk = led_by_1()
    with pytest.raises(ConfigError, match=says):
        talk["1"].changes(change)
    assert configurations_of(talk["1"]) == [(THREE, ())]


def test_what_is_so_already_is_done_at_once() -> None:
    talk = led_by_1()
    change = talk["1"].changes(ChangeVoters(("3", "2", "1")))
    assert (change.stage, change.goal.index) == (Stage.DONE, 1)


def test_a_learner_that_is_added_again_gets_a_new_address() -> None:
    talk = led_by_1(joining=("4",))
    for port in (7000, 7001):
        talk["1"].changes(AddLearner("4", ("10.0.0.4", port)))
        settle(talk)
    assert talk["4"].raft.configuration.addresses == {"4": ("10.0.0.4", 7001)}


# -- leaders that come and go ------------------------------------------------------------------


def test_a_new_leader_leaves_the_joint_configuration_of_the_old_one() -> None:
    """Hazard M3."""
    talk = led_by_1()
    talk["1"].changes(ChangeVoters(("2", "3")))
    talk.talk(1)  # the joint configuration has arrived everywhere
    talk.cut_off("1")
    talk.elect("2")
    assert talk["2"].raft.configuration.voters == ("2", "3")
    assert talk["2"].raft.configuration.outgoing == ()


def test_a_new_leader_goes_by_a_configuration_that_is_not_committed() -> None:
    """Hazards M2, M6: it needs both majorities, though it alone knows of the change."""
    talk = led_by_1(joining=("4", "5"))
    for node in "45":
        talk["1"].changes(AddLearner(node))
        settle(talk)
    talk.cut_off("1", "2")
    talk["1"].changes(ChangeVoters(("2", "4", "5")))
    talk.talk()
    talk.heal()
    talk.cut_off("2", "3")  # a majority of the old, but not of the new
    for _ in range(6):
        talk["2"].times_out()
        talk.talk()
    assert talk["2"].raft.configuration.outgoing == THREE
    assert not talk["2"].is_now(Role.LEADER)


def test_a_configuration_that_is_truncated_is_undone_and_two_are_as_well() -> None:
    """Hazard M5."""
    voters = Configuration(THREE)
    joint = Configuration(("1", "2"), THREE)
    left = Configuration(("1", "2"))
    one = Actor("1")
    entries = (
        configuration_entry(voters, 1, 1),
        configuration_entry(joint, 2, 1),
        configuration_entry(left, 3, 1),
    )
    one.hears(append("2", 1, entries=entries))
    assert one.raft.configuration.voters == ("1", "2")
    one.hears(append("3", 2, (1, 1), (Entry(2, 2, b"", EntryKind.NOOP),)))
    assert standing(one) == (THREE, 1)
    one.crash_and_restart()
    assert standing(one) == (THREE, 1)


def test_a_change_is_given_up_only_as_long_as_no_voter_has_changed() -> None:
    talk = led_by_1(joining=("4",))
    talk.lost.add(("4", "1"))
    change = talk["1"].changes(ChangeVoters((*THREE, "4")))
    settle(talk)
    assert talk["1"].raft.abandon_change(change, talk["1"].now)
    assert stage_of(change) is Stage.ABANDONED
    talk.lost.clear()
    settle(talk)
    assert talk["1"].raft.configuration.voters == THREE
    assert talk["1"].raft.configuration.learners == ("4",)
    joint = talk["1"].changes(ChangeVoters(("1", "2")))
    assert not talk["1"].raft.abandon_change(joint, talk["1"].now)


# -- leaving -----------------------------------------------------------------------------------


def test_a_removed_follower_learns_it_and_campaigns_no_more() -> None:
    """Hazard L8."""
    talk = led_by_1()
    talk["1"].changes(Remove("3"))
    settle(talk)
    three = talk["3"]
    assert three.raft.removed_index == talk["1"].raft.configuration.index
    assert isinstance(three.raft.last_reason, reasons.Removed)
    three.outbox.clear()
    for _ in range(3):
        three.times_out()
    assert three.says() == ""


def test_a_node_that_was_away_when_it_was_removed_is_told_by_whom_it_asks() -> None:
    """Hazard L8."""
    talk = led_by_1()
    talk.cut_off("3")
    talk["1"].changes(Remove("3"))
    settle(talk, beats=12)
    assert "3" not in (talk["1"].raft.leadership or pytest.fail("it leads")).progress
    talk.heal()
    three = talk["3"]
    three.times_out()
    talk.talk()
    assert three.raft.removed_index == talk["1"].raft.configuration.index
    three.outbox.clear()
    three.times_out()
    assert three.says() == ""
    assert talk["1"].is_now(Role.LEADER)


def a_learner_was_away() -> Conversation:
    """4 was taken out while nobody reached it; it is back, and has no reason to campaign."""
    talk = led_by_1(joining=("4",))
    talk["1"].changes(AddLearner("4"))
    settle(talk)
    talk.cut_off("4")
    talk["1"].changes(Remove("4"))
    settle(talk, beats=12)
    talk.heal()
    talk["4"].outbox.clear()
    return talk


def test_p5_a_learner_that_was_away_when_it_was_removed_learns_it() -> None:
    talk = a_learner_was_away()
    four = talk["4"]
    assert four.raft.leader_id == "1"
    four.times_out()
    assert four.raft.leader_id is None
    talk.talk()
    assert four.raft.removed_index == talk["1"].raft.configuration.index
    four.outbox.clear()
    four.times_out()
    assert four.says() == ""  # it asks no more
    assert talk["1"].is_now(Role.LEADER)
    assert talk["1"].raft.term == 1


def test_p5_it_learns_it_from_a_read_too_and_gets_no_index_to_wait_for() -> None:
    talk = a_learner_was_away()
    four = talk["4"]
    number = four.asks_to_read()
    settle(talk)
    assert number not in four.reads
    assert four.raft.removed_index == talk["1"].raft.configuration.index


def test_p5_a_learner_whose_leader_is_gone_names_it_no_more_and_follows_the_next() -> None:
    talk = led_by_1(joining=("4",))
    talk["1"].changes(AddLearner("4"))
    settle(talk)
    talk.cut_off("1")
    talk["1"].outbox.clear()
    four = talk["4"]
    four.times_out()
    assert (four.raft.leader_id, four.is_now(Role.FOLLOWER)) == (None, True)
    talk.talk()
    assert four.raft.removed_index is None
    talk["2"].now = four.now
    talk.elect("2")
    settle(talk)
    assert four.raft.leader_id == "2"


def test_a_node_that_knows_the_configuration_without_it_is_told_that_it_is_committed() -> None:
    talk = led_by_1()
    talk["1"].changes(Remove("3"))
    while talk["3"].raft.configuration.index != 4:
        talk.talk(1)
    talk.cut_off("3")  # before it hears of the commit
    settle(talk, beats=12)
    three = talk["3"]
    assert three.raft.removed_index is None
    talk.heal()
    three.times_out()
    talk.talk()
    assert three.raft.removed_index == three.raft.configuration.index


def test_a_node_is_not_told_so_by_one_that_is_behind() -> None:
    """A newcomer asks a node whose committed configuration does not have it yet."""
    talk = led_by_1(joining=("4",))
    talk.cut_off("3")
    talk["1"].changes(ChangeVoters((*THREE, "4")))
    settle(talk)
    talk["3"].hears(request_pre_vote("4", 1, 2, (1, 9), to="3"))
    talk.heal()
    talk.lost.update({("1", "4"), ("2", "4")})
    talk.talk()
    assert talk["4"].raft.removed_index is None


def test_a_removed_leader_leads_until_that_is_committed_and_hands_over() -> None:
    talk = led_by_1()
    change = talk["1"].changes(Remove("1"))
    settle(talk)
    assert stage_of(change) is Stage.DONE
    assert talk["1"].is_now(Role.FOLLOWER)
    assert any(
        isinstance(reason, reasons.Removed)
        for reason in (getattr(event, "reason", None) for event in talk["1"].events)
    )
    assert sum(talk[node].is_now(Role.LEADER) for node in "23") == 1
    talk["1"].times_out()
    assert talk["1"].is_now(Role.FOLLOWER)


def test_a_node_that_comes_back_after_it_was_removed_takes_part_again() -> None:
    talk = led_by_1()
    talk["1"].changes(Remove("3"))
    settle(talk)
    talk["1"].changes(ChangeVoters(THREE))
    settle(talk)
    assert talk["3"].raft.removed_index is None
    talk.cut_off("1")
    talk.elect("3")


def test_whoever_leaves_is_fed_until_it_knows_and_then_no_more() -> None:
    talk = led_by_1()
    talk["1"].changes(Remove("3"))
    settle(talk)
    leadership = talk["1"].raft.leadership
    assert leadership is not None
    assert sorted(leadership.progress) == ["2"]
    assert leadership.departing == {}


# -- what does not belong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        msgspec.msgpack.encode(Configuration((), index=1)),
        msgspec.msgpack.encode(Configuration(("1", "1"), index=1)),
        msgspec.msgpack.encode(Configuration(("1", ""), index=1)),
        msgspec.msgpack.encode(Configuration(("1",), learners=("1",), index=1)),
        msgspec.msgpack.encode(Configuration(("1",), index=2)),
        msgspec.msgpack.encode(Configuration(tuple(map(str, range(65))), index=1)),
    ],
)
def test_a_configuration_that_cannot_be_costs_its_sender_the_connection(data: bytes) -> None:
    one = Actor("1")
    wrong = Entry(1, 1, data, EntryKind.CONFIGURATION)
    with pytest.raises(BadMessage, match="entry 1 holds"):
        one.hears(append("2", 1, entries=(wrong,)))
    assert (one.raft.term, one.raft.log.last_index) == (0, 0)


def test_a_snapshot_carries_the_configuration_of_its_index() -> None:
    base, later = Configuration(THREE), Configuration(("1", "2"), index=5)
    membership = Membership(base, (configuration_entry(later, 5, 1),))
    assert membership.at(4) == base
    assert membership.at(5) == membership.current == later
    membership.on_compacted(5)
    assert membership.at(9) == later
    membership.on_installed(Configuration(("7",), index=8), 8, keeps_rest=False)
    assert membership.current.voters == ("7",)


# -- a crash at every step ---------------------------------------------------------------------


@attrs.define
class Story:
    """A change of members, told one effect at a time: each write of a disk, each message."""

    voters: tuple[str, ...]
    joining: tuple[str, ...]
    goal: tuple[str, ...]


STORIES = {
    "one to three": Story(("1",), ("2", "3"), ("1", "2", "3")),
    "three to one": Story(THREE, (), ("1",)),
    "replace one": Story(THREE, ("4",), ("1", "2", "4")),
    "replace the leader": Story(THREE, ("4",), ("2", "3", "4")),
    "five to three": Story(("1", "2", "3", "4", "5"), (), THREE),
    "three to five": Story(THREE, ("4", "5"), ("1", "2", "3", "4", "5")),
}


class Stepwise(Conversation):
    """A conversation in which one thing happens at a time."""

    def __init__(self, *actors: Actor) -> None:
        super().__init__(*actors)
        self.on_its_way: deque[Message] = deque()

    def collect(self) -> None:
        """What was said is on its way from now on, whatever becomes of who said it."""
        for actor in self.actors.values():
            self.on_its_way.extend(actor.outbox)
            actor.outbox.clear()

    def writes(self, beats: int) -> Iterator[None]:
        """Everything that happens, with heartbeats when nothing else is left; a stop before each
        write, when what goes with it is on its way already: what a crash leaves changes only
        there."""
        while True:
            self.collect()
            writing = [actor for actor in self.actors.values() if actor.unwritten]
            if writing:
                yield
                writing[0].persist(1)
            elif self.on_its_way:
                self._deliver(self.on_its_way.popleft())
            elif beats:
                beats -= 1
                for actor in self.actors.values():
                    if actor.raft.leadership is not None:
                        actor.beats()
            else:
                yield
                return


def begin(story: Story) -> tuple[Stepwise, MembershipChange]:
    """Up to the first step of the change."""
    actors = [Actor(node, story.voters, tracing=False) for node in story.voters]
    joining = [Actor(node, (), tracing=False) for node in story.joining]
    talk = Stepwise(*actors, *joining)
    talk.elect("1").proposes(b"acknowledged")
    talk.talk()
    for actor in talk.actors.values():
        actor.disk_waits = True
    return talk, talk["1"].changes(ChangeVoters(story.goal))


def everyone(talk: Stepwise) -> list[str]:
    return list(talk.actors)


CRASHES: dict[str, Callable[[Stepwise], list[str]]] = {
    "the leader": lambda _: ["1"],
    "another voter": lambda talk: [sorted(talk.actors)[1]],
    "the last to join": lambda talk: [sorted(talk.actors)[-1]],
    "all": everyone,
}


@pytest.mark.parametrize("who", CRASHES)
@pytest.mark.parametrize("name", STORIES)
def test_a_crash_before_every_write_of_a_change(name: str, who: str) -> None:
    """No lost command, never two leaders in a term (the checks look at every event), and never a
    joint configuration that is not left."""
    story = STORIES[name]
    talk, change = begin(story)
    count = sum(1 for _ in talk.writes(beats=12))
    assert stage_of(change) is Stage.DONE
    for step in range(count):
        talk, _ = begin(story)
        for number, _ in enumerate(talk.writes(beats=12)):
            if number == step:
                break
        for node in CRASHES[who](talk):
            talk[node].crash_and_restart()
        recover_and_check(talk, story, step)


def recover_and_check(talk: Stepwise, story: Story, step: int) -> None:
    for actor in talk.actors.values():
        actor.disk_waits = False
        actor.persist()
    leader = whoever_can_lead(talk)
    settle(talk, beats=12)
    configuration = talk[leader].raft.configuration
    assert configuration.outgoing == (), f"step {step}: joint for ever"
    assert configuration.voters in (story.voters, story.goal), f"step {step}"
    final = whoever_can_lead(talk)
    talk[final].proposes(b"after")
    settle(talk)
    for voter in talk[final].raft.configuration.voters:
        assert talk[voter].applied_commands() == [b"acknowledged", b"after"], f"step {step}"


def whoever_can_lead(talk: Stepwise) -> str:
    """The node that leads, once time has passed for everyone."""
    talk.collect()
    while talk.on_its_way:
        talk._deliver(talk.on_its_way.popleft())
        talk.collect()
    for _ in range(20):
        leading = [node for node, actor in talk.actors.items() if actor.is_now(Role.LEADER)]
        if leading:
            return max(leading, key=lambda node: talk[node].raft.term)
        for actor in talk.actors.values():
            if not any(other.is_now(Role.LEADER) for other in talk.actors.values()):
                talk.pass_time(actor.timing.election_timeout_s[0])
                actor.times_out()
                talk.talk()
    raise AssertionError(f"nobody is elected:\n{talk.transcript()}")
