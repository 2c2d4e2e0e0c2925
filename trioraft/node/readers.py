"""Readers: who waits for the same read of one node, in a task or in none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import attrs
import trio

from ..core.errors import NodeDead, NotMember, RaftError
from ..member.member import Member
from ..member.reads import ReadBatch

ToldOfRead: TypeAlias = Callable[[RaftError | None], None]
"""Called once what is applied answers a read, or with why nothing here ever will. It must not
raise."""


@final
@attrs.define(eq=False)
class Readers:
    """Those of one batch."""

    batch: ReadBatch
    tasks: int = 0
    """So many wait in tasks, in `lot`."""
    lot: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    calls: dict[ToldOfRead, None] = attrs.field(factory=dict)
    """Of who waits in no task."""

    @property
    def count(self) -> int:
        """How many they are."""
        return self.tasks + len(self.calls)

    async def wait(self) -> None:
        """Wait in a task until the batch is over. Cancellable."""
        if self.batch.is_over:  # at once: there is one voter, or a lease
            await trio.lowlevel.checkpoint()
        else:
            await self.lot.park()

    def leave(self, member: Member) -> None:
        """Somebody has left; perhaps nobody waits any more."""
        if not self.count:
            member.leave_reads(self.batch)

    def give_up(self, told: ToldOfRead, member: Member) -> None:
        """This one is not to be told any more. Idempotent."""
        if told in self.calls:
            del self.calls[told]
            self.leave(member)

    def tell(self, member: Member) -> None:
        """Tell those who wait in no task."""
        calls = self.calls
        while calls:  # it shrinks under us where one is given up
            told = next(iter(calls))
            del calls[told]
            told(self.why_unread(member))

    def why_unread(self, member: Member) -> RaftError | None:
        """Why nothing here will ever answer a batch that is over; None: what is applied does."""
        if self.batch.is_refused:
            return NotMember(member.raft.node_id, member.raft.removed_index or 0)
        if self.batch.index is None:
            node_id = member.raft.node_id
            return NodeDead(f"node {node_id!r} is Dead; nothing can be read here any more")
        return None
