"""Upgrading a cluster member by member, and back, while it is used (docs/upgrading.md).

A member of an earlier release is one that is held to what format 1 says and reads
(`open_node(features=())`); processes of the real one: `python -m tests.rolling_upgrade`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import attrs
import pytest
import trio
import trio.testing

from trioraft import (
    ConfigError,
    Limits,
    LocalClient,
    MemoryNetwork,
    MemoryStorage,
    Node,
    RaftError,
    SessionMachine,
    Timing,
    open_node,
)
from trioraft.core.features import ENTRY_CHECKSUMS, FEATURES
from trioraft.kv import KvClient, KvMachine
from trioraft.net.events import ConnectionRejected

IDS = ("0", "1", "2")
EARLIER: tuple[str, ...] = ()
THIS = tuple(FEATURES)
CALLERS = 4
PATIENCE_S = 30.0


@final
@attrs.define(eq=False)
class Member:
    """One member over all its lives, of whatever release."""

    node_id: str
    network: MemoryNetwork
    voters: tuple[str, ...] = IDS
    storage: MemoryStorage = attrs.field(factory=MemoryStorage)
    node: Node | None = None
    kv: KvClient | None = None
    lives: int = 0
    gone: trio.Event = attrs.field(factory=trio.Event)

    @asynccontextmanager
    async def running(self, features: tuple[str, ...]) -> AsyncIterator[Node]:
        self.lives += 1
        machine = SessionMachine(KvMachine())
        async with open_node(
            self.node_id,
            voters=self.voters,
            machine=machine,
            storage=self.storage,
            transport=self.network.transport(self.node_id),
            timing=Timing(),
            limits=Limits(snapshot_entries=200, snapshot_tail_entries=20),
            rng=random.Random(f"{self.node_id}/{self.lives}"),
            features=features,
        ) as node:
            self.node = node
            self.kv = KvClient(LocalClient(node, machine, timeout_s=PATIENCE_S))
            try:
                yield node
            finally:
                self.node = self.kv = None

    async def run(
        self,
        features: tuple[str, ...],
        *,
        task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self.gone = trio.Event()
        with trio.CancelScope() as scope:
            async with self.running(features):
                task_status.started(scope)
                await trio.sleep_forever()
        self.gone.set()


@final
class Rolling:
    """A cluster whose members are restarted one after the other, and callers that go on."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.network = MemoryNetwork(random.Random(1))
        self.members = {node_id: Member(node_id, self.network) for node_id in IDS}
        self.nursery = nursery
        self.scopes: dict[str, trio.CancelScope] = {}
        self.made: list[bytes] = []
        self.ended = self.asked_again = 0
        self.over = [trio.Event() for _ in range(CALLERS)]
        self.is_over = False

    async def start(self, node_id: str, features: tuple[str, ...]) -> None:
        self.scopes[node_id] = await self.nursery.start(self.members[node_id].run, features)

    async def stop(self, node_id: str) -> None:
        self.scopes[node_id].cancel()
        await self.members[node_id].gone.wait()

    async def restart(self, node_id: str, features: tuple[str, ...]) -> None:
        """A rolling upgrade's one step: stop, start as another release, wait until it follows."""
        await self.stop(node_id)
        await self.start(node_id, features)
        node = self.members[node_id].node
        assert node is not None
        reached = max(m.node.status.commit_index for m in self.members.values() if m.node)
        with trio.fail_after(PATIENCE_S):
            await node.wait(lambda status: status.applied_index >= reached)

    async def roll(self, features: tuple[str, ...]) -> None:
        for node_id in IDS:
            await self.restart(node_id, features)
            await trio.sleep(0.3)  # some calls in this mixture

    async def leader(self) -> Node:
        """Whoever leads, once those that run agree."""
        with trio.fail_after(PATIENCE_S):
            while True:
                nodes = [member.node for member in self.members.values() if member.node]
                status = await nodes[0].wait(lambda status: status.leader_id is not None)
                leader = self.members[status.leader_id or ""].node
                if leader is not None:
                    with trio.move_on_after(1):
                        await leader.wait(lambda status: status.leader_id == status.node_id)
                        return leader

    async def call(self, caller: int) -> None:
        """Call after call, by whichever member runs; what a member that leaves did not answer is
        asked of another. Every call ends well, or the test fails."""
        while not self.is_over:
            number = len(self.made)
            self.made.append(b"%d/%d" % (caller, number))
            with trio.fail_after(PATIENCE_S):
                while not await self.put(self.made[number], number):
                    self.asked_again += 1
            self.ended += 1
            await trio.sleep(0.01)
        self.over[caller].set()

    async def put(self, key: bytes, number: int) -> bool:
        there = [member for member in self.members.values() if member.kv is not None]
        member = there[number % len(there)]
        kv = member.kv
        assert kv is not None
        try:
            await kv.put(key, b"made")
        except RaftError:
            if member.kv is kv:
                raise  # it is there, and has failed all the same
            return False
        return True

    async def check_nothing_is_lost(self, *, calls_min: int = 5) -> None:
        self.is_over = True
        with trio.fail_after(PATIENCE_S):
            for each in self.over:
                await each.wait()
        kv = self.members["0"].kv
        assert kv is not None
        assert self.ended > calls_min
        for key in self.made:
            assert await kv.get(key) == b"made"


@asynccontextmanager
async def used_cluster() -> AsyncIterator[Rolling]:
    async with trio.open_nursery() as nursery:
        rolling = Rolling(nursery)
        for node_id in IDS:
            await rolling.start(node_id, EARLIER)
        await rolling.leader()
        for caller in range(CALLERS):
            nursery.start_soon(rolling.call, caller)
        yield rolling
        nursery.cancel_scope.cancel()


async def test_a_cluster_is_upgraded_and_goes_back_and_forward_under_load(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """No call is lost in any mixture; nothing new is written before it is switched on."""
    async with used_cluster() as rolling:
        for features in (THIS, EARLIER, THIS):
            await rolling.roll(features)
        leader = await rolling.leader()
        for member in rolling.members.values():
            assert member.node is not None
            assert member.node.status.configuration.features == ()
        index = await leader.switch_on(THIS)
        for member in rolling.members.values():
            assert member.node is not None
            status = await member.node.wait(lambda s: s.applied_index >= index + 50)
            assert status.configuration.features == THIS
            assert status.can == dict.fromkeys(IDS, THIS)
        await rolling.roll(THIS)
        await rolling.check_nothing_is_lost(calls_min=500)


async def test_as_long_as_a_member_is_of_an_earlier_release_nothing_is_switched_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with used_cluster() as rolling:
        await rolling.restart("0", THIS)
        await rolling.restart("1", THIS)
        leader = await rolling.leader()
        if leader.id == "2":
            await leader.transfer_leadership("0")
            leader = await rolling.leader()
        with pytest.raises(ConfigError, match=r"'2' cannot do entry-checksums.*Nothing was"):
            await leader.switch_on([ENTRY_CHECKSUMS])
        await rolling.restart("2", THIS)
        leader = await rolling.leader()
        await leader.wait(lambda status: status.can.get("2") == THIS or leader.id == "2")
        await leader.switch_on([ENTRY_CHECKSUMS])
        await rolling.check_nothing_is_lost()


async def test_rolling_back_after_that_is_refused_and_the_rest_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with used_cluster() as rolling:
        await rolling.roll(THIS)
        leader = await rolling.leader()
        await leader.switch_on(THIS)
        await trio.sleep(1)
        await rolling.stop("0")
        with pytest.raises(ConfigError, match=r"has switched on entry-checksums.*no way back"):
            async with rolling.members["0"].running(EARLIER):
                pass
        await rolling.start("0", THIS)
        await rolling.check_nothing_is_lost()


async def test_a_node_of_an_earlier_release_is_told_why_it_does_not_join(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with used_cluster() as rolling:
        await rolling.roll(THIS)
        leader = await rolling.leader()
        await leader.switch_on(THIS)
        joining = Member("9", rolling.network, ())
        async with leader.events() as news, joining.running(EARLIER) as node:
            await leader.add_learner("9")
            with trio.fail_after(PATIENCE_S):
                async for event in news:
                    if isinstance(event, ConnectionRejected) and event.peer == "9":
                        reason = event.reason
                        break
            assert "switched on entry-checksums" in reason
            assert "which node '9' cannot do" in reason
            assert node.status.last_index == 0
        async with joining.running(THIS) as node:  # with a release that can it goes on
            with trio.fail_after(PATIENCE_S):
                status = await node.wait(lambda s: "9" in s.configuration.learners)
            assert status.configuration.features == THIS
        await rolling.check_nothing_is_lost()
