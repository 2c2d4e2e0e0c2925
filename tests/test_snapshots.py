"""Snapshots of whole nodes: taken, sent, restored, and started from, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.scenarios.replication import commit
from tests.support import open_single
from trioraft import Limits, MemoryStorage, NodeDead, Role, Status
from trioraft.core.events import SnapshotInstalled, SnapshotSaved
from trioraft.testing.cluster import Cluster, CommandLog, open_cluster

SMALL = Limits(
    snapshot_entries=20,
    snapshot_tail_entries=5,
    snapshot_chunk_bytes=64,
)
"""Small enough that a few dozen commands make a snapshot, and it takes several chunks."""


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


async def fill(cluster: Cluster, count: int, prefix: str = "") -> None:
    for number in range(count):
        await commit(cluster, f"{prefix}{number}".encode())


def base_of(cluster: Cluster, node_id: str) -> int:
    core = cluster.nodes[node_id]._runner.raft
    assert core is not None
    return core.log.base_index


async def test_the_log_is_cut_at_the_previous_snapshot(autojump_clock: MockClock) -> None:
    async with open_single(limits=SMALL) as node, node.events() as stream:
        await node.wait(leads)
        for number in range(60):
            await node.propose(b"%d" % number)
        previous_index = 0
        async for event in stream:
            if isinstance(event, SnapshotSaved):
                saved = event
                if saved.base_index > 0:
                    break
                previous_index = saved.index
        assert saved.base_index == previous_index
        assert saved.index - saved.base_index >= SMALL.snapshot_tail_entries


async def test_a_log_of_large_commands_is_cut_by_bytes(autojump_clock: MockClock) -> None:
    """The default tail of 10,000 entries is no bound at all where one command has a megabyte."""
    limits = Limits(snapshot_bytes=2_000, snapshot_tail_bytes=1_000)
    async with open_cluster(3, limits=limits) as cluster:
        for number in range(100):
            await commit(cluster, b"%d" % number + b"x" * 500)
        for node in cluster.nodes.values():
            core = node._runner.raft
            assert core is not None
            assert core.log.held_bytes < 3 * (2_000 + 1_000)


async def test_a_restart_goes_on_from_snapshot_and_log(autojump_clock: MockClock) -> None:
    storage = MemoryStorage()
    async with open_single(storage=storage, limits=SMALL) as node:
        await node.wait(leads)
        for number in range(50):
            await node.propose(b"%d" % number)
        await node.take_snapshot()
        await node.propose(b"after it")
    machine = CommandLog()
    async with open_single(storage=storage, limits=SMALL, machine=machine) as node:
        await node.wait(leads)
        await node.propose(b"last")
    assert [data for _, data in machine.commands] == [
        *(b"%d" % number for number in range(50)),
        b"after it",
        b"last",
    ]


@pytest.mark.parametrize("unreliable", [False, True], ids=["calm", "unreliable"])
@pytest.mark.parametrize("seed", range(5))
async def test_a_follower_that_lacks_what_was_cut_gets_the_snapshot(
    seed: int, unreliable: bool, autojump_clock: MockClock
) -> None:
    async with open_cluster(3, limits=SMALL, seed=seed, unreliable=unreliable) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        await fill(cluster, 60)
        assert base_of(cluster, leader) > cluster.nodes[away].status.last_index
        async with cluster.nodes[away].events() as stream:
            cluster.reconnect(away)
            with trio.fail_after(20):
                async for event in stream:
                    if isinstance(event, SnapshotInstalled):
                        installed = event
                        break
        assert installed.size_bytes > 3 * SMALL.snapshot_chunk_bytes
        await commit(cluster, b"last")
        assert (await cluster.check_committed(b"last"))[0] == 3
        assert cluster.machines[away].commands == cluster.machines[leader].commands


async def test_a_transfer_goes_on_where_it_was_interrupted(autojump_clock: MockClock) -> None:
    """The leader changes half way; whoever leads next sends its own snapshot, and it ends
    (hazard S4)."""
    async with open_cluster(3, limits=SMALL, seed=3) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        await fill(cluster, 80)
        cluster.reconnect(away)
        await trio.sleep(0.03)
        await cluster.crash(leader)
        await cluster.propose(b"meanwhile")
        await cluster.restart(leader)
        await cluster.propose(b"last")
        assert (await cluster.check_committed(b"last"))[0] == 3
        cluster.check_logs_agree()


async def test_a_follower_restarted_in_the_middle_of_a_transfer(autojump_clock: MockClock) -> None:
    async with open_cluster(3, limits=SMALL, seed=4) as cluster:
        leader, _ = await cluster.check_single_leader()
        away = next(node_id for node_id in cluster.ids if node_id != leader)
        cluster.disconnect(away)
        await fill(cluster, 80)
        cluster.reconnect(away)
        for _ in range(3):
            await trio.sleep(0.02)
            await cluster.crash(away)
            await cluster.restart(away)
        await cluster.propose(b"last")
        assert (await cluster.check_committed(b"last"))[0] == 3


async def test_all_restarted_after_snapshots(autojump_clock: MockClock) -> None:
    async with open_cluster(3, limits=SMALL, seed=5) as cluster:
        await fill(cluster, 70)
        for node_id in cluster.ids:
            await cluster.crash(node_id)
        for node_id in cluster.ids:
            await cluster.restart(node_id)
        await cluster.propose(b"last")
        await cluster.check_committed(b"last")
        for machine in cluster.machines.values():
            assert len(machine.commands) == 71


async def test_take_snapshot_says_its_index(autojump_clock: MockClock) -> None:
    async with open_single() as node:
        await node.wait(leads)
        await node.propose(b"x")
        index = await node.take_snapshot()
        assert index == node.status.applied_index
        assert await node.take_snapshot() == index
        node.kill()
        with pytest.raises(NodeDead):
            await node.take_snapshot()


class Streaming:
    """Hands its state out piece by piece, of a copy that later commands do not change."""

    def __init__(self) -> None:
        self.total = 0
        self.pieces_out = 0

    def apply(self, index: int, data: bytes) -> int:
        self.total += int(data)
        return self.total

    def snapshot(self) -> Iterator[bytes]:
        for digit in str(self.total):
            self.pieces_out += 1
            yield digit.encode()

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.total = int(b"".join(chunks))


async def test_a_snapshot_may_come_in_pieces(autojump_clock: MockClock) -> None:
    storage = MemoryStorage()
    machine: Any = Streaming()
    async with open_single(storage=storage, machine=machine) as node:
        await node.wait(leads)
        await node.propose(b"12345")
        await node.take_snapshot()
        assert machine.pieces_out == 5
    async with open_single(storage=storage, machine=Streaming()) as node:
        await node.wait(leads)
        assert await node.propose(b"1") == 12346


class Bulky:
    """A state of which each piece takes its time, and notes how often others had their turn."""

    def __init__(self) -> None:
        self.turns = 0
        self.turns_at: list[int] = []

    def apply(self, index: int, data: bytes) -> None:
        pass

    def snapshot(self) -> Iterator[bytes]:
        for _ in range(64):
            self.turns_at.append(self.turns)
            yield bytes(16 * 1024)

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass


async def test_a_storage_in_memory_lets_others_have_their_turn_too(
    autojump_clock: MockClock,
) -> None:
    """It is called in the loop: encoding a large state there in one go would keep the heartbeats
    waiting."""
    machine: Any = Bulky()

    async def take_turns() -> None:
        while True:
            machine.turns += 1
            await trio.lowlevel.checkpoint()

    async with open_single(machine=machine) as node, trio.open_nursery() as nursery:
        await node.wait(leads)
        await node.propose(b"x")
        nursery.start_soon(take_turns)
        await node.take_snapshot()
        nursery.cancel_scope.cancel()
    most = max(machine.turns_at.count(turn) for turn in set(machine.turns_at))
    assert most <= 10, "twice 64 KiB at most: who of two tasks goes first in a pass, Trio draws"


class Forgetful:
    def apply(self, index: int, data: bytes) -> None:
        pass

    def restore(self, chunks: Iterable[bytes]) -> None:
        pass

    def snapshot(self) -> bytes:
        raise RuntimeError("this state machine cannot be saved")


async def test_a_state_machine_that_cannot_be_saved_ends_the_node(
    autojump_clock: MockClock,
) -> None:
    async def use_it() -> None:
        async with open_single(machine=Forgetful()) as node:
            await node.wait(leads)
            await node.propose(b"x")
            await node.take_snapshot()

    with pytest.raises(RuntimeError, match="cannot be saved"):
        await use_it()
