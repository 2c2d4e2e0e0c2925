"""The event loop of a command that asks a cluster: asyncio's, which is imported in half the time of
Trio's, and Ctrl-C in it.

Rules of this file:

* The first Ctrl-C cancels the command, so that it closes what it has opened. Where it would wait
  until somebody reads its output or writes its input, it is raised there and then; so is a second.
* A name server that does not answer keeps nobody: names are looked up in threads that die with the
  process, where asyncio would wait for them at its end.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import anyio

from . import saying


def run_client(main: Callable[[], Awaitable[None]]) -> None:
    """Run a command that needs no Trio.

    Args:
        main: to be run; its errors are raised as they are.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile, whatever came of the command.
    """
    run = _Run(main)
    is_main = threading.current_thread() is threading.main_thread()
    # Before asyncio looks, which has a handler of its own where it finds Python's.
    before = signal.signal(signal.SIGINT, run.interrupt) if is_main else None
    try:
        anyio.run(run.run, backend="asyncio", backend_options={"loop_factory": _ClientLoop})
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)
    if run.is_interrupted:
        raise KeyboardInterrupt


class _Run:
    def __init__(self, main: Callable[[], Awaitable[None]]) -> None:
        self._main = main
        self._cancel: Callable[[], object] = bool
        self.is_interrupted = False

    async def run(self) -> None:
        """The command, which Ctrl-C cancels."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is not None:
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.is_interrupted:
            return
        try:
            await self._main()
        except BaseException:  # who interrupts a command is not told what became of it
            if not self.is_interrupted:
                raise

    def interrupt(self, _number: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        was_interrupted, self.is_interrupted = self.is_interrupted, True
        if was_interrupted or _waits_for_a_stream(frame):
            raise KeyboardInterrupt
        self._cancel()


def _waits_for_a_stream(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == saying.__name__:
            return True
        frame = frame.f_back
    return False


class _ClientLoop(asyncio.SelectorEventLoop):
    async def getaddrinfo(self, *asked: Any, **options: Any) -> Any:
        """As `socket.getaddrinfo`, and without a thread that must be waited for."""
        answer: asyncio.Future[Any] = self.create_future()

        def tell(result: Any, error: OSError | None) -> None:
            if not answer.cancelled():
                answer.set_result(result) if error is None else answer.set_exception(error)

        def look_up() -> None:
            result, failure = None, None
            try:
                result = socket.getaddrinfo(*asked, **options)
            except OSError as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self.call_soon_threadsafe(tell, result, failure)

        threading.Thread(target=look_up, name="trioraft.getaddrinfo", daemon=True).start()
        return await answer
