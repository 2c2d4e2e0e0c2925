"""Writes are bounded in bytes, and a disk that is busy with much is not taken for one that hangs.

Rules of this file: the disk is the test's; it takes as long for a write as its size asks for.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.core.disk import Disk
from tests.core.messages_by_hand import matched
from tests.core.properties import quietly
from trioraft.core import reasons
from trioraft.core.config import Limits
from trioraft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    RequestPreVoteReply,
    RequestVoteReply,
)
from trioraft.core.ready import Write, join_writes
from trioraft.core.types import Entry, Role

from .by_hand import ByHand

MIB = 1024 * 1024
STEP_S = 0.010
"""How often the test looks around."""


def sizes(write: object) -> list[int]:
    assert isinstance(write, Write)
    return [len(entry.data) for entry in write.entries]


def received(one: ByHand, *sizes_bytes: int) -> None:
    """Of leader 2 in term 1, in one message."""
    entries = tuple(Entry(n, 1, bytes(size)) for n, size in enumerate(sizes_bytes, 1))
    one.member.receive(AppendEntries("2", "1", 1, 0, 0, entries, 0), 0.0)
    one.run()


def test_a_write_that_would_be_too_large_is_several_and_promises_wait_for_the_last() -> None:
    one = ByHand(("1", "2"), Limits(write_bytes_max=10))
    received(one, 4, 4, 4, 30, 1, 9, 2)
    assert sizes(one.steps[0]) == [4, 4]
    for expected in ([4], [30], [1, 9], [2]):
        (write,) = one.stored()
        assert sizes(write) == expected
    (reply,) = one.stored()
    assert isinstance(reply, AppendEntriesReply)
    assert reply.match_index == 7


def test_what_waits_is_joined_only_up_to_that() -> None:
    one = ByHand(("1", "2"), Limits(write_bytes_max=10))
    for n in range(1, 6):
        entry = Entry(n, 1, bytes(4))
        one.member.receive(AppendEntries("2", "1", 1, n - 1, min(n - 1, 1), (entry,), 0), 0.0)
        one.run()
    assert sizes(one.steps[0]) == [4]
    _, write = one.stored()
    assert sizes(write) == [4, 4]
    *replies, write = one.stored()
    assert len(replies) == 2
    assert sizes(write) == [4, 4]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 14))
@quietly
def test_parts_leave_what_one_write_would_and_before_that_a_log_that_ends_earlier(
    commands: list[int], bytes_max: int
) -> None:
    one = ByHand(("1", "2"), Limits(write_bytes_max=bytes_max))
    received(one, *commands)
    disk, whole = Disk(), [Entry(n, 1, bytes(size)) for n, size in enumerate(commands, 1)]
    while one.steps:
        step = one.steps[0]
        assert isinstance(step, Write)
        assert len(step.entries) == 1 or sum(sizes(step)) <= bytes_max
        disk.write(step)
        assert disk.hard_state.term == 1  # with the first of them already
        assert disk.entries == whole[: len(disk.entries)]
        one.stored()
    assert disk.entries == whole
    assert join_writes([]) is None


def leader() -> ByHand:
    """Node 1 of two leads term 1."""
    one = ByHand(("1", "2"), Limits())
    one.times_out()
    raft = one.member.raft
    raft.step(RequestPreVoteReply("2", "1", raft.term, raft.term + 1, True), one.now)
    one.run()
    one.stored()
    raft.step(RequestVoteReply("2", "1", raft.term, True), one.now)
    one.run()
    one.member.go_on()
    one.applied()
    return one


def goes_on(one: ByHand, until_s: float) -> None:
    """Time passes; the follower answers, but has nothing yet."""
    raft = one.member.raft
    while one.now < until_s and raft.role is Role.LEADER:
        one.now = min(one.now + STEP_S, until_s)
        one.member.on_heartbeat_due(one.now)
        one.member.on_timeout(one.now)
        if raft.role is Role.LEADER and raft.leadership is not None:
            round_ = raft.leadership.round
            one.member.receive(matched("2", raft.term, 1, number=round_), one.now)
        one.run()


def test_a_leader_with_much_to_write_leads_on() -> None:
    one = leader()
    one.propose(*[bytes(MIB)] * 64)
    one.run()
    begun_s = one.now
    while one.steps:
        step = one.steps[0]
        goes_on(one, one.now + (sum(sizes(step)) / (40 * MIB) if isinstance(step, Write) else 0))
        assert one.member.raft.role is Role.LEADER
        one.stored()
    assert one.now - begun_s > 1.5  # ten times as long as its patience


def test_one_large_command_has_the_time_that_a_slow_disk_takes_for_it() -> None:
    one = leader()
    one.propose(bytes(8 * MIB))
    one.run()
    goes_on(one, one.now + 0.9)
    assert one.member.raft.role is Role.LEADER
    one.stored()
    goes_on(one, one.now + 3)
    assert one.member.raft.role is Role.LEADER


def test_a_disk_that_hangs_in_the_middle_is_noticed() -> None:
    one = leader()
    one.propose(*[bytes(MIB)] * 64)
    one.run()
    for _ in range(3):
        goes_on(one, one.now + 0.05)
        one.stored()
    hangs_since_s = one.now
    goes_on(one, one.now + 5)
    raft = one.member.raft
    assert raft.role is not Role.LEADER
    assert isinstance(raft.last_reason, reasons.DiskStalled)
    assert 0.15 <= one.now - hangs_since_s <= 0.6
