"""Barriers: who waits to read, and how far the state machine must be for it.

Rules of this file:

* Whoever asks before the driver comes round shares one read of the core, and so one round of
  heartbeats with everyone else (dissertation 6.4).
* While no leader is known nothing is asked: all who wait are one batch, however many they are and
  however long it takes.
* Every wait ends when the node is Dead.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import final

import trio

from ..core.errors import NodeDead
from ..core.reads import ConfirmedRead
from ..core.types import LogIndex, NodeId


@final
class Batch:
    """Callers that share one read."""

    __slots__ = ("index", "is_dead", "lease", "lot", "number")

    def __init__(self, *, lease: bool) -> None:
        self.lease = lease
        self.lot = trio.lowlevel.ParkingLot()
        self.number: int | None = None
        """The core's number of it; None: not asked yet."""
        self.index: LogIndex | None = None
        """How far the state machine must have applied; None: not known yet."""
        self.is_dead = False


@final
class ReadBarriers:
    """All barriers of one node that are not passed yet."""

    def __init__(self, node_id: NodeId) -> None:
        self._node_id = node_id
        self._new: dict[bool, Batch] = {}  # by kind: with lease or without
        self._asked: dict[int, Batch] = {}
        self._ripening: list[tuple[LogIndex, int, Batch]] = []  # a heap: by index, then number

    @property
    def has_new(self) -> bool:
        """Whether anyone waits whose read was not asked yet."""
        return bool(self._new)

    async def wait(self, *, lease: bool, forget: Callable[[int], None]) -> LogIndex:
        """Wait in the batch that is asked next.

        Args:
            lease: whether the leader's clock is good enough.
            forget: called with the number of a read that nobody waits for any more.

        Raises:
            NodeDead: the node is Dead, or died meanwhile.
        """
        batch = self._new.setdefault(lease, Batch(lease=lease))
        try:
            await batch.lot.park()
        except trio.Cancelled:
            if not batch.lot:
                self._drop(batch, forget)
            raise
        if batch.is_dead or batch.index is None:
            raise NodeDead(f"node {self._node_id!r} is Dead; nothing can be read here any more")
        return batch.index

    def _drop(self, batch: Batch, forget: Callable[[int], None]) -> None:
        if batch.number is None:
            if self._new.get(batch.lease) is batch:
                del self._new[batch.lease]
        elif self._asked.pop(batch.number, None) is not None:
            forget(batch.number)

    def take_new(self) -> list[Batch]:
        """Those that are to be asked now; `asked` follows for each."""
        batches = list(self._new.values())
        self._new.clear()
        return batches

    def asked(self, batch: Batch, number: int) -> None:
        """The core knows this batch by a number."""
        batch.number = number
        self._asked[number] = batch

    def confirmed(self, read: ConfirmedRead, applied_index: LogIndex) -> None:
        """This read is good once the state machine stands at its index."""
        batch = self._asked.pop(read.number, None)
        if batch is None:
            return
        batch.index = read.index
        if read.index <= applied_index:
            batch.lot.unpark_all()
        else:
            heapq.heappush(self._ripening, (read.index, read.number, batch))

    def on_applied(self, applied_index: LogIndex) -> None:
        """The state machine stands here now."""
        while self._ripening and self._ripening[0][0] <= applied_index:
            heapq.heappop(self._ripening)[2].lot.unpark_all()

    def node_died(self) -> None:
        """Nothing can be read any more."""
        ripening = [batch for _, _, batch in self._ripening]
        for batch in [*self._new.values(), *self._asked.values(), *ripening]:
            batch.is_dead = True
            batch.lot.unpark_all()
        self._new.clear()
        self._asked.clear()
        self._ripening.clear()
