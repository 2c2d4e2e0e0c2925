"""The asyncio example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import trio

from tests.client.service_support import serving
from trioraft.kv import ERROR_TYPES, KvMachine
from trioraft.kv.commands import Result
from trioraft.machines.sessions import SessionMachine
from trioraft.net.addresses import host_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "asyncio_client.py"


async def test_the_asyncio_example_counts() -> None:
    machine = SessionMachine(KvMachine(), result_type=Result, error_types=ERROR_TYPES)
    async with serving(machine) as (_, service):
        command = [sys.executable, str(EXAMPLE), host_port(service.address)]
        run = partial(subprocess.run, command, capture_output=True, text=True, timeout=30)
        done = await trio.to_thread.run_sync(run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "counted to 100\n"
