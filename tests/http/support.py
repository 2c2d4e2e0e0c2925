"""What tests of the HTTP port need: a node that leads at once, and somebody who asks."""

from __future__ import annotations

import http.client
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from trioraft import MemoryNetwork, MemoryStorage, Node, Role, open_node
from trioraft.http import HttpPort
from trioraft.testing import CommandLog

PATIENCE_S: Final = 60.0
HERE: Final = ("127.0.0.1", 0)


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    text: str
    headers: dict[str, str]


def ask_now(
    port: HttpPort, path: str, method: str = "GET", tls: ssl.SSLContext | None = None
) -> Answer:
    """Ask, from a thread without an event loop."""
    host, number = port.address
    connection = (
        http.client.HTTPSConnection(host, number, timeout=PATIENCE_S, context=tls)
        if port.is_tls
        else http.client.HTTPConnection(host, number, timeout=PATIENCE_S)
    )
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read().decode(), headers)
    finally:
        connection.close()


async def ask(
    port: HttpPort, path: str, method: str = "GET", tls: ssl.SSLContext | None = None
) -> Answer:
    """Ask, from another thread than the node's."""
    return await trio.to_thread.run_sync(ask_now, port, path, method, tls)


async def ask_until(port: HttpPort, path: str, status: int) -> Answer:
    """Ask until this is the answer: what is told may be as old as the port's last look."""
    with trio.fail_after(PATIENCE_S):
        while (answer := await ask(port, path)).status != status:  # noqa: ASYNC110 - over HTTP
            await trio.sleep(0.05)  # nobody tells when it looks again
    return answer


def values(text: str) -> dict[str, float]:
    """The samples of an exposition, by name and labels as they stand there."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def arguments(**given: Any) -> dict[str, Any]:
    """Of a node that is the only voter, so that it leads at once."""
    given.setdefault("machine", CommandLog())
    given.setdefault("storage", MemoryStorage())
    given.setdefault("rng", random.Random(0))
    transport = MemoryNetwork(random.Random(0)).transport("a")
    return {"voters": ["a"], "transport": transport, **given}


@asynccontextmanager
async def open_leader(**given: Any) -> AsyncIterator[Node]:
    """A node that leads."""
    async with open_node("a", **arguments(**given)) as node:
        await node.wait(lambda status: status.role is Role.LEADER)
        yield node


class Endless:
    """Parts of an answer without an end. (Starlette leaves a generator to the garbage collector
    where the reader goes away.)"""

    def __init__(self, part: bytes, pause_s: float) -> None:
        self.part, self.pause_s = part, pause_s

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(self.pause_s)
        return self.part
