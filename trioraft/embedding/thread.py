"""TrioThread: a Trio run in a thread of its own, and calls into it from anywhere else.

Rules of this file:

* The thread holds one thing open, such as a node. It ends when that is left, or has failed; what is
  told then is told once, and it is the last thing that the thread tells.
* Whoever waits for a call gets an outcome: its own, or that the thread has ended.
* What is told runs in the thread, so it must be quick and must not raise: it hands on.
* The thread is a daemon: a program that forgets to leave ends all the same, as if it had crashed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeVar, final

import trio

from ..core.errors import ConfigError, NodeDead, OutcomeUnknown, ThreadsExhausted

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

OnDone = Callable[[Any, BaseException | None], None]
"""Is told what a call returned, or its error."""


class OnReady(Protocol[T_contra]):
    """Is told that something is open."""

    def __call__(self, value: T_contra, /) -> None: ...


OnEnd = Callable[[BaseException | None], None]
"""Is told that something is over, and why if it has failed."""


@final
class TrioThread(Generic[T]):
    """A thread that holds `opening()` open, and runs what it is given beside that.

    Args:
        opening: what to enter, in the thread.
        name: of the thread, and of what it holds, for errors.
        clock: of its Trio run; Trio's own if None.
        on_awaited: is told how many calls somebody waits for, whenever that changes.
    """

    def __init__(
        self,
        opening: Callable[[], AbstractAsyncContextManager[T]],
        name: str,
        *,
        clock: trio.abc.Clock | None = None,
        on_awaited: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self._opening = opening
        self._clock = clock
        self._on_awaited = on_awaited
        self._thread = threading.Thread(target=self._run, name=f"trioraft {name}", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._begun = threading.Event()
        self._scope = trio.CancelScope()
        self._calls: trio.Nursery | None = None
        self._awaited = 0
        self._failure: BaseException | None = None
        self._pid = 0

    def start(self, on_ready: OnReady[T], on_end: OnEnd) -> None:
        """Open it. `on_ready` is told what is open, then `on_end` when it is so no more.

        Raises:
            ConfigError: it was started before.
            ThreadsExhausted: there is no room for one more thread.
        """
        if self._pid:
            raise ConfigError(f"{self.name} was opened before: make a new one for each `with`")
        self._pid = os.getpid()
        self._on_ready, self._on_end = on_ready, on_end
        try:
            self._thread.start()
        except RuntimeError as error:
            raise ThreadsExhausted(f"{self.name} needs a thread of its own: {error}") from error

    @property
    def is_here(self) -> bool:
        """Whether the thread is one of this process, and not of the one that this was forked
        from."""
        return self._pid == os.getpid()

    def stop(self) -> None:
        """Leave what is open: `on_end` will tell when it is left. Idempotent."""
        self._begun.wait()  # a moment: until the thread runs
        self._soon(self._scope.cancel)

    def join(self) -> None:
        """Wait until the thread is gone. It has told its end, so that is soon."""
        self._thread.join()

    def begin(
        self,
        function: Callable[[T], Awaitable[R]],
        on_done: OnDone,
        *,
        is_awaited: bool = True,
    ) -> Call:
        """Call an async function with what is open, in the thread.

        Args:
            function: what to call.
            on_done: is told how it ended.
            is_awaited: whether somebody waits for that, and not for what it tells meanwhile.

        Raises:
            NodeDead: nothing is open any more; the function was not called.
        """
        self.check_is_here()

        async def with_held() -> R:
            return await function(self._held)

        call = Call(self._soon, with_held, on_done, self.name)
        # In the caller's context: below the span, say, that is the present one there.
        if not self._soon(copy_context().run, self._begin, call, is_awaited):
            raise self._over()
        return call

    def look(self, function: Callable[[T], R]) -> R:
        """Call a plain function with what is open, in the thread, and wait for it: some 0.1 ms.

        Raises:
            NodeDead: nothing is open any more; the function was not called.
            Exception: the function's own.
        """
        looked = threading.Event()
        found: list[tuple[Any, BaseException | None]] = []

        async def asked(held: T) -> R:
            return function(held)

        def done(value: Any, error: BaseException | None) -> None:
            found.append((value, error))
            looked.set()

        self.begin(asked, done)
        looked.wait()
        [(value, error)] = found
        if error is not None:
            raise error
        result: R = value
        return result

    def check_is_here(self) -> None:
        """Refuse a call that nobody would answer.

        Raises:
            NodeDead: this process was forked from the one that has the thread.
            ConfigError: this is the thread itself, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise ConfigError(
                f"this runs in the thread of {self.name}, which would wait for itself: use what it "
                "was given there"
            )
        if not self.is_here:
            raise NodeDead(
                f"{self.name} was opened before this process was forked, and its thread is in the "
                "parent: open one here"
            )

    def _soon(self, function: Callable[..., object], *args: Any) -> bool:
        """Whether the thread will do this; otherwise it has ended."""
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            return False
        return True

    def _over(self) -> NodeDead:
        error = NodeDead(f"{self.name} was left: it takes no call any more")
        error.__cause__ = self._failure
        return error

    # -- in the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._main, clock=self._clock)
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits to be told
            self._failure = error
        finally:
            self._begun.set()
            self._on_end(self._failure)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._begun.set()
        async with trio.open_nursery() as calls:
            try:
                with self._scope:
                    async with self._opening() as held:
                        self._held, self._calls = held, calls
                        self._on_ready(held)
                        await trio.sleep_forever()
            except Exception as error:  # noqa: BLE001 - told in the end, and not in a group
                self._failure = error
            finally:
                self._calls = None
                calls.cancel_scope.cancel()

    def _begin(self, call: Call, is_awaited: bool) -> None:
        if self._calls is None:
            call.on_done(None, self._over())
        else:
            self._calls.start_soon(self._serve, call, int(is_awaited))

    async def _serve(self, call: Call, awaited: int) -> None:
        self.count_awaited(awaited)
        try:
            await call.run()
        finally:
            self.count_awaited(-awaited)

    def count_awaited(self, change: int) -> None:
        """In the thread: so many more calls are waited for."""
        self._awaited += change
        if self._on_awaited is not None:
            self._on_awaited(self._awaited)


@final
class Call:
    """A call on its way."""

    def __init__(
        self,
        soon: Callable[..., object],
        function: Callable[[], Awaitable[Any]],
        on_done: OnDone,
        name: str,
    ) -> None:
        self.on_done = on_done
        self._soon = soon
        self._function = function
        self._name = name
        self._scope = trio.CancelScope()

    def give_up(self) -> None:
        """Cancel it. Its end is told all the same, when it is over."""
        self._soon(self._scope.cancel)

    async def run(self) -> None:
        """Run it, in the thread, and tell how it ended."""
        value: Any = None
        error: BaseException | None = OutcomeUnknown(
            f"{self._name} was left while this was under way: what it had begun may or may not be "
            "done"
        )
        try:
            with self._scope:
                value = await self._function()
                error = None
            if self._scope.cancelled_caught:
                error = None  # it was given up, and is over
        except trio.Cancelled:
            raise
        except BaseException as raised:  # noqa: BLE001 - raised again where it was called
            error = raised
        finally:
            self.on_done(value, error)


class Reach(Protocol[T_co]):
    """A way to something that a thread holds open."""

    def begin(
        self,
        function: Callable[[T_co], Awaitable[Any]],
        on_done: OnDone,
        *,
        is_awaited: bool = ...,
    ) -> Call:
        """As `TrioThread.begin`."""

    def look(self, function: Callable[[T_co], R]) -> R:
        """As `TrioThread.look`."""

    def count_awaited(self, change: int) -> None:
        """As `TrioThread.count_awaited`."""

    @property
    def is_here(self) -> bool:
        """As `TrioThread.is_here`."""


@final
class Part(Generic[T, R]):
    """A way to a part of what a thread holds open.

    Args:
        whole: the way to all of it.
        part: the part.
    """

    def __init__(self, whole: Reach[T], part: R) -> None:
        self._whole = whole
        self._part = part

    def begin(
        self,
        function: Callable[[R], Awaitable[Any]],
        on_done: OnDone,
        *,
        is_awaited: bool = True,
    ) -> Call:
        """As `TrioThread.begin`."""
        return self._whole.begin(lambda _: function(self._part), on_done, is_awaited=is_awaited)

    def look(self, function: Callable[[R], Any]) -> Any:
        """As `TrioThread.look`."""
        return self._whole.look(lambda _: function(self._part))

    def count_awaited(self, change: int) -> None:
        """As `TrioThread.count_awaited`."""
        self._whole.count_awaited(change)

    @property
    def is_here(self) -> bool:
        """As `TrioThread.is_here`."""
        return self._whole.is_here


@final
class Held(Generic[T, R]):
    """A context manager that a call holds open in the thread, for a body elsewhere.

    Args:
        thread: in which.
        opening: what to enter there, given what the thread holds.
        name: for errors.
    """

    def __init__(
        self,
        thread: Reach[T],
        opening: Callable[[T], AbstractAsyncContextManager[R]],
        name: str,
    ) -> None:
        self.name = name
        self._thread = thread
        self._opening = opening
        self._call: Call | None = None

    def start(self, on_ready: OnReady[R], on_end: OnEnd) -> None:
        """As `TrioThread.start`."""
        if self._call is not None:
            raise ConfigError(f"{self.name} was entered before: make a new one for each `with`")

        async def hold(held: T) -> None:
            async with self._opening(held) as value:
                on_ready(value)
                self._thread.count_awaited(-1)  # from here on somebody waits for its end alone
                try:
                    await trio.sleep_forever()
                finally:
                    self._thread.count_awaited(1)

        self._call = self._thread.begin(hold, lambda _, error: on_end(error))

    def stop(self) -> None:
        """As `TrioThread.stop`."""
        if self._call is not None:
            self._call.give_up()

    @property
    def is_here(self) -> bool:
        """As `TrioThread.is_here`."""
        return self._thread.is_here

    def join(self) -> None:
        """Nothing: no thread is its own."""
