"""Applying: committed entries into the state machine, snapshots out of it and into it.

Rules of this file:

* Entries are applied in order: a few at once by whoever brings them; many, and all that come while
  a snapshot is being restored, by the task, slice by slice, so that a slow state machine does not
  keep timers and heartbeats waiting. A snapshot is taken and restored between two entries, never
  beside one (hazard S1).
* Writing a snapshot does not stop the log: the state machine hands out a view of itself, and a
  worker thread writes it while entries go on being applied.
* An exception out of `apply` is the command's result. One out of `snapshot` or `restore` is a bug
  in the state machine, and ends the node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias, final

import attrs
import trio

from ..core.config import Limits
from ..core.errors import DiskFull
from ..core.types import (
    Configuration,
    Entry,
    EntryKind,
    LogIndex,
    SnapshotMeta,
    Term,
)
from ..member.state_machine import StateMachine
from ..tasks.wakeup import Wakeup
from .persistence import StorageCalls
from .proposals import ProposalTable

SENDING_PATIENCE = 4
"""How many times as many entries are let pass while a snapshot is being sent. Newer snapshots
replace the one that is on its way, and a slow transfer would start over for ever (hazard S4)."""

SLICE_ENTRIES = 512
"""Entries that are applied in one go; between two slices every other task has its turn."""

_COMMAND = int(EntryKind.COMMAND)  # comparing with an enum costs more than a trivial command
_Work: TypeAlias = tuple[Entry, ...] | SnapshotMeta


class ApplyingOwner(Protocol):
    """The driver, as its applying sees it. None of these may block."""

    def on_applied(self, index: LogIndex) -> None:
        """The state machine stands at this index now."""

    def on_snapshot_saved(self, meta: SnapshotMeta) -> None:
        """A snapshot of the state machine is durable."""

    def on_snapshot_unsaved(self, error: DiskFull) -> None:
        """There was no room for a snapshot; another is tried later."""

    def is_sending_snapshot(self) -> bool:
        """Whether a follower is getting a snapshot from here."""

    def place_of(self, index: LogIndex) -> tuple[Term, Configuration] | None:
        """The term of an applied entry, and the configuration in force there; None if the log
        does not hold it any more."""


class _AbandonedError(Exception):
    """The node died while its snapshot was being written: nobody wants the rest."""


@final
@attrs.define(eq=False)
class _Waiter:
    """Somebody who wants a snapshot of at least this index."""

    wanted_index: LogIndex
    done: trio.Event = attrs.field(factory=trio.Event)
    failure: DiskFull | None = None


@final
class Applying:
    """The state machine of one node, and the task that feeds it."""

    def __init__(
        self,
        machine: StateMachine,
        calls: StorageCalls,
        proposals: ProposalTable,
        limits: Limits,
        owner: ApplyingOwner,
    ) -> None:
        self._machine = machine
        self._calls = calls
        self._proposals = proposals
        self._limits = limits
        self._owner = owner
        self._queue: deque[_Work] = deque()
        self._is_idle = True
        self._work = Wakeup()
        self._applied_index: LogIndex = 0
        self._snapshot_index: LogIndex = 0
        self._entries_since = 0
        self._bytes_since = 0
        self._is_saving = False
        self._waiters: list[_Waiter] = []
        self._is_stopped = False

    async def restore_first(self, meta: SnapshotMeta) -> None:
        """Before the node starts: bring the state machine to where the storage left off."""
        await self._restore(meta)

    def put(self, work: _Work) -> None:
        """Entries to apply next, or a snapshot to restore."""
        if self._is_idle and not isinstance(work, SnapshotMeta) and len(work) <= SLICE_ENTRIES:
            self._apply(work)
            self._owner.on_applied(self._applied_index)
            if self._should_save():
                self._work.set()
            return
        self._is_idle = False
        if isinstance(work, SnapshotMeta):
            self._queue.append(work)
        else:
            for start in range(0, len(work), SLICE_ENTRIES):
                self._queue.append(work[start : start + SLICE_ENTRIES])
        self._work.set()

    async def run(self, spawn: Callable[..., None], name: str) -> None:
        """Apply until cancelled.

        Args:
            spawn: starts a task in the node's nursery: snapshots are written beside this one.
            name: of such a task.
        """
        while True:
            self._is_idle = True
            await self._work.wait()
            while self._queue:
                self._drop_what_a_snapshot_covers()
                work = self._queue.popleft()
                if isinstance(work, SnapshotMeta):
                    await self._restore(work)
                else:
                    self._apply(work)
                self._owner.on_applied(self._applied_index)
                await trio.lowlevel.checkpoint()
            if self._should_save():
                self._save_beside(spawn, name)

    def _drop_what_a_snapshot_covers(self) -> None:
        """Of several snapshots that wait, the last one counts: older ones may be gone already."""
        snapshots = (i for i, work in enumerate(self._queue) if isinstance(work, SnapshotMeta))
        last = max(snapshots, default=0)
        for _ in range(last):
            self._queue.popleft()

    def _apply(self, entries: tuple[Entry, ...]) -> None:
        apply, proposals = self._machine.apply, self._proposals
        for entry in entries:
            if entry.kind == _COMMAND:
                proposals.applied(entry, apply)
                self._bytes_since += len(entry.data)
            else:
                proposals.passed(entry)
        self._applied_index = entries[-1].index
        self._entries_since += len(entries)

    # -- snapshots -------------------------------------------------------------------------

    async def take_snapshot(self) -> LogIndex:
        """Have a snapshot taken of at least what is applied now, and wait until it is durable.

        Raises:
            DiskFull: there was no room for it.
        """
        if self._snapshot_index >= self._applied_index:
            await trio.lowlevel.checkpoint_if_cancelled()
            return self._snapshot_index
        waiter = _Waiter(self._applied_index)
        self._waiters.append(waiter)
        self._work.set()
        try:
            await waiter.done.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.failure is not None:
            raise waiter.failure
        return self._snapshot_index

    def stop(self) -> None:
        """The node is Dead: let go of whoever waits for a snapshot, and of one being written."""
        self._is_stopped = True
        for waiter in self._waiters:
            waiter.done.set()

    def _satisfy_waiters(self) -> None:
        """A snapshot stands at `_snapshot_index`; who wants more gets another one."""
        for waiter in self._waiters:
            if waiter.wanted_index <= self._snapshot_index:
                waiter.done.set()
        self._waiters = [waiter for waiter in self._waiters if not waiter.done.is_set()]
        if self._waiters:
            self._work.set()

    def _should_save(self) -> bool:
        if self._is_saving or self._applied_index <= self._snapshot_index:
            return False
        return bool(self._waiters) or (
            self._is_time(1)
            and (not self._owner.is_sending_snapshot() or self._is_time(SENDING_PATIENCE))
        )

    def _is_time(self, patience: int) -> bool:
        return (
            self._entries_since >= patience * self._limits.snapshot_entries
            or self._bytes_since >= patience * self._limits.snapshot_bytes
        )

    def _save_beside(self, spawn: Callable[..., None], name: str) -> None:
        """Take a view of the state now, and have it written while entries go on being applied."""
        place = self._owner.place_of(self._applied_index)
        if place is None:
            return  # a snapshot from the leader is on its way in, and brings more than this
        self._is_saving = True
        self._entries_since = self._bytes_since = 0
        content = self._machine.snapshot()
        chunks = (content,) if isinstance(content, bytes) else content
        spawn(self._save, self._applied_index, *place, chunks, name=name)

    async def _save(
        self, index: LogIndex, term: Term, configuration: Configuration, chunks: Iterable[bytes]
    ) -> None:
        storage = self._calls.storage
        wanted = self._while_wanted(chunks)
        try:
            meta = await self._calls.beside(
                lambda: storage.write_snapshot(index, term, configuration, wanted)
            )
        except _AbandonedError:
            return
        except DiskFull as error:
            self._owner.on_snapshot_unsaved(error)
            for waiter in self._waiters:
                waiter.failure = error
                waiter.done.set()
            return
        finally:
            self._is_saving = False
        self._snapshot_index = max(self._snapshot_index, meta.index)
        self._owner.on_snapshot_saved(meta)
        self._satisfy_waiters()

    def _while_wanted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._is_stopped:
                raise _AbandonedError
            yield chunk

    async def _restore(self, meta: SnapshotMeta) -> None:
        storage = self._calls.storage
        await self._calls.beside(lambda: self._machine.restore(storage.read_snapshot(meta)))
        self._applied_index = self._snapshot_index = meta.index
        self._entries_since = self._bytes_since = 0
        self._proposals.covered(meta.index)
        self._satisfy_waiters()
