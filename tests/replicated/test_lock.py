"""Lock: one holder at a time, leases by log time, and holders that learn that they are none."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.replicated.support import open_objects
from trioraft import ConfigError, NodeDead
from trioraft.structures import Lock, LockLost


async def test_one_holder_at_a_time_with_rising_tokens(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        token = await lock.acquire("a", 10)
        assert token is not None
        assert await lock.acquire("b", 10) is None
        assert await lock.acquire("a", 10) == token  # asked again
        holder = await (await locks.following()).holder()
        assert holder is not None
        assert (holder.owner, holder.token) == ("a", token)
        assert not await lock.release(token + 1)
        assert await lock.release(token)
        assert not await lock.release(token)
        next_token = await lock.acquire("b", 10)
        assert next_token is not None
        assert next_token > token


async def test_a_lease_ends_by_log_time(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        token = await lock.acquire("a", 10)
        assert token is not None
        await trio.sleep(8)
        assert await lock.renew(token, 10)
        await trio.sleep(8)
        assert await lock.acquire("b", 10) is None
        await trio.sleep(3)
        assert not await lock.renew(token, 10)  # late, though nobody has it yet
        assert await lock.holder() is None
        assert (await lock.acquire("b", 10) or 0) > token


async def test_a_lease_survives_its_leader(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        token = await lock.acquire("a", 10)
        _, lock = await locks.replaced_leader()
        assert await lock.acquire("b", 10) is None
        await trio.sleep(11)
        assert (await lock.acquire("b", 10) or 0) > (token or 0) > 0


@pytest.mark.parametrize("lease_s", [0, -1.0, float("inf"), float("nan")])
async def test_a_lease_that_is_none_is_refused(autojump_clock: MockClock, lease_s: float) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        with pytest.raises(ConfigError, match=r"Lock\.acquire\(lease_s\)"):
            await lock.acquire("a", lease_s)


async def test_holding_renews_and_gives_back(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        async with lock.hold("a", lease_s=1) as grant:
            await trio.sleep(5)
            assert await lock.acquire("b", 1) is None
            holder = await lock.holder()
            assert holder is not None
            assert (holder.owner, holder.token) == ("a", grant.token)
        assert (await lock.acquire("b", 1) or 0) > grant.token


async def test_whoever_waits_gets_the_lock_when_it_is_given_back_or_over(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        order: list[str] = []

        async def work(name: str, work_s: float) -> None:
            async with lock.hold(name, lease_s=2):
                order.append(f"{name} begins")
                await trio.sleep(work_s)
                order.append(f"{name} ends")

        await lock.acquire("vanished", 5)
        begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, "a", 3)
            nursery.start_soon(work, "b", 3)
        assert 11 <= trio.current_time() - begun_s < 12
        first, second = order[0][0], order[2][0]
        assert {first, second} == {"a", "b"}
        assert [line[0] for line in order] == [first, first, second, second]


async def test_a_holder_that_cannot_renew_is_cancelled_before_another_gets_the_lock(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Lock) as locks:
        leader, _ = await locks.cluster.check_single_leader()
        lock, times = locks.at(leader), {}

        async def hold() -> None:
            async with lock.hold("a", lease_s=2):
                try:
                    await trio.sleep_forever()
                finally:
                    times["lost"] = trio.current_time()

        async def lose() -> None:
            with pytest.raises(LockLost, match="could not be renewed in time"):
                await hold()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            await lock.wait(lambda lock: bool(lock.holding))
            locks.cluster.disconnect(leader)
            async with (await locks.leading()).hold("b", lease_s=2):
                times["taken"] = trio.current_time()
        assert times["lost"] <= times["taken"]


async def test_a_holder_whose_lease_was_taken_away_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()

        async def hold() -> None:
            async with lock.hold("a", lease_s=1) as grant:
                await lock.release(grant.token)
                await trio.sleep_forever()

        with pytest.raises(LockLost, match=r"token \d+ is over"):
            await hold()


async def test_it_is_held_on_any_node_while_leaders_change(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        leader, _ = await locks.cluster.check_single_leader()
        lock = await locks.following()
        async with lock.hold("a", lease_s=2):
            await locks.cluster.crash(leader)
            await trio.sleep(10)
            assert await lock.holder() is not None
        assert await lock.holder() is None


async def test_holding_needs_a_node_that_lives(autojump_clock: MockClock) -> None:
    async with open_objects(Lock) as locks:
        leader, _ = await locks.cluster.check_single_leader()

        async def hold(lock: Lock) -> None:
            async with lock.hold("a", lease_s=1):
                await locks.cluster.crash(leader)
                await trio.sleep_forever()

        with pytest.raises(NodeDead):
            await hold(locks.at(leader))


async def test_a_bodys_error_is_its_own_and_the_lock_is_given_back(
    autojump_clock: MockClock,
) -> None:
    async with open_objects(Lock) as locks:
        lock = await locks.leading()
        with pytest.raises(KeyError):
            async with lock.hold("a", lease_s=60):
                raise KeyError("x")
        with trio.move_on_after(1) as scope:
            async with lock.hold("b", lease_s=60):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await lock.holder() is None
