"""Callers that wait for members, leaders and reads while everything breaks.

Rules of this file: every wait has an end, and the end says the truth; after each story the cluster
takes a command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioraft.core.errors import (
    ConfigError,
    ConfigurationConflict,
    NodeDead,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    TransferFailed,
)
from trioraft.core.types import Role
from trioraft.node.administration import LEAVING_PATIENCE
from trioraft.node.node import Node
from trioraft.testing import open_cluster

CALLS: dict[str, Callable[[Node], Awaitable[object]]] = {
    "read": lambda node: node.read_barrier(),
    "propose": lambda node: node.propose(b"x"),
    "transfer": lambda node: node.transfer_leadership(timeout_s=5.0),
    "add": lambda node: node.add_learner("9"),
    "change": lambda node: node.change_voters(["0", "1", "2", "9"]),
    "remove": lambda node: node.remove("1"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_whoever_waits_is_told_when_the_node_dies(
    name: str, autojump_clock: MockClock
) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"before")
        node = cluster.nodes[leader]
        for other in set(cluster.ids) - {leader}:
            cluster.disconnect(other)
        ended: list[RaftError] = []

        async def call() -> None:
            with pytest.raises((NodeDead, OutcomeUnknown)) as caught:
                await CALLS[name](node)
            ended.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await wait_all_tasks_blocked()
            assert ended == []
            killed_s = trio.current_time()
            node.kill()
        assert trio.current_time() == killed_s
        assert len(ended) == 1


@pytest.mark.parametrize("name", CALLS)
async def test_whoever_waits_is_told_when_the_leadership_is_lost(
    name: str, autojump_clock: MockClock
) -> None:
    """But for who reads: that waits for the next leader."""
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.propose(b"before")
        node = cluster.nodes[leader]
        cluster.disconnect(leader)
        with trio.move_on_after(6.0) as scope:
            with pytest.raises((NotLeader, OutcomeUnknown, ConfigurationConflict, TransferFailed)):
                await CALLS[name](node)
        assert scope.cancelled_caught == (name == "read")
        cluster.reconnect(leader)
        await cluster.propose(b"after")
        await cluster.check_committed(b"after")


async def test_a_change_that_waits_for_a_node_that_never_comes_can_be_given_up(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(1) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        for _ in range(2):  # the second time it is a learner already
            with trio.move_on_after(3.0) as scope:
                await node.change_voters(["0", "9"])
            assert scope.cancelled_caught
            assert node.status.change is None
            assert node.status.configuration.voters == ("0",)
            await cluster.propose(b"still alive")
        await node.remove("9")
        assert node.status.configuration.members == ("0",)
        with pytest.raises(ConfigError, match="at least one"):
            await node.remove("0")


async def test_one_handing_over_at_a_time_and_commands_wait_for_it(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        node = cluster.nodes[leader]
        away = next(other for other in cluster.ids if other != leader)
        await cluster.propose(b"before")
        cluster.disconnect(away)
        outcomes: list[object] = []

        async def note(call: Callable[[], Awaitable[object]]) -> None:
            try:
                outcomes.append(await call())
            except RaftError as error:
                outcomes.append(type(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, partial(node.transfer_leadership, away, timeout_s=0.2))
            await wait_all_tasks_blocked()
            nursery.start_soon(note, node.transfer_leadership)
            nursery.start_soon(note, partial(node.remove, away))
            await wait_all_tasks_blocked()
            assert set(outcomes) == {TransferFailed, ConfigurationConflict}
            outcomes.clear()
            nursery.start_soon(note, partial(node.propose, b"waits"))
            await wait_all_tasks_blocked()
            assert outcomes == []
        assert TransferFailed in outcomes
        assert node.status.role is Role.LEADER
        cluster.reconnect(away)
        assert (await cluster.check_committed(b"waits"))[0] == 3


async def test_a_leader_that_nobody_can_follow_leaves_within_its_patience(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(3) as cluster:
        leader, _ = await cluster.check_single_leader()
        cluster.disconnect(leader)
        began_s = trio.current_time()
        await cluster.leave(leader)
        patience_s = LEAVING_PATIENCE * cluster.timing.election_timeout_s[1]
        assert trio.current_time() - began_s <= patience_s + 0.001


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
async def test_a_snapshot_and_what_follows_it_bring_the_configuration_back(
    storage: Literal["memory", "sqlite"],
) -> None:
    """In real time: the disk is part of it."""
    async with open_cluster(2, storage=storage) as cluster:
        leader, _ = await cluster.check_single_leader()
        await cluster.join("2")
        await cluster.join("3")
        await cluster.nodes[leader].change_voters(["0", "1", "2"])
        await cluster.propose(b"a")
        await cluster.nodes["2"].wait(lambda status: "2" in status.configuration.voters)
        await cluster.check_committed(b"a")
        for node_id in ("0", "1", "2"):
            await cluster.nodes[node_id].take_snapshot()
        leader, _ = await cluster.check_single_leader()
        await cluster.nodes[leader].add_learner("3")
        named = await cluster.nodes[leader].wait(lambda status: "3" in status.configuration.disks)
        await cluster.propose(b"b")
        await cluster.check_committed(b"b")
        for node_id in cluster.ids:
            await cluster.crash(node_id)
        for node_id in cluster.ids:
            await cluster.restart(node_id)
            status = cluster.nodes[node_id].status
            assert status.configuration.voters == ("0", "1", "2")
            assert (status.configuration.learners, status.configuration_index) == (
                ("3",),
                named.configuration_index,
            )
        await cluster.propose(b"after")
        _, after = await cluster.check_committed(b"after")
        await cluster.nodes["3"].wait(lambda status: status.applied_index >= after)
