"""Nothing is left after kill() or leaving open_node: in every role, mid-election and mid-reconnect,
over real sockets (hazard X1). And a stalled process believes its input first (hazard L6)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tests.support import descriptors, open_single, raft_tasks
from trioraft import MemoryStorage, Role, StorageError, TcpTransport, Timing, open_node
from trioraft.core.events import RoleChanged
from trioraft.testing.cluster import Cluster, CommandLog, open_cluster

PASSES_MAX = 60
"""Scheduler passes within which everything of a killed node must be gone: nothing sleeps."""


async def gone_after_kill(cluster: Cluster, node_id: str) -> None:
    """Kill a node; wait, in scheduler passes, until no task of it is left; then close it."""
    cluster.nodes[node_id].kill()
    for _ in range(PASSES_MAX):
        if not any(name.startswith(f"raft[{node_id}]") for name in raft_tasks()):
            break
        await trio.lowlevel.checkpoint()
    left = [name for name in raft_tasks() if name.startswith(f"raft[{node_id}]")]
    assert left == []


async def make_follower(cluster: Cluster) -> str:
    leader, _ = await cluster.check_single_leader()
    return next(node_id for node_id in cluster.ids if node_id != leader)


async def make_leader(cluster: Cluster) -> str:
    return (await cluster.check_single_leader())[0]


async def make_pre_candidate(cluster: Cluster) -> str:
    node_id = await make_follower(cluster)
    cluster.disconnect(node_id)
    await cluster.nodes[node_id].wait(lambda status: status.role is Role.PRE_CANDIDATE)
    return node_id


async def make_reconnecting(cluster: Cluster) -> str:
    """A node whose peers are all down: its links are in backoff or refused."""
    leader, _ = await cluster.check_single_leader()
    for node_id in cluster.ids:
        if node_id != leader:
            await cluster.crash(node_id)
    await cluster.nodes[leader].wait(lambda status: status.role is Role.PRE_CANDIDATE)
    return leader


@pytest.mark.parametrize(
    "make", [make_follower, make_leader, make_pre_candidate, make_reconnecting]
)
async def test_kill_leaves_nothing_over_tcp(make: Callable[[Cluster], object]) -> None:
    """Hazard X1."""
    before, threads = descriptors(), set(threading.enumerate())
    async with open_cluster(3, network="tcp") as cluster:
        node_id = await make(cluster)  # type: ignore[misc] # an async function
        await gone_after_kill(cluster, node_id)
    assert raft_tasks() == []
    assert descriptors() == before
    assert set(threading.enumerate()) <= threads  # idle ones of other tests may go meanwhile


async def test_kill_mid_election_without_pre_vote() -> None:
    before, threads = descriptors(), set(threading.enumerate())
    async with open_cluster(3, network="tcp", timing=Timing(pre_vote=False)) as cluster:
        node_id = await make_follower(cluster)
        cluster.disconnect(node_id)
        await cluster.nodes[node_id].wait(lambda status: status.role is Role.CANDIDATE)
        await gone_after_kill(cluster, node_id)
    assert descriptors() == before
    assert set(threading.enumerate()) <= threads  # idle ones of other tests may go meanwhile


@pytest.mark.parametrize("steps", range(12))
async def test_leaving_at_any_step_of_the_start_leaves_nothing(steps: int) -> None:
    """Cancelled after so many scheduler passes, wherever the start is then."""
    before = descriptors()
    transport = TcpTransport("0", ("127.0.0.1", 0), {"1": ("127.0.0.1", 1)})
    async with trio.open_nursery() as nursery:

        async def live() -> None:
            async with open_single("0", ("0", "1"), transport=transport):
                await trio.sleep_forever()

        nursery.start_soon(live)
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert raft_tasks() == []
    assert descriptors() == before


async def test_an_error_is_not_lost_where_it_is_cancelled_from_outside(
    autojump_clock: MockClock,
) -> None:
    """Found by a case after trio #1457: the body's own error was gone, without a word."""

    async def body() -> None:
        with trio.CancelScope() as scope:
            async with open_single():
                scope.cancel()
                raise KeyError("of the body")

    with pytest.raises(KeyError, match="of the body"):
        await body()


async def test_a_disk_that_fails_is_not_lost_either(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = trio.CancelScope()

    def fail(*_: object) -> None:
        scope.cancel()
        raise StorageError("the disk is gone")

    async def body() -> None:
        with scope:
            async with open_single() as node:
                await node.wait(lambda status: status.leader_id is not None)
                monkeypatch.setattr(MemoryStorage, "append", fail)
                await node.propose(b"x")

    with pytest.raises(StorageError, match="gone"):
        await body()


async def test_a_cancellation_alone_stays_one(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        async with open_single():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_port_in_use_is_one_clear_error() -> None:
    first = TcpTransport("0", ("127.0.0.1", 0), {})
    address = first.bind()
    async with open_single(transport=first):
        with pytest.raises(OSError, match=str(address[1])):
            async with open_single(transport=TcpTransport("0", address, {})):
                pass
    assert raft_tasks() == []


async def test_a_stalled_process_reads_its_input_before_it_believes_its_timer() -> None:
    """The loop stands still for longer than the election timeout while heartbeats queue up in
    the sockets. The leader is healthy, so nobody may ask for votes when the loop goes on
    (hazard L6)."""
    quick, slow = Timing(), Timing(election_timeout_s=(0.4, 0.4))
    transports = {node_id: TcpTransport(node_id, ("127.0.0.1", 0), {}) for node_id in "012"}
    addresses = {node_id: transport.bind() for node_id, transport in transports.items()}
    for transport in transports.values():
        for peer, address in addresses.items():
            transport.set_peer(peer, address)
    done = threading.Event()

    async def others() -> None:
        async with (
            open_node(
                "1",
                voters=["0", "1", "2"],
                machine=CommandLog(),
                storage=MemoryStorage(),
                transport=transports["1"],
                timing=quick,
            ),
            open_node(
                "2",
                voters=["0", "1", "2"],
                machine=CommandLog(),
                storage=MemoryStorage(),
                transport=transports["2"],
                timing=quick,
            ),
        ):
            await trio.to_thread.run_sync(done.wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, trio.run, others)
        async with open_single(
            "0", ("0", "1", "2"), transport=transports["0"], timing=slow
        ) as node:
            await node.wait(lambda status: status.leader_id is not None)
            async with node.events() as stream:
                time.sleep(1.0)  # noqa: ASYNC251 - the stall is the subject
                for _ in range(100):
                    await trio.lowlevel.checkpoint()
                node.kill()
                roles = [event.role async for event in stream if isinstance(event, RoleChanged)]
        done.set()
    assert roles == [Role.DEAD]
