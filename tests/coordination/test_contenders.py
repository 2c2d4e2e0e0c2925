"""Many who want one lock, on nodes and through clients: in order, and at the same price each."""

from __future__ import annotations

import cProfile
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import Objects, leads, open_objects
from tests.support import open_single
from trioraft import Client, Timing, open_service
from trioraft.structures import Grant, Lock

ENTRIES_MAX = 3
"""For a hand-over, whoever waits."""


class Holding(Protocol):
    """A lock, here or elsewhere."""

    def hold(self, owner: str, *, lease_s: float = ...) -> AbstractAsyncContextManager[Grant]: ...


def so_many_wait(count: int, lock: Lock) -> bool:
    """Just these."""
    return len(lock.waiting) == count


async def contend(locks: list[Holding], count: int) -> list[tuple[int, str]]:
    """So many take turns, each once; what they got, in the order in which they had it."""
    turns: list[tuple[int, str]] = []
    inside = 0

    async def once(lock: Holding, name: str) -> None:
        nonlocal inside
        async with lock.hold(name, lease_s=60) as grant:
            inside += 1
            assert inside == 1
            turns.append((grant.token, name))
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(once, locks[number % len(locks)], f"{number}")
    assert turns == sorted(turns)  # by their tokens
    return turns


@pytest.mark.parametrize("count", [10, 100, 300])
async def test_contenders_on_nodes(count: int, autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as objects:
        leader, _ = await objects.cluster.check_single_leader()
        locks: list[Holding] = [objects.at(node_id) for node_id in objects.cluster.ids]
        node = objects.cluster.nodes[leader]
        before = node.status.last_index
        turns = await contend(locks, count)
        assert len(turns) == count
        sessions = len(locks)
        assert node.status.last_index - before <= ENTRIES_MAX * count + sessions
        lock = objects.at(leader)
        assert (lock.hosts, lock.waiting, lock.holding) == ({}, {}, {})


async def test_whoever_came_first_is_served_first(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as objects:
        locks = [objects.at(node_id) for node_id in objects.cluster.ids]
        order: list[int] = []

        async def once(number: int) -> None:
            async with locks[number % 3].hold(f"{number}", lease_s=60):
                order.append(number)

        async with trio.open_nursery() as nursery, locks[0].hold("first"):
            for number in range(30):
                nursery.start_soon(once, number)
                await locks[0].wait(partial(so_many_wait, number + 1))
        assert order == list(range(30))


@pytest.mark.parametrize("count", [10, 300])
async def test_contenders_through_clients(count: int) -> None:
    quick = Timing(election_timeout_s=(0.5, 1.0), heartbeat_interval_s=0.1)
    lock = Lock()
    async with open_single(machine=lock, timing=quick) as node:
        lock.attach(node)
        await node.wait(leads)
        async with (
            open_service(node, lock, ("127.0.0.1", 0)) as service,
            Client([service.address]) as one,
            Client([service.address]) as other,
        ):
            before = node.status.last_index
            locks: list[Holding] = [Lock.through(one), Lock.through(other), lock]
            assert len(await contend(locks, count)) == count
            assert node.status.last_index - before <= ENTRIES_MAX * count + 3
        assert (lock.hosts, lock.waiting, lock.holding) == ({}, {}, {})


async def calls_per_hand_over(objects: Objects[Lock], count: int) -> float:
    """Python calls of all nodes and contenders together."""
    locks: list[Holding] = [objects.at(node_id) for node_id in objects.cluster.ids]
    turns = 0
    are_warm = trio.Event()

    async def again(lock: Holding, name: str) -> None:
        nonlocal turns
        while True:
            async with lock.hold(name, lease_s=600):
                turns += 1
                if turns == count:
                    are_warm.set()
                if turns == count + 100:
                    nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(again, locks[number % 3], f"{number}")
        await are_warm.wait()
        profile = cProfile.Profile()
        profile.enable()
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats()) / 100


async def test_a_hand_over_costs_the_same_however_many_wait(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as objects:
        few = await calls_per_hand_over(objects, 10)
        many = await calls_per_hand_over(objects, 300)
        assert many < 2 * few, (few, many)
