"""What do many groups in one process cost? `python -m benchmarks.groups`

Three processes on this machine, over TCP: 1,000 groups at rest and how much of a processor they
take; how long a call waits that wakes one; commits a second over 48 groups beside one group, with
as many callers. And the bytes of a group that hibernates, in one process that holds three members.

Rules of this file:

* All of it is one run, on whatever else this machine does: ratios count. One group and many take
  turns, and the median of each counts.
* Callers are in the process that leads, as a program would have it that routes by leader.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import trio

from trioraft import (
    Group,
    Groups,
    MemoryGroupStorages,
    MemoryNetwork,
    NotLeader,
    OutcomeUnknown,
    ProposalDropped,
    SharedLog,
    TcpTransport,
    open_group,
    open_groups,
)
from trioraft.protocols import GroupStorages

IDS: Final = ("a", "b", "c")
COMMAND: Final = bytes(100)
WORKER: Final = "worker"
QUIET_S: Final = 2.0
"""After so many seconds groups hibernate here."""


class Nothing:
    """A state machine that keeps nothing."""

    def apply(self, index: int, data: bytes) -> None:
        """Let it pass."""

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def restore(self, chunks: object) -> None:
        """Nothing."""


def storages(directory: str) -> GroupStorages:
    """In memory, where no directory is named."""
    return SharedLog(Path(directory)) if directory else MemoryGroupStorages()


# -- one process -------------------------------------------------------------------------------


class Worker:
    """One of the three processes: it does what lines of JSON say, and answers with such lines."""

    def __init__(self, groups: Groups, stack: AsyncExitStack) -> None:
        self._groups = groups
        self._stack = stack
        self._open: dict[str, Group] = {}

    async def open(self, names: Sequence[str]) -> int:
        """Open these groups."""
        for name in names:
            self._open[name] = await self._stack.enter_async_context(
                open_group(self._groups, name, voters=IDS, machine=Nothing())
            )
        return len(self._groups)

    async def until_asleep(self) -> float:
        """Wait until all hibernate."""
        begun_s = time.perf_counter()
        await self._groups.wait(lambda groups: groups.awake == 0)
        return time.perf_counter() - begun_s

    async def idle(self, seconds: float) -> list[float]:
        """CPU seconds that this process takes in so many, and how many groups were awake."""
        before_s = time.process_time()
        await trio.sleep(seconds)
        return [time.process_time() - before_s, self._groups.awake]

    async def hold(self, names: Sequence[str], seconds: float) -> float:
        """CPU seconds that this process takes in so many with these groups awake, and at rest."""
        async with AsyncExitStack() as stack:
            for name in names:
                node = await stack.enter_async_context(self._open[name].awake())
                await node.wait(lambda status: status.leader_id is not None)
            await trio.sleep(1.0)
            before_s = time.process_time()
            await trio.sleep(seconds)
            return time.process_time() - before_s

    async def wake(self, names: Sequence[str]) -> list[float]:
        """How long a call waits that wakes each of these, in seconds."""
        took = []
        for name in names:
            begun_s = time.perf_counter()
            await self._open[name].forward(COMMAND)
            took.append(time.perf_counter() - begun_s)
        return took

    async def load(self, names: Sequence[str], callers: int, seconds: float) -> int:
        """Commands proposed here by so many callers in each of these groups that is led here."""
        done = 0

        async def call(group: Group) -> None:
            nonlocal done
            async with group.awake() as node:
                while True:
                    try:
                        await node.propose(COMMAND)
                    except (NotLeader, OutcomeUnknown, ProposalDropped):
                        return  # it is led elsewhere now: what is done there is not counted
                    done += 1

        led = []
        for name in names:
            await self._open[name].read_barrier()
            if self._open[name].status.leader_id == self._groups.node_id:
                led.append(self._open[name])
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for group in led:
                    for _ in range(callers):
                        nursery.start_soon(call, group)
                nursery.start_soon(trio.sleep_forever)
        return done


async def work(node_id: str, ports: Sequence[int], directory: str) -> None:
    """A worker, until its parent closes the line."""
    peers = {peer: ("127.0.0.1", port) for peer, port in zip(IDS, ports, strict=True)}
    transport = TcpTransport(node_id, peers[node_id], peers)
    async with AsyncExitStack() as stack:
        groups = await stack.enter_async_context(
            open_groups(
                node_id,
                storage=storages(directory),
                transport=transport,
                hibernate_after_s=QUIET_S,
            )
        )
        worker = Worker(groups, stack)
        lines = trio.wrap_file(sys.stdin)
        async for line in lines:
            name, *arguments = json.loads(line)
            print(json.dumps(await getattr(worker, name)(*arguments)), flush=True)


# -- the parent --------------------------------------------------------------------------------


class Fleet:
    """The three processes, as their parent sees them."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def ask(self, number: int, *call: Any) -> Any:
        """Have one of them do something."""
        self._tell(number, call)
        return self._answer(number)

    def ask_all(self, *call: Any) -> list[Any]:
        """Have all of them do something at the same time."""
        for number in range(len(IDS)):
            self._tell(number, call)
        return [self._answer(number) for number in range(len(IDS))]

    def _tell(self, number: int, call: Sequence[Any]) -> None:
        process = self._processes[number]
        if process.stdin is not None:
            process.stdin.write(json.dumps(call) + "\n")
            process.stdin.flush()

    def _answer(self, number: int) -> Any:
        stdout = self._processes[number].stdout
        line = "" if stdout is None else stdout.readline()
        if not line:
            raise SystemExit(f"process {IDS[number]} has ended")
        return json.loads(line)


@contextmanager
def fleet(directory: str = "") -> Iterator[Fleet]:
    """Three processes that end with the body."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in IDS]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for node_id in IDS:
        where = str(Path(directory) / node_id) if directory else ""
        command = [sys.executable, "-m", "benchmarks.groups", WORKER, node_id, *ports, where]
        processes.append(
            subprocess.Popen(  # noqa: S603 - this very module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    try:
        yield Fleet(processes)
    finally:
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in processes:
            process.wait()


def at_rest(count: int, seconds: float, woken: int) -> Iterator[str]:
    """What so many groups cost while nobody calls, and what the first call costs."""
    names = [f"g{number}" for number in range(count)]
    with fleet() as three:
        begun_s = time.perf_counter()
        for at in range(0, count, 50):
            three.ask_all("open", names[at : at + 50])
        yield f"{count} groups opened in {time.perf_counter() - begun_s:.1f} s"
        three.ask_all("until_asleep")
        shares = [
            used / seconds * 100 for used, awake in three.ask_all("idle", seconds) if awake == 0
        ]
        all_three = f"{sum(shares):.2f} % all three" if len(shares) == len(IDS) else "some awake"
        told = ", ".join(f"{share:.2f} %" for share in shares)
        yield f"at rest: {told} of a core ({all_three})"
        took: list[float] = []
        for at in range(0, woken, 10):  # those that are awake have heartbeats: not too many
            took += three.ask(0, "wake", names[at : at + 10])
            three.ask_all("until_asleep")
        marks = quantiles([each * 1000 for each in took], n=100)
        yield f"a call that wakes a group: p50 {median(took) * 1000:.1f} ms, p99 {marks[98]:.1f} ms"
        held = min(100, count)
        used_s = sum(three.ask_all("hold", names[:held], seconds))
        share = used_s / seconds * 100
        yield f"{held} groups kept awake, at rest: {share:.0f} % of a core, all three"


def throughput(count: int, callers: int, seconds: float, rounds: int) -> Iterator[str]:
    """Commits a second, of one group and of many, with as many callers; in memory and durable."""
    for kind in ("memory", "durable"):
        with (
            tempfile.TemporaryDirectory() as directory,
            fleet(directory if kind == "durable" else "") as three,
        ):
            one, many = ["one"], [f"g{number}" for number in range(count)]
            three.ask_all("open", [*one, *many])
            rates: dict[str, list[float]] = {"one": [], "many": []}
            for _ in range(rounds):
                for what, names, each in (("one", one, count * callers), ("many", many, callers)):
                    done = sum(three.ask_all("load", names, each, seconds))
                    rates[what].append(done / seconds)
            alone, together = median(rates["one"]), median(rates["many"])
            yield (
                f"{kind}, {count * callers} callers: one group {alone:.0f} commits/s, {count} "
                f"groups {together:.0f} ({together / alone:.2f})"
            )


async def _footprint(count: int, directory: str) -> float:
    """Bytes of a group that hibernates, in one of its processes."""
    network = MemoryNetwork(random.Random(1))
    async with AsyncExitStack() as stack:
        three = []
        for node_id in IDS:
            storage = storages(str(Path(directory) / node_id))
            three.append(
                await stack.enter_async_context(
                    open_groups(
                        node_id,
                        storage=storage,
                        transport=network.transport(node_id),
                        hibernate_after_s=QUIET_S,
                    )
                )
            )

        async def open_some(names: Sequence[str]) -> int:
            for name in names:
                for groups in three:
                    await stack.enter_async_context(
                        open_group(groups, name, voters=IDS, machine=Nothing())
                    )
            for groups in three:
                await groups.wait(lambda groups: groups.awake == 0)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        before = await open_some([f"warm{number}" for number in range(20)])
        after = await open_some([f"g{number}" for number in range(count)])
        return (after - before) / count / len(IDS)


def footprint(count: int) -> Iterator[str]:
    """What a group takes that hibernates."""
    with tempfile.TemporaryDirectory() as directory:
        tracemalloc.start()
        took = trio.run(_footprint, count, directory)
        tracemalloc.stop()
    yield f"a group that hibernates: {took / 1024:.1f} KiB in each process"


def main(arguments: Sequence[str]) -> None:
    """Run it."""
    if arguments[:1] == [WORKER]:
        node_id, *ports, directory = arguments[1:]
        trio.run(work, node_id, [int(port) for port in ports], directory)
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, default=1000, help="groups at rest")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long they rest")
    parser.add_argument("--woken", type=int, default=100, help="of them, one after the other")
    parser.add_argument("--busy", type=int, default=48, help="groups under load")
    parser.add_argument("--callers", type=int, default=4, help="of each of those")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("rest", "load", "bytes"))
    given = parser.parse_args(arguments)
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "rest": lambda: at_rest(given.groups, given.seconds, given.woken),
        "bytes": lambda: footprint(min(200, given.groups)),
        "load": lambda: throughput(given.busy, given.callers, 3.0, given.rounds),
    }
    print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
    for name, part in parts.items():
        if given.only in (None, name):
            for line in part():
                print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
