"""The command: starts the servers, breaks them, and checks what the clients were told."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks.processes import ServerProcess, ServerProcesses
from tests.kv_nemesis.clients import CALL_TIMEOUT_S, Caller, Record, check_log
from trioraft.client.client import Client
from trioraft.core.types import Address
from trioraft.kv import ERROR_TYPES, KvClient
from trioraft.testing import (
    History,
    KeyValue,
    Model,
    Transactions,
    check_linearizable,
    save_history,
)

PROGRESS_CALLS: Final = 50
"""So many acknowledged calls lie between two faults: it hits a cluster that works."""
PROGRESS_S: Final = 20.0
"""With a majority there, that takes no longer."""
LAST_CALLS_S: Final = 20.0
CHECK_S: Final = 120.0
SERVER_OPTIONS: Final = ("--snapshot-entries", "3000", "--log-format", "json")


@attrs.frozen
class Outcome:
    """What happened."""

    record: Record
    faults: Counter[str]

    def __str__(self) -> str:
        record = self.record
        faults = ", ".join(f"{count} × {name}" for name, count in sorted(self.faults.items()))
        errors = ", ".join(f"{count} × {name}" for name, count in sorted(record.errors.items()))
        return (
            f"{record.calls} calls, {record.acknowledged} acknowledged, "
            f"longest {record.longest_s:.2f} s\nerrors: {errors or 'none'}\nfaults: {faults}"
        )


class Nemesis:
    """Breaks servers, and mends them."""

    def __init__(self, servers: ServerProcesses, record: Record, rng: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        self._servers = servers
        self._record = record
        self._rng = rng

    async def run(self, seconds: float) -> None:
        """One fault after the other for this long; all servers are up in the end."""
        deadline = trio.current_time() + seconds
        while trio.current_time() < deadline:
            await self._progress()
            # Sometimes two at once: without a majority nothing is acknowledged, and nothing lost.
            victims = self._rng.sample(self._servers.ids, 2 if self._rng.random() < 0.2 else 1)
            async with trio.open_nursery() as nursery:
                for node_id in victims:
                    fault = self._rng.choice((self._kill, self._pause, self._restart))
                    self.faults[fault.__name__.strip("_")] += 1
                    nursery.start_soon(fault, self._servers.servers[node_id])
        await self._progress()

    async def _progress(self) -> None:
        wanted = self._record.acknowledged + PROGRESS_CALLS
        with trio.move_on_after(PROGRESS_S):
            while self._record.acknowledged < wanted:
                await self._record.progress.park()
            return
        raise AssertionError(f"all servers are up, and nothing is done within {PROGRESS_S} s")

    async def _kill(self, server: ServerProcess) -> None:
        await trio.to_thread.run_sync(server.kill)
        await trio.sleep(self._rng.choice((0.0, 0.1, 1.0)))
        await self._start(server)

    async def _pause(self, server: ServerProcess) -> None:
        server.signal(signal.SIGSTOP)
        await trio.sleep(self._rng.choice((0.1, 0.6, 1.3, 1.6, 2.0)))
        server.signal(signal.SIGCONT)

    async def _restart(self, server: ServerProcess) -> None:
        server.signal(signal.SIGTERM)
        code = await trio.to_thread.run_sync(server.wait)
        if code not in (0, -signal.SIGTERM):  # the latter: it had not begun to watch for it
            raise AssertionError(f"{server.name} left with code {code}:\n{server.complaints()}")
        await self._start(server)

    async def _start(self, server: ServerProcess) -> None:
        server.start()
        await trio.to_thread.run_sync(server.wait_ready)


async def run(seconds: float, clients: int, seed: int, servers: ServerProcesses) -> Outcome:
    """Let clients call while servers are broken; check what they were told."""
    rng = random.Random(seed)
    record = Record()
    callers = [Caller(f"c{number}", record, random.Random(f"{seed}/{number}"))
               for number in range(clients)]  # fmt: skip
    await trio.to_thread.run_sync(servers.start)
    nemesis = Nemesis(servers, record, rng)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        for caller in callers:
            nursery.start_soon(caller.run, servers.addresses, stop)
        await nemesis.run(seconds)
        stop.set()
    if record.late:
        raise AssertionError("\n".join(record.late))
    await check_logs(servers.addresses, record)
    return Outcome(record, nemesis.faults)


async def check_logs(addresses: list[Address], record: Record, *, insecure: bool = False) -> None:
    """The last write and the last reads must succeed; every client's log must be as it was told."""
    async with Client(
        addresses, timeout_s=LAST_CALLS_S, error_types=ERROR_TYPES, insecure=insecure
    ) as client:
        kv = KvClient(client)
        await kv.put("the end", "")
        for name in record.appended:
            check_log(name, record, (await kv.get(f"log/{name}") or b"").decode())


def check_history(record: Record, keep_in: Path) -> None:
    """What the clients saw is linearizable, and one had the lock at a time; a history that is not
    is kept.

    Raises:
        AssertionError: it is not so; the message says why, and where the history is.
    """
    if record.violations:
        raise AssertionError("\n".join(record.violations))
    models: tuple[tuple[History, Model[Any]], ...] = (
        (record.history, KeyValue()),
        (record.transactions, Transactions()),
    )
    for history, model in models:
        result = check_linearizable(history, model, CHECK_S)
        if not result:
            path = keep_in / f"kv-nemesis-{model.name}.jsonl"
            save_history(path, history, model)
            raise AssertionError(f"{result}\nthe history is in {path}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kv_nemesis")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args(argv)
    print(f"seed {options.seed}, {options.clients} clients, {options.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="kv-nemesis-") as directory:
        with ServerProcesses(Path(directory), options=SERVER_OPTIONS) as servers:
            outcome = trio.run(
                partial(run, options.seconds, options.clients, options.seed, servers)
            )
        print(outcome, flush=True)
    begun_s = time.monotonic()
    check_history(outcome.record, Path.cwd())
    print(
        f"every call ended within {CALL_TIMEOUT_S:g} s; no acknowledged append lost or doubled; "
        f"{len(outcome.record.history)} operations and {len(outcome.record.transactions)} "
        f"transactions linearizable, {len(outcome.record.tokens)} held the lock in turn "
        f"({time.monotonic() - begun_s:.1f} s to check)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
