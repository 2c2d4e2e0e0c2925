"""Which event loop runs here, and whether that is the right one: decided in one place.

Rules of this file: neither Trio nor asyncio is imported for the sake of looking; where nobody has
imported one, it does not run.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, NoReturn, ParamSpec, TypeAlias, TypeVar, final

from ..core.errors import ConfigError, WrongEventLoop

EventLoop: TypeAlias = Literal["trio", "asyncio"]
EVENT_LOOPS: Final[tuple[EventLoop, EventLoop]] = ("trio", "asyncio")

if TYPE_CHECKING:
    import socket

T_co = TypeVar("T_co", covariant=True)
P = ParamSpec("P")

_INSTEAD: Final[dict[EventLoop | None, str]] = {
    "trio": "in a Trio program use trioraft.open_node or trioraft.Client",
    "asyncio": "in an asyncio program use trioraft.aio.open_node or trioraft.Client, and objects "
    "made by `through` one of these",
    None: "in a thread without an event loop use trioraft.sync.open_node or "
    "trioraft.BlockingClient",
}
"""What to use under each event loop, and under none."""
_HERE: Final[dict[EventLoop | None, str]] = {
    "trio": "this is Trio",
    "asyncio": "this is asyncio",
    None: "no event loop runs here",
}
_NEEDS: Final[dict[EventLoop | None, str]] = {
    "trio": "Trio",
    "asyncio": "asyncio",
    None: "a thread without an event loop",
}


def running_event_loop() -> EventLoop | None:
    """Whose task, or whose callback, this is."""
    trio, events = sys.modules.get("trio.lowlevel"), sys.modules.get("asyncio.events")
    if trio is not None and trio.in_trio_task():
        return "trio"
    if events is not None and events._get_running_loop() is not None:
        return "asyncio"
    return "trio" if trio is not None and trio.in_trio_run() else None


def running_clock() -> Callable[[], float]:
    """What says the time by the clock of the event loop that runs here, in seconds: for those who
    ask so often that they had better not ask each time which one runs."""
    if running_event_loop() == "trio":
        current_time: Callable[[], float] = sys.modules["trio"].current_time
        return current_time
    loop_time: Callable[[], float] = sys.modules["asyncio"].get_running_loop().time
    return loop_time


def wait_readable_under_trio() -> Callable[[socket.socket], Awaitable[None]]:
    """Trio's `wait_readable`; only where Trio runs. (anyio's has another name in each release.)"""
    wait: Callable[[socket.socket], Awaitable[None]] = sys.modules["trio"].lowlevel.wait_readable
    return wait


def require_event_loop(what: str, *wanted: EventLoop | None) -> None:
    """Refuse what is used under the wrong event loop.

    Args:
        what: is used, for the error.
        wanted: where it can be used; None stands for no event loop.

    Raises:
        WrongEventLoop: this is not one of them; says what to use here.
    """
    here = running_event_loop()
    if here not in wanted:
        needs = " or ".join(_NEEDS[each] for each in wanted)
        raise WrongEventLoop(f"{what} needs {needs}, and {_HERE[here]}: {_INSTEAD[here]}")


def opened_under(
    *wanted: EventLoop, what: str | None = None
) -> Callable[
    [Callable[P, AbstractAsyncContextManager[T_co]]], Callable[P, AbstractAsyncContextManager[T_co]]
]:
    """Make an async context manager one that says so where it cannot be entered.

    Args:
        wanted: the event loops under which it can.
        what: is entered, for errors; the function's own name if None.
    """

    def decorate(
        function: Callable[P, AbstractAsyncContextManager[T_co]],
    ) -> Callable[P, AbstractAsyncContextManager[T_co]]:
        @functools.wraps(function)
        def opening(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T_co]:
            make = functools.partial(function, *args, **kwargs)
            return _Opening(make, what or function.__qualname__, wanted)

        return opening

    return decorate


@final
class _Opening(AbstractAsyncContextManager[T_co]):
    """Looks where it is before it enters another one."""

    def __init__(
        self,
        make: Callable[[], AbstractAsyncContextManager[T_co]],
        what: str,
        wanted: tuple[EventLoop, ...],
    ) -> None:
        self._make = make
        self._what = what
        self._wanted = wanted
        self._inner: AbstractAsyncContextManager[T_co] | None = None

    async def __aenter__(self) -> T_co:
        require_event_loop(self._what, *self._wanted)
        if self._inner is not None:
            raise ConfigError(f"this {self._what} was entered before: call {self._what} again")
        self._inner = self._make()
        return await self._inner.__aenter__()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._inner is None:
            raise ConfigError(f"this {self._what} was not entered: use `async with`")
        return await self._inner.__aexit__(error_type, error, traceback)

    if not TYPE_CHECKING:  # a type checker is to complain, as `with` does below

        def __enter__(self) -> NoReturn:
            refuse_plain_with(self._what)

        def __exit__(self, *_: object) -> None:
            """Never called; without it nobody would get to `__enter__`."""


def refuse_plain_with(what: str) -> NoReturn:
    """Tell who writes `with` what to write.

    Raises:
        WrongEventLoop: always.
    """
    here = running_event_loop()
    instead = "write `async with`" if here is not None else _INSTEAD[None]
    raise WrongEventLoop(f"{what} is no plain `with`, and {_HERE[here]}: {instead}")
