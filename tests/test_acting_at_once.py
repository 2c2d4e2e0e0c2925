"""A caller who is alone does not wait for the driver; what that costs nobody."""

from __future__ import annotations

import sys

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support import open_single
from trioraft import InvariantViolation, MemoryStorage, Node, NodeDead, OutcomeUnknown, Role, Status
from trioraft.node.proposal import Proposal
from trioraft.node.unwaited import afterwards, begin_read
from trioraft.testing import FaultyStorage
from trioraft.testing.cluster import open_cluster


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


def is_written(node: Node) -> bool:
    """Whether a write of it was begun."""
    member = node._runner.member
    return member is not None and member.writes.is_busy


def nobody(_: object) -> None:
    pytest.fail("somebody was told who had given up")


async def test_the_command_of_a_caller_who_is_alone_is_written_at_once() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        assert await node.propose(b"first") == b"first"
        with storage.held():
            alone = node.submit(b"alone")
            assert is_written(node)
            for another in (node.submit(b"2"), node.submit(b"3")):
                assert not another.is_done  # they come with the next write
        assert await alone.result() == b"alone"


async def test_those_who_were_answered_in_one_go_are_waited_for() -> None:
    """All but the first of them would have to wait for its write."""
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        for _ in range(3):
            before = storage.writes
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(node.propose, b"%d" % number)
        assert storage.writes == before + 1


async def test_what_a_callers_command_breaks_ends_the_node_and_not_the_caller(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Exception] = []

    def breaks(_: float) -> None:
        raise InvariantViolation("a bug")

    async def life() -> None:
        async with open_single() as node:
            await node.wait(leads)
            await node.propose(b"first")
            monkeypatch.setattr(node._runner.member, "run", breaks)
            proposal = node.submit(b"alone")
            monkeypatch.undo()
            try:
                await proposal.result()
            except OutcomeUnknown as unknown:
                outcomes.append(unknown)
            await trio.sleep_forever()

    with pytest.raises(InvariantViolation, match="a bug"):
        await life()
    assert len(outcomes) <= 1  # it may be cancelled before it hears of that


async def test_a_command_out_of_a_predicate_waits_until_the_member_stands_still(
    autojump_clock: MockClock,
) -> None:
    async with open_single() as node:
        await node.wait(leads)
        submitted: list[Proposal] = []

        def looks(status: Status) -> bool:
            if not submitted and status.last_index > 1:
                submitted.append(node.submit(b"out of it"))
            return status.applied_index > 2

        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.wait, looks)
            await wait_all_tasks_blocked()
            assert await node.propose(b"first") == b"first"
        assert await submitted[0].result() == b"out of it"


async def test_a_read_of_who_waits_in_no_task(autojump_clock: MockClock) -> None:
    told: list[Exception | None] = []
    async with open_cluster(3) as cluster:
        leader = cluster.nodes[(await cluster.check_single_leader())[0]]
        await leader.propose(b"x")
        begin_read(leader, told.append, lease=False)
        given_up = begin_read(leader, nobody, lease=False)
        given_up()
        given_up()
        assert told == []
        await leader.read_barrier()
        assert told == [None]
        begin_read(leader, told.append, lease=False)
        leader.kill()
        assert [type(error) for error in told] == [type(None), NodeDead]
        with pytest.raises(NodeDead):
            begin_read(leader, told.append, lease=False)


async def test_a_read_that_is_given_up_leaves_nothing(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader = cluster.nodes[(await cluster.check_single_leader())[0]]
        await leader.propose(b"x")
        member = leader._runner.member
        assert member is not None
        begin_read(leader, nobody, lease=False)()
        assert len(member.reads) == 0


async def test_afterwards_is_when_the_member_stands_still(autojump_clock: MockClock) -> None:
    async with open_single() as node:
        await node.wait(leads)
        seen: list[bool] = []
        runner = node._runner
        afterwards(node, lambda: seen.append(runner._is_acting))
        await node.propose(b"x")
        assert seen == [False]


async def test_nothing_is_acted_on_where_a_caller_has_used_up_the_stack() -> None:
    """The node would die of it: who is so deep waits for the driver, as those do who are many."""
    storage = FaultyStorage(MemoryStorage(), blocking=True)

    def submitted(frames_left: int) -> Proposal:
        deep, frame = 1, sys._getframe()
        while (back := frame.f_back) is not None:
            deep, frame = deep + 1, back

        def go(down: int) -> Proposal:
            return go(down - 1) if down else node.submit(b"x")

        return go(sys.getrecursionlimit() - deep - frames_left)

    async with open_single(storage=storage) as node:
        await node.wait(leads)
        for frames_left, is_acted_on in ((100, False), (300, True)):
            assert await node.propose(b"alone") == b"alone"
            with storage.held():
                proposal = submitted(frames_left)
                assert is_written(node) is is_acted_on
            assert await proposal.result() == b"x"
