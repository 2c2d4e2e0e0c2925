"""Hazards D1 and D2, and the joining of writes: what is acknowledged is on the disk.

Rules of this file: the disk waits until it is told to write; what is durable is looked at on
the disk itself.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trioraft.core import reasons
from trioraft.core.config import Limits, Timing
from trioraft.core.ready import Ready, join_writes
from trioraft.core.types import Entry, HardState, Role

from .conversation import Actor, entries_of, text
from .disk import Disk
from .messages_by_hand import append, matched, vote
from .properties import quietly


def slow_disk(*terms: int, term: int = 1) -> Actor:
    """Node "1" as a follower whose writes wait to be allowed."""
    one = Actor("1", term=term, log=entries_of(*terms))
    one.disk_waits = True
    return one


def test_d1_an_append_is_acknowledged_only_once_it_is_durable() -> None:
    one = slow_disk()
    one.hears(append("2", 1, entries=entries_of(1, 1)))
    assert one.says() == ""
    one.persist()
    assert one.says() == "1->2 AppendEntriesReply term=1 match=2"
    assert one.disk.entries == list(entries_of(1, 1))


def test_d1_a_crash_before_the_write_acknowledges_nothing() -> None:
    one = slow_disk()
    one.hears(append("2", 1, entries=entries_of(1, 1)))
    one.crash_and_restart()
    assert (one.says(), one.raft.log.last_index) == ("", 0)


def test_d1_a_repeated_message_is_not_acknowledged_before_its_write_either() -> None:
    one = slow_disk()
    one.hears(append("2", 1, entries=entries_of(1)), append("2", 1, entries=entries_of(1)))
    one.hears(append("2", 1, (1, 1)))
    assert one.says() == ""
    one.persist(1)  # the one write that there is: all three waited for it
    assert one.says().count("match=1") == 3


def test_d1_what_is_durable_already_is_acknowledged_while_the_disk_is_busy() -> None:
    one = slow_disk(1)
    one.hears(append("2", 1, (1, 1), entries_of(1, first=2)), append("2", 1, (1, 1)))
    assert one.says() == "1->2 AppendEntriesReply term=1 match=1"


def test_d1_a_success_waits_for_the_term_that_it_bears() -> None:
    """Answering in term 5 and coming back in term 1 would allow a vote in a term before 5."""
    one = slow_disk(1)
    one.hears(append("2", 5, (1, 1)))
    assert one.says() == ""
    one.persist()
    assert one.says() == "1->2 AppendEntriesReply term=5 match=1"
    assert one.disk.hard_state == HardState(5, None)


def test_d1_a_refused_append_waits_for_the_term_that_it_bears() -> None:
    one = slow_disk(1)
    one.hears(append("2", 5, (4, 7)))
    assert one.says() == ""
    one.persist()
    assert one.says() == "1->2 AppendEntriesReply term=5 rejected=7 conflict=(0,2)"


def test_d1_a_term_that_is_on_its_way_to_the_disk_is_not_durable_yet() -> None:
    one = slow_disk(1)
    one.hears(append("2", 5, (4, 7)))
    one.hears(append("2", 5, (1, 1)), append("2", 5, (4, 7)))
    assert one.says() == ""
    one.persist(1)
    assert one.disk.hard_state.term == 5
    one.persist()
    assert one.says() == text("""
        1->2 AppendEntriesReply term=5 rejected=7 conflict=(0,2)
        1->2 AppendEntriesReply term=5 match=1
        1->2 AppendEntriesReply term=5 rejected=7 conflict=(0,2)
    """)


def test_d2_a_write_under_way_does_not_vouch_for_what_replaced_it() -> None:
    one = slow_disk()
    one.hears(append("2", 1, entries=entries_of(1, 1, 1)))
    one.hears(append("3", 2, entries=entries_of(2, 2, 2)))
    one.persist(1)  # the entries of term 1 reach the disk: they are history
    assert one.raft.log.stable_index == 0
    assert one.says() == "1->2 AppendEntriesReply term=1 match=3"
    one.persist()
    assert one.says() == "1->3 AppendEntriesReply term=2 match=3"
    assert one.disk.entries == list(entries_of(2, 2, 2))


def test_d2_what_was_durable_before_a_truncation_is_not_after_it() -> None:
    one = slow_disk(1, 1, 1)
    one.hears(append("2", 2, (1, 1), entries_of(2, 2, first=2)))
    assert one.raft.log.stable_index == 1
    one.hears(append("2", 2, (2, 3), commit=3))
    assert one.raft.log.commit_index == 3
    assert [entry.term for entry in one.applied] == [1]
    assert one.says() == ""
    one.persist()
    assert [entry.term for entry in one.applied] == [1, 2, 2]


def test_d2_cutting_back_and_forth_vouches_for_nothing_old() -> None:
    """Entry 2 of term 1 was durable, gave way, and comes back: it must be written again."""
    one = slow_disk(1, 1)
    one.hears(append("2", 2, (1, 1), entries_of(2, first=2)))
    one.hears(append("3", 3, (1, 1), entries_of(1, 3, first=2)))
    assert one.says() == ""
    one.persist(1)
    assert one.raft.log.stable_index == 1
    assert "3 AppendEntriesReply" not in one.says()
    one.persist()
    assert one.says() == "1->3 AppendEntriesReply term=3 match=3"
    assert one.disk.entries == list(entries_of(1, 1, 3))


def test_entries_are_applied_only_once_they_are_durable_here() -> None:
    one = slow_disk()
    one.hears(append("2", 1, entries=entries_of(1, 1), commit=2))
    assert (one.raft.log.commit_index, one.applied_commands()) == (2, [])
    one.persist()
    assert one.applied_commands() == [b"1.1", b"1.2"]


def test_a_leaders_entries_leave_while_its_own_disk_still_writes() -> None:
    one = Actor("1", timing=Timing(pre_vote=False))
    one.times_out()
    one.disk_waits = True
    one.says()
    one.hears(vote("2", 1))
    assert one.says() == text("""
        1->2 AppendEntries term=1 prev=(0,0) entries=[1] commit=0
        1->3 AppendEntries term=1 prev=(0,0) entries=[1] commit=0
    """)
    assert one.disk.entries == []


@st.composite
def consecutive_readies(draw: st.DrawFn) -> list[Ready]:
    """Writes as a core makes them: each continues, or replaces a tail of, what is there."""
    readies, last = [], 0
    for number in range(1, draw(st.integers(1, 6)) + 1):
        hard_state = HardState(number, None) if draw(st.booleans()) else None
        append_count = draw(st.integers(0, 4))
        replace_from = draw(st.integers(1, last + 1)) if append_count else None
        entries: tuple[Entry, ...] = ()
        if replace_from is not None:
            entries = entries_of(*[number] * append_count, first=replace_from)
            last = entries[-1].index
        readies.append(
            Ready(number, hard_state=hard_state, append=entries, replace_from=replace_from)
        )
    return readies


@given(consecutive_readies(), st.integers(0, 6))
@quietly
def test_joined_writes_leave_the_disk_as_single_ones_do(readies: list[Ready], at: int) -> None:
    one_by_one, joined = Disk(), Disk()
    for disk, parts in (
        (one_by_one, [[r] for r in readies]),
        (joined, [readies[:at], readies[at:]]),
    ):
        for part in parts:
            write = join_writes(part)
            if write is not None:
                disk.write(write)
    assert joined == one_by_one


# -- whose fault a write's waiting is ------------------------------------------------------------


def leader_that_compacts() -> Actor:
    """Node "1" leads, and a write of its waits while its storage compacts the log."""
    limits = Limits(snapshot_tail_entries=1)
    one = Actor(
        "1", term=1, log=entries_of(1, 1, 1, 1), timing=Timing(pre_vote=False), limits=limits
    )
    one.times_out()
    one.hears(vote("2", 2), matched("2", 2, 5), matched("3", 2, 5))
    one.takes_snapshot()
    one.disk_waits = True
    one.proposes(b"a")
    one.persist()
    one.hears(matched("2", 2, 6), matched("3", 2, 6))
    one.takes_snapshot()
    one.proposes(b"b")
    return one


def leads_on(one: Actor, for_s: float) -> bool:
    """Whether it still leads then; its followers answer all the while."""
    until_s = one.now + for_s
    while one.is_now(Role.LEADER) and one.now < until_s:
        one.beats()
        one.hears(matched("2", 2, 6), matched("3", 2, 6))
        one.does(lambda: one.raft.on_timeout(one.now))
    return one.is_now(Role.LEADER)


def test_p6_compaction_is_no_stalled_disk() -> None:
    one = leader_that_compacts()
    assert one.unwritten
    assert leads_on(one, for_s=1.0)


def test_a_write_that_has_its_turn_and_does_not_end_is_one() -> None:
    one = leader_that_compacts()
    assert leads_on(one, for_s=1.0)
    one.persist(1)  # the compaction; now it is the write's turn
    assert one.unwritten
    assert not leads_on(one, for_s=1.0)
    assert isinstance(one.raft.last_reason, reasons.DiskStalled)


def test_a_disk_that_hangs_in_a_compaction_is_one_in_the_end() -> None:
    one = leader_that_compacts()
    assert not leads_on(one, for_s=10.0)
