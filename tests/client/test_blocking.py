"""The client without an event loop: its own thread, whoever calls."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import anyio
import pytest
import trio
from anyio.from_thread import BlockingPortal

from benchmarks.processes import Process
from tests.client.service_support import Appends, serving
from trioraft import BlockingClient, Client, ClientClosed, ConfigError, DeadlineExceeded, Service
from trioraft.machines.sessions import CommandFailed, SessionMachine

Backend = Literal["trio", "asyncio"]


async def in_thread(use: Callable[[], None]) -> None:
    """A program without an event loop."""
    await trio.to_thread.run_sync(use)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
async def test_every_method_from_many_threads(backend: Backend) -> None:
    machine = SessionMachine(Appends())

    def use(service: Service) -> None:
        with BlockingClient([service.address], backend=backend) as client:
            with ThreadPoolExecutor(8) as pool:
                results = list(pool.map(client.call, [b"x"] * 50))
            assert sorted(results) == list(range(1, 51))
            assert len(client.query(b"all")) == 50
            assert client.status().role == "Leader"
            assert client.statuses()[service.address] == client.status("0")
            assert client.take_snapshot() > 50
            with pytest.raises(CommandFailed):
                client.call(b"raise")
            with pytest.raises(ConfigError):
                client.transfer_leadership("nobody")
            with client.watch(b"49") as items:
                assert next(items) == b"x"
                client.call(b"end")
                assert list(items) == []

    async with serving(machine) as (_, service):
        await in_thread(partial(use, service))
    assert len(machine) == 0


async def test_a_client_that_is_closed_or_forked_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def use() -> None:
        client = BlockingClient([("127.0.0.1", 1)])
        with pytest.raises(ClientClosed):
            client.call(b"x")
        with client:
            with pytest.raises(DeadlineExceeded):
                client.call(b"x", timeout_s=0.05)
            with pytest.raises(ClientClosed, match="open already"):
                client.__enter__()
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: -1)
                with pytest.raises(ClientClosed, match="forked"):
                    client.call(b"x")
        with pytest.raises(ClientClosed):
            client.call(b"x")

    await in_thread(use)


def test_what_cannot_work_is_refused_before_a_thread_starts() -> None:
    with pytest.raises(ConfigError, match="no address"):
        BlockingClient([])
    with pytest.raises(ConfigError, match="backend"):
        BlockingClient([("127.0.0.1", 1)], backend="curio")  # type: ignore[arg-type] # the point


INTERRUPTED = """
import signal, threading
import anyio
from trioraft import BlockingClient
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
gone = threading.Event()
async def wait(client):
    print("waiting", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        gone.set()
with BlockingClient([("127.0.0.1", 1)]) as client:
    try:
        client.run(wait)
    except KeyboardInterrupt:
        print("interrupted; in its thread it is cancelled:", gone.wait(10), flush=True)
print("closed", flush=True)
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_leaving_ends_what_other_threads_wait_for(backend: Backend) -> None:
    begun = threading.Event()
    ended: list[str] = []

    async def wait(_client: Client) -> None:
        begun.set()
        await anyio.sleep_forever()

    def caller(client: BlockingClient) -> None:
        try:
            client.run(wait)
        except ClientClosed as error:
            ended.append(str(error))

    with BlockingClient([("127.0.0.1", 1)], backend=backend) as client:
        thread = threading.Thread(target=caller, args=(client,), daemon=True)
        thread.start()
        assert begun.wait(20)
    thread.join(20)
    assert len(ended) == 1
    assert ended[0].startswith("the client was closed while this was under way")


def test_an_interruption_at_the_very_first_moment_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come when the call is on its way and its future is not in our hands yet."""
    given_up = threading.Event()
    began = threading.Event()
    start, calls = BlockingPortal.start_task_soon, 0

    async def wait(_client: Client) -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            given_up.set()

    def interrupted(self: BlockingPortal, function: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        future = start(self, function, *args, **kwargs)
        calls += 1
        if calls == 1:
            assert began.wait(20)
            raise KeyboardInterrupt
        return future

    with BlockingClient([("127.0.0.1", 1)]) as client:
        monkeypatch.setattr(BlockingPortal, "start_task_soon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.run(wait)
        assert given_up.wait(20)


def test_ctrl_c_ends_a_call_and_nothing_hangs() -> None:
    with Process((sys.executable, "-c", INTERRUPTED)) as process:
        assert process.next_line() == "waiting"
        process.signal(signal.SIGINT)
        assert process.rest() == "interrupted; in its thread it is cancelled: True\nclosed\n"
        assert process.wait() == 0
