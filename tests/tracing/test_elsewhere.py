"""Traced where no Trio runs: clients and nodes of asyncio programs and of threads; and a span of
the caller's that is above all of it."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import anyio
import pytest
import trio
from opentelemetry.trace import Span, Tracer

from tests.client.service_support import LOOPBACK
from tests.support import open_single
from tests.tracing.support import Counter, Traces
from trioraft import BlockingClient, Client, MemoryNetwork, MemoryStorage, Node, open_service
from trioraft.aio import open_node as open_async_node
from trioraft.core.types import Address
from trioraft.machines.sessions import SessionMachine
from trioraft.sync import open_node as open_blocking_node

SERVED = [
    "shop",
    "  call",
    "    propose at 0",
    "      commit at 0",
    "        write at 0",
    "      apply at 0",
]
EMBEDDED = [
    "shop",
    "  propose at 0",
    "    commit at 0",
    "      write at 0",
    "    apply at 0",
]


def alone(tracer: Tracer) -> dict[str, Any]:
    """A cluster of one."""
    return {
        "voters": ["0"],
        "machine": Counter(),
        "storage": MemoryStorage(),
        "transport": MemoryNetwork(random.Random(0)).transport("0"),
        "tracer": tracer,
    }


def shop(tracer: Tracer) -> AbstractContextManager[Span]:
    """The caller's own span."""
    return tracer.start_as_current_span("shop")


@pytest.mark.parametrize("kind", ["asyncio", "threads, on trio", "threads, on asyncio"])
async def test_a_client(kind: str) -> None:
    traces, machine = Traces(), SessionMachine(Counter())

    async def on_asyncio(address: Address) -> None:
        tracer = traces.tracer()
        async with Client([address], tracer=tracer) as client:
            await client.call(b"opens a session")
            traces.clear()
            with shop(tracer):
                assert await client.call(b"one") == 2

    def in_thread(address: Address) -> None:
        tracer = traces.tracer()
        backend: Literal["trio", "asyncio"] = "trio" if kind.endswith("trio") else "asyncio"
        with BlockingClient([address], backend=backend, tracer=tracer) as client:
            client.call(b"opens a session")
            traces.clear()
            with shop(tracer):
                assert client.call(b"one") == 2

    async with (
        open_single(machine=machine, tracer=traces.tracer()) as node,
        open_service(node, machine, LOOPBACK, tracer=traces.tracer()) as service,
    ):
        await node.wait(lambda status: status.leader_id == "0")
        if kind == "asyncio":
            use = partial(anyio.run, on_asyncio, service.address)
        else:
            use = partial(in_thread, service.address)
        await trio.to_thread.run_sync(use)
        assert traces.tree()[: len(SERVED)] == SERVED


async def test_a_node_in_an_asyncio_program() -> None:
    traces = Traces()

    async def program() -> None:
        tracer = traces.tracer()
        async with open_async_node("0", **alone(tracer)) as node:
            await node.wait(lambda status: status.leader_id == "0")
            with shop(tracer):
                assert await node.propose(b"one") == 1

    await trio.to_thread.run_sync(anyio.run, program)
    assert traces.tree() == EMBEDDED


async def test_a_node_in_a_program_of_threads() -> None:
    traces = Traces()

    def program() -> None:
        tracer = traces.tracer()
        with open_blocking_node("0", **alone(tracer)) as node:
            node.wait(lambda status: status.leader_id == "0")
            with shop(tracer):
                assert node.propose(b"one") == 1

    await trio.to_thread.run_sync(program)
    assert traces.tree() == EMBEDDED


async def test_what_the_pipeline_of_a_span_submits_is_below_it() -> None:
    traces = Traces()

    async def submit(node: Node, tracer: Tracer) -> None:
        with shop(tracer):
            proposals = [node.submit(b"one") for _ in range(3)]
        for proposal in proposals:
            await proposal.result()

    tracer = traces.tracer()
    async with open_single(machine=Counter(), tracer=tracer) as node:
        await node.wait(lambda status: status.leader_id == "0")
        node.submit(b"below no span")
        await submit(node, tracer)
    assert [line for line in traces.tree() if "commit" in line] == ["  commit at 0"] * 3
