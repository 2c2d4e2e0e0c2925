"""Many groups, one disk for each process: in real time, because the disks are the subject."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.groups.support import IDS, Process, all_asleep, until
from trioraft import SharedLog
from trioraft.transport.memory import MemoryNetwork

NAMES = tuple(f"g{number}" for number in range(8))
PATIENCE_S = 120.0


@asynccontextmanager
async def processes_on_disk(
    path: Path, network: MemoryNetwork
) -> AsyncIterator[dict[str, Process]]:
    """Three processes, each with a log of its own for all of its groups."""
    processes = {
        node: Process(network.transport(node), NAMES, hibernate_after_s=0.5) for node in IDS
    }
    async with trio.open_nursery() as nursery:
        for node, process in processes.items():
            process.storages = SharedLog(path / node)
            process.nursery = nursery
            await process.start()
        yield processes
        for process in processes.values():
            await process.end()


async def test_groups_sleep_wake_and_come_back_with_what_they_had(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_S):
        async with processes_on_disk(tmp_path, MemoryNetwork(random.Random(1))) as processes:
            for number in range(3):
                async with trio.open_nursery() as nursery:
                    for name in NAMES:
                        command = f"{name}/{number}".encode()
                        nursery.start_soon(processes["a"].open[name].forward, command)
            await until(processes.values(), all_asleep, PATIENCE_S)
            for process in processes.values():
                shared = process.storages
                assert isinstance(shared, SharedLog)
                assert shared._opened is not None
                states = shared._opened.database.groups
                assert set(states) == set(NAMES)
                assert not any(state.is_open for state in states.values())
            await processes["b"].open["g3"].forward(b"g3/3")
            await processes["c"].crash()
            await processes["c"].start()
            await processes["a"].open["g4"].forward(b"g4/3")
        async with processes_on_disk(tmp_path, MemoryNetwork(random.Random(2))) as processes:
            for name in NAMES:
                await processes["b"].open[name].forward(f"{name}/4".encode())
                expected = [f"{name}/{number}".encode() for number in range(3)]
                if name in ("g3", "g4"):
                    expected.append(f"{name}/3".encode())
                expected.append(f"{name}/4".encode())
                assert processes["b"].machines[name].commands == expected
