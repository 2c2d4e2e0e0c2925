"""What waits for one connection, and what leaves next.

Rules of this file:

* Entries, snapshot chunks and forwarded commands are *bulk*: they leave in order. Everything else
  is *urgent*: it leaves first, between the pieces of a large frame too. A heartbeat that waits
  behind bulk costs a healthy leader its office (hazard P2).
* An empty AppendEntries that asks about entries which still wait here keeps its place behind them:
  it would be refused, and they would all be sent again.
* A frame leaves in pieces only if it is larger than what may leave now.
* Bounded by messages and by bytes, what is under way included.
"""

from __future__ import annotations

from collections import deque
from typing import Final, final

from ..core.config import Limits
from ..core.messages import AppendEntries, Forward, GroupsFrame, InstallSnapshot, Message
from ..core.types import LogIndex
from ..net.framing import LENGTH_BYTES, piece_length

WRITE_BYTES_MAX: Final = 1024 * 1024
"""Bytes after which a write is not made larger: a blocked write's deadline is for this much."""

PIECE_BYTES_MIN: Final = 512
"""A piece that is not the last is no smaller: it would be mostly overhead."""


def is_bulk(message: Message) -> bool:
    """Whether a message may be large, and has to stay in order with others of its kind."""
    if isinstance(message, AppendEntries):
        return bool(message.entries)
    if isinstance(message, GroupsFrame):
        return message.is_bulk
    return isinstance(message, InstallSnapshot | Forward)


@final
class Outgoing:
    """The queue of one connection.

    Args:
        limits: `link_queue_messages_max` and `link_queue_bytes_max` bound it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rest = b""  # of a frame that the kernel has taken in part
        self._urgent: deque[bytes] = deque()
        self._bulk: deque[tuple[bytes, LogIndex | None]] = deque()
        self._cut_bytes = 0  # of the first bulk frame: so much has left in pieces
        self._messages = 0  # waiting, and under way
        self._bytes = 0
        self._leaving: tuple[int, int] = (0, 0)  # messages and bytes of what is under way
        self.took_bulk: bool = False
        """Whether there was bulk in what was taken last."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._rest or self._urgent or self._bulk)

    @property
    def waiting_bytes(self) -> int:
        """How much waits; at most a little more will leave."""
        return self._bytes - self._leaving[1]

    @property
    def next_bulk_bytes(self) -> int:
        """How large the next bulk frame is; 0: there is none, or part of it has left."""
        return 0 if self._cut_bytes or not self._bulk else len(self._bulk[0][0])

    @property
    def has_bulk(self) -> bool:
        """Whether anything waits that asks for room."""
        return bool(self._bulk)

    @property
    def is_urgent(self) -> bool:
        """Whether anything waits that does not ask for room."""
        return bool(self._rest or self._urgent)

    def has_room_for(self, frame: bytes) -> bool:
        """Whether this may wait too. One message alone always may: else a small bound would stop
        it for ever."""
        return not self._messages or (
            self._messages < self._limits.link_queue_messages_max
            and self._bytes + len(frame) <= self._limits.link_queue_bytes_max
        )

    def put(self, message: Message, frame: bytes) -> None:
        """Let a message wait, as this frame."""
        if is_bulk(message):
            prev_index = message.prev_log_index if isinstance(message, AppendEntries) else None
            self._bulk.append((frame, prev_index))
        elif isinstance(message, AppendEntries) and self._asks_about_waiting(message):
            self._bulk.append((frame, None))
        else:
            self._urgent.append(frame)
        self._messages += 1
        self._bytes += len(frame)

    def put_rest(self, frame: bytes, left: int) -> None:
        """Let the rest of a frame leave before all else; the kernel has `left` bytes of it."""
        self._rest = frame[left:]
        self._messages += 1
        self._bytes += len(frame) - left

    def put_first(self, frames: list[bytes]) -> None:
        """Let urgent frames leave before all others."""
        self._urgent.extendleft(reversed(frames))
        self._messages += len(frames)
        self._bytes += sum(map(len, frames))

    def on_other_connection(self) -> None:
        """What waits leaves over another connection from now on: a frame that has left in part
        begins again, if all of it is still here."""
        self.on_left()
        if self._rest:
            self._messages -= 1
            self._bytes -= len(self._rest)
            self._rest = b""
        if self._cut_bytes:
            self._cut_bytes = 0
            self._bytes = sum(map(len, self._urgent)) + sum(len(frame) for frame, _ in self._bulk)

    def _asks_about_waiting(self, message: AppendEntries) -> bool:
        asked = message.prev_log_index
        return any(prev is not None and prev < asked for _, prev in self._bulk)

    def take(self, room_bytes: int) -> bytes:
        """What leaves now: all that is urgent, and of the rest as much as there is room for. It
        counts as waiting until `on_left`."""
        taken: list[bytes | memoryview] = []
        size = messages = 0
        urgent, bulk = self._urgent, self._bulk
        if self._rest:
            taken.append(self._rest)
            size, messages, self._rest = len(self._rest), 1, b""
        while urgent and (not size or size + len(urgent[0]) <= WRITE_BYTES_MAX):
            frame = urgent.popleft()
            taken.append(frame)
            size += len(frame)
            messages += 1
        has_more = room_bytes > WRITE_BYTES_MAX
        room_bytes = min(room_bytes, WRITE_BYTES_MAX) - size
        self.took_bulk = False
        while bulk and room_bytes > 0:
            frame = bulk[0][0]
            if has_more and size and len(frame) > room_bytes:
                break  # it need not be cut for this write: there will be another
            if not self._cut_bytes and len(frame) <= room_bytes:
                taken.append(frame)
                left = len(frame)
                bulk.popleft()
                messages += 1
            else:
                left, is_last = self._take_piece(taken, frame, room_bytes)
                if not left:
                    break
                if is_last:
                    bulk.popleft()
                    messages += 1
            self.took_bulk = True
            size += left
            room_bytes -= left
        self._leaving = (messages, size)
        return b"".join(taken) if len(taken) != 1 else bytes(taken[0])

    def _take_piece(
        self, taken: list[bytes | memoryview], frame: bytes, room_bytes: int
    ) -> tuple[int, bool]:
        """One piece of the first bulk frame. Return how many bytes that is, and whether it is the
        last."""
        start = LENGTH_BYTES + self._cut_bytes
        rest = len(frame) - start
        size = min(rest, room_bytes - LENGTH_BYTES)
        is_last = size == rest
        if size < PIECE_BYTES_MIN and not is_last:
            return 0, False
        taken.append(piece_length(size, is_last=is_last))
        taken.append(memoryview(frame)[start : start + size])
        self._cut_bytes = 0 if is_last else self._cut_bytes + size
        self._bytes += LENGTH_BYTES  # its own length
        if is_last:
            self._bytes -= LENGTH_BYTES  # that of the frame never leaves
        return size + LENGTH_BYTES, is_last

    def on_left(self) -> None:
        """What was taken has left."""
        messages, size = self._leaving
        self._leaving = (0, 0)
        self._messages -= messages
        self._bytes -= size
