"""Persistence: what a node does with its storage, one durable write at a time.

Rules of this file:

* Readys are honoured in their order. Plain writes that arrive while one is under way join the
  next: one transaction for all of them.
* A storage that does not block is written to at once, by whoever brings the Ready.
* A write that has begun is waited for, whatever is cancelled: half a write is nobody's friend.
* A full disk is waited out: the write is tried again, and nothing is acknowledged meanwhile.
  Every other failure ends the node; a failed fsync is never tried again (hazard D5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar, final

import trio

from ..core.errors import DiskFull, InvariantViolation
from ..core.ready import Ready, SnapshotChunk, join_writes
from ..core.types import SnapshotMeta
from ..storage.base import Storage
from ..tasks.wakeup import Wakeup

T = TypeVar("T")

DISK_FULL_RETRY_S = 0.1
"""How long a full disk is left alone before the write is tried again."""


class RunBlocking(Protocol):
    """Runs a call that may wait for a disk, once, and returns what it returned."""

    async def __call__(self, call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T: ...


async def _in_a_thread(call: Callable[[], T], /, *, limiter: trio.CapacityLimiter) -> T:
    return await trio.to_thread.run_sync(call, limiter=limiter)


RUN_BLOCKING: ContextVar[RunBlocking] = ContextVar("trioraft run_blocking", default=_in_a_thread)
"""How the nodes that are opened in this context call a storage that blocks: in worker threads.
Threads are never twice the same; a simulation puts a disk in virtual time in their place."""


class PersistenceOwner(Protocol):
    """The driver, as its persistence sees it. None of these may block."""

    def on_durable(self, readies: Sequence[Ready]) -> None:
        """These are durable, and all before them."""

    def on_installed(self, meta: SnapshotMeta) -> None:
        """This snapshot took the place of the stored log."""

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int) -> None:
        """A chunk was offered to the storage, which wants more from `next_offset`."""

    def on_disk_full(self) -> None:
        """There is no room; the write will be tried again."""


@final
class StorageCalls:
    """Runs storage calls where they belong: in worker threads of this node's own, or inline."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._run_blocking = RUN_BLOCKING.get()
        self._writes = trio.CapacityLimiter(1)  # no other code can hold these up
        self._snapshots = trio.CapacityLimiter(1)

    async def write(self, call: Callable[[], T]) -> T:
        """One of the calls that the storage wants one at a time. Cannot be cancelled."""
        return await self._run(call, self._writes)

    async def beside(self, call: Callable[[], T]) -> T:
        """A snapshot call that may run beside the writes. Cannot be cancelled."""
        return await self._run(call, self._snapshots)

    async def _run(self, call: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        if not self.storage.blocking:
            return call()
        with trio.CancelScope(shield=True):
            return await self._run_blocking(call, limiter=limiter)
        raise InvariantViolation("a shielded storage call was cancelled")


@final
class Persistence:
    """The queue of Readys that wait for the disk, and the task that empties it."""

    def __init__(self, calls: StorageCalls, owner: PersistenceOwner) -> None:
        self._calls = calls
        self._storage = calls.storage
        self._owner = owner
        self._waiting: list[Ready] = []
        self._work = Wakeup()
        self._is_idle = True

    def put(self, ready: Ready) -> None:
        """This Ready has something for the disk, or messages that wait for it."""
        may_write_now = not self._storage.blocking and self._is_idle and ready.is_plain_write
        if may_write_now and self._store_at_once(ready):
            return
        self._is_idle = False
        self._waiting.append(ready)
        self._work.set()

    def _store_at_once(self, ready: Ready) -> bool:
        write = join_writes([ready])
        if write is not None:
            try:
                self._storage.append(write.hard_state, write.entries, write.replace_from)
            except DiskFull:
                return False  # the task waits it out
        self._owner.on_durable([ready])
        return True

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            StorageError: the storage failed.
        """
        while True:
            self._is_idle = not self._waiting
            await self._work.wait()
            batch, self._waiting = self._waiting, []
            for group in _groups(batch):
                await self._store(group)
                await trio.lowlevel.checkpoint_if_cancelled()
                self._owner.on_durable(group)

    async def _store(self, group: Sequence[Ready]) -> None:
        special = None if group[0].is_plain_write else group[0]
        if special is not None and special.install is not None:
            await self._install(special.install)
        write = join_writes(group)
        if write is not None:
            await self._until_there_is_room(
                lambda: self._storage.append(write.hard_state, write.entries, write.replace_from)
            )
        if special is not None:
            await self._store_chunks(special)

    async def _install(self, meta: SnapshotMeta) -> None:
        await self._until_there_is_room(lambda: self._storage.install_snapshot(meta))
        await trio.lowlevel.checkpoint_if_cancelled()
        self._owner.on_installed(meta)

    async def _store_chunks(self, ready: Ready) -> None:
        for chunk in ready.chunks:

            def receive(chunk: SnapshotChunk = chunk) -> int:
                return self._storage.receive_chunk(chunk.meta, chunk.offset, chunk.data)

            next_offset = await self._until_there_is_room(receive)
            await trio.lowlevel.checkpoint_if_cancelled()
            self._owner.on_chunk_stored(chunk, next_offset)
        if ready.compact is not None:
            base_index, base_term = ready.compact
            await self._until_there_is_room(lambda: self._storage.compact(base_index, base_term))

    async def _until_there_is_room(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return await self._calls.write(call)
            except DiskFull:
                self._owner.on_disk_full()
            await trio.sleep(DISK_FULL_RETRY_S)


def _groups(batch: Sequence[Ready]) -> Iterator[list[Ready]]:
    """Runs of plain writes, which become one transaction each; anything else by itself."""
    run: list[Ready] = []
    for ready in batch:
        if ready.is_plain_write:
            run.append(ready)
            continue
        if run:
            yield run
            run = []
        yield [ready]
    if run:
        yield run
