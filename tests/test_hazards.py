"""The hazards of whole nodes: what disks, callers and state machines can do to one. Those of the
protocol alone are tested in `tests/core`, those of the disk in `tests/storage`; `docs/hazards.md`
says where each one stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock

from tests.scenarios.replication import commit
from tests.support import open_single, raft_tasks
from trioraft import (
    DiskFull,
    Limits,
    MemoryStorage,
    NotLeader,
    OutcomeUnknown,
    Role,
    Status,
    StorageError,
    Timing,
)
from trioraft.member.apply_queue import SLICE_ENTRIES
from trioraft.testing.cluster import CommandLog, open_cluster
from trioraft.testing.faulty_storage import FaultyStorage


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


# -- the disk ------------------------------------------------------------------------------


async def test_d5_a_failed_write_ends_the_node_and_acknowledges_nothing(
    autojump_clock: MockClock,
) -> None:
    storage = FaultyStorage(MemoryStorage())
    machine = CommandLog()

    async def use_it() -> None:
        async with open_single(storage=storage, machine=machine) as node:
            await node.wait(leads)
            await node.propose(b"kept")
            storage.fail_next_append(StorageError("fsync failed"))
            with pytest.raises(OutcomeUnknown):
                await node.propose(b"lost")
            await trio.sleep_forever()

    with pytest.raises(StorageError, match="fsync failed"):
        await use_it()
    assert raft_tasks() == []
    writes = storage.writes
    assert machine.commands[-1][1] == b"kept"
    await trio.sleep(10)
    assert storage.writes == writes  # it was not tried again


async def test_a_full_disk_is_waited_out(autojump_clock: MockClock) -> None:
    """The only voter steps down, takes no commands, and leads again when there is room."""
    storage = FaultyStorage(MemoryStorage())
    machine = CommandLog()
    async with open_single(storage=storage, machine=machine) as node:
        await node.wait(leads)
        await node.propose(b"before")
        storage.disk_full = True
        with pytest.raises(OutcomeUnknown):
            await node.propose(b"in between")
        assert node.status.role is Role.FOLLOWER
        assert str(node.status.last_role_change) == "disk full"
        await trio.sleep(3)
        assert node.status.role is Role.FOLLOWER
        with pytest.raises(NotLeader):
            await node.propose(b"refused")
        storage.disk_full = False
        await node.wait(leads)
        await node.propose(b"after")
    commands = [data for _, data in machine.commands]
    assert commands[0] == b"before"
    assert commands[-1] == b"after"
    assert b"refused" not in commands


async def test_a_leader_with_a_full_disk_lets_another_lead(autojump_clock: MockClock) -> None:
    storages: dict[str, FaultyStorage] = {}

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage()))

    async with open_cluster(3, storage=storage_of) as cluster:
        old, term = await cluster.check_single_leader()
        storages[old].disk_full = True
        proposal = cluster.nodes[old].submit(b"perhaps")
        with pytest.raises(OutcomeUnknown):
            await proposal.result()
        new, new_term = await cluster.check_single_leader()
        assert new != old
        assert new_term > term
        await cluster.propose(b"two are a majority")
        storages[old].disk_full = False
        await cluster.propose(b"after")
        assert (await cluster.check_committed(b"after"))[0] == 3


async def test_killing_waits_for_the_write_that_has_begun() -> None:
    """Half a write is nobody's friend: the node is gone when the disk is done with it."""
    storage = FaultyStorage(MemoryStorage(), blocking=True)
    async with open_single(storage=storage) as node:
        await node.wait(leads)
        await node.propose(b"before")
        with storage.held():
            node.submit(b"on its way to the disk")
            await trio.to_thread.run_sync(storage.wait_until_held, 5.0)
            node.kill()
            await trio.testing.wait_all_tasks_blocked()
            assert "raft[0].storage" in raft_tasks()
    recovered = storage.open(cluster_id="trioraft", node_id="0")
    assert recovered is not None
    assert recovered.entries[-1].data == b"on its way to the disk"
    storage.close()


async def test_a_slow_disk_does_not_starve_heartbeats() -> None:
    """A leader each of whose writes takes several heartbeats is heard all the same; nobody
    campaigns against it, and it does not give up as long as each takes less than a timeout."""
    storages: dict[str, FaultyStorage] = {}

    def storage_of(node_id: str) -> FaultyStorage:
        return storages.setdefault(node_id, FaultyStorage(MemoryStorage(), blocking=True))

    timing = Timing(election_timeout_s=(0.2, 0.4), heartbeat_interval_s=0.03)
    async with open_cluster(3, storage=storage_of, timing=timing) as cluster:
        leader, term = await cluster.check_single_leader()
        await cluster.propose(b"before")
        storages[leader].delay_s = 0.1
        with trio.move_on_after(1.0):  # several election timeouts
            while True:
                await cluster.nodes[leader].propose(b"slow here, quick elsewhere")
        statuses = [node.status for node in cluster.nodes.values()]
        assert [status.term for status in statuses] == [term] * 3
        assert cluster.nodes[leader].status.role is Role.LEADER


# -- snapshots -----------------------------------------------------------------------------


async def test_s4_a_slow_transfer_is_not_overtaken_for_ever(autojump_clock: MockClock) -> None:
    """Commands keep coming, enough for many snapshots, while a follower gets one in many small
    chunks: it arrives."""
    limits = Limits(snapshot_entries=20, snapshot_tail_entries=5, snapshot_chunk_bytes=16)
    async with open_cluster(3, limits=limits, seed=1) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        for number in range(100):
            await cluster.propose(b"%d" % number)
        cluster.reconnect(away)
        async with trio.open_nursery() as nursery:

            async def keep_proposing() -> None:
                for number in range(100, 10_000):
                    await cluster.propose(b"%d" % number)

            nursery.start_soon(keep_proposing)
            behind = cluster.nodes[away]
            with trio.fail_after(60):
                await behind.wait(lambda status: status.applied_index > 90)
            nursery.cancel_scope.cancel()
        await commit(cluster, b"last")
        assert (await cluster.check_committed(b"last"))[0] == 3


async def test_v5_a_snapshot_lowers_no_term(autojump_clock: MockClock) -> None:
    limits = Limits(snapshot_entries=10, snapshot_tail_entries=2, snapshot_chunk_bytes=64)
    async with open_cluster(3, limits=limits, seed=2) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        for number in range(40):
            await cluster.propose(b"%d" % number)
        await cluster.crash(leader)  # the snapshot's entries are of a term before the next one
        await cluster.restart(leader)
        await cluster.check_single_leader()
        cluster.reconnect(away)
        await cluster.propose(b"last")
        await cluster.check_committed(b"last")
        term = cluster.nodes[away].status.term
        await cluster.crash(away)
        await cluster.restart(away)
        assert cluster.nodes[away].status.term >= term


# -- commands and callers ------------------------------------------------------------------


class Counting:
    """Counts how often each command was applied; one of them always fails."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def apply(self, index: int, data: bytes) -> int:
        self.seen.append(data)
        if data == b"bad":
            raise ValueError("this command is bad")
        return len(self.seen)

    def snapshot(self) -> bytes:
        return b" ".join(self.seen)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.seen = b"".join(chunks).split()


async def test_s6_a_command_that_raises_is_applied_once(autojump_clock: MockClock) -> None:
    async with open_cluster(3, machine=Counting) as cluster:
        leader, _ = await cluster.check_single_leader()
        with pytest.raises(ValueError, match="this command is bad"):
            await cluster.nodes[leader].propose(b"bad")
        await cluster.nodes[leader].propose(b"good")
        await cluster.wait(
            lambda: all(machine.seen == [b"bad", b"good"] for machine in cluster.machines.values()),
            "each command once, on every node",
        )
        await trio.sleep(1)
        assert cluster.machines[leader].seen == [b"bad", b"good"]


async def test_x2_a_full_house_of_callers_holds_nothing_that_another_needs(
    autojump_clock: MockClock,
) -> None:
    """Far more callers than there is room for, some of them cancelled while they wait: everyone
    else gets through, and the room is given back."""
    limits = Limits(proposals_bytes_max=64)
    async with open_cluster(3, limits=limits) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        done: list[int] = []

        async def caller(number: int) -> None:
            with trio.move_on_after(0.004 if number % 3 == 0 else 60):
                await node.propose(b"%032d" % number)
                done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(caller, number)
        assert {number for number in range(60) if number % 3} <= set(done)
        assert await node.propose(b"%064d" % 0)


class Clocking(Counting):
    """Notes the turn of the scheduler in which each command is applied."""

    turn = 0

    def __init__(self) -> None:
        super().__init__()
        self.turns: Counter[int] = Counter()

    def apply(self, index: int, data: bytes) -> int:
        self.turns[Clocking.turn] += 1
        return super().apply(index, data)


async def test_a_long_commit_is_applied_in_slices(autojump_clock: MockClock) -> None:
    """A slow state machine must not keep timers and heartbeats waiting for a whole commit."""
    machine = Clocking()
    async with open_single(machine=machine) as node, trio.open_nursery() as nursery:

        async def count_turns() -> None:
            while True:
                Clocking.turn += 1
                await trio.lowlevel.checkpoint()

        await node.wait(leads)
        proposals = [node.submit(b"%d" % number) for number in range(5 * SLICE_ENTRIES)]
        nursery.start_soon(count_turns)
        await proposals[-1].result()
        nursery.cancel_scope.cancel()
    assert machine.turns.total() == 5 * SLICE_ENTRIES
    # Within a turn tasks run in any order, so two slices may see the same count.
    assert max(machine.turns.values()) <= 2 * SLICE_ENTRIES


def test_disk_full_is_a_storage_error() -> None:
    assert issubclass(DiskFull, StorageError)
