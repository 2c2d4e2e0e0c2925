"""Applier: one node's state machine, fed with what is committed, as `node.applying` does it.

Rules of this file: work is done in its order; a snapshot is taken of a state as it is between two
entries, and written beside the entries that go on being applied.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, TypeAlias

from ..core.errors import InvariantViolation, RaftError
from ..core.types import Entry, EntryKind, LogIndex, SnapshotMeta
from .disk import Disk
from .machine import Machine
from .writer import WriterOwner

_Work: TypeAlias = tuple[Entry, ...] | SnapshotMeta
_COMMAND = int(EntryKind.COMMAND)


class ApplierOwner(WriterOwner, Protocol):
    """The process, as its applier sees it."""

    def on_result(self, entry: Entry, result: Any) -> None:
        """A command was applied here."""

    def on_applied(self, index: LogIndex) -> None:
        """The state machine stands at this index."""


class Applier:
    """What waits to be applied, and the machine."""

    def __init__(self, machine: Machine, disk: Disk, owner: ApplierOwner, apply_s: float) -> None:
        self.machine = machine
        self.applied_index: LogIndex = 0
        self.entries_since_snapshot = 0
        self._disk = disk
        self._owner = owner
        self._apply_s = apply_s
        self._queue: deque[_Work] = deque()
        self._is_busy = False

    def restore_first(self, meta: SnapshotMeta) -> None:
        """Before the node starts."""
        self._restore(meta)

    def put(self, work: _Work) -> None:
        """Entries to apply next, or a snapshot to restore."""
        self._queue.append(work)
        if not self._is_busy:
            self._is_busy = True
            self._go_on()

    def _go_on(self) -> None:
        while self._queue:
            if self._apply_s:
                self._owner.later(self._apply_s, self._come_back)
                return
            self._do_next()
        self._is_busy = False

    def _come_back(self) -> None:
        self._do_next()
        self._go_on()

    def _do_next(self) -> None:
        self._drop_what_a_snapshot_covers()
        work = self._queue.popleft()
        if isinstance(work, SnapshotMeta):
            self._restore(work)
        else:
            self._apply(work)
        self._owner.on_applied(self.applied_index)

    def _drop_what_a_snapshot_covers(self) -> None:
        places = (i for i, work in enumerate(self._queue) if isinstance(work, SnapshotMeta))
        for _ in range(max(places, default=0)):
            self._queue.popleft()

    def _apply(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            if entry.index != self.applied_index + 1:
                raise InvariantViolation(
                    f"entry {entry.index} is to be applied after {self.applied_index}"
                )
            result: Any = None
            if entry.kind == _COMMAND:
                try:
                    result = self.machine.apply(entry.index, entry.data)
                except InvariantViolation:
                    raise
                except RaftError as error:  # an expired session, …: that is the result
                    result = error
            self.applied_index = entry.index
            self.entries_since_snapshot += 1
            self._owner.on_result(entry, result)

    def _restore(self, meta: SnapshotMeta) -> None:
        content = self._disk.read_snapshot(meta)
        if content is None:
            raise InvariantViolation(f"the snapshot of {meta.index} is to be restored, and gone")
        self.machine.restore(content)
        self.applied_index = meta.index
        self.entries_since_snapshot = 0
