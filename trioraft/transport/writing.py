"""The writing half of one connection: what waits leaves, urgent messages first.

Rules of this file:

* Everything that may leave leaves in one write, as soon as the scheduler comes round. A message
  that finds the connection idle is given to the kernel at once, which spares it that turn.
* Bulk leaves as the line drains (`drain`); urgent messages do not ask. No event tells that a peer
  has acknowledged something, so a connection that holds bulk back looks again and again: soon at
  first, then in a part of what a round may take.
* Where the kernel does not say what it holds, it takes what fits into its buffers.
"""

from __future__ import annotations

import os
from typing import Final, final

import trio

from ..net.connection import BROKEN, socket_under
from ..net.sentences import sentence_of
from ..net.sockets import (
    held_bytes,
    round_trip_s,
    segment_bytes,
    shortest_round_trip_s,
)
from .drain import Drain
from .outgoing import WRITE_BYTES_MAX, Outgoing

LOOK_FIRST_S: Final = 0.001
"""Until the first look again, in seconds: a system waits no shorter."""


@final
class Writer:
    """Writes to one connection.

    Args:
        stream: where to.
        outgoing: what waits.
        drain: what is known of the line.
        look_longest_s: the longest pause between two looks at what the kernel holds, in seconds.
    """

    def __init__(
        self, stream: trio.abc.Stream, outgoing: Outgoing, drain: Drain, look_longest_s: float
    ) -> None:
        self._stream = stream
        self._outgoing = outgoing
        self._drain = drain
        self._look_longest_s = look_longest_s
        self._socket = socket_under(stream)
        segment = segment_bytes(self._socket)
        self._is_bounded = segment is not None
        if segment is not None:
            drain.open(segment, self._held_bytes)
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        self._is_idle = False  # nothing waits, and the kernel may be written to directly
        self._credit = 0  # bytes that may leave without another look
        self._unnoted = 0  # bytes that have left since the last one
        self._news = trio.Event()

    @property
    def round_trip_s(self) -> float:
        """To the peer and back, as usual lately; 0.0: the kernel does not say."""
        return round_trip_s(self._socket)

    def write_at_once(self, frame: bytes) -> int:
        """Give the kernel what it takes without waiting, if nothing is before this frame. A broken
        connection takes nothing here, and is noticed by whoever waits on it.

        Returns:
            How many bytes have left; 0: the frame has to wait.
        """
        if not self._is_idle or self._fd is None:
            return 0
        size = len(frame)
        if size > self._credit and size > self._look():
            return 0
        try:
            left = os.write(self._fd, frame)
        except OSError:
            return 0
        self._credit -= left
        self._unnoted += left
        return left

    def close(self) -> None:
        """Nothing is written any more."""
        self._drain.close()

    def _held_bytes(self) -> int:
        return held_bytes(self._socket) or 0

    def wake(self) -> None:
        """Something waits."""
        self._is_idle = False
        self._news.set()

    async def run(self, silence_s: float) -> str:
        """Write what waits until the connection breaks, and return how.

        Args:
            silence_s: how long the peer may take nothing, in seconds.
        """
        outgoing = self._outgoing
        while True:
            if not outgoing:
                self._news = trio.Event()
                self._is_idle = True
                try:
                    await self._news.wait()
                finally:
                    self._is_idle = False
            data = outgoing.take(self._whole(self._room()))
            if not data:
                await self._until_drained()
                continue
            if outgoing.took_bulk and self._is_bounded:
                self._drain.on_bulk(trio.current_time())
            with trio.move_on_after(silence_s) as patience:
                try:
                    await self._stream.send_all(data)
                except BROKEN as error:
                    return f"connection lost: {sentence_of(error)}"
            if patience.cancelled_caught:
                return f"it took no data for {silence_s:g} s"
            outgoing.on_left()
            size = len(data)
            self._credit -= size
            if outgoing and self._is_bounded:
                self._note_written(size, fills=True)
            else:
                self._unnoted += size

    async def _until_drained(self) -> None:
        """Wait until there is room for bulk, or something urgent to write. (A peer that takes
        nothing any more is given up by the kernel.)"""
        pause_s = LOOK_FIRST_S
        while not self._outgoing.is_urgent and not self._whole(self._look()):
            self._news = trio.Event()
            with trio.move_on_after(pause_s):
                await self._news.wait()
            pause_s = min(2 * pause_s, self._look_longest_s)

    def _room(self) -> int:
        """As `_look`, without looking if there is enough for all that waits."""
        return self._credit if self._outgoing.waiting_bytes <= self._credit else self._look()

    def _whole(self, room_bytes: int) -> int:
        """The same room, or none if the next frame had to be cut for it and need not be: it fits
        into the window, and the line has something to drain until then."""
        whole_bytes = self._drain.whole_bytes
        is_cut = room_bytes < self._outgoing.next_bulk_bytes <= whole_bytes
        return 0 if is_cut and self._is_bounded and 2 * room_bytes < whole_bytes else room_bytes

    def _look(self) -> int:
        """How many bytes of bulk may leave now."""
        held = held_bytes(self._socket) if self._is_bounded else None
        if held is None:
            self._credit = WRITE_BYTES_MAX
        else:
            shortest_s = shortest_round_trip_s(self._socket)
            self._note_written(0, fills=False)
            waits = self._outgoing.has_bulk
            self._credit = self._drain.look(trio.current_time(), held, shortest_s, waits=waits)
        return self._credit

    def _note_written(self, size_bytes: int, *, fills: bool) -> None:
        size_bytes += self._unnoted
        self._unnoted = 0
        self._drain.on_written(size_bytes, trio.current_time(), fills=fills)
