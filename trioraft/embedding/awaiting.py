"""What asyncio gets from a node's thread: calls to await, and bodies that end with what is beside
them.

Rules of this file:

* A call that is cancelled is cancelled in the thread, and is over there when this is raised here.
* What fails beside a body ends it with *its* error, as a body under Trio is ended: its task is
  cancelled, and that cancellation, and no other, is taken back (`Task.uncancel`).
* Leaving waits until what is beside the body is gone, whatever is cancelled meanwhile. It cannot
  where the loop was closed under it; then it says so.
* A cancellation that had to wait is raised as it came: anyio tells its own by what they carry.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, final

from ..core.errors import ConfigError
from ..tasks.event_loop import refuse_plain_with, require_event_loop
from .thread import OnEnd, OnReady, Reach

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


async def call(
    thread: Reach[T],
    what: str,
    function: Callable[[T], Awaitable[R]],
    *,
    is_awaited: bool = True,
) -> R:
    """Call an async function in the thread.

    Args:
        thread: whose.
        what: is called, for errors.
        function: is awaited there, with what the thread holds.
        is_awaited: whether it is waited for its end, and not for news that may never come.

    Raises:
        WrongEventLoop: this is no asyncio task.
        NodeDead: what the thread held is not open any more.
        OutcomeUnknown: it was left meanwhile.
        Exception: the function's own.
    """
    require_event_loop(what, "asyncio")
    outcome: _Outcome[R] = _Outcome(asyncio.get_running_loop())
    on_its_way = thread.begin(function, outcome.tell, is_awaited=is_awaited)
    try:
        return await outcome.future
    except asyncio.CancelledError:
        on_its_way.give_up()
        await outcome.over()
        raise


@final
class _Outcome(Generic[R]):
    """What a call has come to, from the thread to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[R] = loop.create_future()
        self._loop = loop
        self._is_over = False
        self._over: asyncio.Future[None] | None = None

    def tell(self, value: Any, error: BaseException | None) -> None:
        """In the thread."""
        _tell(self._loop, self._settle, value, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        self._is_over = True
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if self.future.done():
            return  # cancelled
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)

    async def over(self) -> None:
        """Wait until nothing of the call is left, whatever else is cancelled."""
        if not self._is_over:
            self._over = self._loop.create_future()
            await _waited_for(self._over)
        elif not self.future.cancelled():
            self.future.exception()  # seen: it came in the moment of the cancellation


async def _waited_for(future: asyncio.Future[None]) -> asyncio.CancelledError | None:
    """Wait for what is soon there, whatever is cancelled; returns the last that was."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *args: Any) -> None:
    """In the thread: have the loop do this, if it is there still."""
    try:
        loop.call_soon_threadsafe(what, *args)
    except RuntimeError:
        return  # closed: whoever waited there is gone


class Service(Protocol[T_co]):
    """What can be beside a body."""

    @property
    def name(self) -> str:
        """For errors."""

    @property
    def is_here(self) -> bool:
        """Whether it is this process's, and not that of one from which this was forked."""

    def start(self, on_ready: OnReady[T_co], on_end: OnEnd) -> None:
        """Open it: `on_ready` tells what is open, `on_end` that it is open no more."""

    def stop(self) -> None:
        """Make it end."""

    def join(self) -> None:
        """It has told its end: wait for the rest of it."""


@final
class AsyncBeside(Generic[T, R]):
    """An `async with` whose body ends when what is beside it fails.

    Args:
        service: what is beside it.
        what: is entered, for errors.
        hand_out: makes what the body gets out of what the service has opened.
    """

    def __init__(self, service: Service[T], what: str, hand_out: Callable[[T], R]) -> None:
        self._service = service
        self._what = what
        self._hand_out = hand_out
        self._failure: BaseException | None = None
        self._body: asyncio.Task[Any] | None = None
        self._has_cancelled_body = False

    async def __aenter__(self) -> R:
        require_event_loop(self._what, "asyncio")
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[T] = loop.create_future()
        over: asyncio.Future[None] = loop.create_future()

        def is_ready(value: T) -> None:
            ready.set_result(value)

        def ended(failure: BaseException | None) -> None:
            self._failure = failure
            self._service.join()
            over.set_result(None)
            if self._body is not None and failure is not None:
                self._has_cancelled_body = True
                self._body.cancel()

        self._service.start(partial(_tell, loop, is_ready), partial(_tell, loop, ended))
        self._over = over
        try:
            await asyncio.wait((ready, over), return_when=asyncio.FIRST_COMPLETED)
        except BaseException as error:
            self._service.stop()
            if not isinstance(error, GeneratorExit):
                await _waited_for(over)
            raise
        if over.done():
            raise self._failure or ConfigError(
                f"{self._service.name} ended before it began: open another"
            )
        self._body = asyncio.current_task()
        return self._hand_out(ready.result())

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        body, self._body = self._body, None  # from here on nobody is cancelled
        if not self._service.is_here:
            return
        self._service.stop()
        if isinstance(error, GeneratorExit):  # nothing can be awaited in here any more
            warnings.warn(
                f"{self._what}: the event loop was closed, or the task thrown away, inside its "
                f"`async with`; {self._service.name} is being left in the background. End the "
                "tasks before the loop, as asyncio.run does",
                ResourceWarning,
                stacklevel=2,
            )
            return
        cancelled = await _waited_for(self._over)
        if self._has_cancelled_body and body is not None:
            body.uncancel()
        if self._failure is not None:
            is_cause = error is not None and not isinstance(error, asyncio.CancelledError)
            if self._failure.__cause__ is None and is_cause:
                raise self._failure from error
            raise self._failure
        if cancelled is not None and error is None:
            raise cancelled

    if not TYPE_CHECKING:  # a type checker is to complain, as `with` does below

        def __enter__(self) -> NoReturn:
            refuse_plain_with(self._what)

        def __exit__(self, *_: object) -> None:
            """Never called; without it nobody would get to `__enter__`."""
