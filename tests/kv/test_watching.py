"""Watches: every change once, in order, from an index on; none is skipped in silence."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft.kv import Change, KvMachine, commands
from trioraft.kv.commands import Append, Changed, Changes, Compacted, Delete, Get, Put, encode
from trioraft.machines.sessions import UnknownCommand


async def collect(machine: KvMachine, wanted: Changes, found: list[Change]) -> None:
    async with machine.watch(encode(wanted)) as items:
        async for item in items:
            assert isinstance(item, Changed)
            found += item.changes


async def test_old_changes_first_then_new_ones(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    machine.apply(1, encode(Put(b"a/1", b"x")))
    machine.apply(2, encode(Put(b"b/1", b"x")))
    found: list[Change] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, machine, Changes(1, b"a/", changes_max=2), found)
        await wait_all_tasks_blocked()
        assert [change.index for change in found] == [1]
        for index in range(3, 10):
            machine.apply(index, encode(Append(b"a/1" if index % 2 else b"b/1", b"y")))
        await wait_all_tasks_blocked()
        machine.apply(10, encode(Delete(b"a/1")))
        await wait_all_tasks_blocked()
        assert [change.index for change in found] == [1, 3, 5, 7, 9, 10]
        assert found[-1].value is None
        nursery.cancel_scope.cancel()


async def test_what_does_not_concern_a_watch_does_not_wake_it(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    async with machine.watch(encode(Changes(1, b"a"))) as items, trio.open_nursery() as nursery:
        nursery.start_soon(items.__anext__)
        await wait_all_tasks_blocked()
        waiting = trio.lowlevel.current_statistics().tasks_runnable
        machine.apply(1, encode(Put(b"b", b"")))
        assert trio.lowlevel.current_statistics().tasks_runnable == waiting
        machine.apply(2, encode(Put(b"a", b"")))
        assert trio.lowlevel.current_statistics().tasks_runnable == waiting + 1


async def test_a_slow_watch_is_told_that_it_missed_something(autojump_clock: MockClock) -> None:
    machine = KvMachine(changes_max=10)
    async with machine.watch(encode(Changes(1))) as items:
        machine.apply(1, encode(Put(b"k", b"")))
        assert isinstance(await anext(items), Changed)
        for index in range(2, 50):
            machine.apply(index, encode(Put(b"k", b"")))
        assert await anext(items) == Compacted(40)
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_a_restore_in_another_thread_wakes_who_waits() -> None:
    leader, follower = KvMachine(), KvMachine()
    for index in range(1, 6):
        leader.apply(index, encode(Put(b"k", b"%d" % index)))
    found: list[Change] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, follower, Changes(3), found)
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(follower.restore, list(leader.snapshot()))
        await wait_all_tasks_blocked()
        assert [change.index for change in found] == [3, 4, 5]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("data", [b"", encode(Get(b"k"))])
async def test_what_cannot_be_watched_is_refused(data: bytes) -> None:
    with pytest.raises(UnknownCommand):
        async with KvMachine().watch(data):
            pass


def test_watching_needs_nothing_of_a_machine_that_nobody_watches() -> None:
    """Also outside of Trio, as the simulation has it."""
    machine = KvMachine()
    machine.apply(1, encode(Put(b"k", b"v")))
    machine.restore(list(machine.snapshot()))
    assert machine.query(encode(Get(b"k"))) == commands.Found(1, b"v", 1, 1, 1)
