"""What one client is yet to be told, and the task that tells it."""

from __future__ import annotations

from typing import final

import trio

from ..core.errors import ConfigError
from ..machines.sessions import message_of
from ..net.connection import Connection
from ..rpc.failures import failure_of
from ..rpc.protocol import Answer, Failure, Item, Result, append_frame, encode_value
from ..tasks.wakeup import Wakeup
from .context import ServiceLimits

PIECE_BYTES = 64 * 1024
"""What a client must take within `frame_timeout_s`."""


@final
class ReplyQueue:
    """The answers of one connection.

    Args:
        connection: where they go.
        limits: bounds.
    """

    def __init__(self, connection: Connection, limits: ServiceLimits) -> None:
        self.frame_bytes_max = 0
        """Largest frame that the client reads; it says so in its handshake."""
        self._connection = connection
        self._limits = limits
        self._unsent = bytearray()
        self._is_sending = False
        self._work = Wakeup()
        self._drained = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        """Whether the client should take some first."""
        return len(self._unsent) > self._limits.unsent_bytes_max

    @property
    def is_empty(self) -> bool:
        """Whether everything is with the kernel."""
        return not self._unsent and not self._is_sending

    def put(self, answer: Answer) -> None:
        start = len(self._unsent)
        size_bytes = append_frame(self._unsent, answer)
        if size_bytes > self.frame_bytes_max and not isinstance(answer, Failure):
            del self._unsent[start:]
            self._put_too_large(answer, size_bytes)
        self._work.set()

    def put_value(self, request_id: int, value: object, kind: type[Result | Item] = Result) -> None:
        """Put a result (or an item) down; what cannot be encoded becomes a failure."""
        try:
            answer = kind(request_id, encode_value(value))
        except Exception as error:  # noqa: BLE001 - an encoder's, or of code in the value itself
            self.put(
                failure_of(
                    request_id,
                    ConfigError(
                        f"the state machine returned a {type(value).__name__}, which cannot be "
                        f"sent: {message_of(error)}. Return bytes, numbers, text, lists, dicts, or "
                        "msgspec structs"
                    ),
                )
            )
            return
        self.put(answer)

    async def room(self) -> None:
        """Wait until the client has taken enough."""
        while self.is_full:
            await self._drained.park()

    async def drained(self) -> None:
        """Wait until everything is with the kernel."""
        while not self.is_empty:
            await self._drained.park()

    def abandon(self) -> None:
        """The connection is over: there is nothing to wait for any more."""
        self._unsent.clear()
        self._is_sending = False
        self._drained.unpark_all()

    async def send_forever(self) -> None:
        """Send until cancelled.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection ended.
            trio.TooSlowError: the client takes nothing.
        """
        send_all = self._connection.stream.send_all
        while True:
            await self._work.wait()
            while self._unsent:
                unsent, self._unsent = self._unsent, bytearray()
                self._is_sending = True
                if len(unsent) <= PIECE_BYTES:
                    with trio.fail_after(self._limits.frame_timeout_s):
                        await send_all(unsent)
                else:
                    await self._send_in_pieces(memoryview(unsent))
                self._is_sending = False
                self._drained.unpark_all()

    async def _send_in_pieces(self, unsent: memoryview) -> None:
        """A client that takes a lot slowly is not one that takes nothing."""
        for start in range(0, len(unsent), PIECE_BYTES):
            with trio.fail_after(self._limits.frame_timeout_s):
                await self._connection.stream.send_all(unsent[start : start + PIECE_BYTES])

    def _put_too_large(self, answer: Answer, size_bytes: int) -> None:
        if isinstance(answer, Result | Item):
            append_frame(
                self._unsent,
                failure_of(
                    answer.id,
                    ConfigError(
                        f"the answer has {size_bytes} bytes, this client reads at most "
                        f"{self.frame_bytes_max}: ask for less, or raise Client(frame_bytes_max=…)"
                    ),
                ),
            )
