"""Applying on its own: snapshots that replace one another while one of them is being restored."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import trio
import trio.testing

from trioraft import DiskFull, Limits, MemoryStorage
from trioraft.core.types import Configuration, Entry, LogIndex, SnapshotMeta, Term
from trioraft.node.applying import Applying
from trioraft.node.persistence import StorageCalls
from trioraft.node.proposals import ProposalTable
from trioraft.testing.cluster import open_cluster

CONFIGURATION = Configuration(("a",))


class InThreads:
    """A memory storage that is called in worker threads."""

    blocking = True
    notices = ()

    def __init__(self) -> None:
        self._inner = MemoryStorage()
        self._inner.open(cluster_id="c", node_id="a")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class HeldRestore:
    """A state machine whose restore can be held up."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def apply(self, index: int, data: bytes) -> None: ...

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        list(chunks)
        self.has_begun.set()
        self.may_end.wait(10)


class Owner:
    """Notes how far the state machine is, and wakes whoever waits for it."""

    def __init__(self) -> None:
        self.applied: list[LogIndex] = []
        self.changed = trio.lowlevel.ParkingLot()

    def on_applied(self, index: LogIndex) -> None:
        self.applied.append(index)
        self.changed.unpark_all()

    async def until(self, index: LogIndex) -> None:
        while index not in self.applied:
            await self.changed.park()

    def on_snapshot_saved(self, meta: SnapshotMeta) -> None: ...

    def on_snapshot_unsaved(self, error: DiskFull) -> None: ...

    def is_sending_snapshot(self) -> bool:
        return False

    def place_of(self, index: LogIndex) -> tuple[Term, Configuration] | None:
        return 1, CONFIGURATION


def received(storage: Any, index: LogIndex) -> SnapshotMeta:
    """An empty snapshot, received and installed."""
    meta = SnapshotMeta(index, 1, CONFIGURATION, size_bytes=0, checksum=0)
    storage.receive_chunk(meta, 0, b"")
    storage.install_snapshot(meta)
    return meta


async def test_a_queued_snapshot_that_is_gone_is_passed_over() -> None:
    """Three more are installed while the first is being restored; the storage keeps two."""
    storage: Any = InThreads()
    machine, owner = HeldRestore(), Owner()
    limits = Limits()
    applying = Applying(machine, StorageCalls(storage), ProposalTable(1000), limits, owner)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(applying.run, nursery.start_soon, "snapshot")
            applying.put(received(storage, 10))
            await trio.to_thread.run_sync(machine.has_begun.wait)
            for index in (20, 30, 40):
                applying.put(received(storage, index))
            machine.may_end.set()
            await owner.until(40)
            nursery.cancel_scope.cancel()
    assert owner.applied == [10, 40]


async def test_whoever_wants_a_snapshot_is_content_with_a_newer_one_that_arrives() -> None:
    storage: Any = InThreads()
    entries = tuple(Entry(index, 1, b"x") for index in range(1, 6))
    storage.append(None, entries, 1)
    machine, owner = HeldRestore(), Owner()
    limits = Limits()
    applying = Applying(machine, StorageCalls(storage), ProposalTable(1000), limits, owner)
    got: list[LogIndex] = []

    async def take() -> None:
        got.append(await applying.take_snapshot())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(applying.run, nursery.start_soon, "snapshot")
            await trio.testing.wait_all_tasks_blocked()
            applying.put(entries)
            applying.put(received(storage, 9))
            await trio.to_thread.run_sync(machine.has_begun.wait)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(take)
                await trio.testing.wait_all_tasks_blocked(0.01)
                machine.may_end.set()
            nursery.cancel_scope.cancel()
    assert got == [9]


class FullOnce:
    """A storage that has no room for the first snapshot it is to install."""

    blocking = False
    notices = ()

    def __init__(self) -> None:
        self._inner = MemoryStorage()
        self.refused = 0

    def install_snapshot(self, meta: SnapshotMeta) -> None:
        if not self.refused:
            self.refused += 1
            raise DiskFull("no room (on purpose)")
        self._inner.install_snapshot(meta)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_an_install_without_room_is_waited_out(autojump_clock: object) -> None:
    storages: dict[str, FullOnce] = {}

    def storage_of(node_id: str) -> Any:
        return storages.setdefault(node_id, FullOnce())

    limits = Limits(snapshot_entries=20, snapshot_tail_entries=1)
    async with open_cluster(3, storage=storage_of, limits=limits, seed=1) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        for number in range(100):
            await cluster.propose(b"%d" % number)
        cluster.reconnect(away)
        assert (await cluster.check_committed(b"99"))[0] == 3
        assert storages[away].refused == 1
