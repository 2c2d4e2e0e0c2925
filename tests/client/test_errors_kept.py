"""An error of the body is not lost where its scope is cancelled in the same moment: whatever of a
client is being left then, the error goes on as itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from tests.client.service_support import client_of, serving
from trioraft import Client, Service


class BoomError(Exception):
    """The body's."""


@asynccontextmanager
async def a_session(service: Service) -> AsyncIterator[None]:
    async with client_of(service) as client:
        await client.call(b"x")
        yield


@asynccontextmanager
async def watching(service: Service) -> AsyncIterator[None]:
    async with client_of(service) as client, client.watch(b"0"):
        yield


@asynccontextmanager
async def watching_status(service: Service) -> AsyncIterator[None]:
    async with client_of(service) as client, client.watch_status():
        yield


def a_client(service: Service) -> Client:
    return client_of(service)


@pytest.mark.parametrize("opened", [a_client, a_session, watching, watching_status])
async def test_an_error_outlives_a_cancellation(
    opened: Callable[[Service], AbstractAsyncContextManager[object]],
) -> None:
    async with serving() as (_, service):
        with pytest.raises(BoomError), trio.CancelScope() as scope:  # noqa: PT012 - both must be left
            async with opened(service):
                scope.cancel()
                raise BoomError


async def test_so_does_one_beside_a_service() -> None:
    with pytest.raises(BoomError), trio.CancelScope() as scope:  # noqa: PT012 - both must be left
        async with serving():
            scope.cancel()
            raise BoomError


async def test_a_cancelled_body_is_cancelled() -> None:
    async with serving() as (_, service):
        with trio.CancelScope() as scope:
            async with client_of(service):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
