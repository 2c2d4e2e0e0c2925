"""Reads of one member: who waits, and how far the state machine must be for it.

* Whoever asks before the member comes round shares one read of the core, and so one round of
  heartbeats with everyone else (dissertation 6.4).
* While no leader is known nothing is asked: all who wait are one batch, however many they are and
  however long it takes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, final

from ..core.raft import Raft
from ..core.reads import ConfirmedRead
from ..core.types import LogIndex


def _nobody() -> None:
    """Who is woken before anyone waits."""


@final
class ReadBatch:
    """Callers that share one read."""

    __slots__ = ("index", "is_over", "is_refused", "lease", "number", "wake")

    def __init__(self, *, lease: bool) -> None:
        self.lease: bool = lease
        self.wake: Callable[[], object] = _nobody
        """Called once, when the batch is over."""
        self.number: int | None = None
        """The core's number of it; None: not asked yet."""
        self.index: LogIndex | None = None
        """How far the state machine must have applied; None: not known yet."""
        self.is_over: bool = False
        """What is applied here answers the read; without an index, nothing here ever will."""
        self.is_refused: bool = False
        """The member was removed from the cluster."""

    def end(self) -> None:
        """Nothing more to wait for."""
        self.is_over = True
        self.wake()


@final
class Reads:
    """All batches of one member that are not answered yet."""

    def __init__(self) -> None:
        self.new: Final[dict[bool, ReadBatch]] = {}
        """Those that nobody was asked about yet, by kind: with lease or without."""
        self._asked: dict[int, ReadBatch] = {}
        self._ripening: list[tuple[LogIndex, int, ReadBatch]] = []  # a heap: by index, then number

    def join(self, *, lease: bool) -> ReadBatch:
        """The batch that is asked next.

        Args:
            lease: whether the leader's clock is good enough.
        """
        batch = self.new.get(lease)
        if batch is None:
            batch = self.new[lease] = ReadBatch(lease=lease)
        return batch

    def leave(self, batch: ReadBatch, raft: Raft) -> None:
        """Nobody waits in this batch any more."""
        if batch.number is None:
            if self.new.get(batch.lease) is batch:
                del self.new[batch.lease]
        elif self._asked.pop(batch.number, None) is not None:
            raft.forget_read(batch.number)

    def ask(self, raft: Raft, now: float) -> None:
        """Ask the core for every batch that is new."""
        for batch in self.new.values():
            batch.number = raft.read(now, lease=batch.lease)
            self._asked[batch.number] = batch
        self.new.clear()

    def confirmed(self, read: ConfirmedRead, applied_index: LogIndex) -> None:
        """This read is good once the state machine stands at its index."""
        batch = self._asked.pop(read.number, None)
        if batch is None:
            return
        batch.index = read.index
        if read.index <= applied_index:
            batch.end()
        else:
            heapq.heappush(self._ripening, (read.index, read.number, batch))

    def on_applied(self, applied_index: LogIndex) -> None:
        """The state machine stands here now."""
        while self._ripening and self._ripening[0][0] <= applied_index:
            heapq.heappop(self._ripening)[2].end()

    def __len__(self) -> int:
        return len(self.new) + len(self._asked) + len(self._ripening)

    def removed(self, raft: Raft) -> None:
        """The member was removed: what is committed from then on never comes here (hazard P5)."""
        for number in self._asked:
            raft.forget_read(number)
        self._end_all(is_refused=True)

    def member_died(self) -> None:
        """Nothing can be read any more."""
        self._end_all(is_refused=False)

    def _end_all(self, *, is_refused: bool) -> None:
        ripening = [batch for _, _, batch in self._ripening]
        for batch in [*self.new.values(), *self._asked.values(), *ripening]:
            batch.index = None
            batch.is_refused = is_refused
            batch.end()
        self.new.clear()
        self._asked.clear()
        self._ripening.clear()
