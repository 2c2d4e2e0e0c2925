"""Watches: every change once, in order, from an index on; none is skipped in silence."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft.kv import Change, KvMachine, commands
from trioraft.kv.commands import Append, Changed, Changes, Compacted, Delete, Get, Put, Txn, encode
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


# -- which watches a change looks at -------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "hit", "missed"),
    [
        (Changes(1), [b"", b"a", b"\xff"], []),
        (Changes(1, b"a/"), [b"a/", b"a/x"], [b"a", b"b", b"", b"a0"]),
        (Changes(1, b"a", until=b"a\0"), [b"a"], [b"", b"a\0", b"ab", b"b"]),
        (Changes(1, b"", until=b"\0"), [b""], [b"\0", b"a"]),
        (Changes(1, b"app/c", until=b"app/m"), [b"app/c", b"app/lz"], [b"app/", b"app/m", b"b"]),
        (Changes(1, b"a", until=b"c"), [b"a", b"b", b"bz"], [b"c", b""]),
        (Changes(1, b"\xff"), [b"\xff", b"\xff\xff\x01"], [b"\xfe\xff"]),
        (Changes(1, b"a\xff"), [b"a\xff", b"a\xffz"], [b"b", b"a"]),
        (Changes(1, b"a", until=b"b"), [b"a", b"aaa"], [b"b"]),
        (Changes(1, b"b", until=b"a"), [], [b"a", b"b", b"aa"]),
    ],
)
async def test_a_watch_is_woken_by_its_own_keys_only(
    wanted: Changes, hit: list[bytes], missed: list[bytes], autojump_clock: MockClock
) -> None:
    machine = KvMachine()
    found: list[Change] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, machine, wanted, found)
        await wait_all_tasks_blocked()
        for index, key in enumerate([*missed, *hit], 1):
            before = trio.lowlevel.current_statistics().tasks_runnable
            machine.apply(index, encode(Put(key, b"")))
            woken = trio.lowlevel.current_statistics().tasks_runnable - before
            assert woken == (key in hit), key
            await wait_all_tasks_blocked()
        assert [change.key for change in found] == hit
        nursery.cancel_scope.cancel()


async def test_what_concerns_a_watch_is_found_however_much_lies_before_it(
    autojump_clock: MockClock,
) -> None:
    """Others' changes may be forgotten meanwhile: it missed none of its own."""
    machine = KvMachine(changes_max=10)
    async with machine.watch(encode(Changes(1, b"quiet"))) as items, trio.open_nursery() as nursery:
        found: list[object] = []

        async def take() -> None:
            found.append(await anext(items))

        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        for index in range(1, 1000):
            machine.apply(index, encode(Put(b"busy", b"")))
        machine.apply(1000, encode(Put(b"quiet", b"")))
        await wait_all_tasks_blocked()
        (changed,) = found
        assert isinstance(changed, Changed)
        assert [change.index for change in changed.changes] == [1000]


async def test_watches_come_and_go_and_leave_nothing_behind(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    watches = machine._watches
    wanted = [
        Changes(1, b"a"),
        Changes(1, b"a"),
        Changes(1, b"a", until=b"a\0"),
        Changes(1, b"xyz"),
    ]
    async with AsyncExitStack() as stack:
        for each in wanted:
            await stack.enter_async_context(machine.watch(encode(each)))
        assert dict(watches._lengths) == {1: 2, 3: 1}
    assert (watches._of_key, watches._of_prefix, dict(watches._lengths)) == ({}, {}, {})


async def test_values_before_are_told_to_who_asks(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    for index, value in enumerate((b"1", b"2"), 1):
        machine.apply(index, encode(Put(b"a", value)))
    machine.apply(3, encode(Delete(b"a")))
    for wants_previous, expected in ((True, [None, b"1", b"2"]), (False, [None, None, None])):
        async with machine.watch(encode(Changes(1, wants_previous=wants_previous))) as items:
            changed = await anext(items)
            assert isinstance(changed, Changed)
            assert [change.previous for change in changed.changes] == expected


async def test_what_one_command_changed_is_never_torn_apart(autojump_clock: MockClock) -> None:
    machine = KvMachine()
    for index in range(1, 4):
        puts = tuple(Put(b"%d" % number, b"") for number in range(5))
        machine.apply(index, encode(Txn((), puts)))
    async with machine.watch(encode(Changes(1, changes_max=2))) as items:
        for index in range(1, 4):
            changed = await anext(items)
            assert isinstance(changed, Changed)
            assert [change.index for change in changed.changes] == [index] * 5
