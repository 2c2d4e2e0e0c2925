"""What other threads get from a node's thread: calls that block, and bodies beside something.

Rules of this file:

* Ctrl-C ends a call that waits: it is cancelled in the node's thread, and nobody waits for that.
* A body cannot be ended from outside. What fails beside it is told to what the body calls, and
  raised when the body is over.
* Leaving waits until what is beside the body is gone. One Ctrl-C meanwhile is raised after that, a
  second one at once.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar, final

import trio

from ..core.errors import ConfigError, RaftError
from ..tasks.event_loop import require_event_loop
from .awaiting import Service
from .thread import Reach

T = TypeVar("T")
R = TypeVar("R")


def call(
    thread: Reach[T],
    what: str,
    function: Callable[[T], Awaitable[R]],
    *,
    is_awaited: bool = True,
) -> R:
    """Call an async function in the node's thread, and wait for it.

    Raises:
        WrongEventLoop: an event loop runs here, and would be blocked.
        NodeDead: what the thread held is not open any more.
        OutcomeUnknown: it was left meanwhile.
        Exception: the function's own.
    """
    require_event_loop(what, None)
    over = threading.Event()
    outcome: list[tuple[Any, BaseException | None]] = []

    def done(value: Any, error: BaseException | None) -> None:
        outcome.append((value, error))
        over.set()

    scope = trio.CancelScope()

    async def until_given_up(held: T) -> R | None:
        with scope:
            return await function(held)
        return None  # nobody waits for it any more

    async def give_up(_: T) -> None:
        scope.cancel()

    try:  # from here on: Ctrl-C may come before what was begun has a name here
        thread.begin(until_given_up, done, is_awaited=is_awaited)
        over.wait()
    except BaseException:  # Ctrl-C, and whatever a signal's handler raises
        with suppress(RaftError):  # nothing is open any more, so nothing is left of it
            thread.begin(give_up, _ignored, is_awaited=False)
        raise
    [(value, error)] = outcome
    if error is not None:
        raise error
    result: R = value
    return result


def _ignored(_value: object, _error: BaseException | None) -> None:
    """How giving up a call has ended: nobody asks."""


@final
class BlockingBeside(Generic[T, R]):
    """A `with` that has something beside its body.

    Args:
        service: what is beside it.
        what: is entered, for errors.
        hand_out: makes what the body gets out of what the service has opened.
        on_lost: is told, in the node's thread, when the service has ended.
    """

    def __init__(
        self,
        service: Service[T],
        what: str,
        hand_out: Callable[[T], R],
        on_lost: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self._service = service
        self._what = what
        self._hand_out = hand_out
        self._on_lost = on_lost
        self._opened: list[T] = []
        self._failure: BaseException | None = None
        self._turn = threading.Event()
        self._over = threading.Event()

    def __enter__(self) -> R:
        require_event_loop(self._what, None)

        def is_ready(value: T) -> None:
            self._opened.append(value)
            self._turn.set()

        def ended(failure: BaseException | None) -> None:
            self._failure = failure
            if self._on_lost is not None:
                self._on_lost(failure)
            self._over.set()
            self._turn.set()

        self._service.start(is_ready, ended)
        try:
            self._turn.wait()
        except BaseException:  # Ctrl-C
            self._leave()
            raise
        if self._over.is_set():
            self._service.join()
            raise self._failure or ConfigError(
                f"{self._service.name} ended before it began: open another"
            )
        return self._hand_out(self._opened[0])

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._service.is_here:
            return
        self._leave()
        if self._failure is not None:
            if self._failure.__cause__ is None and isinstance(error, Exception):
                raise self._failure from error
            if error is None or isinstance(error, Exception):
                raise self._failure

    def _leave(self) -> None:
        try:
            self._finish()
        except KeyboardInterrupt:
            self._finish()
            raise

    def _finish(self) -> None:
        self._service.stop()
        self._over.wait()
        self._service.join()
