"""What each structure promises: on nodes, from clients and threads, under Trio and asyncio."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import open_objects
from trioraft import ConfigError
from trioraft.coordination.line import WaitingLine
from trioraft.structures import (
    Barrier,
    Dict,
    Election,
    List,
    ListFull,
    LockLost,
    PriorityQueue,
    Queue,
    QueueFull,
    RateExceeded,
    RateLimiter,
    Semaphore,
)


def so_many_wait(count: int, line: WaitingLine) -> bool:
    """Just these."""
    return len(line.waiting) == count


async def test_a_semaphore_has_so_many_holders(autojump_clock: MockClock) -> None:
    async with open_objects(lambda: Semaphore(2)) as objects:
        semaphores = [objects.at(node_id) for node_id in objects.cluster.ids]
        inside, most, tokens = 0, 0, []

        async def once(semaphore: Semaphore, name: str) -> None:
            nonlocal inside, most
            async with semaphore.hold(name, lease_s=5) as grant:
                inside += 1
                most = max(most, inside)
                tokens.append(grant.token)
                await trio.sleep(1)
                inside -= 1

        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(once, semaphores[number % 3], f"{number}")
        assert most == 2
        assert len(tokens) == 6
        assert 3 <= trio.current_time() - begun_s < 3.5
        async with semaphores[0].hold("a"), semaphores[1].hold("b"):
            assert [p.owner for p in await semaphores[2].holders()] == ["a", "b"]
            with trio.move_on_after(1):
                async with semaphores[2].hold("c"):
                    raise AssertionError("there were two")
            assert await semaphores[0].resize(3) == 2
            async with semaphores[2].hold("c"):
                pass
        with pytest.raises(ValueError, match="1 or more"):
            await semaphores[0].resize(0)


@pytest.mark.parametrize("wrong", [Semaphore, Barrier])
def test_how_many_is_checked(wrong: Callable[[int], object]) -> None:
    with pytest.raises(ConfigError, match="give 1 or more"):
        wrong(0)


async def test_takers_stand_in_line_on_any_node(autojump_clock: MockClock) -> None:
    async with open_objects(Queue[int]) as objects:
        queues = [objects.at(node_id) for node_id in objects.cluster.ids]
        got: dict[int, int] = {}

        async def take(number: int) -> None:
            got[number] = await queues[number % 3].take()

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(take, number)
                await queues[0].wait(partial(so_many_wait, number + 1))
            for item in range(6):
                await queues[item % 3].put(item)
        assert got == {number: number for number in range(6)}
        await queues[0].put(6)
        assert await queues[1].get() == 6
        assert await queues[1].get() is None


async def test_an_item_comes_back_unless_it_was_done(autojump_clock: MockClock) -> None:
    async with open_objects(Queue[str]) as objects:
        queue, other = await objects.leading(), await objects.following()
        for item in ("a", "b", "c"):
            await queue.put(item)

        async def fail() -> None:
            async with queue.taking() as taken:
                assert taken.item == "a"
                async with other.taking() as second:
                    assert second.item == "b"
                assert await queue.size() == 1
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        assert await queue.peek() == "a"
        assert await other.take() == "a"
        assert [await queue.get(), await queue.get()] == ["c", None]


async def test_what_a_vanished_taker_had_goes_to_another(autojump_clock: MockClock) -> None:
    async with open_objects(Queue[str]) as objects:
        leader, _ = await objects.cluster.check_single_leader()
        gone = next(node_id for node_id in objects.cluster.ids if node_id != leader)
        queue = objects.at(leader)
        for item in ("a", "b"):
            await queue.put(item)
        lost: list[LockLost] = []

        async def work() -> None:
            try:
                async with objects.at(gone).taking(lease_s=2) as taken:
                    assert taken.item == "a"
                    taken_now.set()
                    await trio.sleep_forever()
            except LockLost as error:
                lost.append(error)

        taken_now = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await taken_now.wait()
            objects.cluster.disconnect(gone)
            assert await queue.take() == "b"
            begun_s = trio.current_time()
            async with queue.taking(lease_s=2) as taken:
                assert taken.item == "a"
            assert trio.current_time() - begun_s < 2.5
        assert len(lost) == 1
        assert await queue.size() == 0


async def test_a_priority_queue_gives_the_lowest_first(autojump_clock: MockClock) -> None:
    class Few(PriorityQueue[str]):
        """Room for four."""

        items_max = 4

    async with open_objects(Few) as objects:
        queue = await objects.leading()
        for item, priority in (("c", 3), ("a", 1), ("b1", 2), ("b2", 2)):
            await queue.put(item, priority)
        with pytest.raises(QueueFull):
            await queue.put("e", 0)
        with pytest.raises(ValueError, match="nan"):
            await queue.put("e", math.nan)
        assert await queue.peek() == "a"

        async def fail() -> None:
            async with queue.taking() as taken:
                assert taken.item == "a"
                assert await queue.size() == 3
                raise KeyError

        with pytest.raises(KeyError):
            await fail()
        assert [await queue.take() for _ in range(3)] == ["a", "b1", "b2"]
        assert [await queue.get(), await queue.get(), await queue.peek()] == ["c", None, None]


async def test_a_barrier_opens_when_all_are_there_again_and_again(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(lambda: Barrier(3)) as objects:
        barriers = [objects.at(node_id) for node_id in objects.cluster.ids]
        tokens: list[list[int]] = [[], [], []]

        async def party(number: int) -> None:
            for turn in range(3):
                await trio.sleep(number)
                tokens[number].append(await barriers[number].arrive(f"{number} in {turn}"))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(party, number)
        assert tokens[0] == tokens[1] == tokens[2] == sorted(set(tokens[0]))


async def test_who_gave_up_waiting_has_not_arrived(autojump_clock: MockClock) -> None:
    async with open_objects(lambda: Barrier(2)) as objects:
        barrier = await objects.following()
        for _ in range(2):
            with trio.move_on_after(1) as scope:
                await barrier.arrive("a")
            assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(barrier.arrive, "a")
            await barrier.arrive("b")


async def test_together_begins_and_ends_together(autojump_clock: MockClock) -> None:
    async with open_objects(lambda: Barrier(3)) as objects:
        barriers = [objects.at(node_id) for node_id in objects.cluster.ids]
        entered_s, left_s = [], []

        async def party(number: int) -> None:
            await trio.sleep(number)
            async with barriers[number].together(f"{number}", lease_s=3):
                entered_s.append(trio.current_time())
                await trio.sleep(number)
            left_s.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(party, number)
        assert max(entered_s) - min(entered_s) < 0.2
        assert max(left_s) - min(left_s) < 0.2
        assert min(left_s) - max(entered_s) >= 1.9


async def test_an_election_has_one_leader_whom_all_can_see(autojump_clock: MockClock) -> None:
    async with open_objects(Election) as objects:
        one, other = await objects.leading(), await objects.following()
        seen: list[str | None] = []

        async def look(*, task_status: trio.TaskStatus[None]) -> None:
            async with other.observe() as leaders:
                async for leader in leaders:
                    seen.append(None if leader is None else f"{leader.name} {leader.value}")
                    if len(seen) == 1:
                        task_status.started()

        async with trio.open_nursery() as nursery:
            await nursery.start(look)
            async with one.campaign("a", value="at a") as office:
                leader = await other.leader()
                assert leader is not None
                assert (leader.name, leader.value, leader.token) == ("a", "at a", office.token)
                assert await other.proclaim(office.token, "moved")
                assert not await other.proclaim(office.token - 1, "no")
                await trio.sleep(1)
            async with other.campaign("b") as next_office:
                assert next_office.token > office.token
                assert not await one.proclaim(office.token, "late")
                await trio.sleep(1)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert seen[0] is None
        assert seen[-4:-1] == ["a moved", "b ", None] or seen[-3:] == ["a moved", "b ", None]
        assert await one.leader() is None


async def test_a_rate_is_kept_by_all_together(autojump_clock: MockClock) -> None:
    async with open_objects(lambda: RateLimiter(per_s=10, burst=5)) as objects:
        limiters = [objects.at(node_id) for node_id in objects.cluster.ids]
        done_s: list[float] = []

        async def work(limiter: RateLimiter) -> None:
            for _ in range(10):
                await limiter.acquire()
                done_s.append(trio.current_time())

        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for limiter in limiters:
                nursery.start_soon(work, limiter)
        for number, at_s in enumerate(sorted(done_s)):
            assert at_s - begun_s >= (number + 1 - 5) / 10 - 1e-6
        assert trio.current_time() - begun_s < 30 / 10
        with pytest.raises(RateExceeded):
            await limiters[0].acquire(20, wait_max_s=0.5)
        await trio.sleep(60)
        assert await limiters[1].acquire(5, wait_max_s=0) == 0
        await limiters[2].change(1000, 100)
        assert await limiters[0].available() <= 100


@pytest.mark.parametrize("wrong", [0, -1, math.inf, math.nan])
def test_a_rate_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="per_s"):
        RateLimiter(per_s=wrong)


async def test_a_list_is_a_list(autojump_clock: MockClock) -> None:
    class Few(List[int]):
        """Room for four."""

        items_max = 4

    async with open_objects(Few) as objects:
        items, other = await objects.leading(), await objects.following()
        assert [await items.append(1), await other.extend([2, 3])] == [0, 3]
        await items.insert(0, 0)
        for grow in (items.append(9), items.insert(0, 9), items.extend([9])):
            with pytest.raises(ListFull, match="holds 4 items"):
                await grow
        assert await other.slice() == [0, 1, 2, 3]
        assert [await other.slice(1, 3), await other.get(-1), await other.index(2)] == [
            [1, 2],
            3,
            2,
        ]
        assert [await items.put(0, 7), await items.compare_and_put(0, 7, 8)] == [0, True]
        assert not await items.compare_and_put(0, 7, 9)
        with pytest.raises(IndexError):
            await items.put(4, 1)
        assert [await items.pop(), await items.pop(0), await items.size()] == [3, 8, 2]
        assert [await items.remove(2), await items.remove(2), await items.index(2)] == [
            *(True, False),
            None,
        ]
        await items.clear()
        assert await other.size() == 0


async def test_a_dict_is_gone_over_with_async_for(autojump_clock: MockClock) -> None:
    async with open_objects(Dict[str, int]) as objects:
        entries = await objects.following()
        await entries.put_all({"a": 1, "b": 2})
        found = []
        async for key in entries:
            found.append(key)
            await entries.put(f"{key}{key}", 3)
        assert found == ["a", "b"]
        assert await entries.keys() == ["a", "b", "aa", "bb"]
        assert await entries.values() == [1, 2, 3, 3]
