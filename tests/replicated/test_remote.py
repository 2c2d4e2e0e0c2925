"""Objects on other machines, through a client: the same methods, and each command once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from tests.replicated.support import Board, Point, leads
from tests.support import open_single
from trioraft import Client, ConfigError, Service, Timing, open_service
from trioraft.coordination.lock import LockHandle
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
        assert await board.add(1) == 1  # there
        assert await remote(Board.add, 5, twice=True) == 11
        await remote(Board.place, "here", Point(1, 2))
        assert await remote(Board.where) == {"here": Point(1, 2)}
        assert board.points == {"here": Point(1, 2)}
        with pytest.raises(LookupError, match="no such thing"):
            await remote(Board.fail, "no such thing")
        with pytest.raises(ConfigError, match=r"Board\.add\(n\)"):
            await remote(Board.add, "x")  # type: ignore[arg-type] # that is the test
        assert await remote.activate_version() == 1
        assert await remote(Board.activate_version) == 1
        by_name: Any = remote  # without types, the names will do
        assert await by_name.add(1) == 13


async def test_what_needs_the_state_is_refused() -> None:
    async with Client([("127.0.0.1", 9)]) as client:
        remote: Any = Board.through(client)  # to type checkers, there is no such attribute
        assert not isinstance(remote, Board)
        for wrong in ("total", "log_time_s", "apply", "port", "wait"):
            with pytest.raises(ConfigError, match=f"'{wrong}' is not here"):
                getattr(remote, wrong)
        assert not hasattr(remote, "__len__")
        for method in (Counter.add, ReplicatedObject.wait, len):
            with pytest.raises(ConfigError, match="is no command or query of Board"):
                await remote(method, 1)


async def test_log_time_is_the_leaders() -> None:
    """A lease that a client took ends, though only clients propose anything, and whatever time
    they take it to be."""
    async with serving(Lock()) as service, Client([service.address]) as client:
        lock = Lock.through(client)
        token = await lock.acquire("a", 0.2)
        assert token is not None
        assert await lock.acquire("b", 30) is None
        holder = await lock.holder()
        assert holder is not None
        far_ahead = [0, "acquire", 2, holder.expires_at_s + 1000, ["b", 30.0]]
        refused = await client.call(msgspec.msgpack.encode(far_ahead), result_type=bytes)
        assert msgspec.msgpack.decode(refused) is None
        await trio.sleep(0.2)  # the lease, which only time ends
        assert (await lock.acquire("b", 30) or 0) > token


async def test_a_part_of_several() -> None:
    counter, board, lock = Counter(), Board(), Lock()
    async with (
        serving(Replicas(counter=counter, board=board, lock=lock)) as service,
        Client([service.address]) as client,
    ):
        assert await Counter.through(client, part="counter").add(3) == 3
        remote = Board.through(client, part="board")
        assert await remote(Board.add, 4) == 4
        assert await remote(Board.get) == 4
        assert await counter.get() == 3
        with pytest.raises(UnknownCommand, match="no object 'none'"):
            await Board.through(client, part="none")(Board.get)
        async with trio.open_nursery() as nursery, lock.hold("a") as grant:
            nursery.start_soon(hold_after, Lock.through(client, part="lock"), grant.token)
            await lock.wait(lambda lock: bool(lock.waiting))


async def hold_after(lock: LockHandle, token: int) -> None:
    """Wait for it, take it, and give it back."""
    async with lock.hold("b") as grant:
        assert grant.token > token


async def test_what_cannot_be_watched_is_said() -> None:
    part = Replicas(counter=Counter())
    async with serving(part) as service, Client([service.address]) as client:
        for name, error, text in (
            ("counter", ConfigError, "a Counter.* cannot be watched"),
            ("none", UnknownCommand, "no object 'none'"),
        ):
            subscription = msgspec.msgpack.encode([name, b""])
            with pytest.raises(error, match=text):
                async with client.watch(subscription) as items:
                    await anext(items)


@pytest.mark.parametrize("question", [["nothing", []], ["add", [1, False]], ["get", [1]], 7])
def test_what_is_no_question_is_refused(question: Any) -> None:
    with pytest.raises(UnknownCommand):
        Board().query(msgspec.msgpack.encode(question))
