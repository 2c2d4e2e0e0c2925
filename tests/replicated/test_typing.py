"""What a type checker knows of replicated objects: mypy reads this file, and pytest runs it."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, assert_type

from trio.testing import MockClock

from tests.replicated.support import Board, Point, leads
from tests.support import open_single
from trioraft import BlockingClient, Client
from trioraft.machines.replicated import Handle, run_while_leader
from trioraft.machines.structures import CounterHandle
from trioraft.structures import (
    Counter,
    Dict,
    Election,
    Grant,
    Leader,
    Lock,
    Permit,
    Queue,
    Semaphore,
    Taken,
)


class Places(Dict[str, Point]):
    """Values of one's own."""


async def test_decorated_methods_keep_their_signatures(autojump_clock: MockClock) -> None:
    board = Board()
    assert_type(board, Board)
    async with open_single(machine=board) as node:
        board.attach(node)
        await node.wait(leads)
        call = board.add(5, twice=True)
        is_awaited = assert_type(call, Coroutine[Any, Any, int])
        assert_type(await is_awaited, int)
        assert_type(await board.get(), int)
        assert_type(await board.where(), dict[str, Point])
        await board.wait(lambda board: assert_type(board, Board).total > 0)
        assert_type(await run_while_leader(node, lambda term: board.add(term)), int)


def what_mypy_refuses(board: Board, counter: Counter, queue: Queue[int]) -> None:
    """Never called: `warn_unused_ignores` makes an error of each line that is no error."""
    board.add("5")  # type: ignore[arg-type, unused-coroutine] # an argument's type
    board.add()  # type: ignore[call-arg, unused-coroutine] # an argument that is missing
    board.add(5, twice=6)  # type: ignore[arg-type, unused-coroutine] # one that has a name
    board.get()  # type: ignore[unused-coroutine] # nobody awaits it
    n: int = board.get()  # type: ignore[assignment] # nobody awaits it
    queue.put("5")  # type: ignore[arg-type, unused-coroutine] # an item's type
    Counter(5)  # type: ignore[call-arg] # it takes nothing
    del n


async def test_generic_structures_know_their_items(autojump_clock: MockClock) -> None:
    places = Places()
    async with open_single(machine=places) as node:
        places.attach(node)
        await node.wait(leads)
        assert_type(await places.get("x"), Point | None)
        assert_type(await places.items(), dict[str, Point])


async def test_an_unparametrised_counter(autojump_clock: MockClock) -> None:
    counter = Counter()
    async with open_single(machine=counter) as node:
        counter.attach(node)
        await node.wait(leads)
        assert_type(await counter.add(), int)


async def what_handles_have(client: Client, blocking: BlockingClient) -> None:
    """Never called: what mypy knows of handles, and of those of subclasses."""
    counter = assert_type(Counter.through(client), CounterHandle)
    assert_type(await counter.add(5), int)
    assert_type(await counter(Counter.add, 5), int)
    board = assert_type(Board.through(client), Handle[Board])
    assert_type(await board(Board.add, 5, twice=True), int)
    assert_type(await board(Board.where), dict[str, Point])
    places = Places.through(client, part="places")
    assert_type(await places.get("x"), Point | None)
    assert_type(await Queue[int].through(client).take(), int)
    queue = Queue[int].through(client)
    assert_type(queue.taking(), AbstractAsyncContextManager[Taken[int]])
    assert_type(Lock.through(client).hold("a"), AbstractAsyncContextManager[Grant])
    assert_type(Lock().hold("a"), AbstractAsyncContextManager[Grant])
    assert_type(Counter.through(blocking).add(5), int)
    assert_type(Board.through(blocking)(Board.get), int)
    assert_type(Queue[int].through(blocking).take(), int)
    assert_type(Lock.through(blocking).hold("a"), AbstractContextManager[Grant])
    semaphore = Semaphore.through(blocking)
    assert_type(semaphore.holders(), list[Permit])
    assert_type(await Election.through(client).leader(), Leader | None)


def what_mypy_refuses_of_handles(client: Client, blocking: BlockingClient) -> None:
    """Never called: nothing that type checkers let pass says that the state is not here."""
    lock = Lock.through(client)
    _ = lock.lease  # type: ignore[attr-defined] # the state
    _ = lock.log_time_s  # type: ignore[attr-defined] # what only a node knows
    lock.wait(bool)  # type: ignore[attr-defined] # what only a node can do
    _ = Board.through(client).total  # type: ignore[attr-defined] # the state
    _ = Board.through(blocking).total  # type: ignore[attr-defined] # likewise
    board = Board.through(client)
    board(Board.add, "5")  # type: ignore[arg-type, unused-coroutine] # an argument's type
    board(Counter.add, 5)  # type: ignore[arg-type, unused-coroutine] # of another class
    Queue[int].through(blocking).put("5")  # type: ignore[arg-type] # an item's type
    lock.hold("a", lease_s="long")  # type: ignore[arg-type] # an argument's type
