"""What a state machine may offer its clients beside `apply`: questions, and subscriptions.

Rules of this file: both are optional. A `SessionMachine` is looked through: questions go to the
machine that it wraps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from ..machines.sessions import SessionMachine
from ..member.state_machine import StateMachine


@runtime_checkable
class Queryable(Protocol):
    """A state machine that answers questions (`Client.query`)."""

    def query(self, data: bytes) -> Any:
        """Answer from the state as it is now. Changes nothing, and is quick: nothing is applied
        meanwhile.

        Raises:
            Exception: goes to the client, as what `apply` raises does.
        """


@runtime_checkable
class Watchable(Protocol):
    """A state machine that can be watched (`Client.watch`)."""

    def watch(self, data: bytes) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Begin a subscription; its items are sent to the client as they come.

        The iterator is waited on in a task of its own. When the client is slow, the next item is
        not asked for: keep a bounded backlog, and raise something that says so when it is passed.
        When the iterator ends, so does the subscription.

        Raises:
            Exception: on entering, or while iterating: goes to the client and ends it.
        """


def inner_machine(machine: StateMachine) -> StateMachine:
    """The machine that questions are for."""
    return machine.machine if isinstance(machine, SessionMachine) else machine
