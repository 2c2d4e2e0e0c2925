"""What a leader that is deposed tells of the commands that it took (hazard E3).

Rules of this file: member 1 led a term of its own, took commands, and member 2 leads the next one.
"""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from tests.member.by_hand import Asked, ByHand
from trioraft import OutcomeUnknown, ProposalDropped
from trioraft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    RequestPreVoteReply,
    RequestVoteReply,
)
from trioraft.core.types import Configuration, Entry, EntryKind, SnapshotMeta
from trioraft.member.actions import Install
from trioraft.member.member import OUTCOME_WAIT_TIMEOUTS
from trioraft.testing.cluster import open_cluster

THREE = ("1", "2", "3")
NOOP = int(EntryKind.NOOP)


def deposed(*commands: bytes) -> tuple[ByHand, list[Asked]]:
    """Its term's first entry is committed; the commands behind it are in its log alone, and it
    follows member 2 in the next term."""
    one = ByHand(THREE)
    one.stores_at_once = True
    one.times_out()
    raft = one.member.raft
    one.member.receive(RequestPreVoteReply("2", "1", raft.term, raft.term + 1, True), one.now)
    one.run()
    one.member.receive(RequestVoteReply("2", "1", raft.term, True), one.now)
    one.run()
    one.member.go_on()
    one.run()
    one.member.receive(AppendEntriesReply("2", "1", 1, True, 1), one.now)
    one.applied()
    asked = one.propose(*commands)
    one.run()
    hears(one, prev=(1, 1), entries=())
    assert one.member.leading_term is None
    return one, asked


def hears(one: ByHand, *, prev: tuple[int, int], entries: Any, commit: int = 1) -> None:
    """Of member 2, the leader of term 2."""
    message = AppendEntries("2", "1", 2, *prev, tuple(entries), commit)
    one.member.receive(message, one.now)
    one.applied()


def types(asked: list[Asked]) -> list[list[type]]:
    return [[type(outcome) for outcome in each.outcomes] for each in asked]


def test_e3_what_the_next_leader_commits_has_its_result() -> None:
    one, asked = deposed(b"a", b"raise")
    assert types(asked) == [[], []]
    own = [Entry(2, 1, b"a"), Entry(3, 1, b"raise")]
    hears(one, prev=(1, 1), entries=[*own, Entry(4, 2, b"", NOOP)], commit=4)
    assert asked[0].outcomes == [1]
    assert types(asked) == [[int], [ValueError]]
    assert one.member.deadline == one.member.raft.deadline


def test_e3_what_the_next_leader_replaced_is_dropped_with_all_behind_it() -> None:
    """As soon as the first entry of its term is committed: no log with that one has the others."""
    one, asked = deposed(b"a", b"b", b"c")
    hears(one, prev=(1, 1), entries=[Entry(2, 1, b"a"), Entry(3, 2, b"", NOOP)], commit=2)
    assert types(asked) == [[int], [], []]
    hears(one, prev=(3, 2), entries=(), commit=3)
    assert types(asked) == [[int], [ProposalDropped], [ProposalDropped]]


def test_e3_an_index_that_is_used_again_is_another_command() -> None:
    """It leads again, with the same index free: the outcome of the first is told by its term."""
    one, (first,) = deposed(b"a")
    hears(one, prev=(1, 1), entries=[Entry(2, 2, b"", NOOP)], commit=1)
    assert first.outcomes == []  # replaced here, and still in nobody knows which log
    one.times_out()
    raft = one.member.raft
    one.member.receive(RequestPreVoteReply("3", "1", raft.term, raft.term + 1, True), one.now)
    one.run()
    one.member.receive(RequestVoteReply("3", "1", raft.term, True), one.now)
    one.run()
    one.member.go_on()
    (again,) = one.propose(b"again")
    one.run()
    one.member.receive(AppendEntriesReply("3", "1", 3, True, again.index), one.now)
    one.applied()
    assert types([first, again]) == [[ProposalDropped], [int]]


def elected(one: ByHand) -> None:
    """By member 3; nothing is run after the last vote."""
    one.times_out()
    raft = one.member.raft
    one.member.receive(RequestPreVoteReply("3", "1", raft.term, raft.term + 1, True), one.now)
    one.run()
    one.member.receive(RequestVoteReply("3", "1", raft.term, True), one.now)


def test_e3_what_an_entry_of_an_earlier_term_replaced_is_dropped() -> None:
    """Found by the simulator (seed 3140): the next leader's log had entries of a term before that
    of the proposal in its place, and the first entry of its own term behind it."""
    one, _ = deposed()
    hears(one, prev=(1, 1), entries=())
    elected(one)
    one.run()
    one.member.go_on()
    (asked,) = one.propose(b"a")
    one.run()
    assert (asked.index, asked.term) == (3, 3)
    older = [Entry(2, 2, b"", NOOP), Entry(3, 2, b"b"), Entry(4, 4, b"", NOOP)]
    one.member.receive(AppendEntries("2", "1", 4, 1, 1, tuple(older), 3), one.now)
    one.applied()
    assert types([asked]) == [[ProposalDropped]]
    assert one.member.deadline == one.member.raft.deadline


def test_e3_a_leadership_that_came_and_went_between_two_runs_is_noticed() -> None:
    """Found by the simulator (seed 6958): the vote, a command and the next leader's first entry all
    lay there when a node that had been paused went on."""
    one, _ = deposed()
    elected(one)
    (asked,) = one.propose(b"a")
    assert (asked.index, asked.term) == (3, 3)
    one.member.receive(AppendEntries("2", "1", 4, 1, 1, (Entry(2, 4, b"", NOOP),), 1), one.now)
    one.run()
    assert one.member.leading_term is None
    assert types([asked]) == [[]]
    one.member.receive(AppendEntries("2", "1", 4, 2, 4, (), 2), one.now)
    one.applied()
    assert types([asked]) == [[ProposalDropped]]


def test_e3_after_a_while_nobody_waits_any_more() -> None:
    one, asked = deposed(b"a")
    wait_s = OUTCOME_WAIT_TIMEOUTS * one.member.raft.timing.election_timeout_s[1]
    began_s = one.now
    while not asked[0].outcomes:
        assert one.now < began_s + wait_s
        one.times_out()
    assert one.now == pytest.approx(began_s + wait_s)
    assert types(asked) == [[OutcomeUnknown]]
    entries = [Entry(2, 1, b"a"), Entry(3, 2, b"", NOOP)]
    one.now = began_s + wait_s
    one.member.receive(
        AppendEntries("2", "1", one.member.raft.term, 1, 1, tuple(entries), 3), one.now
    )
    one.applied()
    assert types(asked) == [[OutcomeUnknown]]


def test_e3_a_snapshot_says_at_once_what_it_can() -> None:
    one, asked = deposed(b"a", b"b")
    one.member.outcomes.covered(SnapshotMeta(2, 1, Configuration(THREE), 0, 0))
    assert types(asked) == [[OutcomeUnknown], []]
    one.member.outcomes.covered(SnapshotMeta(2, 2, Configuration(THREE), 0, 0))
    assert types(asked) == [[OutcomeUnknown], [ProposalDropped]]  # its log is of a later term


def test_e3_what_is_installed_answers_before_it_is_restored() -> None:
    one, asked = deposed(b"a")
    meta = SnapshotMeta(5, 2, Configuration(THREE), 0, 0)
    one.stores_at_once = False
    one.member.receive(InstallSnapshot("2", "1", 2, meta, 0, b""), one.now)
    one.run()
    one.steps.popleft()
    one.member.on_stored(one.now, next_offset=0)
    one.run()
    assert isinstance(one.steps[0], Install)
    assert types(asked) == [[]]
    one.stored()
    assert types(asked) == [[OutcomeUnknown]]
    assert one.member.to_restore == meta


def test_e3_death_and_whoever_can_ask_again_do_not_wait() -> None:
    one, asked = deposed(b"a")
    one.member.stop("killed", one.now)
    assert types(asked) == [[OutcomeUnknown]]
    two = ByHand().elected()
    (patient, other) = two.propose(b"a", b"b")
    other.is_repeatable = True
    two.member.outcomes.leadership_lost(1, 10.0)
    assert types([patient, other]) == [[], [OutcomeUnknown]]


async def test_e3_a_transfer_that_comes_too_late_leaves_nothing_unknown(
    autojump_clock: MockClock,
) -> None:
    """It was given up, commands were taken again, and then the request arrives after all."""
    async with open_cluster(3, seed=1) as cluster:
        leader, term = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        other = next(each for each in cluster.ids if each != leader)
        await cluster.propose(b"before")
        await cluster.check_committed(b"before")
        core = node._runner.raft
        assert core is not None
        assert core.leadership is not None
        node._runner._transport.send(core.leadership.timeout_now(other))
        outcomes = [0, 0]
        for proposal in [node.submit(b"late %d" % number) for number in range(20)]:
            try:
                await proposal.result()
                outcomes[0] += 1
            except ProposalDropped:
                outcomes[1] += 1
        await node.wait(lambda status: status.term > term)
        assert sum(outcomes) == 20
