"""Under a wrong event loop, or under none, every entry point says which one to use.

Rules of this file: entry points are found by looking, not by a list: every method of the classes
that are bound to an event loop, and every public context manager. What is new is tried, too.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio

import trioraft.testing
from trioraft import (
    BlockingClient,
    Client,
    ClientClosed,
    LeaderLatch,
    LocalClient,
    MemoryNetwork,
    MemoryStorage,
    Node,
    WrongEventLoop,
    aio,
    open_node,
    open_service,
    run_while_leader,
    sync,
)
from trioraft.structures import Counter
from trioraft.tasks.event_loop import require_event_loop, running_event_loop

USE = {
    "trio": r"in a Trio program use trioraft\.open_node or trioraft\.Client",
    "asyncio": r"in an asyncio program use trioraft\.aio\.open_node or trioraft\.Client",
    "none": r"in a thread without an event loop use trioraft\.sync\.open_node",
}


def drive(awaitable: Any) -> Any:
    """Await something where no event loop runs, as far as that goes."""
    coroutine = awaitable.__await__()
    try:
        return coroutine.send(None)
    finally:
        with suppress(RuntimeError):
            coroutine.close()


async def enter(manager: Any) -> None:
    async with manager:
        raise AssertionError("it was entered")


def called_under(loop: str, call: Callable[[], Any]) -> None:
    """Call this under an event loop, or under none; and await or enter what it returns."""

    async def main() -> None:
        value = call()
        if hasattr(value, "__aenter__"):
            await enter(value)
        elif inspect.isawaitable(value):
            await value

    if loop == "asyncio":
        asyncio.run(main())
    elif loop == "trio":
        trio.run(main)
    else:
        drive(main())


def plausible(method: Callable[..., Any], **known: Any) -> dict[str, Any]:
    """Arguments for a method of which only the names are known."""
    values: dict[str, Any] = {
        "data": b"x",
        "voters": ["a"],
        "ids": ["a"],
        "node_id": "a",
        "address": ("127.0.0.1", 1),
        "clients_at": ("127.0.0.1", 1),
        "predicate": lambda _: True,
        "job": lambda: None,
        "path": "backup",
        "features": ["entry-checksums"],
        **known,
    }
    return {
        name: values[name]
        for name, each in inspect.signature(method).parameters.items()
        if each.default is each.empty and name != "self"
    }


HARMLESS = {
    "id",
    "status",
    "budgets",
    "expected_tasks",
    "addresses",
    "before_leaving",
    "address_of",
}
"""They wait for nothing, and touch nothing."""


PLAIN = HARMLESS | {"kill"}
"""Of nodes in a thread of their own: `kill` is a plain function there, and takes 0.1 ms."""


def methods(cls: type, but: set[str] = HARMLESS) -> list[str]:
    return [
        name
        for name, value in inspect.getmembers(cls, callable)
        if not name.startswith("_") and name not in but
    ]


def arguments() -> dict[str, Any]:
    transport = MemoryNetwork(random.Random(0)).transport("a")
    return {
        "node_id": "a",
        "voters": ["a"],
        "machine": Counter(),
        "storage": MemoryStorage(),
        "transport": transport,
    }


@pytest.fixture
def node() -> Iterator[Node]:
    """A Trio node, as somebody has it who uses it elsewhere."""
    with sync.open_node(**arguments()) as blocking:
        yield blocking._thread.look(lambda inside: inside.node)


@pytest.mark.parametrize("loop", ["asyncio", "none"])
@pytest.mark.parametrize("name", methods(Node))
def test_every_method_of_a_node_needs_trio(node: Node, name: str, loop: str) -> None:
    method = getattr(node, name)
    with pytest.raises(WrongEventLoop, match=USE[loop]):
        called_under(loop, lambda: method(**plausible(method)))


@pytest.mark.parametrize("loop", ["asyncio", "none"])
@pytest.mark.parametrize(
    "name", ["open_node", "open_service", "lead", "run_while_leader", "open_cluster"]
)
def test_what_needs_trio_says_so(node: Node, name: str, loop: str) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "open_node": lambda: open_node(**arguments()),
        "open_service": lambda: open_service(node, Counter(), ("127.0.0.1", 0)),
        "lead": lambda: LeaderLatch(node).lead(),
        "run_while_leader": lambda: run_while_leader(node, _job),
        "open_cluster": lambda: trioraft.testing.open_cluster(3),
    }
    with pytest.raises(WrongEventLoop, match=USE[loop]):
        called_under(loop, calls[name])


async def _job(_term: int) -> None:
    raise AssertionError("it was begun")


@pytest.mark.parametrize("loop", ["asyncio", "none"])
@pytest.mark.parametrize("name", methods(LocalClient))
def test_a_local_client_needs_trio(node: Node, name: str, loop: str) -> None:
    method = getattr(LocalClient(node, Counter()), name)
    with pytest.raises(WrongEventLoop, match=USE[loop]):
        called_under(loop, lambda: method(**plausible(method)))


@pytest.mark.parametrize("loop", ["asyncio", "none"])
@pytest.mark.parametrize("what", ["command", "query", "wait", "attach", "log_now_s", "activate"])
def test_a_replicated_object_needs_trio(loop: str, what: str) -> None:
    counter = Counter()
    with sync.open_node(**{**arguments(), "machine": counter}) as blocking:
        trio_node = blocking._thread.look(lambda inside: inside.node)
        if what != "attach":
            blocking._thread.look(lambda inside: counter.attach(inside.node))
        calls: dict[str, Callable[[], Any]] = {
            "command": lambda: counter.add(1),
            "query": lambda: counter.get(),
            "wait": lambda: counter.wait(lambda _: False),
            "attach": lambda: counter.attach(trio_node),
            "log_now_s": lambda: counter.log_now_s(),
            "activate": lambda: counter.activate_version(),
        }
        with pytest.raises(WrongEventLoop, match=USE[loop]):
            called_under(loop, calls[what])


@pytest.mark.parametrize("loop", ["trio", "none"])
@pytest.mark.parametrize("name", [*methods(aio.AsyncNode, PLAIN), "open_node", "run_while_leader"])
def test_an_async_node_needs_asyncio(name: str, loop: str) -> None:
    given: list[aio.AsyncNode] = []

    async def open_one() -> None:
        async with aio.open_node(**arguments()) as node:
            given.append(node)
            calls: dict[str, Callable[[], Any]] = {
                "open_node": lambda: aio.open_node(**arguments()),
                "run_while_leader": lambda: aio.run_while_leader(node, _job),
            }
            if name in calls:
                call = calls[name]
            else:
                method = getattr(node, name)
                call = partial(_called, method)
            await asyncio.to_thread(refused, call)

    def refused(call: Callable[[], Any]) -> None:
        with pytest.raises(WrongEventLoop, match=USE[loop]):
            called_under(loop, call)

    asyncio.run(open_one())


async def _never(_: object) -> None:
    raise AssertionError("it was called")


def _called(method: Callable[..., Any]) -> Any:
    return method(**plausible(method, function=_never))


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize(
    "name", [*methods(sync.BlockingNode, PLAIN), "open_node", "run_while_leader"]
)
def test_a_blocking_node_refuses_to_block_an_event_loop(name: str, loop: str) -> None:
    with sync.open_node(**arguments()) as node:
        calls: dict[str, Callable[[], Any]] = {
            "open_node": lambda: sync.open_node(**arguments()).__enter__(),
            "run_while_leader": lambda: sync.run_while_leader(node, lambda _: None),
        }

        def call() -> None:
            if name in calls:
                calls[name]()
                return
            method = getattr(node, name)
            value = method(**plausible(method, function=_never))
            if hasattr(value, "__enter__"):
                value.__enter__()

        with pytest.raises(WrongEventLoop, match=USE[loop]):
            called_under(loop, call)


@pytest.mark.parametrize("name", methods(Client))
def test_a_client_needs_an_event_loop(name: str) -> None:
    client = Client([("127.0.0.1", 1)])
    method = getattr(client, name)
    with pytest.raises(WrongEventLoop, match=USE["none"]):
        called_under("none", lambda: method(**plausible(method)))
    with pytest.raises(WrongEventLoop, match=USE["none"]):
        called_under("none", lambda: client)


@pytest.mark.parametrize("name", methods(Client))
def test_a_client_stays_under_the_loop_that_opened_it(name: str) -> None:
    async def use() -> None:
        async with Client([("127.0.0.1", 1)]) as client:
            method = getattr(client, name)
            await trio.to_thread.run_sync(elsewhere, method)

    def elsewhere(method: Callable[..., Any]) -> None:
        with pytest.raises(WrongEventLoop, match="opened under trio"):
            called_under("asyncio", lambda: method(**plausible(method)))

    trio.run(use)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_blocking_client_refuses_to_block_an_event_loop(loop: str) -> None:
    with pytest.raises(WrongEventLoop, match=USE[loop]):
        called_under(loop, BlockingClient([("127.0.0.1", 1)]).__enter__)
    with BlockingClient([("127.0.0.1", 1)]) as client:
        with pytest.raises(WrongEventLoop, match=USE[loop]):
            called_under(loop, lambda: client.run(_never))
        with pytest.raises(WrongEventLoop, match=USE[loop]):
            called_under(loop, lambda: client.watch(b"x").__enter__())


@pytest.mark.parametrize("loop", ["trio", "asyncio", "none"])
def test_a_plain_with_says_what_to_write(loop: str) -> None:
    expected = USE["none"] if loop == "none" else "write `async with`"
    for opening in (
        open_node(**arguments()),
        aio.open_node(**arguments()),
        Client([("127.0.0.1", 1)]),
    ):
        enter_it: Any = opening
        with pytest.raises(WrongEventLoop, match=expected):
            called_under(loop, enter_it.__enter__)


async def test_what_is_entered_twice_says_so() -> None:
    opening = open_node(**arguments())
    async with opening:
        pass
    with pytest.raises(trioraft.ConfigError, match="call open_node again"):
        await opening.__aenter__()
    with pytest.raises(trioraft.ConfigError, match="was not entered"):
        await open_node(**arguments()).__aexit__(None, None, None)


async def test_a_client_that_is_not_open_says_that_first() -> None:
    with pytest.raises(ClientClosed):
        await Client([("127.0.0.1", 1)]).call(b"x")


def test_the_event_loop_is_known_wherever_one_runs() -> None:
    seen: list[str | None] = []

    def look() -> None:
        seen.append(running_event_loop())

    async def on_asyncio() -> None:
        look()
        await asyncio.to_thread(look)

    async def on_trio() -> None:
        look()
        await trio.to_thread.run_sync(look)
        trio.lowlevel.current_trio_token().run_sync_soon(look)
        await trio.testing.wait_all_tasks_blocked()

    look()
    asyncio.run(on_asyncio())
    trio.run(on_trio)
    assert seen == [None, "asyncio", None, "trio", None, "trio"]


def test_the_error_says_what_here_and_what_instead() -> None:
    with pytest.raises(WrongEventLoop) as told:
        require_event_loop("a thing", "trio", "asyncio")
    assert str(told.value) == (
        "a thing needs Trio or asyncio, and no event loop runs here: in a thread without an event "
        "loop use trioraft.sync.open_node or trioraft.BlockingClient"
    )
