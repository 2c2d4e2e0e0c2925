"""For a service beside a node: commands and reads whose callers wait in no task of their own.

A task that is woken with each outcome costs a turn of the scheduler, and some fifty calls, for each
command of each client. What is called instead is called as soon as the member stands still: not in
the middle of a slice of commands, nor of whatever else brings an outcome about.
"""

from __future__ import annotations

from collections.abc import Callable

from .node import Node
from .readers import ToldOfRead


def afterwards(node: Node, call: Callable[[], None]) -> None:
    """Have something called as soon as the member stands still.

    Args:
        node: which; something of it is under way (see `when_settled`).
        call: it must not raise.
    """
    node._runner.afterwards.append(call)


def begin_read(node: Node, then: ToldOfRead, *, lease: bool) -> Callable[[], None]:
    """As `Node.read_barrier`.

    Args:
        node: which.
        then: called once, with what `read_barrier` would raise; it must not raise itself. Perhaps
            before this returns.
        lease: as there.

    Returns:
        What gives it up, after which nothing is called. Idempotent.

    Raises:
        RaftError: as `read_barrier`, at once.
    """
    return node._runner.begin_read(then, lease=lease)
