"""LeaderLatch: work for the leader alone, which ends, visibly, when its leadership does."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trioraft import Node, NodeDead
from trioraft.machines.replicated import LeaderLatch, LeadershipLost, run_while_leader
from trioraft.testing.cluster import open_cluster


async def test_the_job_runs_on_the_leader_only_and_follows_it(autojump_clock: MockClock) -> None:
    running: set[str] = set()
    history: list[tuple[str, int]] = []
    async with open_cluster(3, seed=2) as cluster, trio.open_nursery() as nursery:

        async def job(node: Node, term: int) -> None:
            running.add(node.id)
            history.append((node.id, term))
            try:
                await trio.sleep_forever()
            finally:
                running.discard(node.id)

        async def run(node: Node) -> None:
            with pytest.raises(NodeDead):
                await run_while_leader(node, lambda term: job(node, term))

        for node in cluster.nodes.values():
            nursery.start_soon(run, node)
        for _ in range(3):
            leader, _ = await cluster.check_single_leader()
            await trio.testing.wait_all_tasks_blocked()
            assert running == {leader}
            cluster.disconnect(leader)
            old = cluster.nodes[leader]
            await old.wait(lambda status: status.leader_id != status.node_id)
            await trio.testing.wait_all_tasks_blocked()
            assert leader not in running
            await cluster.check_single_leader()
            cluster.reconnect(leader)
        leader, term = await cluster.check_single_leader()
        await trio.testing.wait_all_tasks_blocked()
        assert history[-1] == (leader, term)
        assert [term for _, term in history] == sorted({term for _, term in history})
        for node_id in cluster.ids:
            cluster.nodes[node_id].kill()
    assert running == set()


async def test_a_body_sees_that_leadership_is_lost(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, term = await cluster.check_single_leader()
        node = cluster.nodes[leader]

        async def lead() -> None:
            async with LeaderLatch(node).lead() as led:
                assert led == term
                cluster.disconnect(leader)
                await trio.sleep_forever()

        with pytest.raises(LeadershipLost, match="cancelled") as caught:
            await lead()
        assert caught.value.term == term
        assert caught.value.leader_id != leader


async def test_death_is_a_loss_and_then_there_is_nothing_to_wait_for(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]

        async def lead() -> None:
            async with LeaderLatch(node).lead():
                node.kill()
                await trio.sleep_forever()

        with pytest.raises(LeadershipLost):
            await lead()
        with pytest.raises(NodeDead):
            await lead()


async def test_a_job_that_ends_or_fails_ends_it(autojump_clock: MockClock) -> None:
    async with open_cluster(3) as cluster:
        leader, term = await cluster.check_single_leader()
        node = cluster.nodes[leader]

        async def ends(term: int) -> str:
            await trio.lowlevel.checkpoint()
            return f"done in {term}"

        async def fails(term: int) -> None:
            raise KeyError(term)

        assert await run_while_leader(node, ends) == f"done in {term}"
        with pytest.raises(KeyError):
            await run_while_leader(node, fails)


async def test_it_starts_again_when_leadership_comes_back_and_the_cancelled_job_is_gone(
    autojump_clock: MockClock,
) -> None:
    events: list[str] = []
    async with open_cluster(3) as cluster, trio.open_nursery() as nursery:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        other = next(node_id for node_id in cluster.ids if node_id != leader)

        async def job(term: int) -> None:
            events.append("begins")
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)
                events.append("has cleaned up")

        nursery.start_soon(run_while_leader, node, job)
        await trio.testing.wait_all_tasks_blocked()
        await node.transfer_leadership(other)
        await cluster.nodes[other].transfer_leadership(leader)
        await cluster.check_single_leader()
        assert events == ["begins"]
        await trio.sleep(3)
        assert events == ["begins", "has cleaned up", "begins"]
        nursery.cancel_scope.cancel()
