"""Calls to servers, all the time, while something is done to them; and that none is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from trioraft import Client
from trioraft.kv import KvClient

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.02
WORKERS: Final = 4
PAUSE_S: Final = 0.005
"""Between two calls of a worker: what is done to the servers is the subject, not the throughput."""


async def until(holds: Callable[[], bool], what: str) -> None:
    """Ask other processes until it is so."""
    with trio.move_on_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - other processes set no event of ours
            await trio.sleep(LOOK_S)
        return
    raise AssertionError(f"waited {PATIENCE_S:g} s for {what}")


@attrs.define
class Load:
    """Each worker counts up a number of its own, and reads it: whatever is lost, done twice or read
    too early is seen at once. The first call that fails ends the test."""

    kv: KvClient
    done: dict[str, int] = attrs.field(factory=dict)

    async def work(self, key: str) -> None:
        while True:
            expected = self.done.get(key, 0) + 1
            found = (await self.kv.increment(key)).number
            assert found == expected, f"{key} is {found} after {expected} increments"
            self.done[key] = expected
            assert int(await self.kv.get(key) or 0) == expected
            await trio.sleep(PAUSE_S)

    async def goes_on(self) -> None:
        """Until each worker has had further calls answered."""
        before = dict(self.done)
        await until(
            lambda: all(self.done[key] > count + 2 for key, count in before.items()),
            "the load to go on",
        )


@asynccontextmanager
async def under_load(client: Client) -> AsyncIterator[Load]:
    """For the body: calls, all the time; at the end all of them are there, and none twice."""
    load = Load(KvClient(client))
    async with trio.open_nursery() as nursery:
        for worker in range(WORKERS):
            nursery.start_soon(load.work, f"worker-{worker}")
        await until(lambda: len(load.done) == WORKERS, "the load to begin")
        yield load
        nursery.cancel_scope.cancel()
    for key, count in load.done.items():
        found = int(await load.kv.get(key) or 0)
        assert count <= found <= count + 1, f"{key} is {found}, {count} calls were answered"
