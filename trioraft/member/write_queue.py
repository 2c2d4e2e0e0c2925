"""The write queue: Readys that wait for the disk, one durable write at a time."""

from __future__ import annotations

from collections import deque
from typing import final

import attrs

from ..core.ready import Ready, Write, join_writes
from .actions import Compact, Install, StorageStep


@final
class WriteQueue:
    """Readys in their order. What arrives while a write is on its way joins the next one: that is
    where group commit comes from."""

    __slots__ = ("group", "identity", "steps", "waiting")

    def __init__(self) -> None:
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
        """Take what waits: plain writes together, as one transaction; anything else (a snapshot, a
        chunk, compaction) by itself, in its place. False if nothing waits."""
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
            plain = next((i for i, r in enumerate(waiting) if not r.is_plain_write), len(waiting))
            self.group, self.waiting = waiting[: plain or 1], waiting[plain or 1 :]
        first, steps = self.group[0], self.steps
        if first.install is not None:
            steps.append(Install(first.install, identity))
            identity = self.identity = None
        write = join_writes(self.group)
        if identity is not None:  # in one transaction with the entries that it came with
            self.identity = None
            write = attrs.evolve(write or Write(None, (), None), identity=identity)
        if write is not None:
            steps.append(write)
        steps.extend(first.chunks)
        if first.compact is not None:
            steps.append(Compact(*first.compact))
        return True

    def step_done(self) -> StorageStep:
        """What was on its way is durable."""
        return self.steps.popleft()

    def end_group(self) -> list[Ready]:
        """All steps are done: these Readys, and all before them, are durable."""
        group, self.group = self.group, []
        return group
