"""Nodes whose storages share a log have their appends made together, by one thread at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
import trio.testing

from trioraft import Entry, MemoryNetwork, MemoryStorage, Node, Role, SharedLog, open_node
from trioraft.core.errors import DiskFull, StorageError, ThreadsExhausted
from trioraft.core.types import Recovered
from trioraft.node.storage_calls import JOINT_BYTES_MAX, RUN_BLOCKING, StorageCalls

T = TypeVar("T")


@attrs.define(eq=False)
class Log:
    """Makes calls together, and remembers which."""

    made: list[list[str]] = attrs.field(factory=list)
    failing: dict[str, BaseException] = attrs.field(factory=dict)

    def write_together(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        names = [str(call()) for call in calls]
        self.made.append(names)
        return [self.failing.get(name) for name in names]


class OneOfMany:
    """A storage that says that it shares a log."""

    blocking = True

    def __init__(self, together: Log) -> None:
        self.together = together
        self._inner = MemoryStorage()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Disk:
    """Takes its time: until the test says so, nothing is made."""

    def __init__(self) -> None:
        self.has_begun = trio.Event()
        self.may_go_on = trio.Event()
        self.fails: BaseException | None = None

    async def __call__(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        async with limiter:
            self.has_begun.set()
            await self.may_go_on.wait()
            if self.fails is not None:
                raise self.fails
            return call()


@pytest.fixture
def disk() -> Iterable[Disk]:
    disk = Disk()
    token = RUN_BLOCKING.set(disk)
    yield disk
    RUN_BLOCKING.reset(token)


async def append(
    calls: StorageCalls, name: str, outcomes: dict[str, object], size_bytes: int = 0
) -> None:
    try:
        await calls.append(lambda: name, size_bytes)  # type: ignore[arg-type] # to know them
    except StorageError as error:
        outcomes[name] = error
    else:
        outcomes[name] = "stored"


async def until_all_wait() -> None:
    """All tasks have gone as far as they go by themselves."""
    await trio.testing.wait_all_tasks_blocked()


async def test_who_comes_while_one_is_made_is_in_the_next(disk: Disk) -> None:
    log, outcomes = Log(), dict[str, object]()
    async with trio.open_nursery() as nursery:
        for name in "abcde":
            calls = StorageCalls(OneOfMany(log), "disk")
            assert calls.is_joint
            nursery.start_soon(append, calls, name, outcomes)
            if name == "a":
                await disk.has_begun.wait()
        await until_all_wait()
        assert log.made == []
        disk.may_go_on.set()
        await until_all_wait()
        assert len(outcomes) == 5, "nobody goes on waiting"
    assert log.made[0] == ["a"]
    assert [sorted(names) for names in log.made[1:]] == [["b", "c", "d", "e"]]
    assert outcomes == dict.fromkeys("abcde", "stored")


async def test_each_is_told_its_own(disk: Disk) -> None:
    log, outcomes = Log(failing={"b": DiskFull("no room")}), dict[str, object]()
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(append, StorageCalls(OneOfMany(log), "disk"), name, outcomes)
        await until_all_wait()
        disk.may_go_on.set()
    assert isinstance(outcomes.pop("b"), DiskFull)
    assert outcomes == {"a": "stored", "c": "stored"}


async def test_without_a_thread_nobody_is_called(disk: Disk) -> None:
    log, outcomes = Log(), dict[str, object]()
    disk.fails = RuntimeError("can't start new thread")
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(append, StorageCalls(OneOfMany(log), "disk"), name, outcomes)
        await until_all_wait()
        disk.may_go_on.set()
    assert log.made == []
    assert {type(outcome) for outcome in outcomes.values()} == {ThreadsExhausted}
    assert len({id(outcome) for outcome in outcomes.values()}) == 3
    disk.fails = None
    await append(StorageCalls(OneOfMany(log), "disk"), "d", outcomes)
    assert outcomes["d"] == "stored"


async def test_what_breaks_off_leaves_nobody_waiting(disk: Disk) -> None:
    log, outcomes = Log(), dict[str, object]()
    disk.fails = KeyboardInterrupt()
    interrupted = []

    async def leads() -> None:
        try:
            await append(StorageCalls(OneOfMany(log), "disk"), "a", outcomes)
        except KeyboardInterrupt as error:
            interrupted.append(error)
            disk.fails = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leads)
        await disk.has_begun.wait()
        nursery.start_soon(append, StorageCalls(OneOfMany(log), "disk"), "b", outcomes)
        await until_all_wait()
        disk.may_go_on.set()
    assert len(interrupted) == 1
    assert outcomes == {"b": "stored"}
    assert log.made == [["b"]]


async def test_a_cancelled_append_is_made_all_the_same(disk: Disk) -> None:
    """Of whoever leads, and of whoever waits."""
    log, outcomes = Log(), dict[str, object]()
    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(append, StorageCalls(OneOfMany(log), "disk"), name, outcomes)
        await until_all_wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await until_all_wait()
        disk.may_go_on.set()
        assert outcomes == {}
    assert sorted(name for names in log.made for name in names) == ["a", "b", "c"]
    assert outcomes == dict.fromkeys("abc", "stored")


async def test_small_ones_do_not_wait_for_all_large_ones(disk: Disk) -> None:
    """Whoever waits longest goes in any case, so that nobody waits for ever."""
    log, outcomes = Log(), dict[str, object]()
    third = JOINT_BYTES_MAX // 3
    async with trio.open_nursery() as nursery:
        for name in ("begins", "L1", "L2", "L3", "L4", "L5", "s1", "s2"):
            size_bytes = third if name.startswith("L") else 100
            calls = StorageCalls(OneOfMany(log), "disk")
            nursery.start_soon(append, calls, name, outcomes, size_bytes)
            await until_all_wait()
        disk.may_go_on.set()
    assert [sorted(names) for names in log.made] == [
        ["begins"],
        ["L1", "L2", "s1", "s2"],
        ["L3", "L4", "L5"],
    ]
    assert set(outcomes.values()) == {"stored"}


async def test_two_logs_do_not_wait_for_each_other(disk: Disk) -> None:
    one, other, outcomes = Log(), Log(), dict[str, object]()
    disk.may_go_on.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(append, StorageCalls(OneOfMany(one), "disk"), "a", outcomes)
        nursery.start_soon(append, StorageCalls(OneOfMany(other), "disk"), "b", outcomes)
    assert (one.made, other.made) == ([["a"]], [["b"]])


# -- nodes, and a disk -------------------------------------------------------------------------


class Ledger:
    """Remembers every command, in order."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def apply(self, index: int, data: bytes) -> int:
        self.commands.append(data)
        return index

    def snapshot(self) -> bytes:
        return b"\n".join(self.commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.commands = b"".join(chunks).split(b"\n")


async def test_nodes_of_one_process_write_together(tmp_path: Path) -> None:
    groups = [f"group {number}" for number in range(12)]
    ledgers = {group: Ledger() for group in groups}
    shared = SharedLog(tmp_path)
    shared.open(cluster_id="tests", node_id="a")
    async with AsyncExitStack() as stack:
        nodes = {
            group: await stack.enter_async_context(
                open_node(
                    "a",
                    voters=["a"],
                    machine=ledgers[group],
                    storage=shared.storage_of(group),
                    transport=MemoryNetwork(random.Random(0)).transport("a"),
                )
            )
            for group in groups
        }
        for node in nodes.values():
            await node.wait(lambda status: status.leader_id == "a")
        before = shared.transactions

        async def propose(group: str) -> None:
            for number in range(10):
                await nodes[group].propose(f"{group}/{number}".encode())

        async with trio.open_nursery() as nursery:
            for group in groups:
                nursery.start_soon(propose, group)
        assert shared.transactions - before < 10 * len(groups) / 2
    for group in groups:
        expected = [f"{group}/{number}".encode() for number in range(10)]
        assert ledgers[group].commands == expected
        storage = shared.storage_of(group)
        recovered = storage.open(cluster_id="trioraft", node_id="a")
        assert isinstance(recovered, Recovered)
        assert [entry.data for entry in recovered.entries if entry.data in expected] == expected
    shared.close()


# -- a disk that is slow because of others -----------------------------------------------------

BIG = bytes(256 * 1024)


class SlowDisk:
    """So many bytes a second of virtual time, until it hangs."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.appended_bytes = 0
        self.goes_on = trio.Event()
        self.goes_on.set()

    async def __call__(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        async with limiter:
            came_to = call()
            taken_s, self.appended_bytes = self.appended_bytes / self.bytes_per_s, 0
            await trio.sleep(taken_s)
            await self.goes_on.wait()
            return came_to

    def write_together(self, calls: Sequence[Callable[[], object]]) -> list[BaseException | None]:
        for call in calls:
            call()
        return [None] * len(calls)


class OneOnASlowDisk:
    """A storage that shares its log, and its disk, with others."""

    blocking = True

    def __init__(self, disk: SlowDisk) -> None:
        self.together = disk
        self._inner = MemoryStorage()

    def append(
        self, hard_state: Any, entries: Sequence[Entry], replace_from: Any, identity: Any = None
    ) -> None:
        self.together.appended_bytes += 4096 + sum(len(entry.data) for entry in entries)
        self._inner.append(hard_state, entries, replace_from, identity)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_disk_that_is_busy_with_others_is_not_taken_for_one_that_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Fourteen groups keep it busy for two seconds with each round of their writes. One with small
    commands waits for its turn as they do, and its leader goes on leading; once the disk does
    nothing at all, that is noticed as ever."""
    disk = SlowDisk(16 * 1024 * 1024)
    token = RUN_BLOCKING.set(disk)
    network = MemoryNetwork(random.Random(1))
    async with AsyncExitStack() as stack:
        stack.callback(RUN_BLOCKING.reset, token)

        async def opened(node_id: str, voters: Sequence[str], storage: Any, network: Any) -> Node:
            return await stack.enter_async_context(
                open_node(
                    node_id,
                    voters=voters,
                    machine=Ledger(),
                    storage=storage,
                    transport=network.transport(node_id),
                )
            )

        small = [
            await opened(node_id, ["a", "b", "c"], storage, network)
            for node_id, storage in (
                ("a", OneOnASlowDisk(disk)),
                ("b", MemoryStorage()),
                ("c", MemoryStorage()),
            )
        ]
        big = [
            await opened("a", ["a"], OneOnASlowDisk(disk), MemoryNetwork(random.Random(number)))
            for number in range(14)
        ]
        for node in (*small, *big):
            await node.wait(lambda status: status.leader_id is not None)
        leader = next(node for node in small if node.status.role is Role.LEADER)
        if leader is not small[0]:
            await leader.transfer_leadership("a")
        await small[0].wait(lambda status: status.role is Role.LEADER)
        term = small[0].status.term

        async def keep_busy(node: Node) -> None:
            while True:
                await node.propose(BIG)

        async with trio.open_nursery() as nursery:
            for node in big:
                for _ in range(8):
                    nursery.start_soon(keep_busy, node)
            until_s = trio.current_time() + 20
            while trio.current_time() < until_s:
                await small[0].propose(b"small")
            assert small[0].status.term == term
            disk.goes_on = trio.Event()
            small[0].submit(b"never")
            with trio.move_on_after(10):
                await small[1].wait(lambda status: status.term > term)
            disk.goes_on.set()
            assert small[1].status.term > term
            nursery.cancel_scope.cancel()
