"""LocalClient: what a `Client` does, by the node of this process.

A command goes to whoever leads, in a session of this node's, and is applied here before its result
comes back. A question is answered here, after a read barrier.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, final

import msgspec
import trio

from ..core.errors import ConfigError, DeadlineExceeded, RaftError, SessionExpired
from ..core.types import LogIndex
from ..member.attempts import Attempt, Backoff
from ..member.results import PLAIN
from ..member.state_machine import StateMachine, hosted
from ..tasks.event_loop import opened_under, require_event_loop
from .numbering import SPREAD_MAX, Numbering
from .port import Port
from .questions import Consistency, inner_machine, queryable, watchable
from .sessions import (
    CLIENT_ID_BYTES,
    SessionFull,
    SessionMachine,
    encode_close,
    encode_command,
    encode_open,
    encode_plain,
)

TIMEOUT_S: Final = 10.0
"""Deadline of a call that gives none, in seconds."""
CLOSE_PATIENCE_S: Final = 0.5
"""How long a node that leaves waits for its session to be closed, in seconds."""


@final
class LocalSession:
    """Commands of one node, each applied once: a session over its life, opened with the first one.

    Args:
        node: a node whose machine is a `SessionMachine`.
        spread_max: see `numbering.SPREAD_MAX`.
    """

    def __init__(self, node: Port, spread_max: int = SPREAD_MAX) -> None:
        self._node = node
        self._spread_max = spread_max
        self._numbering: Numbering | None = None
        self._client_id = b""
        self._opening = trio.Lock()
        self._is_closed_at_end = False

    async def call(self, data: bytes, attempt: Attempt) -> Any:
        """Have a command applied, once, and return its result.

        Args:
            data: the command, for the inner machine.
            attempt: is told what is known of it meanwhile; a repeatable one.

        Raises:
            SessionExpired: the session was forgotten while the command's outcome was unknown: it
                may or may not be applied.
            NodeDead, NotMember, OutcomeUnknown, ConfigError: as `Node.forward`.
            Exception: whatever `apply` raised.
        """
        backoff: Backoff | None = None
        while True:
            session = self._numbering or await self._open()
            number = await session.take()
            try:
                command = encode_command(
                    session.session_id, number, data, session.acknowledged_below
                )
                return await self._node.forward(command, attempt=attempt)
            except SessionExpired:
                if self._numbering is session:
                    self._numbering = None
                if attempt.maybe_applied:
                    raise
            except SessionFull as error:  # large results, of calls that are under way
                attempt.failed(error, maybe_taken=False)
            finally:
                session.done(number)
            backoff = backoff or Backoff(random.Random(session.session_id), skip_first=True)
            await trio.sleep(backoff.next_s())

    async def _open(self) -> Numbering:
        """The session; opened by the first who needs it, while the others wait."""
        async with self._opening:
            if self._numbering is None:
                if not self._client_id:  # the same when trying again: it opens no second session
                    self._client_id = secrets.token_bytes(CLIENT_ID_BYTES)
                opening = encode_open(self._client_id)
                number = await self._node.forward(opening, attempt=Attempt(is_repeatable=True))
                self._client_id = b""
                self._numbering = Numbering(number, trio.Event, self._spread_max)
                if not self._is_closed_at_end:  # once, however often it expires
                    self._is_closed_at_end = True
                    self._node.before_leaving(self._close)
            return self._numbering

    async def _close(self) -> None:
        """Have it forgotten, if that is quick; it will be some day anyway."""
        session, self._numbering = self._numbering, None
        if session is None:
            return
        with trio.move_on_after(CLOSE_PATIENCE_S):
            try:
                closing = encode_close(session.session_id)
                await self._node.forward(closing, attempt=Attempt(is_repeatable=True))
            except RaftError:
                return


async def barrier_within(timeout_s: float, node: Port, *, lease: bool) -> LogIndex:
    """A read barrier under a deadline.

    Raises:
        DeadlineExceeded: it has passed.
    """
    with trio.move_on_after(timeout_s):
        return await node.read_barrier(lease=lease)
    raise DeadlineExceeded(
        f"no leader has confirmed a read within {timeout_s:g} s: none is known here, or it does "
        "not reach a majority"
    )


def checked_timeout_s(timeout_s: float) -> float:
    """A deadline as it may be given."""
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s is {timeout_s!r}: give a positive time in seconds")
    return timeout_s


@final
class LocalClient:
    """Talks to the cluster by the node of this process, whether or not that leads.

    ```python
    kv = KvClient(LocalClient(node, machine))  # open_node(machine=machine, …) as node
    await kv.put("colour", "blue")
    ```

    It has the methods of a `Client` of these names, so that whatever is made for a `Client` may be
    given one: `KvClient`, `ReplicatedObject.through`.

    Args:
        node: the node.
        machine: its state machine, as it was given to `open_node`.
        timeout_s: deadline of a call that gives none, in seconds.

    Raises:
        ConfigError: `timeout_s` is not positive.
    """

    def __init__(self, node: Port, machine: StateMachine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._node = node
        around = hosted(machine)
        self._machine = inner_machine(around)
        self._timeout_s = checked_timeout_s(timeout_s)
        self._session: LocalSession | None = None
        if isinstance(around, SessionMachine):
            self._session = LocalSession(node, around.spread_max)

    async def call(
        self,
        data: bytes,
        *,
        timeout_s: float | None = None,
        result_type: Any = Any,
        exactly_once: bool = True,
    ) -> Any:
        """Have the cluster apply a command, and return its result.

        Args:
            data: the command, for the state machine's `apply`.
            timeout_s: when to give up, in seconds; default: the client's.
            result_type: what to make of the result, as `Client.call` does.
            exactly_once: False sends the command outside the session: a little less work for the
                nodes, and `OutcomeUnknown` instead of trying again. Without a `SessionMachine`
                it is always so.

        Raises:
            DeadlineExceeded: time is up; nothing was applied, unless the error is an
                `OutcomeUnknown` too (`DeadlineOutcomeUnknown`).
            SessionExpired: the session was forgotten while the command's outcome was unknown: it
                may or may not be applied. The next call opens a new one.
            OutcomeUnknown, NodeDead, NotMember, ConfigError: as `Node.forward`.
            Exception: whatever `apply` raised, itself; `CommandFailed` if it was applied before.

        Cancelling gives up the wait; the command may still be applied.
        """
        require_event_loop("LocalClient.call", "trio")
        timeout_s = self._timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
        session, node = self._session, self._node
        attempt = Attempt(is_repeatable=session is not None and exactly_once)
        if not isinstance(data, bytes):
            raise ConfigError(f"a command is bytes, but {type(data).__name__} was given: encode it")
        with trio.move_on_after(timeout_s):
            if session is not None and exactly_once:
                value = await session.call(data, attempt)
            else:
                command = data if session is None else encode_plain(data)
                value = await node.forward(command, attempt=attempt)
            return _as_sent(value, result_type)
        raise attempt.deadline_error(timeout_s)

    async def query(
        self,
        data: bytes,
        *,
        consistency: Consistency = "linearizable",
        timeout_s: float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """Ask the state machine something (its `query(data)`), here.

        Args:
            data: the question.
            consistency: "linearizable": sees every command that was answered before; "lease": the
                same as long as clocks run evenly, where `Timing.lease_clock_drift_max` allows it;
                "stale": whatever is applied here.
            timeout_s: when to give up, in seconds; default: the client's.
            result_type: what to make of the answer, as `Client.query` does.

        Raises:
            DeadlineExceeded: time is up.
            NodeDead, NotMember, ConfigError: as `Node.read_barrier`; or the machine has no `query`.
            Exception: whatever `query` raised.

        Cancelling the wait disturbs nobody.
        """
        require_event_loop("LocalClient.query", "trio")
        timeout_s = self._timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
        machine = queryable(self._machine)
        if consistency == "stale":
            await trio.lowlevel.checkpoint()
        else:
            await barrier_within(timeout_s, self._node, lease=consistency == "lease")
        return _as_sent(machine.query(data), result_type)

    def watch(
        self, data: bytes, *, at: object = None, item_type: Any = Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Subscribe to the state machine (its `watch(data)`), here.

        Args:
            data: what to watch.
            at: as a `Client` has it; only this node can be asked.
            item_type: what to make of each item, as `Client.watch` does.

        Raises:
            ConfigError: `at` is given; or, on entering, the machine has no `watch`.
            Exception: whatever the state machine raised, on entering or while iterating.
        """
        if at is not None:
            raise ConfigError(f"at is {at!r}: a LocalClient asks its own node; leave it out")
        return self._watched(data, item_type)

    @opened_under("trio", what="LocalClient.watch")
    @asynccontextmanager
    async def _watched(self, data: bytes, item_type: Any) -> AsyncIterator[AsyncIterator[Any]]:
        async with watchable(self._machine).watch(data) as items:
            yield _AsSent(items, item_type)


_ENCODER = msgspec.msgpack.Encoder()
_ERRORS = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for a value that it cannot encode or make; its own errors are ValueErrors."""


class _AsSent:
    """Items as a client far away would get them. No generator: one that is not iterated to its end
    is a leak."""

    def __init__(self, items: AsyncIterator[Any], item_type: Any) -> None:
        self._items = items
        self._item_type = item_type

    def __aiter__(self) -> _AsSent:
        return self

    async def __anext__(self) -> Any:
        return _as_sent(await anext(self._items), self._item_type)


def _as_sent(value: Any, result_type: Any) -> Any:
    """What a client far away would get: of the type that it asks for, and sharing nothing with the
    state here."""
    kind = type(value)
    if kind in PLAIN and result_type in (Any, kind):
        return value
    try:
        return msgspec.msgpack.decode(_ENCODER.encode(value), type=result_type)
    except _ERRORS as error:
        raise ConfigError(
            f"the result, a {kind.__name__}, is none of result_type: {error}"
        ) from error
