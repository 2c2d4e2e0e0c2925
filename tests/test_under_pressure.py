"""Snapshots, room and death in each other's way: what a node does when several things that are
rare happen at the same time. Each of these once went wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support import open_single
from trioraft import (
    DiskFull,
    Limits,
    MemoryStorage,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Role,
    Status,
)
from trioraft.core.errors import ApplyFailed
from trioraft.tasks.byte_budget import COMMAND_OVERHEAD_BYTES, ByteBudget
from trioraft.testing.cluster import open_cluster
from trioraft.testing.faulty_storage import FaultyStorage


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


class HeldSnapshots:
    """A storage in threads whose snapshot calls can be held up."""

    blocking = True
    notices = ()

    def __init__(self) -> None:
        self._inner = MemoryStorage()
        self.may_write = threading.Event()
        self.may_install = threading.Event()
        self.is_writing = threading.Event()
        self.is_installing = threading.Event()

    def write_snapshot(self, *args: Any) -> Any:
        self.is_writing.set()
        self.may_write.wait(10)
        return self._inner.write_snapshot(*args)

    def install_snapshot(self, meta: Any, identity: bytes | None = None) -> None:
        self.is_installing.set()
        self.may_install.wait(10)
        self._inner.install_snapshot(meta, identity)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


# -- room ----------------------------------------------------------------------------------


async def test_the_bound_on_proposals_holds(autojump_clock: MockClock) -> None:
    """Five hundred callers wake as one command after the other is applied; none gets room that
    was promised to another."""
    bound = 3 * (100 + COMMAND_OVERHEAD_BYTES)
    peak_bytes = 0

    class Watching:
        def apply(self, index: int, data: bytes) -> int:
            nonlocal peak_bytes
            peak_bytes = max(peak_bytes, room.taken_bytes)
            return index

        def snapshot(self) -> bytes:
            return b""

        def restore(self, chunks: Iterable[bytes]) -> None:
            pass

    async with open_single(machine=Watching(), limits=Limits(proposals_bytes_max=bound)) as node:
        room = node._runner.budget
        await node.wait(leads)
        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(node.propose, b"x" * 100)
        assert 0 < peak_bytes <= bound
        assert room.taken_bytes == 0


async def test_even_empty_commands_are_bounded(autojump_clock: MockClock) -> None:
    async with open_single(limits=Limits(proposals_bytes_max=10_000)) as node:
        await node.wait(leads)
        with pytest.raises(Overloaded):
            [node.submit(b"") for _ in range(1000)]


async def test_room_promised_to_a_cancelled_caller_is_given_to_the_next() -> None:
    room = ByteBudget(1000)
    assert room.take(700)
    got: list[str] = []

    async def caller(name: str, scope: trio.CancelScope) -> None:
        with scope:
            assert await room.wait(500)
            got.append(name)

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller, "first", first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(caller, "second", second)
        await trio.testing.wait_all_tasks_blocked()
        room.give_back(700)
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        if got == ["first"]:  # it was faster than its cancellation
            room.give_back(500)
    assert got[-1] == "second"


async def test_x3_a_caller_that_waits_for_room_learns_that_leadership_is_lost() -> None:
    """The room is held by an entry that is committed, but not durable here: the disk hangs."""
    storages: dict[str, FaultyStorage] = {}

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage(), blocking=True))

    limits = Limits(proposals_bytes_max=100)
    async with open_cluster(3, storage=storage_of, seed=1, limits=limits) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"x")
        node = cluster.nodes[leader]
        with storages[leader].held():
            proposal = node.submit(b"y" * 100)
            await node.wait(lambda status: status.commit_index == proposal.index)
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(NotLeader):
                        await node.propose(b"z")

                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked(0.01)
                cluster.disconnect(leader)


class Stop(BaseException):
    """What no handler of ordinary errors catches."""


async def test_a_waiter_is_told_even_if_the_state_machine_tears_everything_down(
    autojump_clock: MockClock,
) -> None:
    class Machine:
        def apply(self, index: int, data: bytes) -> None:
            raise Stop

        def snapshot(self) -> bytes:
            return b""

        def restore(self, chunks: Iterable[bytes]) -> None:
            pass

    told: list[str] = []

    async def run_node(ready: trio.Event, nodes: list[Any]) -> None:
        try:
            async with open_single(machine=Machine()) as node:
                await node.wait(leads)
                nodes.append(node)
                ready.set()
                await trio.sleep_forever()
        except ApplyFailed as failed:
            told.append(type(failed.__cause__).__name__)

    async with trio.open_nursery() as nursery:
        ready, nodes = trio.Event(), []  # type: ignore[var-annotated] # - nodes, filled below
        nursery.start_soon(run_node, ready, nodes)
        await ready.wait()
        proposal = nodes[0].submit(b"x")
        try:
            await proposal.result()
        except OutcomeUnknown:
            told.append("unknown")
    assert sorted(told) == ["Stop", "unknown"]


# -- snapshots -----------------------------------------------------------------------------


async def test_a_snapshot_asked_for_while_another_is_installed() -> None:
    storages: dict[str, HeldSnapshots] = {}

    def storage_of(node_id: str) -> Any:
        storage = storages.setdefault(node_id, HeldSnapshots())
        storage.may_write.set()
        return storage

    limits = Limits(snapshot_entries=20, snapshot_tail_entries=1)
    async with open_cluster(3, storage=storage_of, limits=limits, seed=1) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        await cluster.propose(b"before")
        await cluster.check_committed(b"before")
        cluster.disconnect(away)
        for number in range(100):
            await cluster.propose(b"%d" % number)
        cluster.reconnect(away)
        await trio.to_thread.run_sync(storages[away].is_installing.wait, 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.nodes[away].take_snapshot)
            await trio.testing.wait_all_tasks_blocked(0.01)
            for storage in storages.values():
                storage.may_install.set()
            await cluster.check_committed(b"99")


async def test_a_snapshot_asked_for_while_an_older_one_is_written() -> None:
    storage: Any = HeldSnapshots()
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"1")
        got: list[int] = []

        async def take() -> None:
            got.append(await node.take_snapshot())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.to_thread.run_sync(storage.is_writing.wait)
            await node.propose(b"2")
            applied = node.status.applied_index
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked(0.01)
            storage.may_write.set()
        assert got[1] >= applied > got[0]


async def test_a_snapshot_asked_for_on_a_full_disk(autojump_clock: MockClock) -> None:
    storage = FaultyStorage(MemoryStorage())
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"x")
        storage.disk_full = True
        with pytest.raises(DiskFull):
            await node.take_snapshot()
        storage.disk_full = False
        assert await node.take_snapshot() == node.status.applied_index


async def test_killed_while_a_snapshot_is_written_and_somebody_watches() -> None:
    storage: Any = HeldSnapshots()
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"x")
        async with node.events(), trio.open_nursery() as nursery:

            async def take() -> None:
                with pytest.raises(NodeDead):
                    await node.take_snapshot()

            nursery.start_soon(take)
            await trio.to_thread.run_sync(storage.is_writing.wait)
            node.kill()
            storage.may_write.set()


class Endless:
    """A snapshot that goes on for as long as anybody wants it."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()

    def apply(self, index: int, data: bytes) -> int:
        return index

    def snapshot(self) -> Iterator[bytes]:
        while True:
            self.has_begun.set()
            yield b"x"

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass


async def test_death_does_not_wait_for_a_long_snapshot() -> None:
    machine: Any = Endless()
    storage: Any = HeldSnapshots()
    storage.may_write.set()
    with trio.fail_after(30):
        async with open_single(machine=machine, storage=storage) as node:
            await node.wait(leads)
            await node.propose(b"x")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.take_snapshot)
                await trio.to_thread.run_sync(machine.has_begun.wait)
                nursery.cancel_scope.cancel()
