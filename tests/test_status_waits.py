"""Many who wait for something of a node's status cost its proposals little, and miss nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.support import open_single
from trioraft import Node, NodeDead, Role, Status
from trioraft.testing.cluster import open_cluster


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


class Asked:
    """A predicate that holds from an index on, and counts how often it is asked."""

    def __init__(self, index: int) -> None:
        self.times = 0
        self._index = index

    def __call__(self, status: Status) -> bool:
        self.times += 1
        return status.applied_index >= self._index


async def proposes(node: Node, times: int) -> None:
    for _ in range(times):
        await node.propose(b"x")


async def test_a_thousand_who_wait_are_asked_seldom_and_told_in_time(
    autojump_clock: MockClock,
) -> None:
    told: list[float] = []

    async def wait_for(predicate: Asked) -> None:
        await node.wait(predicate)
        told.append(trio.current_time())

    async with open_single() as node, trio.open_nursery() as nursery:
        await node.wait(leads)
        asked = Asked(node.status.applied_index + 200)
        for _ in range(1000):
            nursery.start_soon(wait_for, asked)
        await trio.testing.wait_all_tasks_blocked()
        before = asked.times
        await proposes(node, 199)
        assert asked.times - before <= 2000  # at the first input, and perhaps once more
        await trio.sleep(1)
        settled = asked.times
        await trio.sleep(10)
        assert asked.times == settled  # nothing happened, nobody is asked
        await node.propose(b"the last one")
        reached_s = trio.current_time()
        await trio.sleep(1)
        assert len(told) == 1000
        assert max(told) - reached_s <= 0.05


async def test_few_are_told_at_once(autojump_clock: MockClock) -> None:
    async with open_single() as node, trio.open_nursery() as nursery:
        await node.wait(leads)
        asked = Asked(node.status.applied_index + 3)
        for _ in range(10):
            nursery.start_soon(node.wait, asked)
        await trio.testing.wait_all_tasks_blocked()
        began_s = trio.current_time()
        await proposes(node, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert trio.current_time() - began_s < 0.001


async def test_another_leader_is_told_at_once_however_many_wait(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        old_id, _ = await cluster.check_single_leader()
        old = cluster.nodes[old_id]
        told: list[float] = []

        async def wait_for_another() -> None:
            await old.wait(lambda status: status.leader_id not in (None, old_id))
            told.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(wait_for_another)
            await trio.testing.wait_all_tasks_blocked()
            await old.transfer_leadership()
            transferred_s = trio.current_time()
        assert max(told) <= transferred_s


async def test_a_predicate_that_raises_does_so_where_it_waits(autojump_clock: MockClock) -> None:
    def raises(status: Status) -> bool:
        if status.applied_index > 1:
            raise LookupError("the predicate's own")
        return False

    async with open_single() as node, trio.open_nursery() as nursery:
        await node.wait(leads)
        nursery.start_soon(proposes, node, 2)
        with pytest.raises(LookupError, match="the predicate's own"):
            await node.wait(raises)
        assert await node.propose(b"it lives") == b"it lives"


async def test_a_predicate_may_cancel_another_wait_and_kill_the_node(
    autojump_clock: MockClock,
) -> None:
    cancelled = trio.CancelScope()
    async with open_single() as node:
        await node.wait(leads)
        await proposes(node, 1)
        index = node.status.applied_index

        def cancels(status: Status) -> bool:
            if status.applied_index > index:
                cancelled.cancel()
            return status.applied_index > index + 1

        def kills(status: Status) -> bool:
            if status.applied_index > index + 1:
                node.kill()
            return False

        async def is_cancelled() -> None:
            with cancelled:
                await node.wait(lambda status: status.applied_index > index)
                raise AssertionError("it was cancelled in the moment in which it held")

        async def sees_it_die() -> None:
            with pytest.raises(NodeDead, match="will not happen"):
                await node.wait(kills)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sees_it_die)
            nursery.start_soon(node.wait, cancels)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(is_cancelled)
            nursery.start_soon(proposes, node, 1)
            await trio.testing.wait_all_tasks_blocked()
            await proposes(node, 1)  # its predicate kills the node once this is applied
            assert node.status.role is Role.DEAD
