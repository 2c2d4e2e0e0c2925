"""The write queue: Readys that wait for the disk, one durable write at a time."""

from __future__ import annotations

from collections import deque
from typing import final

from ..core.ready import Ready, join_writes
from .actions import Compact, Install, StorageStep


@final
class WriteQueue:
    """Readys in their order. What arrives while a write is on its way joins the next one: that is
    where group commit comes from."""

    __slots__ = ("_group", "_steps", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Ready] = []
        self._group: list[Ready] = []  # what is being written
        self._steps: deque[StorageStep] = deque()  # of the group; the first is on its way

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way to the disk."""
        return not self._group

    @property
    def unwritten(self) -> list[Ready]:
        """All that is not durable yet, the oldest first."""
        return self._group + self._waiting

    @property
    def step(self) -> StorageStep | None:
        """What is to be done next for the group, or is on its way."""
        return self._steps[0] if self._steps else None

    def put(self, ready: Ready) -> None:
        """This Ready has something for the disk, or messages that wait for it."""
        self._waiting.append(ready)

    def begin_group(self) -> bool:
        """Take what waits: plain writes together, as one transaction; anything else (a snapshot, a
        chunk, compaction) by itself, in its place. False if nothing waits."""
        waiting = self._waiting
        if not waiting:
            return False
        if len(waiting) == 1:
            self._group, self._waiting = waiting, []
        else:
            plain = next((i for i, r in enumerate(waiting) if not r.is_plain_write), len(waiting))
            self._group, self._waiting = waiting[: plain or 1], waiting[plain or 1 :]
        group, steps = self._group, self._steps
        first = group[0]
        if first.install is not None:
            steps.append(Install(first.install))
        write = join_writes(group)
        if write is not None:
            steps.append(write)
        steps.extend(first.chunks)
        if first.compact is not None:
            steps.append(Compact(*first.compact))
        return True

    def step_done(self) -> StorageStep:
        """What was on its way is durable."""
        return self._steps.popleft()

    def end_group(self) -> list[Ready]:
        """All steps are done: these Readys, and all before them, are durable."""
        group, self._group = self._group, []
        return group
