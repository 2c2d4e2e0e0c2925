"""A key-value service on a real socket of this machine, and clients on either event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal, TypeAlias

import anyio
import trio

from tests.client.service_support import serving
from trioraft import Client, Node, Service, SessionMachine
from trioraft.kv import ERROR_TYPES, KvClient, KvMachine
from trioraft.kv.commands import Result

Backend: TypeAlias = Literal["trio", "asyncio"]
PATIENCE_S = 15.0


@asynccontextmanager
async def kv_service() -> AsyncIterator[tuple[Node, Service]]:
    """As `trioraft serve` has it."""
    machine = SessionMachine(KvMachine(), result_type=Result, error_types=ERROR_TYPES)
    async with serving(machine) as served:
        yield served


async def on(backend: Backend, use: Callable[[KvClient], Awaitable[None]], *at: Service) -> None:
    """Have a client used on an event loop in a thread of its own."""

    async def main() -> None:
        addresses = [service.address for service in at]
        with anyio.fail_after(PATIENCE_S):
            async with Client(addresses, error_types=ERROR_TYPES) as client:
                await use(KvClient(client))

    await trio.to_thread.run_sync(partial(anyio.run, main, backend=backend))
