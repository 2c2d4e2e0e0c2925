"""Storage calls: where a node's calls of its storage run, and how a full disk is waited out."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol, TypeVar, final

import trio

from ..core.errors import InvariantViolation, ThreadsExhausted
from ..storage.base import Storage
from .disk_thread import DiskThread, Done

T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a call that may wait for a disk, once, and returns what it returned."""

    async def __call__(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T: ...


async def _in_a_thread(call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
    return await trio.to_thread.run_sync(call, limiter=limiter)


RUN_BLOCKING: ContextVar[RunBlocking] = ContextVar("trioraft run_blocking", default=_in_a_thread)
"""How the nodes that are opened in this context call a storage that blocks: in worker threads.
Threads are never twice the same; a simulation puts a disk in virtual time in their place."""


DISK_NUMBERS: ContextVar[random.Random] = ContextVar(
    "trioraft disk_numbers",
    default=random.SystemRandom(),  # noqa: B039 - it holds no state
)
"""Where the nodes that are opened in this context draw the numbers of their disks. Not the `rng` of
`open_node`: whoever gives that the same seed twice would take two disks for one. A simulation puts
numbers that can be repeated in its place."""


@final
class StorageCalls:
    """Runs storage calls where they belong: in threads of this node's own, or inline.

    Args:
        storage: whose calls.
        name: of the thread that writes.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage = storage
        self._run_blocking = RUN_BLOCKING.get()
        self._writer = DiskThread(name)
        self._writes = trio.CapacityLimiter(1)  # no other code can hold these up
        self._snapshots = trio.CapacityLimiter(1)

    @property
    def in_threads(self) -> bool:
        """Whether calls that block run in threads, in the time of this machine."""
        return self._run_blocking is _in_a_thread

    def begin_write(self, call: Callable[[], object], done: Done) -> None:
        """As `write`, for who does not wait, of a storage that blocks: `done` is told, in the Trio
        thread, what became of it. Only where calls are made `in_threads`.

        Args:
            call: one of the calls that the storage wants one at a time.
            done: what is told of it; it must not raise.

        Raises:
            ThreadsExhausted: it was not called.
        """
        try:
            self._writer.begin(call, done)
        except (RuntimeError, MemoryError) as error:
            raise _no_thread(error) from error

    async def write(self, call: Callable[[], T]) -> T:
        """One of the calls that the storage wants one at a time. Cannot be cancelled: half a write
        is nobody's friend.

        Raises:
            ThreadsExhausted: it was not called.
        """
        if not (self.storage.blocking and self.in_threads):
            return await self._run(call, self._writes)
        has_begun = False

        def begun() -> T:
            nonlocal has_begun
            has_begun = True
            return call()

        try:
            return await self._writer.run(begun)
        except (RuntimeError, MemoryError) as error:
            if has_begun:
                raise
            raise _no_thread(error) from error

    async def beside(self, call: Callable[[], T]) -> T:
        """A snapshot call that may run beside the writes. Cannot be cancelled.

        Raises:
            ThreadsExhausted: it was not called.
        """
        return await self._run(call, self._snapshots)

    async def close(self) -> None:
        """Close the storage, in this very thread if there is no other, after all that was begun;
        and end the thread."""
        try:
            await self.write(self.storage.close)
        except ThreadsExhausted:
            self.storage.close()
        finally:
            self.end()

    def end(self) -> None:
        """End the thread; there is nothing to close. Idempotent."""
        self._writer.end()

    async def _run(self, call: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if not self.storage.blocking:
            return call()
        has_begun = False

        def begun() -> T:
            nonlocal has_begun
            has_begun = True
            return call()

        with trio.CancelScope(shield=True):
            try:
                return await self._run_blocking(begun, limiter=limiter)
            except (RuntimeError, MemoryError) as error:
                if has_begun:
                    raise
                raise _no_thread(error) from error
        raise InvariantViolation("a shielded storage call was cancelled")


def _no_thread(error: BaseException) -> ThreadsExhausted:
    return ThreadsExhausted(
        f"no thread can be started to call the storage: {error}. Raise the number of threads that "
        "this process, its user or its container may have (ulimit -u, pids.max), or its memory"
    )
