"""A storage that blocks has a thread of its own, which is gone with its node."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support import open_single
from trioraft import Role, SQLiteStorage, Status
from trioraft.node.disk_thread import DiskThread
from trioraft.node.storage_calls import StorageCalls
from trioraft.testing import FaultyStorage


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_calls_are_made_one_after_the_other_and_told_in_order() -> None:
    thread, made, told = DiskThread("a disk"), list[int](), list[int]()
    for number in range(20):
        thread.begin(partial(made.append, number), lambda *_: told.append(len(told)))
    assert await thread.run(lambda: threading.current_thread().name) == "a disk"
    assert made == told == list(range(20))
    assert len(threads_named("a disk")) == 1
    thread.end()
    thread.end()
    assert not threads_named("a disk")


async def test_what_a_call_raises_is_raised_where_it_is_waited_for() -> None:
    thread = DiskThread("a disk")
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: 1) == 1
    thread.end()


async def test_a_call_that_has_begun_is_waited_for() -> None:
    thread, may_end, is_over = DiskThread("a disk"), threading.Event(), list[bool]()

    def call() -> None:
        may_end.wait(10)
        is_over.append(True)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run, call)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            may_end.set()
    assert is_over == [True]
    thread.end()


async def test_a_node_that_is_killed_in_the_middle_of_a_write_waits_for_it(tmp_path: Path) -> None:
    storage = FaultyStorage(SQLiteStorage(tmp_path))
    with trio.fail_after(30):
        async with open_single(storage=storage) as node:
            await node.wait(leads)
            name = f"raft[{node.id}].disk"
            assert len(threads_named(name)) == 1
            writes = storage.writes
            async with trio.open_nursery() as nursery:
                with storage.held():
                    node.submit(b"in the middle")
                    held = await trio.to_thread.run_sync(storage.wait_until_held, 10)
                    assert held
                    node.kill()
                nursery.cancel_scope.cancel()
    assert storage.writes == writes + 1
    assert not threads_named(name)


async def test_a_write_that_nobody_waits_for_is_told() -> None:
    calls = StorageCalls(SQLiteStorage("nowhere"), "a disk")
    told = list[object]()
    calls.begin_write(lambda: 1 // 0, lambda value, error: told.append((value, type(error))))
    await calls.write(lambda: None)
    assert told == [(None, ZeroDivisionError)]
    calls.end()
    assert not threads_named("a disk")
