"""Questions and subscriptions: what a state machine may have besides commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from ..core.errors import ConfigError
from ..member.state_machine import StateMachine
from .sessions import SessionMachine

Consistency: TypeAlias = Literal["linearizable", "lease", "stale"]
"""How fresh a query's answer is: after a read barrier; after a lease that the leader still holds
(trusts clocks within the bound that docs/clients.md names); or whatever the server has applied."""


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
    """The machine that questions are for: a `SessionMachine` is looked through."""
    return machine.machine if isinstance(machine, SessionMachine) else machine


def queryable(machine: StateMachine) -> Queryable:
    """The machine, if it answers questions.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(machine, Queryable):
        raise ConfigError(f"{type(machine).__name__} has no method 'query': ask it nothing")
    return machine


def watchable(machine: StateMachine) -> Watchable:
    """The machine, if it can be watched.

    Raises:
        ConfigError: it cannot.
    """
    if not isinstance(machine, Watchable):
        raise ConfigError(f"{type(machine).__name__} has no method 'watch': it cannot be watched")
    return machine
