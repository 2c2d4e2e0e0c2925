"""The scenarios of members and leaders that change on purpose: in virtual time with a few seeds and
under stress, and over TCP with SQLite in real time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.many_seeds import MODES, Mode
from tests.scenarios.membership import SCENARIOS
from trioraft import NotMember, Timing
from trioraft.testing.cluster import Cluster, open_cluster

SEEDS = range(2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_in_virtual_time(name: str, mode: Mode, seed: int, autojump_clock: MockClock) -> None:
    await SCENARIOS[name](partial(open_cluster, seed=seed, **mode.options))


def patient(size: int, *, timing: Timing | None = None) -> AbstractAsyncContextManager[Cluster]:
    """In real time these stories allow no election that they do not ask for: a machine that is busy
    with something else for 150 ms must not cause one."""
    timing = attrs.evolve(timing or Timing(), election_timeout_s=(0.4, 0.8))
    return open_cluster(size, timing=timing, network="tcp", storage="sqlite")


@pytest.mark.parametrize("name", SCENARIOS)
async def test_over_tcp_and_sqlite(name: str) -> None:
    await SCENARIOS[name](patient)


async def test_whoever_reads_at_a_node_that_was_removed_is_told_so(
    autojump_clock: MockClock,
) -> None:
    """It was away meanwhile, and waits for a leader that will never speak to it (hazard P5)."""
    async with open_cluster(3, seed=1) as cluster:
        await cluster.check_single_leader()
        address = await cluster.join("3")
        leader, _ = await cluster.check_single_leader()
        await cluster.nodes[leader].add_learner("3", address)
        await cluster.nodes["3"].wait(lambda status: "3" in status.configuration.learners)
        cluster.disconnect("3")
        await cluster.nodes[leader].remove("3")
        learner = cluster.nodes["3"]
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(
                    NotMember, match=r"node '3' was removed .* ask one of the members"
                ):
                    await learner.read_barrier()

            nursery.start_soon(read)
            await trio.sleep(2.0)
            cluster.reconnect("3")
        assert learner.status.is_removed
        with pytest.raises(NotMember):
            await learner.read_barrier()
