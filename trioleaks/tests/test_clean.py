"""The check is silent where nothing leaks: a thousand times, on everything it looks at."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
import trio.testing

from trioleaks import no_leaks

RUNS = 1_000
COST_MAX_S = 0.002  # of CPU, that a check may cost a small test; measured: about 0.4 ms


async def numbers(count: int) -> AsyncGenerator[int, None]:
    for number in range(count):
        yield number


@asynccontextmanager
async def opened(count: int) -> AsyncGenerator[int, None]:
    yield count


async def tidy_body(rng: random.Random) -> None:
    """A bit of everything that is watched, all of it ended."""
    send, receive = trio.open_memory_channel[int](1)
    near, far = trio.socket.socketpair()
    async with trio.open_nursery() as nursery, send, receive, opened(3):
        nursery.start_soon(trio.to_thread.run_sync, time.monotonic)
        nursery.start_soon(trio.sleep, rng.random())
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(send.send, 1)
        assert await receive.receive() == 1
        async with trio.SocketStream(near) as stream, trio.SocketStream(far):
            await stream.send_all(b"x")
        async for _ in numbers(2):
            await trio.lowlevel.checkpoint()
        async with aclosing(numbers(2)) as unfinished:
            async for _ in unfinished:
                break
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("virtual", [True, False])
def test_a_thousand_clean_bodies_are_silent(virtual: bool) -> None:
    async def main() -> None:
        rng = random.Random(7)
        for _ in range(RUNS):
            async with no_leaks():
                await tidy_body(rng)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0) if virtual else None)


@pytest.mark.no_leak_check
async def test_a_last_line_that_cancels_is_silent_a_thousand_times(nursery: trio.Nursery) -> None:
    for _ in range(RUNS):
        async with no_leaks():
            with trio.CancelScope() as scope:
                task_scope = await nursery.start(sleep_in_scope)
            scope.cancel()
            task_scope.cancel()


async def sleep_in_scope(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await trio.sleep_forever()


async def test_an_idle_worker_thread_is_never_reported() -> None:
    async with no_leaks():
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.to_thread.run_sync, time.sleep, 0.001)
        workers = [each for each in threading.enumerate() if each.name.startswith("Trio thread")]
        assert workers


async def test_trios_own_system_tasks_are_never_reported() -> None:
    # Which of Trio's functions use one depends on the system, so this makes one up.
    module = {"__name__": "trio._made_up", "trio": trio}
    exec("def wait(): trio.lowlevel.spawn_system_task(trio.sleep_forever)", module)  # noqa: S102
    async with no_leaks():
        module["wait"]()  # type: ignore[operator]  # it is the function that was just made


async def test_what_keeps_anyios_worker_processes_is_never_reported() -> None:
    module = {"__name__": "anyio._backends._trio", "trio": trio}
    code = (
        "async def keep(): await trio.sleep_forever()\n"
        "def start(): trio.lowlevel.spawn_system_task(keep)"
    )
    exec(code, module)  # noqa: S102
    async with no_leaks():
        module["start"]()  # type: ignore[operator]  # it is the function that was just made


async def test_a_child_process_that_ended_is_never_reported() -> None:
    async with no_leaks():
        await trio.run_process(["true"])


async def test_an_exhausted_generator_may_be_kept() -> None:
    async with no_leaks():
        kept = numbers(1)
        assert [number async for number in kept] == [0]
        closed = numbers(2)
        await anext(closed)
        await closed.aclose()


async def test_what_was_there_before_is_never_reported(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        send, receive = trio.open_memory_channel[int](0)
        generator = numbers(2)
        await anext(generator)
        with socket.socket():
            async with no_leaks():
                await trio.sleep(1)
        await generator.aclose()
        send.close()
        receive.close()
        nursery.cancel_scope.cancel()


async def test_a_check_costs_a_small_test_little() -> None:
    async with no_leaks():
        pass
    best_s = min([await timed_check() for _ in range(20)])
    assert best_s < COST_MAX_S


async def timed_check() -> float:
    start = time.process_time()
    async with no_leaks():
        await trio.lowlevel.checkpoint()
    return time.process_time() - start
