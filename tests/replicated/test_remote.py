"""Objects on other machines, through a client: the same methods, and each command once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.replicated.support import Board, Point, leads
from tests.support import open_single
from trioraft import Client, ConfigError, Service, Timing, open_service
from trioraft.machines.replicated import Replicas, ReplicatedObject
from trioraft.machines.sessions import SessionMachine, UnknownCommand
from trioraft.structures import Counter, Lock

QUICK = Timing(election_timeout_s=(0.01, 0.02), heartbeat_interval_s=0.005)


@asynccontextmanager
async def serving(part: ReplicatedObject | Replicas) -> AsyncIterator[Service]:
    """A node with this, in sessions, and a client port on a real socket."""
    machine = SessionMachine(part)
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_single(machine=machine, timing=QUICK))
        part.attach(node, sessions=True)
        await node.wait(leads)
        yield await stack.enter_async_context(open_service(node, machine, ("127.0.0.1", 0)))


async def test_commands_and_queries_go_to_the_machines_that_have_it() -> None:
    board = Board()
    async with (
        serving(board) as service,
        Client([service.address], error_types=(LookupError,)) as client,
    ):
        remote = Board.through(client)
        assert await board.add(1) == 1  # there, without a session
        assert await remote.add(5, twice=True) == 11
        await remote.place("here", Point(1, 2))
        assert await remote.where() == {"here": Point(1, 2)}
        assert board.points == {"here": Point(1, 2)}
        with pytest.raises(LookupError, match="no such thing"):
            await remote.fail("no such thing")
        with pytest.raises(ConfigError, match=r"Board\.add\(n\)"):
            await remote.add("x")  # type: ignore[arg-type] # that is the test
        assert await remote.activate_version() == 1


async def test_what_needs_the_state_is_refused() -> None:
    async with Client([("127.0.0.1", 9)]) as client:
        remote = Board.through(client)
        assert isinstance(remote, Board)
        for wrong in (
            lambda: remote.total,
            lambda: setattr(remote, "total", 3),
            lambda: remote.log_time_s,
            lambda: remote.apply(1, b""),
            lambda: remote.port,
        ):
            with pytest.raises(ConfigError, match="stands for one on other machines"):
                wrong()
    assert Board().total == 0


async def test_log_time_comes_along() -> None:
    """A lease that a client took ends, though only clients propose anything."""
    seconds = [0.0]
    async with serving(Lock()) as service, Client([service.address]) as client:
        lock = Lock.through(client, now_s=lambda: time.monotonic() + seconds[0])
        assert await lock.acquire("a", 30) == 1
        assert await lock.acquire("b", 30) is None
        seconds[0] = 31.0
        assert await lock.acquire("b", 30) == 2


class Answering:
    """A client that always answers that log time is 100 s, and remembers commands' times."""

    def __init__(self) -> None:
        self.commands_s: list[float] = []

    async def call(self, data: bytes, *, result_type: Any = Any) -> bytes:
        self.commands_s.append(msgspec.msgpack.decode(data)[3])
        return msgspec.msgpack.encode(0)

    async def query(self, data: bytes, *, result_type: Any = Any) -> bytes:
        return msgspec.msgpack.encode(100.0)


async def test_log_time_is_asked_for_again_before_clocks_part() -> None:
    client, seconds = Answering(), [0.0]
    counter = Counter.through(client, now_s=lambda: seconds[0])
    for seconds[0] in (0.0, 50.0, 61.0, 70.0):
        await counter.add()
    assert client.commands_s == [100.0, 150.0, 100.0, 109.0]


async def test_a_part_of_several() -> None:
    counter, board = Counter(), Board()
    async with (
        serving(Replicas(counter=counter, board=board)) as service,
        Client([service.address]) as client,
    ):
        assert await Counter.through(client, part="counter").add(3) == 3
        assert await Board.through(client, part="board").add(4) == 4
        assert await Board.through(client, part="board").get() == 4
        assert await counter.get() == 3
        with pytest.raises(UnknownCommand, match="no object 'none'"):
            await Board.through(client, part="none").get()


@pytest.mark.parametrize("question", [["nothing", []], ["add", [1, False]], ["get", [1]], 7])
def test_what_is_no_question_is_refused(question: Any) -> None:
    with pytest.raises(UnknownCommand):
        Board().query(msgspec.msgpack.encode(question))
