"""Processes that die, are cut off, or come back: sleeping groups are led again before they are
needed, and never answer for a majority that they do not have."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from tests.groups.support import (
    IDS,
    Process,
    leader_of,
    open_processes,
    until_all_sleep,
)
from trioraft.groups.group import GroupPhase
from trioraft.groups.spread import ranked
from trioraft.transport.memory import MemoryNetwork

NAMES = tuple(f"g{number}" for number in range(12))


async def fill(processes: dict[str, Process]) -> None:
    for name in NAMES:
        await processes["a"].open[name].forward(b"1")


async def test_leaders_are_spread_from_the_beginning(autojump_clock: MockClock) -> None:
    async with open_processes(NAMES, MemoryNetwork(random.Random(1))) as processes:
        await fill(processes)
        await until_all_sleep(processes.values())
        leads = [process.groups.leads for process in processes.values()]
        assert sum(leads) == len(NAMES)
        assert max(leads) <= len(NAMES) / 3 + 2


@pytest.mark.parametrize("is_told", [True, False])
async def test_the_groups_of_a_process_that_died_are_led_again(
    autojump_clock: MockClock, *, is_told: bool
) -> None:
    network = MemoryNetwork(random.Random(2), tell_lost=is_told)
    async with open_processes(NAMES, network) as processes:
        await fill(processes)
        await until_all_sleep(processes.values())
        left = [name for name in NAMES if leader_of(processes.values(), name) == "a"]
        assert left
        await processes["a"].crash()
        others = [processes["b"], processes["c"]]
        with trio.fail_after(30):
            for process in others:
                await process.groups.wait(
                    lambda groups: all(groups[name].phase is GroupPhase.AWAKE for name in left)
                )
            for name in left:
                async with processes["b"].open[name].awake() as node:
                    await node.wait(lambda status: status.leader_id in ("b", "c"))
        # They stay awake: one of their members is away. The others did not even wake up.
        assert all(
            processes["b"].open[name].phase is GroupPhase.ASLEEP
            for name in NAMES
            if name not in left
        )


async def test_a_call_is_answered_with_the_leaders_process_gone(
    autojump_clock: MockClock,
) -> None:
    network = MemoryNetwork(random.Random(3), tell_lost=False)
    async with open_processes(("x",), network) as processes:
        await processes["a"].open["x"].forward(b"1")
        await until_all_sleep(processes.values())
        leader = leader_of(processes.values(), "x")
        assert leader is not None
        await processes[leader].crash()  # nobody has noticed yet
        other = next(node for node in IDS if node != leader)
        with trio.fail_after(5):
            assert await processes[other].open["x"].forward(b"2") == 2


async def test_a_minority_answers_nothing_and_takes_part_again(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(4))
    async with open_processes(("x",), network) as processes:
        await processes["a"].open["x"].forward(b"1")
        await until_all_sleep(processes.values())
        leader = leader_of(processes.values(), "x")
        assert leader is not None
        others = [node for node in IDS if node != leader]
        network.partition([leader], others)
        with trio.move_on_after(20) as patience:
            await processes[leader].open["x"].read_barrier()
        assert patience.cancelled_caught
        with trio.fail_after(5):
            assert await processes[others[0]].open["x"].forward(b"2") == 2
        network.heal()
        with trio.fail_after(5):
            await processes[leader].open["x"].read_barrier()
        assert processes[leader].machines["x"].commands == [b"1", b"2"]
        await until_all_sleep(processes.values())


async def test_leaders_are_spread_again_when_a_process_is_back(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(random.Random(5))
    async with open_processes(NAMES, network) as processes:
        await fill(processes)
        await until_all_sleep(processes.values())
        await processes["a"].crash()
        for name in NAMES:
            await processes["b"].open[name].forward(b"2")
        await processes["a"].start()
        await until_all_sleep(processes.values(), timeout_s=600)
        leads = [process.groups.leads for process in processes.values()]
        assert sum(leads) == len(NAMES)
        assert min(leads) >= 2


def test_who_leads_first_is_the_same_everywhere_and_spread() -> None:
    firsts = [ranked(f"g{number}", IDS)[0] for number in range(3000)]
    assert firsts == [ranked(f"g{number}", IDS[::-1])[0] for number in range(3000)]
    assert all(900 < firsts.count(node) < 1100 for node in IDS)
