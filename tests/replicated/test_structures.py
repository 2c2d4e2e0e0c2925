"""The ready-made structures, as their docstrings say."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import Point, open_objects
from trioraft import ConfigError
from trioraft.structures import Counter, Dict, Queue, QueueFull, Set


async def test_counter(autojump_clock: MockClock) -> None:
    async with open_objects(Counter) as counters:
        counter = await counters.leading()
        assert await counter.add() == 1
        assert await counter.add(-4) == -3
        assert await counter.put(2**63 - 1) == -3
        with pytest.raises(OverflowError):
            await counter.add(1)
        assert not await counter.compare_and_put(0, 1)
        assert await counter.compare_and_put(2**63 - 1, 1)
        assert await (await counters.following()).get() == 1


class Places(Dict[str, Point]):
    """Values of one's own."""


async def test_dict(autojump_clock: MockClock) -> None:
    async with open_objects(Places) as dicts:
        places = await dicts.leading()
        assert await places.put("a", Point(1)) is None
        assert await places.put("a", Point(2)) == Point(1)
        await places.put_all({"c": Point(3), "b": Point(4)})
        assert await places.pop("nothing") is None
        assert await places.pop("b") == Point(4)
        assert not await places.compare_and_put("a", Point(1), Point(9))
        assert await places.compare_and_put("a", Point(2), Point(9))
        assert await places.compare_and_put("d", None, Point(5))
        following = await dicts.following()
        items = await following.items()
        assert list(items.items()) == [("a", Point(9)), ("c", Point(3)), ("d", Point(5))]
        assert await following.get("a") == Point(9)
        assert await following.get("b") is None
        assert (await following.contains("a"), await following.contains("b")) == (True, False)
        assert await following.size() == 3
        await places.clear()
        assert await following.size() == 0
        with pytest.raises(ConfigError, match=r"Places\.put\(value\)"):
            await places.put("a", 1)  # type: ignore[arg-type] # that is the test


async def test_set(autojump_clock: MockClock) -> None:
    async with open_objects(Set[str]) as sets:
        names = await sets.leading()
        assert [await names.add(name) for name in ("b", "a", "b")] == [True, True, False]
        assert [await names.discard(name) for name in ("b", "b")] == [True, False]
        await names.add("b")
        following = await sets.following()
        assert await following.members() == ["a", "b"]
        assert (await following.contains("a"), await following.contains("x")) == (True, False)
        assert await following.size() == 2


class Short(Queue[int]):
    """A small one."""

    items_max = 2


async def test_queue(autojump_clock: MockClock) -> None:
    async with open_objects(Short) as queues:
        queue = await queues.leading()
        assert await queue.get() is None
        assert [await queue.put(item) for item in (10, 11)] == [0, 1]
        with pytest.raises(QueueFull, match="holds 2 items"):
            await queue.put(12)
        following = await queues.following()
        assert (await following.peek(), await following.size()) == (10, 2)
        assert [await queue.get(), await queue.take(), await queue.get()] == [10, 11, None]
        assert await queue.put(13) == 2


async def test_each_item_goes_to_one_taker(autojump_clock: MockClock) -> None:
    async with open_objects(Queue[int]) as queues:
        queue = await queues.leading()
        taken: list[int] = []

        async def take(count: int) -> None:
            for _ in range(count):
                taken.append(await queue.take())

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(take, 5)
            for item in range(20):
                await queue.put(item)
        assert sorted(taken) == list(range(20))
