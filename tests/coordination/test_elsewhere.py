"""The same from everywhere: through clients, under Trio and asyncio, and from threads."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.from_thread
import pytest
import trio

from tests.replicated.support import leads
from tests.support import open_single
from trioraft import BlockingClient, Client, LocalClient, Timing, open_service
from trioraft.core.types import Address
from trioraft.machines.replicated import Replicas
from trioraft.structures import (
    Barrier,
    Counter,
    Dict,
    Election,
    Lock,
    LockLost,
    Queue,
    RateLimiter,
    Semaphore,
)

QUICK = Timing(election_timeout_s=(0.2, 0.4), heartbeat_interval_s=0.05)


class Everything:
    """One of each, on a node."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.jobs = Queue[str]()
        self.election = Election()
        self.barrier = Barrier(2)
        self.semaphore = Semaphore(2)
        self.limiter = RateLimiter(per_s=1000, burst=10)
        self.counter = Counter()
        self.places = Dict[str, int]()
        self.machine = Replicas(**vars(self))


@asynccontextmanager
async def serving(things: Everything) -> AsyncIterator[Address]:
    """A node with it, and its port for clients."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_single(machine=things.machine, timing=QUICK))
        things.machine.attach(node)
        await node.wait(leads)
        port = open_service(node, things.machine, ("127.0.0.1", 0))
        yield (await stack.enter_async_context(port)).address


@contextmanager
def served(things: Everything) -> Iterator[Address]:
    """The same in a thread of its own."""
    with (
        anyio.from_thread.start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(serving(things)) as address,
    ):
        yield address


async def use_everything(client: Client | LocalClient) -> None:
    """What every structure can do, twice at once."""
    lock = Lock.through(client, part="lock")
    tokens: list[int] = []

    async def turn(name: str) -> None:
        async with lock.hold(name, lease_s=5) as grant:
            tokens.append(grant.token)
            await anyio.sleep(0.01)

    async def party(name: str) -> None:
        barrier = Barrier.through(client, part="barrier")
        tokens.append(await barrier.arrive(name))
        async with barrier.together(name):
            pass

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(turn, name)
    assert tokens == sorted(set(tokens))
    assert await lock.holder() is None
    tokens.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(party, "a")
        tasks.start_soon(party, "b")
    assert tokens[0] == tokens[1]
    jobs = Queue[str].through(client, part="jobs")
    taken: list[str] = []

    async def take() -> None:
        taken.append(await jobs.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.sleep(0.01)  # it may wait by then, or not yet: it is served in either case
        await jobs.put("x")
    await jobs.put("y")
    async with jobs.taking() as work:
        assert work.item == "y"
    assert (taken, await jobs.size()) == (["x"], 0)
    await use_the_rest(client)


async def use_the_rest(client: Client | LocalClient) -> None:
    """What needs no company."""
    election = Election.through(client, part="election")
    async with election.campaign("me", value="here") as office, election.observe() as leaders:
        leader = await anext(leaders)
        assert leader is not None
        assert (leader.name, leader.value, leader.token) == ("me", "here", office.token)
    semaphore = Semaphore.through(client, part="semaphore")
    async with semaphore.hold("a"), semaphore.hold("b"):
        assert len(await semaphore.holders()) == 2
    assert await RateLimiter.through(client, part="limiter").acquire() == 0
    await Counter.through(client, part="counter").add(5)
    places = Dict[str, int].through(client, part="places")
    await places.put("k", 1)
    assert [key async for key in places] == ["k"]


async def test_through_a_client_under_trio() -> None:
    things = Everything()
    async with serving(things) as address, Client([address]) as client:
        await use_everything(client)
    assert things.lock.hosts == {}


async def test_through_a_local_client() -> None:
    things = Everything()
    async with open_single(machine=things.machine, timing=QUICK) as node:
        await node.wait(leads)
        await use_everything(LocalClient(node, things.machine))


def test_through_a_client_under_asyncio() -> None:
    async def main(address: Address) -> None:
        async with Client([address]) as client:
            await use_everything(client)

    things = Everything()
    with served(things) as address:
        anyio.run(main, address, backend="asyncio")
    assert things.lock.hosts == {}


def in_threads(*functions: Callable[[], None]) -> None:
    """Run these at once; raise what one of them raises."""
    errors: list[Exception] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_from_threads(backend: Any) -> None:
    things = Everything()
    with served(things) as address, BlockingClient([address], backend=backend) as client:
        lock = Lock.through(client, part="lock")
        barrier = Barrier.through(client, part="barrier")
        jobs = Queue[str].through(client, part="jobs")
        election = Election.through(client, part="election")
        tokens: list[int] = []
        inside: list[int] = []

        def work() -> None:
            for _ in range(3):
                with lock.hold("thread", lease_s=5) as grant:
                    inside.append(1)
                    assert len(inside) == 1
                    grant.check()
                    tokens.append(grant.token)
                    inside.pop()
            barrier.arrive("thread")
            with barrier.together("thread"):
                pass
            jobs.put("job")

        in_threads(work, work)
        assert len(tokens) == 6
        assert tokens == sorted(set(tokens))
        assert jobs.take() == "job"
        with jobs.taking() as taken:
            assert (taken.item, taken.is_lost) == ("job", False)
        with election.campaign("me", value="v") as office, election.observe() as leaders:
            leader = next(leaders)
            assert leader is not None
            assert (leader.value, leader.token) == ("v", office.token)
        assert RateLimiter.through(client, part="limiter").acquire() == 0
        assert Counter.through(client, part="counter").add(2) == 2
        Dict[str, int].through(client, part="places").put("k", 1)
        assert list(Dict[str, int].through(client, part="places")) == ["k"]
        with pytest.raises(KeyError), lock.hold("thread"):
            raise KeyError
        assert lock.holder() is None
        assert things.lock.hosts == {}


def test_a_thread_learns_that_it_lost_the_lock() -> None:
    with served(Everything()) as address, BlockingClient([address]) as client:
        lock = Lock.through(client, part="lock")

        def lose() -> None:
            with lock.hold("thread", lease_s=0.3) as grant:
                assert lock.release(grant.token)
                for _ in range(500):
                    time.sleep(0.01)
                    grant.check()

        with pytest.raises(LockLost, match="is over"):
            lose()

        def sleep_through() -> None:
            with lock.hold("thread", lease_s=0.3) as grant:
                assert lock.release(grant.token)
                while not grant.is_lost:
                    time.sleep(0.01)

        with pytest.raises(LockLost):
            sleep_through()


async def test_a_client_that_loses_its_server_goes_on_with_another() -> None:
    """News that were lost are made up for: nobody waits for them for ever."""
    lock, got, must_leave = Lock(), trio.Event(), trio.Event()

    async def serve_for_a_while(*, task_status: trio.TaskStatus[Address]) -> None:
        async with open_service(node, lock, ("127.0.0.1", 0)) as leaving:
            task_status.started(leaving.address)
            await must_leave.wait()

    async def wait_for_it(client: Client) -> None:
        async with Lock.through(client).hold("far", lease_s=1):
            got.set()

    async with open_single(machine=lock, timing=QUICK) as node:
        lock.attach(node)
        await node.wait(leads)
        async with (
            open_service(node, lock, ("127.0.0.1", 0)) as staying,
            trio.open_nursery() as services,
        ):
            first = await services.start(serve_for_a_while)
            async with Client([first, staying.address]) as client, trio.open_nursery() as tasks:
                async with lock.hold("near"):
                    tasks.start_soon(wait_for_it, client)
                    await lock.wait(lambda lock: len(lock.waiting) == 1)
                    must_leave.set()
                await got.wait()
