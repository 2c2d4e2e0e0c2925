"""The write queue: Readys that wait for the disk, one durable write at a time.

* What arrives while a write is on its way joins the next one: that is where group commit comes
  from.
* No write grows without end: beyond `Limits.write_bytes_max` the rest is another one. A disk is
  judged by the writes that it finishes: one that is busy with much is not taken for one that hangs.
* Entries of one Ready may be written in parts, in order: after a crash in between, the log is one
  that ends earlier. Nothing that waits for the Ready leaves before its last part is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import final

import attrs

from ..core.ready import Ready, Write, join_writes
from .actions import Compact, Install, StorageStep


@final
class WriteQueue:
    """Readys in their order.

    Args:
        write_bytes_max: bytes of commands in one durable write; one entry may exceed it alone.
    """

    __slots__ = ("_write_bytes_max", "group", "identity", "steps", "waiting")

    def __init__(self, write_bytes_max: int) -> None:
        self._write_bytes_max = write_bytes_max
        self.waiting: list[Ready] = []
        """What joins the next write."""
        self.group: list[Ready] = []
        """What is being written; empty: nothing is."""
        self.steps: deque[StorageStep] = deque()
        """What is to be done for the group; the first is on its way."""
        self.identity: bytes | None = None
        """What this disk is to say of itself from the next write on."""

    @property
    def is_busy(self) -> bool:
        """Whether a write is on its way."""
        return bool(self.group or self.steps)

    @property
    def unwritten(self) -> list[Ready]:
        """All that is not durable yet, the oldest first."""
        return self.group + self.waiting

    def put(self, ready: Ready) -> None:
        """This Ready has something for the disk, or messages that wait for it."""
        self.waiting.append(ready)

    def begin_group(self) -> bool:
        """Take what waits: plain writes together, as one transaction while that is not too large;
        anything else (a snapshot, a chunk, compaction) by itself, in its place. False if nothing
        waits."""
        waiting, identity = self.waiting, self.identity
        if not waiting:
            if identity is None:
                return False
            self.identity = None
            self.steps.append(Write(None, (), None, identity))
            return True
        if len(waiting) == 1:
            self.group, self.waiting = waiting, []
        else:
            joined = self._how_many(waiting)
            self.group, self.waiting = waiting[:joined], waiting[joined:]
        first, steps = self.group[0], self.steps
        if first.install is not None:
            steps.append(Install(first.install, identity))
            identity = self.identity = None
        write = join_writes(self.group)
        if identity is not None:  # in one transaction with the entries that it came with
            self.identity = None
            write = attrs.evolve(write or Write(None, (), None), identity=identity)
        if write is not None:
            size_bytes = sum([len(entry.data) for entry in write.entries])
            if size_bytes <= self._write_bytes_max:
                steps.append(_part(write, 0, len(write.entries), size_bytes))
            else:
                steps.extend(self._parts(write))
        steps.extend(first.chunks)
        if first.compact is not None:
            steps.append(Compact(*first.compact))
        return True

    def _how_many(self, waiting: Sequence[Ready]) -> int:
        """How many of these are written together."""
        so_far_bytes = 0
        for i, ready in enumerate(waiting):
            so_far_bytes += sum([len(entry.data) for entry in ready.append])
            if i and (not ready.is_plain_write or so_far_bytes > self._write_bytes_max):
                return i
            if not ready.is_plain_write:
                return 1
        return len(waiting)

    def _parts(self, write: Write) -> Iterator[Write]:
        """One write as several, none of which is too large; all else goes with the first one."""
        entries, bytes_max = write.entries, self._write_bytes_max
        begin = so_far_bytes = 0
        for i, entry in enumerate(entries):
            size_bytes = len(entry.data)
            if so_far_bytes + size_bytes > bytes_max and i > begin:
                yield _part(write, begin, i, so_far_bytes)
                begin, so_far_bytes = i, 0
            so_far_bytes += size_bytes
        yield _part(write, begin, len(entries), so_far_bytes)

    def step_done(self) -> StorageStep:
        """What was on its way is durable."""
        return self.steps.popleft()

    def end_group(self) -> list[Ready]:
        """All steps are done: these Readys, and all before them, are durable."""
        group, self.group = self.group, []
        return group


def _part(write: Write, begin: int, end: int, size_bytes: int) -> Write:
    part = write.entries if end - begin == len(write.entries) else write.entries[begin:end]
    if begin:
        return Write(None, part, part[0].index, size_bytes=size_bytes)
    return Write(write.hard_state, part, write.replace_from, write.identity, size_bytes)
