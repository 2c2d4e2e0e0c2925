"""How much of one subscription may be on its way to a client that reads many over one connection.

A connection that is not read holds up all that is on it. So a client that shares one reads always,
says of each subscription how much it has room for, and how much its reader has taken.
"""

from __future__ import annotations

from typing import final

import trio


@final
class Window:
    """Of one subscription: what is on its way, or at the client and not taken.

    Args:
        window_bytes: how much that may be before the next item; 0: there is no bound.
    """

    __slots__ = ("_taken", "_untaken_bytes", "_window_bytes")

    def __init__(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._untaken_bytes = 0
        self._taken: trio.Event | None = None  # there while somebody waits

    @property
    def is_bounded(self) -> bool:
        """Whether it has to be heeded at all."""
        return self._window_bytes > 0

    def on_sent(self, size_bytes: int) -> None:
        """An item was sent."""
        self._untaken_bytes += size_bytes

    def on_taken(self, size_bytes: int) -> None:
        """The client's reader has taken so much. More than there was is not saved up."""
        self._untaken_bytes = max(0, self._untaken_bytes - size_bytes)
        if self._taken is not None and self._untaken_bytes < self._window_bytes:
            self._taken.set()
            self._taken = None

    async def room(self) -> None:
        """Wait until one more item may be sent."""
        while self.is_bounded and self._untaken_bytes >= self._window_bytes:
            if self._taken is None:
                self._taken = trio.Event()
            await self._taken.wait()
