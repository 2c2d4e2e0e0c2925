"""ByteBudget: a bound on bytes that are on their way, with a fair queue before it.

Rules of this file:

* Its share is taken before a command is appended and given back with its outcome: what was promised
  to one caller is never promised to another, however many wake at once.
* First come, first served. One command alone always fits, or a large one would wait for ever.
* Every command counts a little more than its bytes: a million empty ones are not free either.
"""

from __future__ import annotations

from collections import deque
from typing import final

import attrs
import trio

COMMAND_OVERHEAD_BYTES = 256
"""What a command costs beside its bytes: an entry, a proposal, a place in a table."""


@final
@attrs.define(eq=False)
class _Ticket:
    size_bytes: int
    event: trio.Event = attrs.field(factory=trio.Event)
    granted: bool = False


@final
class ByteBudget:
    """Bytes of commands that may be on their way at the same time."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.taken_bytes: int = 0
        """What is on its way, or promised to somebody who has been woken."""
        self._queue: deque[_Ticket] = deque()

    def take(self, size_bytes: int) -> bool:
        """Take room for a command of this size at once; False if it must wait."""
        taken_bytes = self.taken_bytes + size_bytes + COMMAND_OVERHEAD_BYTES
        if self._queue or (taken_bytes > self.bytes_max and self.taken_bytes):
            return False  # one command alone always fits
        self.taken_bytes = taken_bytes
        return True

    async def wait(self, size_bytes: int) -> bool:
        """Wait for room, and take it. Cancellable: then nothing is taken.

        Returns:
            False if everybody was turned away meanwhile: nothing is taken.
        """
        ticket = _Ticket(size_bytes + COMMAND_OVERHEAD_BYTES)
        self._queue.append(ticket)
        self._admit()
        try:
            await ticket.event.wait()
        except trio.Cancelled:
            if ticket.granted:
                self.taken_bytes -= ticket.size_bytes
            elif ticket in self._queue:
                self._queue.remove(ticket)
            self._admit()
            raise
        return ticket.granted

    def give_back(self, size_bytes: int) -> None:
        """A command of this size is on its way no longer."""
        self.taken_bytes -= size_bytes + COMMAND_OVERHEAD_BYTES
        if self._queue:
            self._admit()

    def turn_away(self) -> None:
        """Wake everybody who waits, with nothing: there is nothing to wait for any more."""
        while self._queue:
            self._queue.popleft().event.set()

    def _fits(self, cost: int) -> bool:
        return self.taken_bytes == 0 or self.taken_bytes + cost <= self.bytes_max

    def _admit(self) -> None:
        while self._queue and self._fits(self._queue[0].size_bytes):
            ticket = self._queue.popleft()
            ticket.granted = True
            self.taken_bytes += ticket.size_bytes
            ticket.event.set()
