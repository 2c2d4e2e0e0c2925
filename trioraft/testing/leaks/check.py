"""The leak check: nothing that was started in a scope is there when the scope ends.

Rules of this file:

* The check is made at the end of the scope, before anybody cancels anything: a nursery that
  cancels its tasks after the test would hide them.
* What existed before, Trio's own tasks and idle worker threads are never reported.
* The body's own error is never replaced: what leaked is added to it as a note.
* It costs nothing where it is not used, and little where it is: everything is recorded as it
  starts, nothing is searched for.
"""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, final

import trio

from .channels import Ledger, channel_leaks
from .descriptors import DescriptorProbe
from .generators import AsyncGeneratorHooks, AsyncGeneratorProbe
from .report import Allowed as _Allowed
from .report import Leak, LeakError, render
from .roles import role_leaks
from .taps import Around, listen
from .tasks import WATCHING, Ownership
from .threads import ThreadProbe
from .trio_internals import (
    CHANNEL_OPENED,
    CHANNEL_TYPES,
    THREAD_CACHE_TYPE,
    THREAD_JOB,
)


def no_leaks(
    *, allow: Iterable[str] = (), grace_s: float = 0.1
) -> AbstractAsyncContextManager[None]:
    """Check that everything started in the `async with` block is gone when the block ends.

    Found: tasks in any nursery, system tasks included; worker threads and plain threads;
    sockets and other descriptors; memory channels never closed; async generators never
    finished; two tasks of one role in a live raft node.

    Whatever is cancelled by then gets a bounded moment to end, which never moves a virtual
    clock. Whatever is blocked and not cancelled is a leak at once.

    Args:
        allow: names that may stay, with `*` and `?` as wildcards (brackets mean themselves).
            A task that may stay may keep the tasks below it.
        grace_s: how long cancelled tasks may take to end, in real seconds, whatever the clock.

    Raises:
        LeakError: something was left behind; `leaks` says what. If the block itself raised,
            that error goes on instead, with the report as a note.

    A block that is cancelled, or left by `KeyboardInterrupt` or a test outcome such as
    `pytest.skip()`, is not checked. Nests, and may overlap in other tasks. It checks what its
    own task does: enter it in the task that runs the body, not in a fixture.
    """
    return _NoLeaks(_Allowed(allow), grace_s)


@final
class _NoLeaks(AbstractAsyncContextManager[None]):
    """A class, not a generator: it is not itself an async generator that is never finished."""

    def __init__(self, allowed: _Allowed, grace_s: float) -> None:
        self._allowed = allowed
        self._grace_s = grace_s
        self._scope: _Scope | None = None

    async def __aenter__(self) -> None:
        if self._scope is not None:
            raise RuntimeError("no_leaks() was entered twice: make a new one for each block")
        self._scope = _Scope()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        scope = self._scope
        if scope is None:
            raise RuntimeError("no_leaks() was left before it was entered")
        try:
            checked = exc is None or isinstance(exc, Exception)
            leaks = await scope.find(self._allowed, self._grace_s) if checked else []
        finally:
            scope.stop()
        if not leaks:
            return
        # Whatever is unreachable warns of itself here, and not in some later test.
        gc.collect()
        if exc is not None:
            exc.add_note(render(tuple(leaks)))
            return
        raise LeakError(leaks)


@final
class _Scope:
    """Everything that listens while a block runs."""

    def __init__(self) -> None:
        self._ownership = Ownership()
        self._threads = ThreadProbe(self._ownership)
        self._descriptors = DescriptorProbe(self._ownership)
        self._channels: Ledger[Any] = Ledger(self._ownership)
        self._generators = AsyncGeneratorProbe(self._ownership)
        sockets = self._descriptors.sockets
        taps: tuple[tuple[type, str, Around], ...] = (
            *((channel, CHANNEL_OPENED, self._channels.around_open) for channel in CHANNEL_TYPES),
            *((channel, "close", self._channels.around_close) for channel in CHANNEL_TYPES),
            (THREAD_CACHE_TYPE, THREAD_JOB, self._threads.around_job),
            (threading.Thread, "start", self._threads.around_start),
            (socket.socket, "__init__", sockets.around_open),
            (socket.socket, "close", sockets.around_close),
            (socket.socket, "detach", sockets.around_close),
        )
        self._listening = [listen(owner, name, around) for owner, name, around in taps]
        self._hooks = AsyncGeneratorHooks.listen(self._generators)
        trio.lowlevel.add_instrument(self._ownership)
        self._outer = WATCHING.get()
        WATCHING.set((*self._outer, self._ownership))

    async def find(self, allowed: _Allowed, grace_s: float) -> list[Leak]:
        """Give what may end its moment, then say what is left."""
        await self._ownership.settle(allowed, grace_s)
        found = [
            *self._threads.leaks(),
            *self._descriptors.leaks(),
            *channel_leaks(self._channels),
            *self._generators.leaks(),
            *role_leaks({}),
        ]
        return [
            *self._ownership.leaks(allowed),
            *(leak for leak in found if leak.name not in allowed),
        ]

    def stop(self) -> None:
        """Listen no more: every class and hook is as it was."""
        WATCHING.set(self._outer)
        try:
            trio.lowlevel.remove_instrument(self._ownership)
        finally:
            self._hooks.stop(self._generators)
            for each in self._listening:
                each.stop()
