"""Storage calls: where a node's calls of its storage run, and how a full disk is waited out."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol, TypeVar, final

import trio

from ..core.errors import InvariantViolation, ThreadsExhausted
from ..storage.base import Storage

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
    """Runs storage calls where they belong: in worker threads of this node's own, or inline."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._run_blocking = RUN_BLOCKING.get()
        self._writes = trio.CapacityLimiter(1)  # no other code can hold these up
        self._snapshots = trio.CapacityLimiter(1)

    @property
    def in_threads(self) -> bool:
        """Whether calls that block run in worker threads, in the time of this machine."""
        return self._run_blocking is _in_a_thread

    async def write(self, call: Callable[[], T]) -> T:
        """One of the calls that the storage wants one at a time. Cannot be cancelled: half a write
        is nobody's friend.

        Raises:
            ThreadsExhausted: it was not called.
        """
        return await self._run(call, self._writes)

    async def beside(self, call: Callable[[], T]) -> T:
        """A snapshot call that may run beside the writes. Cannot be cancelled.

        Raises:
            ThreadsExhausted: it was not called.
        """
        return await self._run(call, self._snapshots)

    async def close(self) -> None:
        """Close the storage, in this very thread if there is no other."""
        try:
            await self.write(self.storage.close)
        except ThreadsExhausted:
            self.storage.close()

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
                raise ThreadsExhausted(
                    f"no thread can be started to call the storage: {error}. Raise the number of "
                    "threads that this process, its user or its container may have (ulimit -u, "
                    "pids.max), or its memory"
                ) from error
        raise InvariantViolation("a shielded storage call was cancelled")
