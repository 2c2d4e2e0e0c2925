"""Writing to one connection over real sockets: what a narrow line holds, and what a wide one.

Rules of this file: the receiver is what is narrow. It takes segments of 1,000 bytes, has little
room for them, and reads when the test says so.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from trioraft.core.config import Limits
from trioraft.core.messages import Message
from trioraft.net import sockets
from trioraft.net.framing import Deframer
from trioraft.net.sockets import held_bytes
from trioraft.transport.codec import decode_message, encode_frame
from trioraft.transport.drain import Drain
from trioraft.transport.outgoing import Outgoing
from trioraft.transport.writing import LOOK_FIRST_S, Writer

from .support import PATIENCE_S, heartbeat, replication, rounds

ROUND_S = 0.0125
LARGE_BYTES = 2_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="this kernel does not say")


@attrs.define(eq=False)
class Receiver:
    """Who is written to."""

    stream: trio.SocketStream
    sends_on: trio.socket.SocketType
    outgoing: Outgoing
    writer: Writer
    deframer: Deframer
    drain: Drain
    messages: list[Message] = attrs.Factory(list)
    bytes_read: int = 0

    def send(self, message: Message) -> None:
        """As a link does."""
        frame = encode_frame(message)
        left = self.writer.write_at_once(frame)
        if left == len(frame):
            return
        if left:
            self.outgoing.put_rest(frame, left)
        else:
            self.outgoing.put(message, frame)
        self.writer.wake()

    async def read(self) -> None:
        """Read once."""
        data = await self.stream.receive_some(2000)
        self.bytes_read += len(data)
        self.deframer.feed(bytes(data))
        while (payload := self.deframer.next_payload()) is not None:
            self.messages.append(decode_message(payload))

    async def until_count(self, count: int) -> None:
        with trio.fail_after(PATIENCE_S):
            while len(self.messages) < count:
                await self.read()


@asynccontextmanager
async def receiving(*, is_narrow: bool) -> AsyncIterator[Receiver]:
    with trio.socket.socket() as listener:
        if is_narrow:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = trio.SocketStream(trio.socket.socket())
        await ours.socket.connect(listener.getsockname())
        theirs = trio.SocketStream((await listener.accept())[0])
    outgoing = Outgoing(Limits())
    drain = Drain(ROUND_S)
    writer = Writer(ours, outgoing, drain, ROUND_S / 4)
    deframer = Deframer(10_000_000)
    deframer.takes_pieces = True
    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(writer.run, PATIENCE_S)
        await trio.testing.wait_all_tasks_blocked()
        yield Receiver(theirs, ours.socket, outgoing, writer, deframer, drain)
        nursery.cancel_scope.cancel()


async def test_a_heartbeat_waits_for_little_of_a_large_frame() -> None:
    """Hazard P2."""
    async with receiving(is_narrow=True) as receiver:
        receiver.send(replication("0", "1", LARGE_BYTES, 1))
        for _ in range(20):  # it is on its way
            await receiver.read()
        before = receiver.bytes_read
        receiver.send(heartbeat("0", "1", 2))
        await receiver.until_count(1)
        assert rounds(receiver.messages) == [2]
        # What the kernels of both sides held, and what it drains in a moment: how much that is, the
        # machine decides.
        window_bytes = receiver.drain.window_bytes
        assert receiver.bytes_read - before < 60_000 + window_bytes < LARGE_BYTES / 4
        await receiver.until_count(2)
        assert rounds(receiver.messages) == [2, 1]


async def test_a_receiver_that_stands_still_is_given_little() -> None:
    async with receiving(is_narrow=True) as receiver:
        receiver.send(replication("0", "1", LARGE_BYTES, 1))
        held = [0]
        with trio.fail_after(PATIENCE_S):
            while not held[-1] or held[-1] != held[-2]:  # something still moves
                await trio.sleep(10 * ROUND_S)
                held.append(held_bytes(receiver.sends_on) or 0)
        assert held[-1] <= 40_000
        await receiver.until_count(1)


async def test_only_what_is_given_of_bulk_counts_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A heartbeat is given to a dead connection too."""
    given: list[float] = []
    monkeypatch.setattr(Drain, "on_bulk", lambda drain, now: given.append(now))
    async with receiving(is_narrow=True) as receiver:
        receiver.writer.wake()  # not idle: all of it takes the way of what waits
        receiver.send(heartbeat("0", "1", 1))
        await receiver.until_count(1)
        assert given == []
        receiver.send(replication("0", "1", LARGE_BYTES, 2))
        await receiver.until_count(2)
        assert given


async def test_a_heartbeat_does_not_take_the_turn_of_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[bool] = []
    look = Drain.look

    def noting(drain: Drain, now: float, held: int, round_trip_s: float, *, waits: bool) -> int:
        waited.append(waits)
        return look(drain, now, held, round_trip_s, waits=waits)

    monkeypatch.setattr(Drain, "look", noting)
    async with receiving(is_narrow=True) as receiver:
        receiver.send(heartbeat("0", "1", 1))
        await receiver.until_count(1)
        assert waited == [False]
        receiver.send(replication("0", "1", LARGE_BYTES, 2))
        await receiver.until_count(2)
        assert True in waited


async def test_what_a_connection_held_is_forgotten_when_it_is_over() -> None:
    async with receiving(is_narrow=True) as receiver:
        receiver.send(replication("0", "1", LARGE_BYTES, 1))
        with trio.fail_after(PATIENCE_S):
            while not receiver.drain.held():  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(LOOK_FIRST_S)
        receiver.writer.close()
        assert receiver.drain.held() == 0


async def test_over_a_wide_line_frames_stay_whole() -> None:
    async with receiving(is_narrow=False) as receiver:
        for number in range(200):
            receiver.send(replication("0", "1", 60_000, number))
            await receiver.until_count(number + 1)
        assert receiver.deframer.pieces == 0


async def test_a_wide_line_is_found_out_within_one_large_frame() -> None:
    async with receiving(is_narrow=False) as receiver:
        receiver.send(replication("0", "1", 4 * LARGE_BYTES, 1))
        await receiver.until_count(1)
        assert receiver.deframer.pieces <= 40


async def test_many_small_appends_are_bulk_too() -> None:
    """A queue in the kernel is one, whatever it is made of."""
    async with receiving(is_narrow=True) as receiver:
        for number in range(2000):
            receiver.send(replication("0", "1", 200, number))
        for _ in range(20):
            await receiver.read()
        count = len(receiver.messages)
        receiver.send(heartbeat("0", "1", 5000))
        await receiver.until_count(2001)
        place = rounds(receiver.messages).index(5000)
        assert place - count < 400
        del receiver.messages[place]
        assert rounds(receiver.messages) == list(range(2000))


async def test_where_the_kernel_does_not_say_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: no windows and no turns, but the order and the pieces."""
    monkeypatch.setattr(sockets, "_CAN_LOOK", False)
    async with receiving(is_narrow=True) as receiver:
        receiver.send(replication("0", "1", LARGE_BYTES, 1))
        await receiver.read()
        receiver.send(heartbeat("0", "1", 2))
        await receiver.until_count(2)
        assert rounds(receiver.messages) == [2, 1]
