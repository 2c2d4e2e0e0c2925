"""Processes of many groups in one Trio run, which come and go while a test lasts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, final

import trio

from trioraft.core.config import Timing
from trioraft.groups.group import Group, GroupPhase
from trioraft.groups.host import Groups, open_group, open_groups
from trioraft.storage.groups import GroupStorages, MemoryGroupStorages
from trioraft.transport.base import Transport
from trioraft.transport.memory import MemoryNetwork

IDS = ("a", "b", "c")


class Counting:
    """A state machine that remembers all it was told, and how often it was brought back."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.restored = 0

    def apply(self, index: int, data: bytes) -> int:
        self.commands.append(data)
        return len(self.commands)

    def snapshot(self) -> bytes:
        return b"\n".join(self.commands)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.restored += 1
        content = b"".join(chunks)
        self.commands = content.split(b"\n") if content else []


@final
class Process:
    """One process: it can be ended and started again, with the storage that it had."""

    def __init__(self, transport: Transport, names: Collection[str], **options: Any) -> None:
        self.node_id = transport.node_id
        self.storages: GroupStorages = MemoryGroupStorages()
        self.names = tuple(names)
        self.groups: Groups
        self.open: dict[str, Group] = {}
        self.machines: dict[str, Counting] = {}
        self.nursery: trio.Nursery | None = None
        self._transport = transport
        self._options = options
        self._stop = trio.Event()
        self._gone = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._stop, self._gone = trio.Event(), trio.Event()
        options = {"rng": random.Random(self.node_id), **self._options}
        async with AsyncExitStack() as stack:
            stack.callback(self._gone.set)
            self.groups = await stack.enter_async_context(
                open_groups(
                    self.node_id, storage=self.storages, transport=self._transport, **options
                )
            )
            for name in self.names:
                machine = self.machines[name] = Counting()
                self.open[name] = await stack.enter_async_context(
                    open_group(self.groups, name, voters=IDS, machine=machine)
                )
            task_status.started()
            await self._stop.wait()

    async def start(self) -> None:
        """Run it, until it is ended."""
        assert self.nursery is not None
        await self.nursery.start(self.run)

    async def end(self) -> None:
        """Leave everything, in good order."""
        self._stop.set()
        await self._gone.wait()

    async def crash(self) -> None:
        """Every node ends at once; nothing is handed over."""
        self.groups._host.stop()
        await self.end()


@asynccontextmanager
async def open_processes(
    names: Collection[str], network: MemoryNetwork, **options: Any
) -> AsyncIterator[dict[str, Process]]:
    """Three processes with these groups; whoever still runs in the end is ended."""
    processes = {node: Process(network.transport(node), names, **options) for node in IDS}
    async with trio.open_nursery() as nursery:
        for process in processes.values():
            process.nursery = nursery
            await process.start()
        yield processes
        for process in processes.values():
            await process.end()


def all_asleep(groups: Groups) -> bool:
    return all(group.phase is GroupPhase.ASLEEP for group in groups)


async def until_all_sleep(processes: Iterable[Process], timeout_s: float = 120.0) -> None:
    """Wait until every group hibernates in each of these processes."""
    await until(processes, all_asleep, timeout_s)


async def until(
    processes: Iterable[Process], predicate: Callable[[Groups], bool], timeout_s: float = 120.0
) -> None:
    """Wait until this holds in all of them at the same time."""
    looked = list(processes)
    with trio.fail_after(timeout_s):
        while True:
            for process in looked:
                await process.groups.wait(predicate)
            if all(predicate(process.groups) for process in looked):
                return


def leader_of(processes: Iterable[Process], name: str) -> str | None:
    """Who leads this group, or led it when it fell asleep, as far as all of these agree."""
    said = {process.open[name].status.leader_id for process in processes}
    return said.pop() if len(said) == 1 else None


QUICK = Timing()
