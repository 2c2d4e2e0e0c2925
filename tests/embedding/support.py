"""What tests of embedded nodes need: arguments of one, run on each of asyncio's event loops."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import pytest

from trioraft import MemoryNetwork, MemoryStorage, Role, Status
from trioraft.testing import CommandLog

uvloop: Any = None  # it has no wheel for every system
with suppress(ImportError):
    uvloop = import_module("uvloop")
    uvloop.new_event_loop().close()  # libuv keeps one pipe for the process: here, and in no test

PATIENCE_S: Final = 60.0
LOOPS: Final = ["asyncio", "uvloop"]


def arguments(**given: Any) -> dict[str, Any]:
    """Of a node that is the only voter, so that it leads at once."""
    given.setdefault("machine", CommandLog())
    given.setdefault("storage", MemoryStorage())
    given.setdefault("rng", random.Random(0))
    transport = MemoryNetwork(random.Random(0)).transport("a")
    return {"voters": ["a"], "transport": transport, **given}


def on_asyncio(main: Coroutine[Any, Any, None], *, loop: str = "asyncio") -> None:
    """Run this as a program does, and see that it leaves no thread of a node."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main

    if loop == "uvloop" and uvloop is None:
        main.close()  # nobody will await it
        pytest.skip("uvloop is not installed")
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())
    assert node_threads() == []


def node_threads() -> list[str]:
    """Threads of nodes that are alive."""
    return [each.name for each in threading.enumerate() if each.name.startswith("trioraft")]


def leads(status: Status) -> bool:
    """Whether a node leads."""
    return status.role is Role.LEADER


class Breaking:
    """A machine that cannot go on when it gets the command `break`."""

    def apply(self, index: int, data: bytes) -> bytes:
        if data == b"break":
            raise MemoryError("no memory for it")
        return data

    def snapshot(self) -> bytes:
        return b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        b"".join(chunks)
