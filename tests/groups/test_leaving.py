"""A group that is left while it wakes or falls asleep: it ends soon, and nothing of it is left."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.groups.support import Counting, all_asleep
from trioraft.core.errors import DiskFull, NodeDead
from trioraft.core.messages import GroupNote
from trioraft.core.types import NodeId, Recovered
from trioraft.groups import notes
from trioraft.groups.group import Group, GroupPhase
from trioraft.groups.host import Groups, Host, open_group, open_groups
from trioraft.storage.memory import MemoryStorage
from trioraft.transport.memory import MemoryNetwork


class Disk:
    """A storage that is full for as long as it is told so, and may wait before it closes."""

    blocking = False
    is_volatile = True
    notices: Sequence[str] = ()

    def __init__(self) -> None:
        self.is_full = False
        self._disk = MemoryStorage()

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        return self._disk.open(cluster_id=cluster_id, node_id=node_id)

    def append(self, *arguments: Any) -> None:
        if self.is_full:
            raise DiskFull("no room")
        self._disk.append(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)


class Disks:
    """The same disk for each group: there is one."""

    blocking = False
    is_volatile = True

    def __init__(self) -> None:
        self.disk = Disk()

    def open(self, *, cluster_id: str, node_id: NodeId) -> None:
        pass

    def storage_of(self, group: str) -> Disk:
        return self.disk

    def close(self) -> None:
        pass


def opened(disks: Disks) -> Any:
    transport = MemoryNetwork(random.Random(1)).transport("a")
    return open_groups("a", storage=disks, transport=transport)


def x(groups: Groups) -> Any:
    return open_group(groups, "x", voters=("a",), machine=Counting())


def wake(groups: Groups) -> None:
    """As another process would."""
    groups._host.on_note("b", GroupNote("x", notes.WAKE))


async def falling(groups: Groups, group: Group) -> None:
    """Go on while its node ends."""
    await groups.wait(all_asleep)
    async with group.awake() as node:
        await node.wait(lambda status: status.leader_id == "a")
    await group.propose(b"1")
    group.fall_asleep()
    assert group.status.phase is GroupPhase.FALLING


async def test_one_that_falls_asleep_while_it_is_wanted_is_left(
    autojump_clock: MockClock,
) -> None:
    with trio.fail_after(60):
        async with opened(Disks()) as groups:
            async with x(groups) as group:
                await falling(groups, group)
                wake(groups)
                before_s = trio.current_time()
            assert trio.current_time() - before_s < 1
            assert group.status.phase is GroupPhase.OVER
            assert groups.expected_tasks() == {
                f"groups[a]{role}"
                for role in ("", ".transport", ".sender", ".pulse", ".waker", ".watch")
            }


async def test_nothing_wakes_one_that_is_being_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of its node and the end of `open_group` there is a turn of the loop."""
    plain = Host.on_asleep

    def then_wakes(host: Host, group: Group) -> None:
        plain(host, group)
        host.on_note("b", GroupNote("x", notes.WAKE))

    with trio.fail_after(60):
        async with opened(Disks()) as groups:
            async with x(groups) as group:
                await falling(groups, group)
                monkeypatch.setattr(Host, "on_asleep", then_wakes)
            await trio.testing.wait_all_tasks_blocked()
            assert group.runner is None
            with pytest.raises(NodeDead):
                await group.propose(b"2")


async def test_one_that_cannot_wake_can_be_left(autojump_clock: MockClock) -> None:
    disks = Disks()
    with trio.fail_after(60):
        async with opened(disks) as groups:
            async with x(groups) as group:
                await groups.wait(all_asleep)
                disks.disk.is_full = True
                with trio.move_on_after(10):
                    await group.propose(b"1")
                assert group.status.phase is GroupPhase.WAKING
            with pytest.raises(NodeDead):
                await group.propose(b"1")


async def test_an_opening_that_waits_for_room_can_be_cancelled(autojump_clock: MockClock) -> None:
    disks = Disks()
    disks.disk.is_full = True
    with trio.fail_after(60):
        async with opened(disks) as groups:
            with trio.move_on_after(10) as patience:
                async with x(groups):
                    pass
            assert patience.cancelled_caught
            assert len(groups) == 0
            disks.disk.is_full = False
            async with x(groups) as group:
                assert await group.propose(b"1") == 1


async def test_who_waits_hears_that_a_group_was_left(autojump_clock: MockClock) -> None:
    disks = Disks()
    async with opened(disks) as groups, trio.open_nursery() as nursery:
        left = trio.Event()

        async def waits() -> None:
            with trio.fail_after(60):
                await groups.wait(lambda groups: len(groups) == 0)
            left.set()

        async with x(groups) as group:
            await group.propose(b"1")
            nursery.start_soon(waits)
            await trio.testing.wait_all_tasks_blocked()
        await left.wait()
