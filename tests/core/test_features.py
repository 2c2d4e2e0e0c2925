"""Features (docs/upgrading.md): all members do what one says from its entry of the log on, or none.

Nobody introduces itself here by itself, as members do: `introduce` says to each who can do what.
"""

from __future__ import annotations

import msgspec
import pytest

from trioraft.core.errors import (
    BadMessage,
    ConfigError,
    ConfigurationConflict,
    EntryAltered,
    NotLeader,
    PeerRefused,
)
from trioraft.core.features import ENTRY_CHECKSUMS, checked_command, command_of, is_intact
from trioraft.core.messages import InstallSnapshot
from trioraft.core.reconfiguration import (
    AddLearner,
    ChangeVoters,
    MembershipChange,
    Remove,
    Replace,
    Stage,
    SwitchOn,
    configuration_entry,
    configuration_of,
)
from trioraft.core.types import Configuration, Entry, EntryKind, Role

from .conversation import Actor, Conversation
from .messages_by_hand import append
from .test_membership import led_by_1, settle

ON = (ENTRY_CHECKSUMS,)
SWITCH = SwitchOn(ON)


def introduce(talk: Conversation) -> None:
    """Everybody has said to everybody what it can."""
    for one in talk.actors.values():
        for other in talk.actors.values():
            if one is not other:
                one.raft.can[other.node_id] = tuple(other.features)


def able(*joining: str) -> Conversation:
    """A cluster that 1 leads, all of which can, and know it."""
    talk = led_by_1(joining=joining)
    introduce(talk)
    return talk


def switched_on(*joining: str) -> Conversation:
    """Likewise, and it is on."""
    talk = able(*joining)
    assert switch(talk) is Stage.DONE
    return talk


def switch(talk: Conversation, leader: str = "1") -> Stage:
    change: MembershipChange = talk[leader].changes(SWITCH)
    settle(talk)
    return change.stage


def on_at(actor: Actor) -> tuple[str, ...]:
    return actor.raft.configuration.features


def kinds_of(actor: Actor) -> list[int]:
    return [entry.kind for entry in actor.disk.entries]


# -- switching on --------------------------------------------------------------------------------


def test_u2_all_do_it_from_its_entry_on_and_none_before() -> None:
    talk = switched_on()
    talk["1"].proposes(b"b")
    settle(talk)
    for actor in talk.actors.values():
        assert on_at(actor) == ON
        assert kinds_of(actor) == [
            EntryKind.CONFIGURATION,
            EntryKind.COMMAND,
            EntryKind.CONFIGURATION_WITH_FEATURES,
            EntryKind.CHECKED_COMMAND,
        ]
        assert actor.applied_commands() == [b"a", b"b"]


def test_nothing_is_new_in_the_log_before() -> None:
    talk = able()
    talk["1"].changes(Remove("3"))
    settle(talk)
    assert set(kinds_of(talk["2"])) <= {0, 1, 2}
    plain = configuration_entry(Configuration(("1",)), 1, 1)
    assert len(msgspec.msgpack.decode(plain.data)) == 7  # as format 1 writes it


def test_u1_a_member_that_cannot_keeps_it_off() -> None:
    talk = led_by_1()
    talk["3"].features = ()
    introduce(talk)
    with pytest.raises(ConfigError, match=r"'3' cannot do entry-checksums.*Nothing was changed"):
        talk["1"].changes(SWITCH)
    assert on_at(talk["1"]) == ()


def test_a_learner_that_cannot_keeps_it_off_too() -> None:
    talk = led_by_1(joining=("4",))
    talk["4"].features = ()
    talk["1"].changes(AddLearner("4"))
    settle(talk)
    introduce(talk)
    with pytest.raises(ConfigError, match="'4' cannot do"):
        talk["1"].changes(SWITCH)


def test_a_member_that_has_not_said_so_keeps_it_off() -> None:
    talk = able()
    del talk["1"].raft.can["2"]
    with pytest.raises(ConfigError, match="'2' is not there to say whether it can"):
        talk["1"].changes(SWITCH)


def test_a_member_that_is_away_keeps_it_off_whatever_it_said_before() -> None:
    """It may come back as a release that cannot."""
    talk = able()
    talk.cut_off("3")
    for _ in range(20):
        talk["1"].beats()
        talk.talk()
    with pytest.raises(ConfigError, match="'3' is not there to say whether it can"):
        talk["1"].changes(SWITCH)


def test_only_a_leader_switches_on_and_only_what_there_is() -> None:
    talk = able()
    with pytest.raises(NotLeader):
        talk["2"].changes(SWITCH)
    with pytest.raises(ConfigError, match="sliced-bread is no feature of those"):
        talk["1"].changes(SwitchOn(("sliced-bread",)))
    with pytest.raises(ConfigError, match="no feature was named"):
        talk["1"].changes(SwitchOn(()))


def test_what_is_on_already_is_no_change() -> None:
    talk = switched_on()
    before = talk["1"].raft.log.last_index
    assert switch(talk) is Stage.DONE
    assert talk["1"].raft.log.last_index == before


def test_members_and_features_change_one_at_a_time() -> None:
    talk = able("4")
    talk["1"].changes(ChangeVoters(("1", "2", "3", "4")))
    with pytest.raises(ConfigurationConflict):
        talk["1"].changes(SWITCH)


@pytest.mark.parametrize("step", range(8))
def test_whoever_crashes_while_it_is_switched_on_agrees_in_the_end(step: int) -> None:
    talk = able()
    talk["1"].changes(SWITCH)
    talk.talk(step)
    for actor in talk.actors.values():
        actor.outbox.clear()
        actor.crash_and_restart()
    introduce(talk)
    leader = talk.elect("2" if step % 2 else "1")
    leader.proposes(b"b")
    settle(talk)
    assert len({on_at(actor) for actor in talk.actors.values()}) == 1
    assert {tuple(actor.applied_commands()) for actor in talk.actors.values()} == {(b"a", b"b")}
    last = {kinds_of(actor)[-1] for actor in talk.actors.values()}
    assert last == {EntryKind.CHECKED_COMMAND if on_at(leader) else EntryKind.COMMAND}


def test_u2_truncation_undoes_it_like_a_configuration() -> None:
    talk = able()
    talk.cut_off("1")
    talk["1"].changes(SWITCH)
    talk["1"].proposes(b"lost")
    talk.talk()
    assert on_at(talk["1"]) == ON  # in its own log, committed or not
    talk.elect("2").proposes(b"b")
    talk.talk()
    talk.heal()
    settle(talk)
    for actor in talk.actors.values():
        assert on_at(actor) == ()
        assert actor.applied_commands() == [b"a", b"b"]
    talk["2"].proposes(b"c")
    settle(talk)
    assert kinds_of(talk["1"])[-1] == EntryKind.COMMAND


# -- what follows from it ------------------------------------------------------------------------


def test_u3_no_change_of_the_members_switches_it_off() -> None:
    talk = switched_on("4")
    for change in (
        AddLearner("4", ("10.0.0.4", 7000)),
        ChangeVoters(("1", "2", "4")),
        Remove("2"),
    ):
        begun = talk["1"].changes(change)
        settle(talk)
        assert begun.stage is Stage.DONE
        introduce(talk)
        assert on_at(talk["4"]) == on_at(talk["1"]) == ON
    for entry in talk["1"].disk.entries[3:]:
        if entry.kind in (EntryKind.CONFIGURATION, EntryKind.CONFIGURATION_WITH_FEATURES):
            assert configuration_of(entry).features == ON


def test_a_lost_disk_is_replaced_with_it_on() -> None:
    talk = switched_on()
    one = talk["1"].raft
    one.seen["3"] = 99
    introduce(talk)
    begun = talk["1"].changes(Replace("3"))
    assert on_at(talk["1"]) == ON
    assert begun.goal.features == ON


def test_who_cannot_does_not_join() -> None:
    talk = switched_on("4")
    talk["1"].raft.can["4"] = ()
    for change in (AddLearner("4"), ChangeVoters(("1", "2", "3", "4"))):
        with pytest.raises(ConfigError, match="'4' cannot join: the cluster has switched on"):
            talk["1"].changes(change)


def test_u1_a_peer_that_cannot_is_refused_once_it_is_committed_and_not_before() -> None:
    talk = able()
    talk.cut_off("1")
    talk["1"].changes(SWITCH)
    talk["1"].raft.check_can_take_part("3", ())  # else it could never hear of another leader
    talk.heal()
    settle(talk)
    for actor in talk.actors.values():
        actor.raft.check_can_take_part("9", ON)
        with pytest.raises(PeerRefused, match=r"switched on entry-checksums \(entry 3\), which"):
            actor.raft.check_can_take_part("9", ())


def test_u3_a_snapshot_carries_it() -> None:
    talk = switched_on("4")
    talk["1"].proposes(b"b")
    settle(talk)
    talk["1"].limits = talk["1"].raft.limits
    talk["1"].takes_snapshot()
    talk["1"].crash_and_restart()
    assert on_at(talk["1"]) == ON
    assert talk["1"].raft.snapshot is not None
    assert talk["1"].raft.snapshot.configuration.features == ON
    introduce(talk)
    leader = talk.elect("1")
    leader.proposes(b"c")
    assert leader.disk.entries[-1].kind == EntryKind.CHECKED_COMMAND


def a_snapshot_for_4(*, can: tuple[str, ...]) -> list[InstallSnapshot]:
    """4 lacks all that the leader has cut; what the leader sends of its snapshot."""
    talk = switched_on("4")
    one = talk["1"]
    talk.lost |= {("1", "4"), ("4", "1")}
    one.changes(AddLearner("4"))
    settle(talk)
    one.takes_snapshot()
    one.raft.log.compact(one.raft.log.applied_index)
    one.raft.can["4"] = can
    talk.lost.clear()
    sent: list[InstallSnapshot] = []
    for _ in range(6):
        one.beats()
        sent += [m for m in one.outbox if isinstance(m, InstallSnapshot)]
        talk.talk(1)
    return sent


def test_a_snapshot_goes_to_those_who_know_what_it_stands_for() -> None:
    """An earlier release would pass over what is on, and do as if nothing was."""
    assert a_snapshot_for_4(can=ON)
    assert not a_snapshot_for_4(can=())


def test_a_release_that_can_nothing_refuses_what_it_does_not_know() -> None:
    """It is as one of format 1, which has no such kinds of entries."""
    old = Actor("2", features=())
    with_it = configuration_entry(Configuration(("1", "2", "3"), features=ON), 1, 1)
    for entry in (with_it, checked_command(1, 1, b"a")):
        with pytest.raises(BadMessage, match="of a later release"):
            old.hears(append("1", 1, (0, 0), (entry,), to="2"))
    assert old.raft.log.last_index == 0
    assert old.raft.term == 0


def test_a_release_refuses_a_feature_that_it_does_not_know() -> None:
    two = Actor("2")
    later = Configuration(("1", "2", "3"), features=(*ON, "time-travel"))
    with pytest.raises(BadMessage, match="has switched on time-travel, which node '2' cannot do"):
        two.hears(append("1", 1, (0, 0), (configuration_entry(later, 1, 1),), to="2"))


def test_there_is_no_way_back_behind_its_entry() -> None:
    """Rolling back is refused, with a sentence that says why."""
    talk = switched_on()
    two = talk["2"]
    two.features = ()
    with pytest.raises(
        ConfigError, match=r"node '2' has switched on entry-checksums \(entry 3\).*no way back"
    ):
        two.crash_and_restart()


# -- entry-checksums -----------------------------------------------------------------------------


def altered(entry: Entry, byte: int = -1) -> Entry:
    """With one bit of it turned."""
    data = bytearray(entry.data)
    data[byte] ^= 0x10
    return msgspec.structs.replace(entry, data=bytes(data))


def test_a_command_comes_out_as_it_went_in() -> None:
    for data in (b"", b"command", bytes(range(256)) * 40):
        entry = checked_command(7, 3, data)
        assert is_intact(entry)
        assert command_of(entry) == data
        assert not is_intact(msgspec.structs.replace(entry, index=8))  # it is of that place
        for byte in range(min(len(entry.data), 12)):
            assert not is_intact(altered(entry, byte))
    assert not is_intact(Entry(1, 1, b"\0", EntryKind.CHECKED_COMMAND))
    assert command_of(Entry(1, 1, b"", EntryKind.NOOP)) is None


def test_what_was_altered_on_the_way_is_not_taken() -> None:
    """A memory, a network card, or a line that TCP's own sum did not save."""
    talk = switched_on()
    two = talk["2"].raft
    entry = checked_command(4, 1, b"b")
    before = two.log.last_index
    with pytest.raises(BadMessage, match="entry 4 from '1' is not what its leader took"):
        talk["2"].hears(append("1", 1, (1, 3), (altered(entry),), to="2"))
    assert two.log.last_index == before
    talk["2"].hears(append("1", 1, (1, 3), (entry,), to="2"))
    assert two.log.last_index == 4


def alter_in_memory(actor: Actor, index: int) -> None:
    entries = actor.raft.log._entries
    place = index - actor.raft.log.base_index - 1
    entries[place] = altered(entries[place])


def test_a_leader_whose_memory_altered_an_entry_ends_instead_of_sending_it_again() -> None:
    """A follower would refuse it, and be asked again, for ever."""
    talk = switched_on()
    talk.cut_off("3")
    talk["1"].proposes(b"b")
    settle(talk)
    alter_in_memory(talk["1"], 4)
    talk.heal()
    with pytest.raises(EntryAltered, match="entry 4 of term 1"):
        talk["1"].loses("3")


def test_a_leader_without_it_takes_commands_as_format_1_does() -> None:
    talk = able()
    talk["1"].proposes(b"b")
    settle(talk)
    assert set(kinds_of(talk["3"])) == {EntryKind.CONFIGURATION, EntryKind.COMMAND}
    assert talk["1"].is_now(Role.LEADER)
