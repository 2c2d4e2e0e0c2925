"""A voter that lost its disk is a voter again with an empty one: by a command, or by itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioraft import (
    ConfigError,
    ConfigurationConflict,
    MemoryNetwork,
    MemoryStorage,
    Node,
    NotLeader,
    OutcomeUnknown,
    Role,
    open_node,
)
from trioraft.core.events import Forming
from trioraft.core.raft import Raft
from trioraft.member.status import Status
from trioraft.testing import CommandLog

THREE = ("0", "1", "2")
PATIENCE_S = 30


@attrs.define
class Lives:
    """Nodes that can be killed, and opened again with the same disk or with an empty one."""

    network: MemoryNetwork
    nursery: trio.Nursery
    auto_replace: bool | None
    nodes: dict[str, Node] = attrs.field(factory=dict)
    machines: dict[str, CommandLog] = attrs.field(factory=dict)
    disks: dict[str, MemoryStorage] = attrs.field(factory=dict)
    gone: dict[str, trio.Event] = attrs.field(factory=dict)
    news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Whoever waits here is woken when the status of any node changes."""

    async def open(self, *ids: str, voters: tuple[str, ...] = THREE) -> None:
        for node_id in ids:
            self.disks.setdefault(node_id, MemoryStorage())
            await self.nursery.start(self._live, node_id, voters)

    async def _live(
        self, node_id: str, voters: tuple[str, ...], *, task_status: trio.TaskStatus[None]
    ) -> None:
        machine = self.machines[node_id] = CommandLog()
        gone = self.gone[node_id] = trio.Event()
        async with open_node(
            node_id,
            voters=voters,
            machine=machine,
            storage=self.disks[node_id],
            transport=self.network.transport(node_id),
            rng=random.Random(node_id),  # whoever repeats a test seeds a lost disk like a new one
            auto_replace=self.auto_replace,
        ) as node:
            self.nodes[node_id] = node
            task_status.started()
            with pytest.raises(Exception, match="Dead"):
                await node.wait(self._tell)
        gone.set()

    def _tell(self, _: Status) -> bool:
        """Never what is waited for: each change of a status is news."""
        self.news.unpark_all()
        return False

    async def kill(self, node_id: str) -> None:
        self.nodes[node_id].kill()
        await self.gone[node_id].wait()

    async def empty(self, node_id: str, voters: tuple[str, ...] = THREE) -> None:
        """Its process ends, its disk is lost, and it is started again."""
        await self.kill(node_id)
        del self.disks[node_id]
        await self.open(node_id, voters=voters)

    async def leader(self, has: Callable[[Status], object] = lambda _: True) -> Node:
        """Whoever leads, once that is so of its status too."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for node in self.nodes.values():
                    status = node.status
                    if status.role is Role.LEADER and status.commit_index and has(status):
                        return node
                await self.news.park()

    async def met(self, node_id: str) -> Node:
        """Whoever leads, once it knows which disk this node has now."""
        leader, disk = await self.leader(), the_disk(self.nodes[node_id])
        with trio.fail_after(PATIENCE_S):
            await leader.wait(lambda _: raft_of(leader).seen.get(node_id) == disk)
        return leader

    async def others(self) -> list[str]:
        leader = await self.leader()
        return [node_id for node_id in self.nodes if node_id != leader.id]

    async def replace(self, node_id: str) -> None:
        """Ask whoever leads, as often as somebody else does."""
        while True:
            with suppress(NotLeader, OutcomeUnknown):
                try:
                    await (await self.leader()).replace(node_id)
                except ConfigError as error:
                    if "nothing any more" not in str(error):
                        raise  # otherwise it went on by itself, and is through
                return
            await self.news.park()


@asynccontextmanager
async def three_nodes(*, auto_replace: bool | None = False) -> AsyncIterator[Lives]:
    async with trio.open_nursery() as nursery:
        lives = Lives(MemoryNetwork(random.Random(1)), nursery, auto_replace)
        await lives.open(*THREE)
        leader = await lives.leader()
        await leader.propose(b"before")
        yield lives
        for node in lives.nodes.values():
            node.kill()


async def holds_all(lives: Lives, node_id: str) -> None:
    leader = await lives.leader()
    await leader.propose(b"after")
    index = leader.status.last_index
    await lives.nodes[node_id].wait(lambda status: status.applied_index >= index)
    assert lives.machines[node_id].commands == lives.machines[leader.id].commands


def is_away(leader: Node, node_id: str) -> bool:
    """Whether the leader has heard nothing of this node for an election timeout."""
    leadership = raft_of(leader).leadership
    assert leadership is not None
    return not leadership.has_heard_lately(node_id, trio.current_time())


def is_bound(status: Status, lost: Node | int, node_id: str) -> bool:
    configuration = status.configuration
    return (
        node_id in configuration.voters
        and not configuration.outgoing
        and configuration.disk_of(node_id) != lost
    )


def the_disk(node: Node) -> int:
    return node.status.incarnation


def raft_of(node: Node) -> Raft:
    raft = node._runner.raft
    assert raft is not None
    return raft


@pytest.mark.parametrize("voters", [THREE, ()])
async def test_a_voter_with_an_empty_disk_is_a_voter_again(
    voters: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with three_nodes() as lives:
        lost, other = await lives.others()
        before = the_disk(lives.nodes[lost])
        await lives.empty(lost, voters)
        leader = await lives.met(lost)
        # Nothing is to happen: by itself, it would be a voter again within a second.
        await trio.sleep(2)
        assert leader.status.configuration.disk_of(lost) == before
        index = await leader.replace(lost)
        status = leader.status
        assert is_bound(status, before, lost)
        assert status.configuration_index == index <= status.commit_index
        assert status.configuration.disk_of(lost) == the_disk(lives.nodes[lost])
        await holds_all(lives, lost)
        await lives.kill(other)  # the new disk counts
        await holds_all(lives, lost)


@pytest.mark.parametrize(
    "at",
    [
        lambda configuration, lost: lost in configuration.outgoing,
        lambda configuration, lost: lost in configuration.learners,
        lambda configuration, lost: configuration.outgoing and lost in configuration.voters,
    ],
    ids=["losing its vote", "learner", "getting its vote"],
)
@pytest.mark.parametrize("again", [True, False], ids=["asked again", "by itself"])
async def test_a_leader_that_crashes_at_any_step_is_followed_by_one_that_goes_on(
    at: Any, again: bool, autojump_clock: MockClock
) -> None:
    async with three_nodes() as lives:
        lost, _ = await lives.others()
        before = the_disk(lives.nodes[lost])
        await lives.empty(lost)
        leader = await lives.met(lost)
        lives.nursery.start_soon(partial(lives.replace, lost))
        await leader.wait(lambda status: at(status.configuration, lost))
        await lives.kill(leader.id)
        await lives.open(leader.id)
        if again:
            await lives.replace(lost)
        await lives.leader(partial(is_bound, lost=before, node_id=lost))
        await holds_all(lives, lost)


async def test_whoever_stops_waiting_does_not_undo_it(autojump_clock: MockClock) -> None:
    async with three_nodes() as lives:
        lost, _ = await lives.others()
        before = the_disk(lives.nodes[lost])
        await lives.empty(lost)
        leader = await lives.met(lost)
        with trio.move_on_after(0.001):
            await leader.replace(lost)
        assert leader.status.configuration.returning == (lost,)
        with trio.fail_after(5):
            await leader.wait(lambda status: is_bound(status, before, lost))


async def test_two_that_ask_wait_for_the_same(autojump_clock: MockClock) -> None:
    async with three_nodes() as lives:
        lost, _ = await lives.others()
        await lives.empty(lost)
        leader = await lives.met(lost)
        found: list[int] = []

        async def ask() -> None:
            found.append(await leader.replace(lost))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert found[0] == found[1]


async def test_a_disk_that_is_lost_again_meanwhile_is_replaced_by_the_next(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes() as lives:
        lost, _ = await lives.others()
        await lives.empty(lost)
        leader = await lives.met(lost)
        lives.nursery.start_soon(partial(lives.replace, lost))
        await leader.wait(lambda status: lost in status.configuration.learners)
        await lives.kill(lost)
        with trio.fail_after(PATIENCE_S):
            await leader.wait(lambda status: status.change is None and is_away(leader, lost))
        with pytest.raises(ConfigError, match="no member"):
            await leader.remove("9")  # it is away, and keeps nobody from changing the members
        del lives.disks[lost]
        await lives.open(lost)
        await leader.wait(
            lambda status: (
                lost in status.configuration.voters
                and status.configuration.disk_of(lost) == the_disk(lives.nodes[lost])
            )
        )
        await holds_all(lives, lost)


async def test_what_cannot_be_replaced_is_refused_with_the_reason(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes() as lives:
        leader = await lives.leader()
        lost, other = await lives.others()
        with pytest.raises(NotLeader):
            await lives.nodes[lost].replace(other)
        with pytest.raises(ConfigError, match="no member"):
            await leader.replace("9")
        for node_id in (lost, leader.id):
            with pytest.raises(ConfigError, match="nothing to replace"):
                await leader.replace(node_id)
        await lives.open("3", voters=())
        await leader.add_learner("3")
        with pytest.raises(ConfigError, match="is a learner"):
            await leader.replace("3")
        await leader.change_voters([leader.id, lost])
        await lives.empty(lost)
        await lives.met(lost)
        with pytest.raises(ConfigError, match="use trioraft recover"):
            await leader.replace(lost)


async def test_another_change_that_is_under_way_comes_first(autojump_clock: MockClock) -> None:
    async with three_nodes() as lives:
        leader = await lives.leader()
        lost, _ = await lives.others()
        await lives.empty(lost)
        await lives.met(lost)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.change_voters, [*THREE, "7"])  # who never comes
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ConfigurationConflict):
                await leader.replace(lost)
            nursery.cancel_scope.cancel()


async def test_in_memory_a_node_that_is_opened_with_a_fresh_storage_needs_no_command(
    autojump_clock: MockClock,
) -> None:
    async with three_nodes(auto_replace=None) as lives:
        for lost in await lives.others():
            before = the_disk(lives.nodes[lost])
            await lives.empty(lost)
            leader = await lives.leader()
            with trio.fail_after(5):
                await leader.wait(partial(is_bound, lost=before, node_id=lost))
            await holds_all(lives, lost)
        leader = await lives.leader()
        before = the_disk(leader)
        await lives.empty(leader.id)
        with trio.fail_after(10):
            await lives.leader(partial(is_bound, lost=before, node_id=leader.id))
        await holds_all(lives, leader.id)


async def test_who_waits_while_a_cluster_forms_says_for_whom(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        lives = Lives(MemoryNetwork(random.Random(1)), nursery, False)
        await lives.open("0", "1")
        with trio.fail_after(PATIENCE_S):
            async with lives.nodes["0"].events() as stream:
                async for event in stream:  # once an election timeout has passed
                    if isinstance(event, Forming):
                        break
        status = lives.nodes["0"].status
        assert (status.waiting_for, status.uuid) == (("2",), None)
        reasons: Mapping[str, str] = status.problems
        assert "not heard of yet" in reasons["2"]
        with pytest.raises(NotLeader, match="the cluster is forming: waiting for 2"):
            await lives.nodes["0"].propose(b"x")
        await lives.open("2")
        leader = await lives.leader()
        assert leader.status.waiting_for == ()
        assert {node.status.uuid for node in lives.nodes.values()} == {leader.status.uuid}
        assert leader.status.configuration.disks == {
            node_id: the_disk(node) for node_id, node in lives.nodes.items()
        }
        for node in lives.nodes.values():
            node.kill()
