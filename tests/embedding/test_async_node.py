"""A node in an asyncio program: its calls, its bodies, its end, and what is done to it wrongly.

Rules of this file: each test is a program of its own (`asyncio.run`), in real time, since the node
runs in a thread; nothing waits for a time to pass but for what it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from benchmarks.processes import Process
from tests.embedding.support import (
    LOOPS,
    Breaking,
    arguments,
    leads,
    node_threads,
    on_asyncio,
)
from trioraft import (
    ConfigError,
    LeadershipLost,
    MemoryNetwork,
    Node,
    NodeDead,
    OutcomeUnknown,
    Role,
    SessionMachine,
    StorageError,
    aio,
    restore_backup,
)
from trioraft.core.errors import ApplyFailed
from trioraft.kv import ERROR_TYPES, KvClient, KvMachine
from trioraft.structures import Counter


def cancellations() -> int:
    """How many requests to cancel this task nobody has taken back."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("loop", LOOPS)
def test_calls_from_many_tasks(loop: str, tmp_path: Path) -> None:
    machine = Counter()

    async def main() -> None:
        async with aio.open_node("a", **arguments(machine=machine)) as node:
            assert node.id == "a"
            await node.wait(leads)
            counter = Counter.through(node)
            results = await asyncio.gather(*(counter.add(1) for _ in range(200)))
            assert sorted(results) == list(range(1, 201))
            assert await counter.get() == 200
            assert node.status.role is Role.LEADER
            assert node.budgets()
            assert await node.read_barrier() > 200
            assert await node.take_snapshot() > 200
            assert (await node.backup(tmp_path / "backup")).snapshot.index > 200
            with pytest.raises(OverflowError):
                await counter.add(2**63 - 1)
        restored = Counter()
        restore_backup(tmp_path / "backup", {"a": tmp_path / "disk"}, machine=restored)
        assert restored.value == 200
        with pytest.raises(NodeDead, match="was left"):
            await counter.get()

    on_asyncio(main(), loop=loop)


def test_a_kv_client_works_through_a_node() -> None:
    async def main() -> None:
        machine = SessionMachine(KvMachine(), error_types=ERROR_TYPES)
        async with aio.open_node("a", **arguments(machine=machine)) as node:
            await node.wait(leads)
            kv = KvClient(node)
            async with kv.watch("k", from_index=1) as changes:
                await kv.put("k", "v")
                assert await kv.get("k") == b"v"
                assert (await anext(changes)).key == b"k"

    on_asyncio(main())


def test_events_and_membership() -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            await node.wait(leads)
            async with node.events() as stream:
                await node.propose(b"x")
                assert type(await anext(stream)).__name__ == "CommitAdvanced"
                assert stream.dropped == 0
                await node.add_learner("b", ("127.0.0.1", 1))
                await node.remove("b")
                with pytest.raises(ConfigError):
                    await node.transfer_leadership("nobody")
                node.kill()
                assert [event async for event in stream]  # what was before, then the end

    on_asyncio(main())


def test_what_runs_in_the_node_s_thread_is_given_the_node() -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:

            async def inside(trio_node: Node) -> str:
                await trio_node.wait(leads)
                with pytest.raises(ConfigError, match="wait for itself"):
                    node.status  # noqa: B018 - reading it is the point
                return threading.current_thread().name

            assert await node.run_in_trio(inside) == "trioraft node 'a'"

    on_asyncio(main())


# -- cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_call_is_over_in_the_thread_too(loop: str) -> None:
    over: list[str] = []

    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            begun = asyncio.Event()
            event_loop = asyncio.get_running_loop()

            async def forever(_: object) -> None:
                try:
                    event_loop.call_soon_threadsafe(begun.set)
                    await anyio.sleep_forever()
                finally:
                    over.append("thread")

            task = asyncio.create_task(node.run_in_trio(forever))
            await begun.wait()
            task.cancel()
            task.cancel()  # as often as somebody likes
            with pytest.raises(asyncio.CancelledError):
                await task
            assert over == ["thread"]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await node.wait(lambda _: False)
            with anyio.move_on_after(0.01) as scope:
                await node.wait(lambda _: False)
            assert scope.cancelled_caught
            assert cancellations() == 0

    on_asyncio(main(), loop=loop)


def test_a_cancelled_program_leaves_its_node() -> None:
    left: list[Any] = []

    async def main() -> None:
        async def program() -> None:
            async with aio.open_node("a", **arguments()) as node:
                left.append(node)
                opened.set()
                await asyncio.Event().wait()

        opened = asyncio.Event()
        task = asyncio.create_task(program())
        await opened.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert node_threads() == []
        with pytest.raises(NodeDead):
            left[0].status  # noqa: B018 - reading it is the point

    on_asyncio(main())


def test_a_cancellation_while_the_node_opens_or_is_left_is_not_lost() -> None:
    async def main() -> None:
        async def program(leave: bool) -> None:
            async with aio.open_node("a", **arguments()):
                if not leave:
                    await asyncio.Event().wait()

        for leave in (False, True):
            for turns in range(12):
                task = asyncio.create_task(program(leave))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert task.cancelled()
                assert node_threads() == []

    on_asyncio(main())


def test_an_error_of_the_body_arrives_as_itself() -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with aio.open_node("a", **arguments()):
                raise KeyError("mine")

    on_asyncio(main())


def test_calls_that_wait_when_the_node_is_left_are_told() -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            waits = asyncio.create_task(node.wait(lambda _: False))
            runs = asyncio.create_task(node.run_in_trio(lambda _: anyio.sleep_forever()))
            await node.wait(leads)
        with pytest.raises(NodeDead):
            await waits
        with pytest.raises(OutcomeUnknown, match="was left"):
            await runs

    on_asyncio(main())


# -- a node that fails ---------------------------------------------------------------------


async def breaks() -> None:
    """A program whose node fails, and that waits for something else."""
    async with aio.open_node("a", **arguments(machine=Breaking())) as node:
        await node.wait(leads)
        with contextlib.suppress(OutcomeUnknown):
            await node.propose(b"break")
        await asyncio.Event().wait()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_node_that_fails_ends_the_body_with_its_error(loop: str) -> None:
    told: list[Any] = []

    async def program() -> None:
        async with aio.open_node("a", **arguments(machine=Breaking())) as node:
            told.append(node)
            await node.wait(leads)
            proposal = asyncio.create_task(node.propose(b"break"))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("cancelled")
                with pytest.raises(OutcomeUnknown):
                    await proposal
                raise

    async def main() -> None:
        with pytest.raises(ApplyFailed):
            await program()
        node, what = told
        assert what == "cancelled"
        assert cancellations() == 0
        await asyncio.sleep(0)  # nothing of the cancellation is left
        with pytest.raises(NodeDead) as refused:
            await node.propose(b"x")
        assert isinstance(refused.value.__cause__, ApplyFailed)

    on_asyncio(main(), loop=loop)


def test_a_node_that_fails_is_told_through_groups_and_timeouts() -> None:
    async def around() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            await breaks()

    async def inside() -> None:
        async with aio.open_node("a", **arguments(machine=Breaking())) as node:
            await node.wait(leads)
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                with contextlib.suppress(OutcomeUnknown):
                    await node.propose(b"break")
                await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(ApplyFailed):
            await inside()
        with pytest.raises(ExceptionGroup) as told:
            await around()
        assert told.group_contains(ApplyFailed, depth=1)
        with anyio.move_on_after(60) as scope, pytest.raises(ApplyFailed):
            await breaks()
        assert not scope.cancelled_caught
        assert cancellations() == 0

    on_asyncio(main())


def test_a_node_s_error_has_the_body_s_behind_it() -> None:
    async def program() -> None:
        async with aio.open_node("a", **arguments(machine=Breaking())) as node:
            await node.wait(leads)
            try:
                await node.propose(b"break")
            finally:
                raise KeyError("mine")

    async def main() -> None:
        with pytest.raises(ApplyFailed) as told:
            await program()
        assert isinstance(told.value.__cause__, MemoryError)  # its own cause says more

    on_asyncio(main())


def test_a_storage_that_cannot_be_opened_is_told_at_the_door(tmp_path: Any) -> None:
    from trioraft import SQLiteStorage

    async def main() -> None:
        async with aio.open_node("a", **arguments(storage=SQLiteStorage(tmp_path / "a"))):
            with pytest.raises(StorageError, match="in use"):
                async with aio.open_node("a", **arguments(storage=SQLiteStorage(tmp_path / "a"))):
                    raise AssertionError("it was opened twice")
        with pytest.raises(ConfigError, match="voters"):
            async with aio.open_node("a", **arguments(voters=["b"])):
                raise AssertionError("it was opened")

    on_asyncio(main())


def test_a_killed_node_does_not_end_the_body() -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            await node.wait(leads)
            node.kill()
            assert node.status.role is Role.DEAD
            with pytest.raises(NodeDead):
                await node.propose(b"x")
            await asyncio.sleep(0)

    on_asyncio(main())


# -- work for the leader -------------------------------------------------------------------


def test_lead_ends_its_body_with_the_leadership() -> None:
    async def stays(node: aio.AsyncNode) -> None:
        async with node.lead():
            node.kill()
            await asyncio.Event().wait()

    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            async with node.lead() as term:
                assert term == 1
            with pytest.raises(LeadershipLost):
                await stays(node)
            assert cancellations() == 0
            with pytest.raises(NodeDead):
                await stays(node)

    on_asyncio(main())


def test_run_while_leader_returns_what_the_job_returned() -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:

            async def job(term: int) -> str:
                return f"done in {term}"

            async def stays(term: int) -> None:
                node.kill()
                await asyncio.Event().wait()

            assert await aio.run_while_leader(node, job) == "done in 1"
            with pytest.raises(NodeDead):
                await aio.run_while_leader(node, stays)

    on_asyncio(main())


# -- used wrongly --------------------------------------------------------------------------


def test_it_opens_once() -> None:
    async def main() -> None:
        opening = aio.open_node("a", **arguments())
        async with opening:
            with pytest.raises(ConfigError, match="opened before"):
                await opening.__aenter__()
        with pytest.raises(ConfigError, match="opened before"):
            await opening.__aenter__()

    on_asyncio(main())


def test_two_threads_do_not_share_a_network_in_memory() -> None:
    async def main() -> None:
        network = MemoryNetwork(random.Random(0))

        def opening(name: str) -> Any:
            given = arguments(voters=["a", "b"], transport=network.transport(name))
            return aio.open_node(name, **given)

        async with opening("a"):
            with pytest.raises(ConfigError, match=r"another event loop than \['a'\]"):
                await opening("b").__aenter__()
        async with opening("b"):
            pass  # the other one is gone

    on_asyncio(main())


def test_another_event_loop_may_call_too() -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            with ThreadPoolExecutor(1) as pool:
                status = await asyncio.wrap_future(
                    pool.submit(lambda: asyncio.run(node.wait(leads)))
                )
            assert status.role is Role.LEADER

    on_asyncio(main())


def test_a_fork_has_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with aio.open_node("a", **arguments()) as node:
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: -1)
                with pytest.raises(NodeDead, match="forked"):
                    await node.propose(b"x")
                with pytest.raises(NodeDead, match="forked"):
                    node.status  # noqa: B018 - reading it is the point

    on_asyncio(main())


def test_a_loop_that_is_closed_too_early_is_told_and_the_node_left() -> None:
    loop = asyncio.new_event_loop()
    opened = asyncio.Event()

    async def main() -> None:
        async with aio.open_node("a", **arguments()):
            opened.set()
            await asyncio.Event().wait()

    coroutine = main()
    task = loop.create_task(coroutine)
    loop.run_until_complete(opened.wait())
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined] # that one is asyncio's to tell
    [thread] = [each for each in threading.enumerate() if each.name.startswith("trioraft")]
    with pytest.warns(ResourceWarning, match="event loop was closed"):
        coroutine.close()
    del task
    gc.collect()
    thread.join(20)
    assert node_threads() == []


INTERRUPTED = """
import asyncio, random, signal, threading
from trioraft import *
from trioraft import aio
from trioraft.testing import CommandLog
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
async def main():
    transport = MemoryNetwork(random.Random(0)).transport("a")
    async with aio.open_node("a", voters=["a"], machine=CommandLog(), storage=MemoryStorage(),
                             transport=transport) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        print("waiting", flush=True)
        try:
            await node.wait(lambda _: False)
        finally:
            print("cancelled", flush=True)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted;", len(threading.enumerate()), "thread")
"""


def test_ctrl_c_ends_the_program_and_leaves_the_node() -> None:
    with Process((sys.executable, "-c", INTERRUPTED)) as process:
        assert process.next_line() == "waiting"
        process.signal(signal.SIGINT)
        assert process.rest() == "cancelled\ninterrupted; 1 thread\n"
        assert process.wait() == 0


FORGOTTEN = """
import asyncio, random
from trioraft import *
from trioraft import aio
from trioraft.testing import CommandLog
async def main():
    transport = MemoryNetwork(random.Random(0)).transport("a")
    opening = aio.open_node("a", voters=["a"], machine=CommandLog(), storage=MemoryStorage(),
                            transport=transport)
    node = await opening.__aenter__()
    print((await node.wait(lambda status: status.role is Role.LEADER)).role.value)
asyncio.run(main())
"""


def test_a_node_that_nobody_leaves_does_not_keep_the_program_alive() -> None:
    with Process((sys.executable, "-c", FORGOTTEN)) as process:
        assert process.rest() == "Leader\n"
        assert process.wait() == 0
