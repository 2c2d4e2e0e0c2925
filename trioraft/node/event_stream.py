"""EventStream: a bounded view on what happens in a node, for whoever wants to watch.

Rules of this file: a slow watcher loses events, counted, and never slows the node. The stream
ends when the node is Dead and everything before was read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import trio

from ..core.events import TraceEvent
from ..transport.base import TransportEvent

NodeEvent: TypeAlias = TraceEvent | TransportEvent
"""What a stream yields."""


@final
class EventStream:
    """An async iterator over the events since it was opened. Made by `Node.events`.

    ```python
    async with node.events() as stream:
        async for event in stream:
            print(event)
    ```
    """

    def __init__(self, events_max: int) -> None:
        self.dropped: int = 0
        """Events lost because they were not read in time."""
        self.keep: Callable[[NodeEvent], bool] | None = None
        """Asked of each event as it happens; those of which it says no are not put here, and cost
        next to nothing. It must be quick, and raise nothing. None: all are."""
        self._is_over = False
        self._send, self._receive = trio.open_memory_channel[NodeEvent](events_max)

    def put(self, event: NodeEvent) -> None:
        """Offer one event; never waits. After the end it is too late, which is no error."""
        if self._is_over or (self.keep is not None and not self.keep(event)):
            return
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self.dropped += 1

    def end(self) -> None:
        """No more events will come."""
        self._is_over = True
        self._send.close()

    def close(self) -> None:
        """Nobody reads any more."""
        self._is_over = True
        self._send.close()
        self._receive.close()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> NodeEvent:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
