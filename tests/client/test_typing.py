"""What a type checker knows of a client's results: mypy reads this file, and pytest runs it."""

from __future__ import annotations

from functools import partial
from typing import Any, assert_type

import pytest
import trio

from tests.client.service_support import Appends, client_of, serving
from trioraft import BlockingClient, ConfigError, Service
from trioraft.machines.sessions import SessionMachine


async def test_a_result_has_the_type_that_was_asked_for() -> None:
    async with serving(SessionMachine(Appends())) as (_, service), client_of(service) as client:
        assert assert_type(await client.call(b"one", result_type=int), int) == 1
        assert assert_type(await client.query(b"all", result_type=list[bytes]), list[bytes])
        assert assert_type(await client.call(b"two"), Any) == 2
        either = await client.call(b"three", result_type=int | str)
        assert assert_type(either, Any) == 3
        async with client.watch(b"0", item_type=bytes) as items:
            assert assert_type(await anext(items), bytes) == b"one"
        async with client.watch(b"0") as untyped:
            assert assert_type(await anext(untyped), Any) == b"one"
        with pytest.raises(ConfigError, match=r"is no list\[int\]"):
            await client.query(b"all", result_type=list[int])


async def test_without_an_event_loop_too() -> None:
    def use(service: Service) -> None:
        with BlockingClient([service.address]) as client:
            assert assert_type(client.call(b"one", result_type=int), int) == 1
            assert assert_type(client.query(b"all", result_type=list[bytes]), list[bytes])
            assert assert_type(client.call(b"two"), Any) == 2
            with client.watch(b"0", item_type=bytes) as items:
                assert assert_type(next(items), bytes) == b"one"

    async with serving(SessionMachine(Appends())) as (_, service):
        await trio.to_thread.run_sync(partial(use, service))


async def what_mypy_refuses(blocking: BlockingClient) -> None:
    """Never called: `warn_unused_ignores` makes an error of each line that is no error."""
    n: str = blocking.call(b"one", result_type=int)  # type: ignore[assignment] # an int
    with blocking.watch(b"0", item_type=bytes) as items:
        m: str = next(items)  # type: ignore[assignment] # bytes
    del n, m
