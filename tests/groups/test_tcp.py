"""Over real sockets: one connection each way between two processes, however many groups."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.groups.support import IDS, Process, until_all_sleep
from trioleaks import walk_tasks
from trioraft.core.config import Timing
from trioraft.transport.tcp import TcpTransport

NAMES = tuple(f"g{number}" for number in range(4))
PATIENT = Timing(election_timeout_s=(1.0, 2.0), heartbeat_interval_s=0.2)
"""For machines that have much else to do."""


@asynccontextmanager
async def three() -> AsyncIterator[dict[str, Process]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in IDS]
    addresses = {
        node: ("127.0.0.1", each.getsockname()[1]) for node, each in zip(IDS, sockets, strict=True)
    }
    for each in sockets:
        each.close()
    processes = {
        node: Process(
            TcpTransport(node, addresses[node], addresses),
            NAMES,
            hibernate_after_s=0.5,
            timing=PATIENT,
        )
        for node in IDS
    }
    async with trio.open_nursery() as nursery:
        for process in processes.values():
            process.nursery = nursery
            await process.start()
        yield processes
        for process in processes.values():
            await process.end()


def connections() -> list[str]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    names = [task.name for task in walk_tasks(root)]
    return sorted(name for name in names if "inbound[" in name)


async def test_all_groups_share_the_connections_and_wake_over_them() -> None:
    with trio.fail_after(120):
        async with three() as processes:
            for number, name in enumerate(NAMES):
                process = processes[IDS[number % 3]]
                assert await process.open[name].forward(name.encode()) == 1
            expected = [f"raft[{a}].inbound[{b}]" for a in IDS for b in IDS if a != b]
            assert connections() == expected
            await until_all_sleep(processes.values())
            assert connections() == expected
            for number, name in enumerate(NAMES):
                process = processes[IDS[(number + 1) % 3]]
                assert await process.open[name].forward(b"again") == 2
                assert process.machines[name].commands == [name.encode(), b"again"]
