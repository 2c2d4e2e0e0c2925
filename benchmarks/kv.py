"""python -m benchmarks.kv: what a client gets from three `trioraft serve` processes with SQLite.

    python -m benchmarks.kv --seconds 5 --json kv.json

Rules of this file:

* Everything is as a user has it: the command itself, with its defaults, each server in a process of
  its own with its data on a disk, and one `trioraft.Client` with its session in this process.
* One connection throughout. A window of N is N tasks that put one value after the other.
* A put counts when its answer is here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trioraft.client.client import Client
from trioraft.kv import ERROR_TYPES, KvClient

from .calls import Measured, measure
from .processes import ServerProcesses

KEYS: Final = 1000
SECONDS_MIN: Final = 0.1


async def run(
    servers: ServerProcesses, windows: Sequence[int], seconds: float, value: bytes
) -> list[Measured]:
    """Measure each window, puts and gets."""
    measured = []
    numbers = itertools.count()
    async with Client(servers.addresses, error_types=ERROR_TYPES, timeout_s=30) as client:
        kv = KvClient(client)
        await kv.put("bench/0", value)

        def key() -> bytes:
            return b"bench/%d" % (next(numbers) % KEYS)

        calls = {"put": lambda: kv.put(key(), value), "get": lambda: kv.get(key())}
        for (what, call), window in itertools.product(calls.items(), windows):
            measured.append(await measure(what, call, tasks=window, seconds=seconds))
            print(measured[-1], flush=True)
    return measured


def document(measured: Sequence[Measured], value_bytes: int) -> dict[str, Any]:
    """For a file: the numbers, and where they were taken."""
    return {
        "benchmark": "kv",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "servers": 3,
        "value_bytes": value_bytes,
        "measured": [
            {"window": each.tasks}
            | attrs.asdict(each, filter=lambda attribute, _value: attribute.name != "tasks")
            for each in measured
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--window", type=int, action="append", metavar="N", help="1, 64, 256")
    parser.add_argument("--value-bytes", type=int, default=100, metavar="N")
    parser.add_argument("--data", type=Path, help="where the servers' directories go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    options = parser.parse_args(argv)
    windows = options.window or [1, 64, 256]
    if options.seconds < SECONDS_MIN or min(windows) < 1 or options.value_bytes < 0:
        parser.error(f"give at least {SECONDS_MIN} seconds, windows from 1, and a size from 0")
    print(f"three servers with SQLite, one connection, values of {options.value_bytes} bytes")
    with (
        tempfile.TemporaryDirectory(prefix="trioraft-kv-", dir=options.data) as directory,
        ServerProcesses(Path(directory), options=["--log-level", "warning"]) as servers,
    ):
        servers.start()
        measured = trio.run(
            partial(run, servers, windows, options.seconds, bytes(options.value_bytes))
        )
    if options.json is not None:
        content = json.dumps(document(measured, options.value_bytes), indent=2)
        options.json.write_text(content + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
