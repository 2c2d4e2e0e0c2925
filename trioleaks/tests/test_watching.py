"""`watch` tells of what grows, and of nothing that comes and goes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from weakref import WeakKeyDictionary, WeakSet

import pytest
import trio
import trio.testing
from trioleaks.generators import AsyncGeneratorHooks
from trioleaks.recorder import Recorder
from trioleaks.runs import TurnOwnership

from trioleaks import KINDS, Growth, LeakKind, watch

pytestmark = pytest.mark.leaks("off")  # what grows here leaks


async def watched(body_s: float, grow: object) -> list[Growth]:
    """What a watch says of a program that calls `grow()` once a second, for so many seconds."""
    found: list[Growth] = []
    assert callable(grow)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: watch(
                every_s=1.0, looks=3, on_growth=found.append, task_status=task_status
            )
        )
        with trio.move_on_after(body_s):
            await trio.sleep(0.5)  # between two looks
            while True:
                grow()
                await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    return found


async def test_tasks_and_pipes_that_only_grow_are_told_with_their_place(
    autojump_clock: object,
) -> None:
    pipes: list[int] = []
    async with trio.open_nursery() as nursery:

        def grow() -> None:
            nursery.start_soon(trio.sleep_forever)
            pipes.extend(os.pipe())

        found = await watched(3.5, grow)
        nursery.cancel_scope.cancel()
    for number in pipes:
        os.close(number)

    told = {each.kind: each for each in found}
    assert told.keys() == {LeakKind.TASK, LeakKind.PIPE}
    assert "test_watching.py" in told[LeakKind.TASK].place
    assert told[LeakKind.TASK].place.endswith(".grow")
    assert list(told[LeakKind.PIPE].counts) == sorted(set(told[LeakKind.PIPE].counts))
    assert "growth: pipe started at" in str(told[LeakKind.PIPE])


async def test_what_comes_and_goes_is_not_told(autojump_clock: object, tmp_path: Path) -> None:
    def come_and_go() -> None:
        with (tmp_path / "file").open("w"):
            pass

    kept: list[object] = []

    def grow_once() -> None:
        come_and_go()
        if not kept:
            kept.append((tmp_path / "kept").open("w"))

    assert await watched(8.5, grow_once) == []
    kept[0].close()  # type: ignore[attr-defined]  # the file that was opened above


@pytest.mark.parametrize("arguments", [{"every_s": 0.0}, {"looks": 1}])
async def test_a_watch_that_cannot_compare_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="growth is seen by comparing"):
        await watch(**arguments)  # type: ignore[arg-type]  # one of them at a time


async def test_each_kind_that_grows_is_told(autojump_clock: object, tmp_path: Path) -> None:
    limiter, stop, loop = trio.CapacityLimiter(100), threading.Event(), asyncio.new_event_loop()
    signals = [signal.SIGRTMIN + number for number in range(8)]
    generators: list[AsyncIterator[int]] = []
    processes: list[subprocess.Popen[bytes]] = []
    system_tasks: list[trio.CancelScope] = []
    channels: list[object] = []

    async def system_task() -> None:
        with trio.CancelScope() as scope:
            system_tasks.append(scope)
            await trio.sleep_forever()

    async def numbers() -> AsyncIterator[int]:
        yield 1

    with ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(stop.set)

        async def grow(nursery: trio.Nursery) -> None:
            nursery.start_soon(trio.sleep_forever)
            trio.lowlevel.spawn_system_task(system_task)
            thread = threading.Thread(target=stop.wait)
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
            processes.append(subprocess.Popen(["sleep", "600"]))  # noqa: ASYNC220 - it leaks
            stack.enter_context(socket.socket())
            stack.enter_context((tmp_path / "file").open("w"))
            for end in os.pipe():
                stack.callback(os.close, end)
            stack.callback(os.close, os.memfd_create("buffer"))
            channels.append(trio.open_memory_channel[int](0))
            generators.append(numbers())
            await anext(generators[-1])
            number = signals.pop()
            stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))
            limiter.acquire_on_behalf_of_nowait(number)
            stack.callback(os.rmdir, tempfile.mkdtemp(dir=tmp_path))
            stack.callback(loop.run_until_complete, cancelled(loop.create_task(asyncio.sleep(0))))

        found: list[Growth] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: watch(
                    every_s=1.0, looks=3, on_growth=found.append, task_status=task_status
                )
            )
            await trio.sleep(0.5)  # between two looks
            for _ in range(4):
                await grow(nursery)
                await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        for process in processes:
            process.kill()
            process.wait()
        for scope in system_tasks:
            scope.cancel()
        for generator in generators:
            assert [number async for number in generator] == []
        await trio.testing.wait_all_tasks_blocked()

    # A run whose host has stopped has nobody who could watch.
    assert {each.kind for each in found} == set(KINDS) - {LeakKind.RUN}
    assert {each.place.partition(" in ")[2] for each in found} == {grow.__qualname__}


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_what_leaks_slowly_is_told_and_what_goes_up_and_down_is_not(
    autojump_clock: object, tmp_path: Path
) -> None:
    rng = random.Random(7)
    found: list[Growth] = []
    leaked: list[TextIOWrapper] = []
    by_chance: list[TextIOWrapper] = []
    peaks: list[TextIOWrapper] = []  # always gone in between
    floors: list[TextIOWrapper] = []  # never more than there were

    def leak() -> TextIOWrapper:
        return (tmp_path / "leaked").open("w")

    def fill(files: list[TextIOWrapper], count: int, opened: Callable[[], TextIOWrapper]) -> None:
        while len(files) < count:
            files.append(opened())
        while len(files) > count:
            files.pop().close()

    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: watch(
                every_s=1.0, looks=6, on_growth=found.append, task_status=task_status
            )
        )
        await trio.sleep(0.5)  # between two looks
        for second in range(200):
            fill(leaked, second // 3, leak)
            fill(by_chance, rng.randrange(10), lambda: (tmp_path / "by_chance").open("w"))
            fill(peaks, (second % 2) * second // 10, lambda: (tmp_path / "peaks").open("w"))
            fill(
                floors, second // 10 if second % 2 else 20, lambda: (tmp_path / "floors").open("w")
            )
            await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    for each in (*leaked, *by_chance, *peaks, *floors):
        each.close()

    assert {each.place.partition(" in ")[2] for each in found} == {leak.__qualname__}
    assert found[0].counts == tuple(sorted(set(found[0].counts)))
    assert found[0].apart_s == 4.0
    assert f"{found[0]}".endswith("(4 s apart)")


async def test_what_a_server_from_before_does_is_told_with_its_function(
    autojump_clock: object,
) -> None:
    ends: list[trio.SocketStream] = []

    async def handle(_stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def serve(*, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
            task_status.started(listeners)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(serve)
        address = listeners[0].socket.getsockname()
        found: list[Growth] = []
        await nursery.start(
            lambda task_status: watch(
                every_s=1.0, looks=3, on_growth=found.append, task_status=task_status
            )
        )
        await trio.sleep(0.5)  # between two looks
        for _ in range(4):
            ends.append(await trio.open_tcp_stream(*address))
            await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    for each in ends:
        await trio.aclose_forcefully(each)

    told = sorted((str(each.kind), each.place.partition(" in ")[2]) for each in found)
    here = test_what_a_server_from_before_does_is_told_with_its_function.__name__
    assert told == [("socket", here), ("socket", serve.__qualname__), ("task", serve.__qualname__)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_system_tasks_are_told_as_such_and_trios_own_are_not(autojump_clock: object) -> None:
    started: list[trio.lowlevel.Task] = []
    release = trio.Event()

    async def pump() -> None:
        await release.wait()

    async def left() -> None:
        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                with trio.CancelScope(shield=True):  # in a system task of Trio's
                    await release.wait()

        async for _ in numbers():
            break

    found: list[Growth] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: watch(
                every_s=1.0, looks=3, on_growth=found.append, task_status=task_status
            )
        )
        await trio.sleep(0.5)  # between two looks
        for _ in range(4):
            started.append(trio.lowlevel.spawn_system_task(pump))
            await left()
            await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    release.set()
    await trio.testing.wait_all_tasks_blocked()

    kinds = {each.kind for each in found}
    assert kinds == {LeakKind.SYSTEM_TASK, LeakKind.ASYNC_GENERATOR}


async def test_what_is_gone_is_not_kept(tmp_path: Path) -> None:
    recorder = Recorder(TurnOwnership("the program"))
    limiter = trio.CapacityLimiter(1)
    recorder.note("the program")
    recorder.start()
    hooks = AsyncGeneratorHooks.listen(recorder.generators)
    # While it lives, each of our looks opens a file for each thread.
    child = subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220 - not a task's: it is only there
    try:
        await five_worker_threads()
        with socket.socket():
            recorder.prune()  # makes the one listing of descriptors that is kept
        before = kept(recorder)
        for number in range(50):
            for end in os.pipe():
                os.close(end)
            os.rmdir(tempfile.mkdtemp(dir=tmp_path))
            with socket.socket():
                limiter.acquire_on_behalf_of_nowait(number)
                limiter.release_on_behalf_of(number)
            channel = trio.open_memory_channel[int](0)
            del channel
            await trio.to_thread.run_sync(subprocess.run, ["true"])
        recorder.prune()
        assert kept(recorder) - before <= 2  # the worker thread that idles, and its limiter
    finally:
        child.kill()
        child.wait()
        hooks.stop(recorder.generators)
        recorder.stop()


async def five_worker_threads() -> None:
    """Have at least five of Trio's worker threads idle in this process."""
    meet = threading.Barrier(5)

    async def work() -> None:
        await trio.to_thread.run_sync(meet.wait, None)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(work)


def kept(thing: object) -> int:
    """How many things the containers in our own objects below this one hold."""
    count, seen, queue = 0, set[int](), [thing]
    while queue:
        each = queue.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict | list | set | WeakSet | WeakKeyDictionary):
            count += len(each)
            queue.extend(each.values() if isinstance(each, dict) else ())
        elif isinstance(each, tuple):
            queue.extend(each)
        elif type(each).__module__.startswith("trioleaks."):
            queue.extend(vars(each).values())
    return count
