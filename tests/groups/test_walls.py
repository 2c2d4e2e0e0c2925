"""What goes wrong in one group, or comes from another process, stays where it belongs."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.groups.support import IDS, Counting, all_asleep, open_processes, until_all_sleep
from trioraft.core.config import Timing
from trioraft.core.messages import GroupNote
from trioraft.groups import notes
from trioraft.groups.group import GroupPhase
from trioraft.groups.host import open_group, open_groups
from trioraft.storage.groups import MemoryGroupStorages
from trioraft.transport.memory import MemoryNetwork


class Unsure(Counting):
    """A machine that fails when it is asked what ends by itself, from some time on."""

    is_asked_in_vain = False

    def due_in_s(self, now_s: float) -> float | None:
        if self.is_asked_in_vain:
            raise LookupError("of this machine alone")
        return None

    def command_when_due(self, now_s: float) -> bytes:
        return b""


async def test_a_machine_that_fails_when_asked_ends_its_own_group_alone(
    autojump_clock: MockClock,
) -> None:
    network, machine = MemoryNetwork(random.Random(1)), Unsure()
    async with (
        open_groups("a", storage=MemoryGroupStorages(), transport=network.transport("a")) as groups,
        open_group(groups, "y", voters=("a",), machine=Counting()) as other,
    ):

        async def until_it_fails() -> None:
            async with open_group(groups, "x", voters=("a",), machine=machine) as group:
                await group.propose(b"1")
                machine.is_asked_in_vain = True
                await trio.sleep(60)

        with pytest.raises(LookupError):
            await until_it_fails()
        assert await other.propose(b"1") == 1


async def test_a_leader_whose_follower_is_awake_again_does_not_fall_asleep(
    autojump_clock: MockClock,
) -> None:
    async with open_processes(("x",), MemoryNetwork(random.Random(1))) as processes:
        await processes["a"].open["x"].forward(b"1")
        await until_all_sleep(processes.values())
        async with processes["a"].open["x"].awake() as node:
            status = await node.wait(lambda status: status.leader_id is not None)
        leader = processes[str(status.leader_id)]
        await leader.open["x"].read_barrier()
        host, group = leader.groups._host, leader.open["x"]
        first, second = (node for node in IDS if node != leader.node_id)
        with trio.fail_after(60):
            while group.awake_for() is not None:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        host._ask_to_sleep(group, trio.current_time())
        ask = group.asked_sleep
        host.on_note(first, GroupNote("x", notes.ASLEEP, ask.term, ask.last_index))
        host.on_note(first, GroupNote("x", notes.WAKE))
        host.on_note(second, GroupNote("x", notes.ASLEEP, ask.term, ask.last_index))
        assert group.phase is GroupPhase.AWAKE


async def test_a_lease_of_before_answers_nothing_after_a_sleep(autojump_clock: MockClock) -> None:
    """A leader that slept and woke alone has the clock of its lease, and nobody's promise."""
    timing = Timing(lease_clock_drift_max=0.01, fast_failover=False)
    network = MemoryNetwork(random.Random(1))
    async with open_processes(("x",), network, timing=timing, hibernate_after_s=0.05) as processes:
        await processes["a"].open["x"].forward(b"1")
        await until_all_sleep(processes.values())
        leader_id = processes["a"].open["x"].status.leader_id
        leader = processes[str(leader_id)]
        others = [processes[node] for node in IDS if node != leader_id]
        async with leader.open["x"].awake() as node:
            await node.wait(lambda status: status.leader_id == leader_id)
            await leader.open["x"].read_barrier(lease=True)
        with trio.fail_after(60):
            await leader.groups.wait(all_asleep)
        network.partition([leader.node_id], [other.node_id for other in others])
        answered = trio.Event()

        async def read() -> None:
            await leader.open["x"].read_barrier(lease=True)
            answered.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            assert await others[0].open["x"].forward(b"2") == 2
            await trio.sleep(5)  # for so long nothing may happen
            assert not answered.is_set()
            network.heal()
            with trio.fail_after(60):
                await answered.wait()
        assert leader.machines["x"].commands == [b"1", b"2"]
