"""What a node's thread holds open, and how what opens one says what it takes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from ..machines.local import LocalClient
from ..node.node import open_node
from .inside import Inside
from .thread import TrioThread

P = ParamSpec("P")
T = TypeVar("T")


def node_thread(node_id: str, **arguments: Any) -> TrioThread[Inside]:
    """A thread for a node; arguments as of `open_node`."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Inside]:
        async with open_node(node_id, **arguments) as node:
            yield Inside(node, LocalClient(node, arguments["machine"]))

    return TrioThread(opening, f"node {node_id!r}")


def takes_what(
    original: Callable[P, AbstractAsyncContextManager[Any]],
) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Say that a function takes what another one takes: its arguments stand in one place."""

    def same(function: Callable[..., T]) -> Callable[P, T]:
        parameters = inspect.signature(original).parameters.values()
        described: Any = function
        described.__signature__ = inspect.Signature(list(parameters))
        return function

    return same
