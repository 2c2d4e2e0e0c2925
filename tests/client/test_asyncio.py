"""The same client on asyncio: the server runs in Trio here, the client in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest
import trio

from tests.client.service_support import Appends, client_of, serving
from tests.client.support import PATIENCE_S
from trioraft import Client, DeadlineExceeded, Service
from trioraft.machines.sessions import CommandFailed, SessionMachine


async def on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    """Run this in an asyncio event loop, in a thread."""

    async def bounded() -> None:
        with anyio.fail_after(PATIENCE_S):
            await main()

    await trio.to_thread.run_sync(partial(anyio.run, bounded, backend="asyncio"))


async def test_calls_questions_and_subscriptions() -> None:
    machine = SessionMachine(Appends())

    async def use(service: Service) -> None:
        async with client_of(service) as client:
            results = await asyncio.gather(*(client.call(b"%d" % n) for n in range(100)))
            assert sorted(results) == list(range(1, 101))
            assert len(await client.query(b"all", result_type=list[bytes])) == 100
            with pytest.raises(CommandFailed, match="KeyError"):
                await client.call(b"raise")
            async with client.watch(b"99", item_type=bytes) as items:
                await anext(items)
                await client.call(b"end")
                assert [item async for item in items] == []
            assert (await client.status()).role == "Leader"

    async with serving(machine) as (_, service):
        await on_asyncio(partial(use, service))
    assert len(machine) == 0


async def test_deadlines_and_asyncio_s_own_cancelling() -> None:
    async def use() -> None:
        async with Client([("127.0.0.1", 1)]) as client:  # nobody is there
            with pytest.raises(DeadlineExceeded, match="Connection refused"):
                await client.call(b"x", timeout_s=0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.call(b"x"), 0.1)
            task = asyncio.create_task(client.call(b"x"))
            await asyncio.sleep(0.05)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()

    await on_asyncio(use)


async def test_the_body_s_own_error_is_not_wrapped() -> None:
    async def use() -> None:
        with pytest.raises(KeyError, match="mine"):
            async with Client([("127.0.0.1", 1)]):
                raise KeyError("mine")

    await on_asyncio(use)
