"""What a type checker knows of replicated objects: mypy reads this file, and pytest runs it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from trio.testing import MockClock

from tests.replicated.support import Board, Point, leads
from tests.support import open_single
from trioraft.machines.replicated import run_while_leader
from trioraft.structures import Counter, Dict, Queue


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
