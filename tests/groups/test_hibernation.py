"""A quiet group hibernates in all its processes, holds nothing meanwhile, and wakes by a call or a
message, with its state machine as it was."""

from __future__ import annotations

import random
from contextvars import ContextVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.groups.support import IDS, Counting, all_asleep, open_processes, until_all_sleep
from trioleaks import walk_tasks
from trioraft.core.errors import NodeDead
from trioraft.core.messages import GroupNote
from trioraft.core.types import Recovered, Role
from trioraft.groups import notes
from trioraft.groups.group import GroupPhase
from trioraft.groups.host import open_group, open_groups
from trioraft.storage.groups import MemoryGroupStorages
from trioraft.storage.memory import MemoryStorage
from trioraft.testing.leaks import check_roles
from trioraft.transport.memory import MemoryNetwork


def network() -> MemoryNetwork:
    return MemoryNetwork(random.Random(7))


def task_names() -> list[str]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return sorted(task.name for task in walk_tasks(root))


async def test_groups_elect_and_commit_side_by_side(autojump_clock: MockClock) -> None:
    async with open_processes(("x", "y"), network()) as processes:
        for name in ("x", "y"):
            results = [
                await processes[node].open[name].forward(f"{name} {node}".encode()) for node in IDS
            ]
            assert results == [1, 2, 3]
        for node in IDS:
            await processes[node].open["x"].read_barrier()
            assert processes[node].machines["x"].commands == [b"x a", b"x b", b"x c"]


async def test_a_quiet_group_hibernates_without_a_task(autojump_clock: MockClock) -> None:
    async with open_processes(("x",), network()) as processes:
        await processes["a"].open["x"].forward(b"1")
        assert any(name.startswith("raft[a/x]") for name in task_names())
        await until_all_sleep(processes.values())
        await trio.testing.wait_all_tasks_blocked()
        assert not [name for name in task_names() if name.startswith("raft[")]
        for process in processes.values():
            expected = process.groups.expected_tasks()
            own = {name for name in task_names() if name.startswith(f"groups[{process.node_id}]")}
            assert own == expected
            assert process.groups.awake == 0


async def test_the_tasks_of_those_awake_are_as_ever(autojump_clock: MockClock) -> None:
    async with open_processes(("x", "y"), network(), hibernate_after_s=None) as processes:
        await processes["a"].open["x"].forward(b"1")
        await processes["a"].open["y"].forward(b"1")
        await trio.testing.wait_all_tasks_blocked()
        expected = {}
        for process in processes.values():
            for name in ("x", "y"):
                async with process.open[name].awake() as node:
                    expected[f"raft[{process.node_id}/{name}]"] = node.expected_tasks()
                    assert node.expected_tasks() <= process.groups.expected_tasks()
        check_roles(expected=expected)


@pytest.mark.parametrize("caller", IDS)
async def test_a_call_wakes_it_with_its_machine_as_it_was(
    autojump_clock: MockClock, caller: str
) -> None:
    async with open_processes(("x",), network()) as processes:
        for _ in range(3):
            await processes["b"].open["x"].forward(b"before")
        await until_all_sleep(processes.values())
        before_s = trio.current_time()
        assert await processes[caller].open["x"].forward(b"after") == 4
        # Not an election timeout: whoever led campaigns at once.
        assert trio.current_time() - before_s < 0.15
        for process in processes.values():
            await process.open["x"].read_barrier()
            machine = process.machines["x"]
            assert machine.commands == [b"before"] * 3 + [b"after"]
            assert machine.restored == 0


async def test_it_sleeps_again_and_again(autojump_clock: MockClock) -> None:
    async with open_processes(("x",), network()) as processes:
        for number in range(1, 6):
            caller = IDS[number % 3]
            assert await processes[caller].open["x"].forward(b"again") == number
            await until_all_sleep(processes.values())
        assert [len(p.machines["x"].commands) for p in processes.values()] == [5, 5, 5]


async def test_who_is_held_awake_keeps_all_awake(autojump_clock: MockClock) -> None:
    async with open_processes(("x",), network()) as processes:
        async with processes["c"].open["x"].awake() as node:
            await node.wait(lambda status: status.leader_id is not None)
            await trio.sleep(60)  # long enough to hibernate a dozen times
            assert not any(all_asleep(process.groups) for process in processes.values())
            assert node.status.role is not Role.DEAD
        await until_all_sleep(processes.values())


async def test_a_snapshot_taken_before_is_not_restored(autojump_clock: MockClock) -> None:
    async with open_processes(("x",), network()) as processes:
        for _ in range(3):
            await processes["a"].open["x"].forward(b"1")
        for process in processes.values():
            async with process.open["x"].awake() as node:
                await node.take_snapshot()
        await processes["a"].open["x"].forward(b"2")
        await until_all_sleep(processes.values())
        assert await processes["b"].open["x"].forward(b"3") == 5
        for process in processes.values():
            assert process.machines["x"].restored == 0


async def test_a_process_that_starts_again_finds_its_groups(autojump_clock: MockClock) -> None:
    async with open_processes(("x",), network()) as processes:
        await processes["a"].open["x"].forward(b"1")
        await until_all_sleep(processes.values())
        await processes["a"].crash()
        await processes["a"].start()
        with trio.fail_after(5):
            assert await processes["a"].open["x"].forward(b"2") == 2
        await until_all_sleep(processes.values())


async def test_a_leader_whose_others_do_not_sleep_wakes_those_who_do(
    autojump_clock: MockClock,
) -> None:
    async with open_processes(("x",), network(), hibernate_after_s=1.0) as processes:
        await processes["a"].open["x"].forward(b"1")
        async with processes["a"].open["x"].awake() as node:
            await node.wait(lambda status: status.leader_id is not None)
            leader = node.status.leader_id
        awake, *_ = (node for node in IDS if node != leader)
        async with processes[awake].open["x"].awake():
            await trio.sleep(20)
            assert leader is not None
            assert processes[leader].open["x"].phase is GroupPhase.AWAKE
            with trio.fail_after(1):
                assert await processes[leader].open["x"].forward(b"2") == 2


async def test_only_exactly_that_state_is_agreed_to(autojump_clock: MockClock) -> None:
    async with open_processes(("x",), network(), hibernate_after_s=None) as processes:
        await processes["a"].open["x"].forward(b"1")
        async with processes["a"].open["x"].awake() as node:
            status = await node.wait(lambda status: status.leader_id is not None)
        assert status.leader_id is not None
        follower = next(node for node in IDS if node != status.leader_id)
        host = processes[follower].groups._host
        group = processes[follower].open["x"]
        await group.read_barrier()
        assert group.awake_for() is None
        for term, index in ((status.term, 1), (status.term + 1, 2), (status.term, 3)):
            host.on_note(status.leader_id, GroupNote("x", notes.ASK_SLEEP, term, index))
            assert group.phase is GroupPhase.AWAKE
        other = next(node for node in IDS if node not in (follower, status.leader_id))
        host.on_note(other, GroupNote("x", notes.ASK_SLEEP, status.term, 2))
        assert group.phase is GroupPhase.AWAKE
        host.on_note(status.leader_id, GroupNote("x", notes.ASK_SLEEP, status.term, 2))
        assert group.status.phase is GroupPhase.FALLING


async def test_a_group_of_one_hibernates_alone(autojump_clock: MockClock) -> None:
    async with (
        open_groups(
            "a", storage=MemoryGroupStorages(), transport=network().transport("a")
        ) as groups,
        open_group(groups, "x", voters=("a",), machine=Counting()) as group,
    ):
        assert await group.propose(b"1") == 1
        with trio.fail_after(60):
            await groups.wait(all_asleep)
        assert await group.propose(b"2") == 2


async def test_a_group_that_was_left_is_over(autojump_clock: MockClock) -> None:
    async with open_groups(
        "a", storage=MemoryGroupStorages(), transport=network().transport("a")
    ) as groups:
        async with open_group(groups, "x", voters=("a",), machine=Counting()) as group:
            await group.propose(b"1")
        with pytest.raises(NodeDead):
            await group.propose(b"2")
        assert len(groups) == 0


WHOSE: ContextVar[str] = ContextVar("whose", default="the caller's")


async def test_a_node_lives_in_the_context_of_its_process(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever happens to wake a group does not decide how its node calls the storage."""
    seen: list[str] = []
    plain = MemoryStorage.open

    def looking(storage: MemoryStorage, **owner: str) -> Recovered | None:
        seen.append(WHOSE.get())
        return plain(storage, **owner)

    monkeypatch.setattr(MemoryStorage, "open", looking)
    storages, token = MemoryGroupStorages(), WHOSE.set("the process's")
    async with open_groups("a", storage=storages, transport=network().transport("a")) as groups:
        WHOSE.reset(token)
        async with open_group(groups, "x", voters=("a",), machine=Counting()) as group:
            with trio.fail_after(60):
                await groups.wait(all_asleep)
            await group.propose(b"1")
    assert seen == ["the process's"] * 2
