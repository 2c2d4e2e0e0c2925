"""Writer: one node's durable writes, one at a time, as `trioraft.node.persistence` does them.

Rules of this file:

* Readys are honoured in their order. Plain writes that arrive while one is under way join the
  next; snapshots, chunks and compaction go by themselves.
* Each step takes its time, may find no room (then it is tried again) or fail (then the node
  dies), and a crash may come between any two.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from ..core.ready import Ready, SnapshotChunk, Write, join_writes
from ..core.types import LogIndex, SnapshotMeta, Term
from .agenda import Agenda
from .disk import Disk

RETRY_S: Final = 0.1
"""How long a full disk is left alone."""


class WriterOwner(Protocol):
    """The process, as its writer sees it."""

    def effect(self) -> None:
        """Something is about to be done: a crash may come first."""

    def write_begun(self) -> None:
        """A write is on its way and not durable."""

    def write_failed(self) -> None:
        """EIO: the node dies."""

    def on_durable(self, readies: list[Ready]) -> None:
        """These are durable, and all before them."""

    def on_installed(self, meta: SnapshotMeta) -> None:
        """A snapshot took the place of the stored log."""

    def on_chunk_stored(self, chunk: SnapshotChunk, next_offset: int) -> None:
        """Part of a snapshot is stored."""

    def on_disk_full(self) -> None:
        """There is no room."""

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """An input of this very life, after so long."""


class Writer:
    """The queue of Readys that wait for the disk."""

    def __init__(
        self,
        disk: Disk,
        owner: WriterOwner,
        agenda: Agenda,
        rng: random.Random,
        delay_s: tuple[float, float],
    ) -> None:
        self.extra_s = 0.0
        """By how much the disk is slower than usual."""
        self._disk = disk
        self._owner = owner
        self._agenda = agenda
        self._rng = rng
        self._delay_s = delay_s
        self._waiting: list[Ready] = []
        self._group: list[Ready] = []
        self._steps: deque[Write | SnapshotMeta | SnapshotChunk | tuple[LogIndex, Term]] = deque()
        self._is_busy = False

    def put(self, ready: Ready) -> None:
        """This Ready has something for the disk, or messages that wait for it."""
        self._waiting.append(ready)
        if not self._is_busy:
            self._is_busy = True
            self._go_on()

    def _go_on(self) -> None:
        """Do what can be done now; come back when something takes time."""
        while True:
            while self._steps:
                if not self._start_step():
                    return
                self._end_step()
            if self._group:
                done, self._group = self._group, []
                self._owner.on_durable(done)
            if not self._waiting:
                self._is_busy = False
                return
            self._take_group()

    def _take_group(self) -> None:
        waiting = self._waiting
        count = next((i for i, r in enumerate(waiting) if not r.is_plain_write), len(waiting))
        group = self._group = waiting[: max(1, count)]
        del waiting[: len(group)]
        first, steps = group[0], self._steps
        if first.install is not None:
            steps.append(first.install)
        write = join_writes(group)
        if write is not None:
            steps.append(write)
        steps.extend(first.chunks)
        if first.compact is not None:
            steps.append(first.compact)

    def _start_step(self) -> bool:
        """Whether the step is done with at once."""
        self._owner.effect()
        if self._disk.is_full:
            self._owner.on_disk_full()
            self._owner.later(RETRY_S, self._go_on)
            return False
        step = self._steps[0]
        if isinstance(step, Write):
            self._disk.begin(step)
            self._owner.write_begun()
        delay_s = self._rng.uniform(*self._delay_s) + self.extra_s
        if delay_s:
            self._owner.later(delay_s, self._come_back)
        return not delay_s

    def _come_back(self) -> None:
        self._end_step()
        self._go_on()

    def _end_step(self) -> None:
        step = self._steps.popleft()
        if self._disk.fails_next:
            self._owner.write_failed()
        if isinstance(step, Write):
            self._disk.sync()
        elif isinstance(step, SnapshotMeta):
            self._disk.install(step)
            self._owner.on_installed(step)
        elif isinstance(step, SnapshotChunk):
            self._owner.on_chunk_stored(step, self._disk.receive(step))
        else:
            self._disk.compact(*step)
