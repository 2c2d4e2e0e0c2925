"""KvClient on both event loops, against a service: leases that are kept, locks, elections, STM."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from tests.kv.serving import Backend, kv_service, on
from trioraft.core.errors import ConfigError
from trioraft.kv import (
    ChangeKind,
    Do,
    If,
    KeptLease,
    KvClient,
    Lease,
    LeaseLost,
    LeaseNotFound,
    NotANumber,
    RangeChanged,
    RequestTooLarge,
    Stm,
    StmConflict,
)
from trioraft.structures import LockLost

BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@BACKENDS
async def test_every_answer_bears_the_revision(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        first = await kv.put("k", "1")
        second = await kv.increment("k", 4)
        assert (second.number, second.created_index, second.version) == (5, first.index, 2)
        found = await kv.find("k")
        assert (found.created_index, found.changed_index) == (first.index, second.index)
        kept = await kv.delete_if("k", "5", changed_index=first.index)
        assert (kept.swapped, kept.found, kept.version) == (False, b"5", 2)
        with pytest.raises(ConfigError):
            await kv.delete_if("k")
        assert (await kv.delete_if("k", changed_index=second.index)).swapped
        assert (await kv.find("k")).version == 0
        await kv.put("text", "x")
        with pytest.raises(NotANumber):
            await kv.increment("text")

    async with kv_service() as (_, service):
        await on(backend, use, service)


@BACKENDS
async def test_ranges_and_their_pages(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        await kv.txn(then=[Do.put(f"k/{number:02}", str(number)) for number in range(30)])
        assert await kv.count("k/") == 30
        assert await kv.count("k/10", until="k/20") == 10
        keys = [pair.key async for pair in kv.range("k/", is_descending=True, limit=3)]
        assert keys == [b"k/29", b"k/28", b"k/27"]
        page = await kv.page("k/", items_max=10, keys_only=True)
        assert (len(page.pairs), page.pairs[0].value, page.has_more) == (10, b"", True)
        same = await kv.page("k/", after="k/09", unchanged_since=page.index)
        assert same.is_same
        await kv.put("other", "")
        assert (await kv.page("k/", after="k/09", unchanged_since=page.index)).is_same
        await kv.put("k/00", "changed")
        assert (await kv.page("k/", after="k/09", unchanged_since=page.index)).is_same is False
        assert (await kv.delete_range("k/", limit=25)).has_more
        assert (await kv.delete_range("k/")).count == 5
        with pytest.raises(ConfigError):
            await kv.delete_range("k/", limit=0)
        for start in range(0, 1010, 101):
            await kv.txn(then=[Do.put(f"m/{start + n:04}", "") for n in range(101)])
        with pytest.raises(RequestTooLarge):
            await kv.delete_range("m/")

    async with kv_service() as (_, service):
        await on(backend, use, service)


async def test_a_range_is_consistent_or_says_so() -> None:
    async def use(kv: KvClient) -> None:
        for start in range(0, 1100, 100):
            await kv.txn(then=[Do.put(f"k/{start + n:04}", "") for n in range(100)])
        whole = [pair async for pair in kv.range("k/", is_consistent=True)]
        assert len(whole) == 1100
        pairs = kv.range("k/", is_consistent=True)
        await anext(pairs)
        await kv.put("k/0500", "changed")
        with pytest.raises(RangeChanged):
            async for _ in pairs:
                pass

    async with kv_service() as (_, service):
        await on("trio", use, service)


@BACKENDS
async def test_a_lease_is_kept_for_as_long_as_the_body_takes(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        async with kv.lease(0.6, prefix="here/") as lease:
            await kv.put("here/me", "", lease=lease)
            await anyio.sleep(1.5)  # its time passes twice, and it is renewed: that is the subject
            life = await kv.time_to_live(lease)
            assert life is not None
            assert life.keys == (b"here/me",)
            assert not lease.is_lost
        assert await kv.get("here/me") is None
        with pytest.raises(LeaseNotFound):
            await kv.keep_alive(lease)
        with pytest.raises(ZeroDivisionError):  # as it is, in no group
            async with kv.lease(60):
                raise ZeroDivisionError

    async with kv_service() as (_, service):
        await on(backend, use, service)


@BACKENDS
async def test_who_loses_a_lease_is_cancelled_and_told(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        kept: list[KeptLease] = []

        async def lose_lease() -> None:
            async with kv.lease(0.5) as lease:
                kept.append(lease)
                await kv.revoke(lease)
                await anyio.sleep(30)

        async def lose_lock() -> None:
            async with kv.lock("a", ttl_s=0.5) as grant:
                await kv.revoke(Lease(grant.lease_id, 0.5, b"a/"))
                await anyio.sleep(30)

        async def lose_lease_under_a_lock() -> None:
            async with kv.lock("a", ttl_s=60):
                await lose_lease()

        with pytest.raises(LeaseLost) as told:
            await lose_lease()
        assert isinstance(told.value.__cause__, LeaseNotFound)
        assert kept[0].is_lost
        with pytest.raises(LeaseLost):
            kept[0].check()
        with pytest.raises(LockLost):
            await lose_lock()
        with pytest.raises(LeaseLost):
            await lose_lease_under_a_lock()
        assert await kv.count("a/") == 0

    async with kv_service() as (_, service):
        await on(backend, use, service)


async def test_a_lease_is_lost_when_nobody_renews_it() -> None:
    async def use(kv: KvClient) -> None:
        async def outlive_the_node() -> None:
            async with kv.lease(1.0):
                node.kill()
                await anyio.sleep(30)

        with pytest.raises(LeaseLost, match="could not be renewed in time"):
            await outlive_the_node()

    async with kv_service() as (node, service):
        await on("trio", use, service)


@BACKENDS
async def test_a_cancelled_wait_for_a_lock_leaves_nothing_behind(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        async with kv.lock("a", ttl_s=60):
            with anyio.move_on_after(0.3) as waiting:
                async with kv.lock("a", ttl_s=60):
                    raise AssertionError("two hold it")
            assert waiting.cancelled_caught
            assert await kv.count("a/") == 1
        assert await kv.count("a/") == 0

    async with kv_service() as (_, service):
        await on(backend, use, service)


async def test_locks_below_each_other_have_nothing_to_do_with_each_other() -> None:
    async def use(kv: KvClient) -> None:
        async with kv.lock("a"), kv.lock("a/0"), kv.lock("a/b"), kv.lock(""):
            await kv.put("a/", "")
            await kv.put("a/zzz", "")
        with anyio.fail_after(10):
            async with kv.lock("a/0"), kv.lock("a"):
                pass

    async with kv_service() as (_, service):
        await on("trio", use, service)


async def test_a_hand_over_costs_two_entries_however_many_wait() -> None:
    async def use(kv: KvClient) -> None:
        await kv.put("x", "")  # it opens the session
        costs = [await _entries_a_hand_over(kv, waiters) for waiters in (2, 30)]
        assert costs == [2.0, 2.0]

    async with kv_service() as (_, service):
        await on("trio", use, service)


async def _entries_a_hand_over(kv: KvClient, waiters: int) -> float:
    """All line up behind one who has it; then it goes from one to the next."""
    tokens: list[int] = []

    async def contend() -> None:
        async with kv.lock("a", ttl_s=600) as grant:
            tokens.append(grant.token)

    before = (await kv.find("x")).index
    async with anyio.create_task_group() as nursery, kv.lock("a", ttl_s=600):
        for _ in range(waiters):
            nursery.start_soon(contend)
        await _until_there_are(kv, "a/", waiters + 1)
    assert tokens == sorted(tokens)
    assert len(tokens) == waiters
    return ((await kv.find("x")).index - before) / (waiters + 1)


async def _until_there_are(kv: KvClient, prefix: str, count: int) -> None:
    page = await kv.page(prefix, keys_only=True)
    keys = {pair.key for pair in page.pairs}
    async with kv.watch(prefix, from_index=page.index + 1) as changes:
        while len(keys) < count:
            keys.add((await anext(changes)).key)


@BACKENDS
async def test_elections_are_observed(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        observed = kv.observe("chief")
        assert await anext(observed) is None
        async with kv.elect("chief", value="one") as leadership:
            elected = await anext(observed)
            assert elected is not None
            assert (elected.value, elected.token) == (b"one", leadership.token)
            await leadership.proclaim("one again")
            elected = await anext(observed)
            assert elected is not None
            assert elected.value == b"one again"
        assert await anext(observed) is None
        with pytest.raises(LockLost):
            await leadership.proclaim("too late")

    async with kv_service() as (_, service):
        await on(backend, use, service)


@BACKENDS
async def test_a_transaction_of_memory_runs_again_where_others_write(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        runs = 0

        async def add(keys: Stm) -> int:
            nonlocal runs
            runs += 1
            number = int(await keys.get("n") or 0)
            if runs == 1:
                await kv.put("n", "10")  # somebody else
            keys.put("n", str(number + 1))
            assert await keys.get("n") == b"%d" % (number + 1)
            keys.delete("gone")
            assert await keys.get("gone") is None
            return number

        await kv.put("gone", "")
        assert await kv.stm(add) == 10
        assert (runs, await kv.get("n"), await kv.get("gone")) == (2, b"11", None)

        async def always_late(keys: Stm) -> None:
            await keys.get("n")
            await kv.increment("n")
            keys.put("other", "never")

        with pytest.raises(StmConflict, match="3 attempts"):
            await kv.stm(always_late, attempts_max=3)
        assert await kv.get("other") is None

        async def only_reads(keys: Stm) -> bytes | None:
            return await keys.get("n")

        before = (await kv.find("n")).index
        assert await kv.stm(only_reads) == b"14"
        assert (await kv.find("n")).index == before  # it cost no entry

    async with kv_service() as (_, service):
        await on(backend, use, service)


@BACKENDS
async def test_watches_by_key_and_range(backend: Backend) -> None:
    async def use(kv: KvClient) -> None:
        begin = (await kv.put("b", "1")).index
        await kv.txn(then=[Do.put("a", "2"), Do.put("b", "2"), Do.put("bb", "2"), Do.put("c", "")])
        await kv.put("b", "3", ttl_s=0.1)
        async with kv.watch(key="b", from_index=begin, wants_previous=True) as changes:
            seen = [await anext(changes) for _ in range(4)]
        assert [change.kind for change in seen] == [*[ChangeKind.SET] * 3, ChangeKind.EXPIRED]
        assert [change.previous for change in seen] == [None, b"1", b"2", b"3"]
        async with kv.watch("b", until="c", from_index=begin) as changes:
            keys = [(await anext(changes)).key for _ in range(5)]
        assert keys == [b"b", b"b", b"bb", b"b", b"b"]
        with pytest.raises(ConfigError):
            kv.watch("a", key="b", from_index=1)

    async with kv_service() as (_, service):
        await on(backend, use, service)


def test_what_cannot_be_is_refused_before_it_is_sent() -> None:
    class Nobody:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was called")

    kv = KvClient(Nobody())  # type: ignore[arg-type] # nothing may be asked of it
    for ttl_s in (0, -1, 1e9, float("nan")):
        with pytest.raises(ConfigError, match="ttl_s"):
            anyio.run(partial(kv.put, "k", "v", ttl_s=ttl_s))
        with pytest.raises(ConfigError, match="ttl_s"):
            anyio.run(kv.grant, ttl_s)
    with pytest.raises(ConfigError, match="128"):
        anyio.run(lambda: kv.txn(if_=[If.absent("k")] * 129))
