"""One outgoing link: its queue, its pauses, and a peer that is slow, silent or strange.

Rules of this file: `dial` is replaced, so that the peer is the test itself: a socket pair where
bytes matter, nothing at all where only time does.
"""

from __future__ import annotations

import itertools
import random
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.support import introduction
from trioraft.core.config import Limits
from trioraft.core.messages import AppendEntries
from trioraft.net.framing import Deframer, frame_of
from trioraft.transport import link as link_module
from trioraft.transport.base import LinkDown, LinkUp, MessagesDropped
from trioraft.transport.codec import decode_message, encode_frame
from trioraft.transport.context import TransportContext
from trioraft.transport.handshake import decode_hello, encode_reply
from trioraft.transport.link import Link, dial
from trioraft.transport.outgoing import WRITE_BYTES_MAX

from .support import CLUSTER, PATIENCE_S, Recorder, free_port, heartbeat, open_sockets, replication

WELCOME = encode_reply(introduction("1", "0"))

ADDRESS = ("127.0.0.1", 4000)


@attrs.define(eq=False)
class Peer:
    """Node 1, as the test plays it."""

    streams: trio.MemoryReceiveChannel[trio.SocketStream]
    link: Link
    owner: Recorder
    dials: list[float]

    async def next_connection(self) -> trio.SocketStream:
        with trio.fail_after(PATIENCE_S):
            return await self.streams.receive()

    async def admit(self) -> trio.SocketStream:
        """Take the next connection and welcome it: the link is up."""
        ups = len(self.owner.all(LinkUp))
        stream = await self.welcome()
        await self.owner.until_up("1", times=ups + 1)
        return stream

    async def welcome(self) -> trio.SocketStream:
        """Take the next connection and welcome it."""
        stream = await self.next_connection()
        deframer = Deframer(1000)
        deframer.feed(bytes(await stream.receive_some()))
        hello = decode_hello(deframer.next_payload() or b"")
        assert (hello.sender, hello.receiver, hello.cluster_id) == ("0", "1", CLUSTER)
        await stream.send_all(WELCOME)
        return stream


@asynccontextmanager
async def linked(
    monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None, *, refuse: bool = False
) -> AsyncIterator[Peer]:
    owner = Recorder()
    context = TransportContext("0", CLUSTER, owner, limits or Limits(), None, random.Random(5))
    link = Link(context, "1", ADDRESS)
    give, take = trio.open_memory_channel[trio.SocketStream](100)
    dials: list[float] = []
    ends: list[trio.SocketStream] = []

    async def dial_test(address: tuple[str, int]) -> trio.SocketStream:
        assert address == ADDRESS
        dials.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if refuse:
            raise ConnectionRefusedError(111, "nobody there")
        ours, theirs = trio.socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ends.append(trio.SocketStream(theirs))
        give.send_nowait(ends[-1])
        return trio.SocketStream(ours)

    monkeypatch.setattr(link_module, "dial", dial_test)
    sockets = open_sockets()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            yield Peer(take, link, owner, dials)
            nursery.cancel_scope.cancel()
    finally:
        for stream in ends:
            stream.socket.close()
        give.close()
        take.close()
    assert open_sockets() == sockets


async def read_rounds(stream: trio.SocketStream, count: int) -> list[int]:
    """Read so many messages, and let the link note that they are gone."""
    deframer = Deframer(10_000_000)
    deframer.takes_pieces = True
    found: list[int] = []
    with trio.fail_after(PATIENCE_S):
        while len(found) < count:
            deframer.feed(bytes(await stream.receive_some()))
            while (payload := deframer.next_payload()) is not None:
                message = decode_message(payload)
                assert isinstance(message, AppendEntries)
                found.append(message.round)
    await trio.testing.wait_all_tasks_blocked()
    return found


# -- pauses: virtual time ------------------------------------------------------------------------


async def test_pauses_double_up_to_the_longest_and_vary(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    limits = Limits(reconnect_backoff_s=(0.010, 1.0))
    async with linked(monkeypatch, limits, refuse=True) as peer:
        await trio.sleep(100)
    pauses_s = [later - earlier for earlier, later in zip(peer.dials, peer.dials[1:], strict=False)]
    for number, pause_s in enumerate(pauses_s):
        full_s = min(1.0, 0.010 * 2**number)
        assert 0.5 * full_s <= pause_s <= full_s
    assert len(pauses_s) > 100
    assert len({round(pause_s, 6) for pause_s in pauses_s[10:]}) > 50  # nodes do not march in step
    reasons = [event.reason for event in peer.owner.all(LinkDown)]
    assert reasons == ["cannot connect to 127.0.0.1:4000: Connection refused"]


async def test_the_peers_return_ends_a_pause_and_makes_the_next_one_short(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    limits = Limits(reconnect_backoff_s=(1.0, 1000.0))
    async with linked(monkeypatch, limits, refuse=True) as peer:
        await trio.sleep(200)
        attempts = len(peer.dials)
        peer.link.peer_is_back()
        back_s = trio.current_time()
        await trio.sleep(1.0)
        assert peer.dials[attempts] == back_s
        assert back_s + 0.5 <= peer.dials[attempts + 1] <= back_s + 1.0


async def test_each_reason_is_told_once_in_an_outage_and_not_too_many(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with linked(monkeypatch) as peer:
        codes = [111, 113] * 50 + list(range(1, 30))

        attempts = itertools.count()

        async def fail(address: tuple[str, int]) -> trio.SocketStream:
            await trio.lowlevel.checkpoint()
            raise OSError(codes[min(next(attempts), len(codes) - 1)], "out of order")

        monkeypatch.setattr(link_module, "dial", fail)
        await trio.sleep(50)
        assert len(peer.owner.all(LinkDown)) == 2  # though they take turns
        await trio.sleep(100)
        assert len(peer.owner.all(LinkDown)) == link_module.REASONS_TOLD_MAX


async def test_a_connection_that_does_not_last_does_not_shorten_the_pauses(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """As with two nodes of one name, each of which throws the other out."""
    limits = Limits(reconnect_backoff_s=(0.010, 1.0))
    async with linked(monkeypatch, limits) as peer:
        for _ in range(12):
            await (await peer.admit()).aclose()
        assert peer.dials[-1] - peer.dials[-2] >= 0.5
        stream = await peer.admit()
        await trio.sleep(1.0)
        await stream.aclose()
        closed_s = trio.current_time()
        await peer.admit()
        assert peer.dials[-1] - closed_s <= 0.010


async def test_a_connection_that_cannot_be_made_in_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with linked(monkeypatch) as peer:

        async def hang(address: tuple[str, int]) -> trio.SocketStream:
            await trio.sleep_forever()
            raise AssertionError("unreachable")

        monkeypatch.setattr(link_module, "dial", hang)
        start_s = trio.current_time()
        reason = await peer.owner.until_down("1")
        assert reason == "cannot connect to 127.0.0.1:4000: no answer within 5 s"
        assert trio.current_time() - start_s == pytest.approx(5.0)


# -- the queue -----------------------------------------------------------------------------------


async def test_what_waits_behind_a_write_leaves_in_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes: list[int] = []
    send_all = trio.SocketStream.send_all

    async def noting(self: trio.SocketStream, data: bytes) -> None:
        writes.append(len(data))
        await send_all(self, data)

    async with linked(monkeypatch) as peer:
        stream = await peer.admit()
        monkeypatch.setattr(trio.SocketStream, "send_all", noting)
        frame = encode_frame(heartbeat("0", "1"))
        for count in (30, 2):
            peer.link.offer(replication("0", "1", 100_000, 0))
            await trio.testing.wait_all_tasks_blocked(0.01)  # the write is stuck
            for _ in range(count):
                peer.link.offer(heartbeat("0", "1"))
            assert await read_rounds(stream, 1 + count) == [0] + [1] * count
        assert [size for size in writes if size % len(frame) == 0] == [
            30 * len(frame),
            2 * len(frame),
        ]


async def test_a_message_to_an_idle_link_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch) as peer:
        stream = await peer.admit()
        await trio.testing.wait_all_tasks_blocked()
        peer.link.offer(heartbeat("0", "1", 8))
        with stream.socket.dup() as theirs:  # without a turn of the scheduler in between
            assert select.select([theirs], [], [], 1)[0]
        assert await read_rounds(stream, 1) == [8]


async def test_a_message_leaves_within_one_task_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch) as peer:
        stream = await peer.admit()
        await trio.testing.wait_all_tasks_blocked()
        peer.link.offer(heartbeat("0", "1", 8))
        await trio.lowlevel.checkpoint()  # within a round of the scheduler, tasks have no order:
        await trio.lowlevel.checkpoint()  # after two the link has certainly had its turn
        frame = encode_frame(heartbeat("0", "1", 8))
        with stream.socket.dup() as theirs:
            assert select.select([theirs], [], [], 0)[0]
        assert await stream.receive_some() == frame


async def test_a_large_queue_leaves_in_order_but_for_what_is_urgent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with linked(monkeypatch) as peer:
        stream = await peer.admit()
        for number in range(40):
            peer.link.offer(replication("0", "1", WRITE_BYTES_MAX // 8, number))
        peer.link.offer(replication("0", "1", 2 * WRITE_BYTES_MAX, 40))
        await trio.testing.wait_all_tasks_blocked(0.01)  # the first write is stuck
        peer.link.offer(heartbeat("0", "1", 41))
        found = await read_rounds(stream, 42)
        assert found.index(41) < 10  # behind that write, and before the rest
        assert [number for number in found if number != 41] == list(range(41))
        assert peer.owner.all(MessagesDropped) == []


async def test_the_queue_is_bounded_by_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch, Limits(link_queue_messages_max=10)) as peer:
        stream = await peer.admit()
        peer.link.offer(replication("0", "1", 100_000, 0))
        await trio.testing.wait_all_tasks_blocked(0.01)  # the write is stuck
        for number in range(1, 25):
            peer.link.offer(heartbeat("0", "1", number))
        assert await read_rounds(stream, 10) == list(range(10))  # the new ones are dropped
        peer.link.offer(heartbeat("0", "1", 99))
        assert await read_rounds(stream, 1) == [99]
        (event,) = peer.owner.all(MessagesDropped)
        assert (event.peer, event.count) == ("1", 15)


async def test_the_queue_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch, Limits(link_queue_bytes_max=1000)) as peer:
        stream = await peer.admit()
        peer.link.offer(replication("0", "1", 100_000, 0))  # alone, it always fits
        await trio.testing.wait_all_tasks_blocked(0.01)  # the write is stuck
        peer.link.offer(replication("0", "1", 400, 1))  # there is no room beside it
        assert await read_rounds(stream, 1) == [0]
        peer.link.offer(replication("0", "1", 5000, 7))  # alone, it always fits
        assert await read_rounds(stream, 1) == [7]


async def test_what_the_kernel_has_not_taken_counts_as_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = Limits(link_queue_messages_max=10)
    async with linked(monkeypatch, limits) as peer:
        stream = await peer.admit()
        peer.link.offer(replication("0", "1", 100_000, 0))
        await trio.testing.wait_all_tasks_blocked(0.01)  # the write is stuck
        for number in range(1, 15):
            peer.link.offer(heartbeat("0", "1", number))
        assert await read_rounds(stream, 10) == list(range(10))


async def test_a_message_no_peer_would_take_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(
        frame_bytes_max=10_000,
        append_bytes_max=1000,
        command_bytes_max=1000,
        snapshot_chunk_bytes=1000,
    )
    async with linked(monkeypatch, limits) as peer:
        stream = await peer.admit()
        peer.link.offer(replication("0", "1", 10_000, 1))
        peer.link.offer(heartbeat("0", "1", 2))
        assert await read_rounds(stream, 1) == [2]
        assert [event.count for event in peer.owner.all(MessagesDropped)] == [1]


# -- the end of a connection ---------------------------------------------------------------------


async def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(
        frame_timeout_s=0.1, link_queue_messages_max=10, reconnect_backoff_s=(0.001, 0.001)
    )
    async with linked(monkeypatch, limits) as peer:
        await peer.admit()
        for number in range(100):
            peer.link.offer(replication("0", "1", 300_000, number))
        assert await peer.owner.until_down("1") == "it took no data for 0.1 s"
        assert peer.owner.lost == ["1"]
        assert [event.count for event in peer.owner.all(MessagesDropped)] == [90]
        stream = await peer.admit()
        peer.link.offer(heartbeat("0", "1", 777))
        assert await read_rounds(stream, 1) == [777]  # nothing of the old queue comes along


async def test_what_waited_for_a_connection_that_was_not_made_is_not_sent_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with linked(monkeypatch, Limits(reconnect_backoff_s=(0.001, 0.001))) as peer:
        dial_test = link_module.dial

        async def refuse_once(address: tuple[str, int]) -> trio.SocketStream:
            peer.link.offer(heartbeat("0", "1", 1))
            monkeypatch.setattr(link_module, "dial", dial_test)
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError(111, "nobody there")

        monkeypatch.setattr(link_module, "dial", refuse_once)
        stream = await peer.next_connection()  # the second attempt
        peer.link.offer(heartbeat("0", "1", 2))
        await stream.receive_some()
        await stream.send_all(WELCOME)
        assert await read_rounds(stream, 1) == [2]
        assert peer.owner.lost == []


async def test_the_end_is_noticed_without_anything_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch, Limits(reconnect_backoff_s=(0.001, 0.001))) as peer:
        for times in (1, 2):
            stream = await peer.admit()
            await stream.aclose()
            assert await peer.owner.until_down("1", times) == "it closed"
            assert peer.owner.lost == ["1"] * times


async def test_a_peer_that_writes_on_our_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch) as peer:
        stream = await peer.admit()
        await stream.send_all(b"!")
        reason = await peer.owner.until_down("1")
        assert reason == "it sent data on a connection that is ours to write"


STRANGE_ANSWERS = {
    "a refusal": (encode_reply(None, "not you"), "it refused the connection: not you"),
    "no handshake": (frame_of(b"\xc1"), "its answer to the handshake is not one"),
    "a web server": (b"HTTP/1.1 400 Bad Request", "a frame declares 1213486160 bytes"),
    "half an answer": (b"\0\0", "it closed the connection without an answer"),
}


@pytest.mark.parametrize(("answer", "reason"), STRANGE_ANSWERS.values(), ids=STRANGE_ANSWERS)
async def test_strange_answers(monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str) -> None:
    async with linked(monkeypatch, Limits(reconnect_backoff_s=(5.0, 5.0))) as peer:
        stream = await peer.next_connection()
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()
        told = await peer.owner.until_down("1")
        assert told.startswith("handshake with 127.0.0.1:4000 failed: ")
        assert reason in told
        assert peer.owner.all(LinkUp) == []
        assert peer.owner.lost == []  # it never was there


async def test_ending_in_the_middle_of_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(monkeypatch) as peer:
        stream = await peer.admit()
        peer.link.offer(replication("0", "1", 1_000_000))
        await trio.testing.wait_all_tasks_blocked(0.01)
        peer.link.close()
        with trio.fail_after(PATIENCE_S):
            while await stream.receive_some():
                pass  # what the kernel had; then the end
        assert peer.owner.lost == []


async def test_a_socket_that_is_connected_to_itself_is_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    make_socket = trio.socket.socket

    def bound_to_the_same_port(*args: int) -> trio.socket.SocketType:
        sock = make_socket(*args)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock._sock.bind(("127.0.0.1", port))  # type: ignore[attr-defined]  # bind() is a coroutine
        return sock

    monkeypatch.setattr(trio.socket, "socket", bound_to_the_same_port)
    with pytest.raises(ConnectionRefusedError):
        await dial(("127.0.0.1", port))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))  # without SO_REUSEADDR: no trace of it is left
