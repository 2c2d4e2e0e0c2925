"""A node whose process can open nothing, or start no thread, waits for it and lives (hazard G5)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from tests.scenarios.replication import commit
from tests.support import open_single
from trioraft import (
    DescriptorsExhausted,
    Limits,
    MemoryStorage,
    OutcomeUnknown,
    Overloaded,
    Role,
    SQLiteStorage,
    Status,
    ThreadsExhausted,
)
from trioraft.core.events import SnapshotInstalled, StorageWaits
from trioraft.core.types import SnapshotMeta
from trioraft.node.event_stream import NodeEvent
from trioraft.node.storage_calls import RUN_BLOCKING
from trioraft.testing.cluster import Cluster, open_cluster
from trioraft.testing.faulty_storage import FaultyStorage

T = TypeVar("T")
SMALL = Limits(snapshot_entries=20, snapshot_tail_entries=5, snapshot_chunk_bytes=64)
DESCRIPTORS = "descriptors"


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


async def wait_for(stream: object, event_type: type[NodeEvent]) -> NodeEvent:
    with trio.fail_after(20):
        async for event in stream:  # type: ignore[attr-defined]
            if isinstance(event, event_type):
                found: NodeEvent = event
                return found
    raise AssertionError(f"no {event_type.__name__} came")


async def test_g5_snapshots_wait_for_descriptors_and_the_leader_leads_on(
    autojump_clock: MockClock,
) -> None:
    storage = FaultyStorage(MemoryStorage())
    async with open_single(storage=storage, limits=SMALL) as node, node.events() as stream:
        await node.wait(leads)
        term = node.status.term
        storage.no_descriptors = True
        for number in range(50):  # two snapshots are due
            await node.propose(b"%d" % number)
        with pytest.raises(DescriptorsExhausted):
            await node.take_snapshot()
        event = await wait_for(stream, StorageWaits)
        assert isinstance(event, StorageWaits)
        assert event.resource == DESCRIPTORS
        assert (node.status.role, node.status.term) == (Role.LEADER, term)
        storage.no_descriptors = False
        assert await node.take_snapshot() == node.status.applied_index


async def test_g3_the_log_in_memory_has_a_bound_while_no_snapshot_can_be_written(
    autojump_clock: MockClock,
) -> None:
    storage = FaultyStorage(MemoryStorage())
    limits = Limits(snapshot_bytes=1000, snapshot_tail_entries=1, log_memory_bytes_max=20_000)
    async with open_single(storage=storage, limits=limits) as node:
        await node.wait(leads)
        storage.no_descriptors = True
        taken = 0
        with suppress(Overloaded):
            for _ in range(100):
                await node.propose(bytes(500))
                taken += 1
        assert 10 < taken < 40
        with pytest.raises(Overloaded, match=r"Limits\.log_memory_bytes_max"):
            node.submit(b"x")
        held_bytes, bound = node.budgets()["log_bytes"]
        assert (bound, bound + 1000 > held_bytes > bound) == (20_000, True)
        await trio.sleep(60)
        with pytest.raises(Overloaded):  # and tries one
            await node.propose(b"x")
        await trio.sleep(60)
        storage.no_descriptors = False
        with pytest.raises(Overloaded):  # and tries another
            await node.propose(b"x")
        await trio.sleep(1)
        await node.propose(b"x")
        assert node.budgets()["log_bytes"][0] < 2000


async def test_g3_that_bound_holds_for_what_others_forward_and_they_wait_for_room(
    autojump_clock: MockClock,
) -> None:
    storages: dict[str, FaultyStorage] = {}
    limits = Limits(snapshot_bytes=1000, snapshot_tail_entries=1, log_memory_bytes_max=20_000)

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage()))

    async with open_cluster(3, limits=limits, storage=storage_of) as cluster:
        leader_id, _ = await cluster.check_single_leader()
        for storage in storages.values():
            storage.no_descriptors = True
        leader = cluster.nodes[leader_id]
        for node in cluster.nodes.values():  # the leader too has its own commands wait
            with trio.move_on_after(30) as until_full:
                while True:
                    await node.forward(bytes(500))
            assert until_full.cancelled_caught
            held_bytes, bound = leader.budgets()["log_bytes"]
            assert bound < held_bytes < bound + 2000
        for storage in storages.values():
            storage.no_descriptors = False
        with trio.fail_after(60):
            for node in cluster.nodes.values():
                await node.forward(b"there is room again")


@pytest.mark.parametrize("lacks", ["leader", "follower"])
async def test_g5_a_snapshot_on_its_way_waits_for_descriptors(
    lacks: str, autojump_clock: MockClock
) -> None:
    """The leader cannot read it, or the follower cannot keep it; both live, and it comes."""
    storages: dict[str, FaultyStorage] = {}

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage()))

    async with open_cluster(3, limits=SMALL, storage=storage_of) as cluster:
        leader, away = await one_lags(cluster)
        lacking = leader if lacks == "leader" else away
        storages[lacking].no_descriptors = True
        async with (
            cluster.nodes[away].events() as installed,
            cluster.nodes[lacking].events() as stream,
        ):
            cluster.reconnect(away)
            await wait_for(stream, StorageWaits)
            await trio.sleep(2)
            assert cluster.nodes[leader].status.role is Role.LEADER
            storages[lacking].no_descriptors = False
            await wait_for(installed, SnapshotInstalled)
        await commit(cluster, b"after")
        assert (await cluster.check_committed(b"after"))[0] >= 2


async def one_lags(cluster: Cluster) -> tuple[str, str]:
    """The leader; and a follower that will need a snapshot."""
    leader, _ = await cluster.check_single_leader()
    away = next(node_id for node_id in cluster.ids if node_id != leader)
    cluster.disconnect(away)
    for number in range(60):
        await commit(cluster, b"%d" % number)
    return leader, away


class Unreadable:
    """Nothing can be opened when the state machine is to be restored."""

    def __init__(self, inner: MemoryStorage) -> None:
        self._inner = inner
        self.refusals = 3

    def read_snapshot(self, meta: SnapshotMeta) -> Iterator[bytes]:
        if self.refusals:
            self.refusals -= 1
            raise DescriptorsExhausted("nothing can be opened (on purpose)")
        return self._inner.read_snapshot(meta)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_g5_restoring_waits_for_descriptors(autojump_clock: MockClock) -> None:
    storages: dict[str, Unreadable] = {}

    def storage_of(node_id: str) -> Any:
        return storages.setdefault(node_id, Unreadable(MemoryStorage()))

    async with open_cluster(3, limits=SMALL, storage=storage_of) as cluster:
        _, away = await one_lags(cluster)
        cluster.reconnect(away)
        await commit(cluster, b"after")
        await cluster.wait(
            lambda: cluster.nodes[away].status.applied_index > 60, "what was away catches up"
        )
        assert storages[away].refusals == 0


async def test_g5_a_node_that_cannot_open_its_snapshot_says_so_and_does_not_start(
    autojump_clock: MockClock,
) -> None:
    inner = MemoryStorage()
    async with open_single(storage=inner, limits=SMALL) as node:
        await node.wait(leads)
        await node.propose(b"x")
        await node.take_snapshot()
    unreadable: Any = Unreadable(inner)
    with pytest.raises(DescriptorsExhausted):
        async with open_single(storage=unreadable):
            pass


async def test_g5_a_node_on_a_disk_lives_without_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real files; the kernel's answer to every attempt to open one is EMFILE."""
    with trio.fail_after(30):
        async with open_single(storage=SQLiteStorage(tmp_path / "0"), limits=SMALL) as node:
            await node.wait(leads)
            with monkeypatch.context() as lack:

                def refused(*_: object, **__: object) -> int:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

                lack.setattr(os, "open", refused)
                lack.setattr(Path, "open", refused)
                lack.setattr(os, "listdir", refused)
                for number in range(50):
                    await node.propose(b"%d" % number)
                with pytest.raises(DescriptorsExhausted, match="no descriptors are left"):
                    await node.take_snapshot()
                assert node.status.role is Role.LEADER
            assert await node.take_snapshot() == node.status.applied_index


class Threads:
    """Runs what blocks in threads, as long as any can be started."""

    are_left = True

    async def __call__(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
        if not self.are_left:
            raise RuntimeError("can't start new thread")
        return await trio.to_thread.run_sync(call, limiter=limiter)


@contextmanager
def own_threads() -> Iterator[Threads]:
    threads = Threads()
    token = RUN_BLOCKING.set(threads)
    try:
        yield threads
    finally:
        RUN_BLOCKING.reset(token)


async def test_g5_writes_wait_for_threads() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    with own_threads() as threads, trio.fail_after(30):
        async with open_single(storage=storage) as node, node.events() as stream:
            await node.wait(leads)
            await node.propose(b"before")
            threads.are_left = False
            with pytest.raises(ThreadsExhausted):
                await node.take_snapshot()
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"in between")
            event = await wait_for(stream, StorageWaits)
            assert isinstance(event, StorageWaits)
            assert event.resource == "threads"
            assert str(node.status.last_role_change) == "no threads left"
            threads.are_left = True
            await node.wait(leads)
            await node.propose(b"after")


async def test_g5_a_storage_is_closed_without_a_thread() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    with own_threads() as threads, trio.fail_after(30):
        async with open_single(storage=storage) as node:
            await node.wait(leads)
            threads.are_left = False
    assert storage.calls[-1] == "close"


async def test_g5_a_node_that_gets_no_thread_does_not_start() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    with own_threads() as threads:
        threads.are_left = False
        with pytest.raises(ThreadsExhausted, match="ulimit -u"):
            async with open_single(storage=storage):
                pass


async def test_an_error_of_a_call_is_not_taken_for_a_lack_of_threads() -> None:
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    storage.open = partial(_fails, storage)  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="of its own"):
        async with open_single(storage=storage):
            pass


def _fails(_: FaultyStorage, **__: object) -> None:
    raise RuntimeError("of its own")
