"""BlockingKvClient: the same methods, for threads."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable
from functools import partial

import pytest
import trio

from tests.kv.serving import Backend, kv_service
from trioraft import BlockingClient, Service
from trioraft.kv import (
    ERROR_TYPES,
    BlockingKvClient,
    BlockingLeadership,
    BlockingStm,
    Do,
    If,
    KvClient,
    Leadership,
    Lease,
    LeaseLost,
    Stm,
)
from trioraft.structures import LockLost


def methods(kind: type) -> dict[str, Callable[..., object]]:
    return {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("asynchronous", "blocking"),
    [(KvClient, BlockingKvClient), (Leadership, BlockingLeadership), (Stm, BlockingStm)],
)
def test_both_have_the_same_methods(asynchronous: type, blocking: type) -> None:
    ours, theirs = methods(blocking), methods(asynchronous)
    assert ours.keys() == theirs.keys()
    for name, method in theirs.items():
        given = inspect.signature(method).parameters
        taken = inspect.signature(ours[name]).parameters
        assert [*taken] == [*given], name
        for parameter in given.values():
            same = taken[parameter.name]
            assert (same.kind, same.default) == (parameter.kind, parameter.default), name
            assert _blocking(str(parameter.annotation)) == str(same.annotation), name
        returned = inspect.signature(ours[name]).return_annotation
        assert returned in _returns(inspect.signature(method).return_annotation), name


def _blocking(annotation: str) -> str:
    return annotation.replace("Callable[[Stm], Awaitable[T]]", "Callable[[BlockingStm], T]")


def _returns(annotation: str) -> set[str]:
    """What may be returned in the place of it."""
    plain = annotation.replace("AbstractAsyncContextManager", "AbstractContextManager")
    plain = plain.replace("AsyncIterator", "Iterator").replace(
        "Observed", "Iterator[Elected | None]"
    )
    inner = re.fullmatch(r"AbstractContextManager\[(.*)\]", plain)
    made = set() if inner is None else {f"Iterator[{inner[1]}]"}  # what a decorator makes one of
    return {plain, *made, *{each.replace("Leadership", "BlockingLeadership") for each in made}}


async def in_thread(use: Callable[[], None]) -> None:
    await trio.to_thread.run_sync(use)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_all_of_it_from_a_thread(backend: Backend) -> None:
    def use(service: Service) -> None:
        with BlockingClient([service.address], backend=backend, error_types=ERROR_TYPES) as client:
            kv = BlockingKvClient(client)
            index = kv.put("k", "1").index
            assert kv.cas("k", "1", "2").swapped
            assert kv.append("k", "0").version == 3
            assert kv.increment("k").number == 21
            assert kv.get("k") == b"21"
            assert kv.find("k").created_index == index
            assert [pair.key for pair in kv.range()] == [b"k"]
            assert (kv.count(), kv.page().pairs[0].value) == (1, b"21")
            done = kv.txn(if_=[If.equals("k", "21")], then=[Do.put("l", "x"), Do.delete("k")])
            assert done.succeeded
            assert kv.stm(partial(_double, "n")) == 0
            with kv.watch("k", from_index=index) as changes:
                assert [next(changes).value for _ in range(5)] == [b"1", b"2", b"20", b"21", None]
            lease = kv.grant(60, prefix="l")
            kv.put("l/x", "", lease=lease)
            kv.keep_alive(lease)
            life = kv.time_to_live(lease)
            assert life is not None
            assert life.keys == (b"l/x",)
            assert kv.revoke(lease).count == 1
            assert kv.delete_if("l", "x").swapped
            assert kv.delete("l").existed is False
            assert kv.delete_range("").count == 1
            with kv.lease(60) as kept:
                kv.put("here", "", lease=kept)
            assert kv.get("here") is None
            with kv.elect("chief", value="me") as leadership:
                leadership.proclaim("me!")
                leadership.check()
                elected = next(kv.observe("chief"))
                assert elected is not None
                assert (elected.value, leadership.is_lost) == (b"me!", False)

    async with kv_service() as (_, service):
        await in_thread(partial(use, service))


def _double(key: str, keys: BlockingStm) -> int:
    number = int(keys.get(key) or 0)
    keys.put(key, str(2 * number))
    keys.delete("nothing")
    return number


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_threads_hold_a_lock_one_after_the_other(backend: Backend) -> None:
    def use(service: Service) -> None:
        inside, tokens = [], []

        def contend(kv: BlockingKvClient) -> None:
            with kv.lock("a") as grant:
                inside.append(grant)
                assert len(inside) == 1
                tokens.append(grant.token)
                inside.remove(grant)

        with BlockingClient([service.address], backend=backend, error_types=ERROR_TYPES) as client:
            kv = BlockingKvClient(client)
            threads = [threading.Thread(target=contend, args=[kv]) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(tokens) == 8
        assert tokens == sorted(tokens)

    async with kv_service() as (_, service):
        await in_thread(partial(use, service))


def lose_lock(kv: BlockingKvClient) -> None:
    with kv.lock("a", ttl_s=0.3) as grant:
        kv.revoke(Lease(grant.lease_id, 0.3, b"a/"))
        until(lambda: grant.is_lost)
        with pytest.raises(LockLost):
            grant.check()


def lose_lease(kv: BlockingKvClient) -> None:
    with kv.lease(0.3) as lease:
        kv.revoke(lease)
        until(lambda: lease.is_lost)


def until(is_so: Callable[[], bool]) -> None:
    never = threading.Event()
    while not is_so():
        never.wait(0.01)


async def test_who_loses_it_is_told_by_check_and_at_the_end() -> None:
    def use(service: Service) -> None:
        with BlockingClient([service.address], error_types=ERROR_TYPES) as client:
            kv = BlockingKvClient(client)
            with pytest.raises(LockLost):
                lose_lock(kv)
            with pytest.raises(LeaseLost):
                lose_lease(kv)
            with pytest.raises(ZeroDivisionError), kv.lock("a"):
                raise ZeroDivisionError
            assert kv.count("a/") == 0

    async with kv_service() as (_, service):
        await in_thread(partial(use, service))
