"""DiskThread: a thread of one storage's own, for the calls that write.

A worker thread of Trio's is found, named, counted and given a context anew for each call, about as
much work for the event loop as all that a member does with one command. This one stays.

Rules of this file:

* One call at a time, in the order in which they were brought.
* What a call came to is handed over in the Trio thread, by whatever was given with the call.
* It is started with the first call and ended by `end`, which waits for it: a call cannot be
  cancelled, and nothing of it is left afterwards.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar, final

import trio

T = TypeVar("T")

Call: TypeAlias = Callable[[], Any]
Done: TypeAlias = Callable[[Any, BaseException | None], object]
"""Called in the Trio thread with what a call returned, or raised; it must not raise."""


@final
class DiskThread:
    """Makes calls of a storage, one after the other.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[tuple[Call, Done] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, call: Call, done: Done) -> None:
        """Have a call made, and `done` be told.

        Args:
            call: what to call.
            done: what is told of it, unless the Trio run is over by then.

        Raises:
            RuntimeError, MemoryError: the thread cannot be started; nothing was called.
        """
        if self._thread is None:
            token, context = trio.lowlevel.current_trio_token(), contextvars.copy_context()
            thread = threading.Thread(
                target=context.run, args=(self._work, token), name=self._name, daemon=True
            )
            thread.start()
            self._thread = thread
        self._jobs.put((call, done))

    async def run(self, call: Callable[[], T]) -> T:
        """Make a call, and return what it returned. Cannot be cancelled.

        Raises:
            RuntimeError, MemoryError: the thread cannot be started; nothing was called.
            Exception: what the call raised.
        """
        task, came_to = trio.lowlevel.current_task(), list[tuple[Any, BaseException | None]]()

        def done(value: Any, error: BaseException | None) -> None:
            came_to.append((value, error))
            trio.lowlevel.reschedule(task)

        self.begin(call, done)
        await trio.lowlevel.wait_task_rescheduled(_not_now)
        value, error = came_to.pop()
        if error is None:
            returned: T = value
            return returned
        try:
            raise error
        finally:
            del self, error  # the error refers to this frame: nothing here may refer to the error

    def end(self) -> None:
        """End the thread, once it has done all that it was given. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        while (job := self._jobs.get()) is not None:
            call, done = job
            value, error = _made(call)
            with suppress(trio.RunFinishedError):  # then nobody is there to be told
                token.run_sync_soon(done, value, error)
            del job, call, done, value, error  # a thread that waits keeps nothing alive


def _made(call: Call) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 - it is raised where the call is waited for
        return None, error


def _not_now(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
