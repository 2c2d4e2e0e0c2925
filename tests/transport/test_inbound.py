"""Incoming connections, over streams in memory and in virtual time: what each stranger gets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock

from tests.support import introduction
from trioraft.core.config import Limits
from trioraft.core.errors import BadMessage
from trioraft.core.messages import Introduction, Message
from trioraft.net.connection import Connection
from trioraft.net.framing import LENGTH_BYTES, frame_of, piece_length
from trioraft.transport import inbound as inbound_module
from trioraft.transport.base import ConnectionRejected
from trioraft.transport.codec import encode_frame
from trioraft.transport.context import TransportContext
from trioraft.transport.handshake import (
    MAGIC,
    PROTOCOL,
    PeerHello,
    decode_from,
)
from trioraft.transport.inbound import CONNECTIONS_MAX, Inbound
from trioraft.transport.tcp import TcpTransport

from .support import (
    CLUSTER,
    PATIENCE_S,
    Recorder,
    heartbeat,
    hello_of,
    replication,
    rounds,
    running,
    take_reply,
)

SAID = introduction("1", "0")
HELLO = hello_of("1", "0")
LIMITS = Limits(
    frame_bytes_max=20_000,
    snapshot_chunk_bytes=1000,
    append_bytes_max=1000,
    command_bytes_max=1000,
    handshake_timeout_s=5.0,
    frame_timeout_s=10.0,
)


MemoryStream: TypeAlias = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


@attrs.define
class Doors:
    """Lets in whom the test has not shut out, and remembers who came and went."""

    news: list[str] = attrs.Factory(list)
    full_of: list[str] = attrs.Factory(list)
    told: list[tuple[str, int] | None] = attrs.Factory(list)

    def who_gives_way(self, peer: str) -> str | None:
        return self.full_of.pop() if self.full_of else None

    def on_arrival(self, peer: str, told: tuple[str, int] | None, remote_host: str) -> None:
        self.news.append(f"+{peer}")
        self.told.append(told)

    def on_doubt(self, peer: str) -> None:
        self.news.append(f"?{peer}")

    def on_departure(self, peer: str) -> None:
        self.news.append(f"-{peer}")


@attrs.define
class Listener:
    """Node 0's incoming side, without its sockets."""

    owner: Recorder
    inbound: Inbound
    nursery: trio.Nursery
    doors: Doors
    open_connections: int = 0

    def connect(self) -> MemoryStream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.open_connections += 1

        def hang_up() -> None:
            ours.send_stream.close()
            ours.receive_stream.close()

        async def serve() -> None:
            try:
                await self.inbound.serve(Connection(ours, "somewhere", hang_up))
            finally:
                self.open_connections -= 1

        self.nursery.start_soon(serve)
        return theirs

    async def admitted(self) -> MemoryStream:
        stream = self.connect()
        await stream.send_all(HELLO)
        take_reply((await stream.receive_some())[LENGTH_BYTES:])
        return stream


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    owner = Recorder()
    doors = Doors()
    context = TransportContext("0", CLUSTER, owner, LIMITS, None, random.Random(1))
    inbound = Inbound(context, doors)
    async with trio.open_nursery() as nursery:
        yield Listener(owner, inbound, nursery, doors)
        nursery.cancel_scope.cancel()


async def until_ended(stream: MemoryStream) -> None:
    """Wait until the other side has closed."""
    with trio.fail_after(PATIENCE_S):
        assert await stream.receive_some() == b""


async def trickle(stream: MemoryStream, data: bytes) -> None:
    """Send a byte a second."""
    for byte in data:
        await stream.send_all(bytes([byte]))
        await trio.sleep(1)


async def test_a_peer_is_read(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = await listener.admitted()
        await stream.send_all(encode_frame(heartbeat("1", "0", 1)))
        await stream.send_all(encode_frame(heartbeat("1", "0", 2)) * 3)
        await listener.owner.until(lambda r: rounds(r.messages) == [1, 2, 2, 2])
        assert listener.doors.news == ["+1"]
        assert listener.doors.told == [None]
        assert listener.owner.events == []
        assert listener.owner.lost == []


async def test_messages_right_behind_the_handshake_are_read_too(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = listener.connect()
        await stream.send_all(HELLO + encode_frame(heartbeat("1", "0", 7)))
        await listener.owner.until(lambda r: rounds(r.messages) == [7])


STRANGERS = {
    "another cluster": (
        hello_of("1", "0", cluster_id="green"),
        "the connection is for cluster 'green', this node belongs to 'test-cluster'",
    ),
    "another receiver": (
        hello_of("1", "2"),
        "the connection is for node '2', this is node '0'",
    ),
    "ourselves": (
        hello_of("0", "0"),
        "the dialer says that it is node '0', which is this node",
    ),
    "another version": (
        frame_of(
            msgspec.msgpack.encode(PeerHello(MAGIC, PROTOCOL[1] + 1, CLUSTER, "1", "0", SAID))
        ),
        f"protocol version {PROTOCOL[1] + 1} was offered, this node speaks {PROTOCOL[0]} to "
        f"{PROTOCOL[1]}: run a later release on this side, one that speaks both "
        "(docs/upgrading.md)",
    ),
}


@pytest.mark.parametrize(("hello", "reason"), STRANGERS.values(), ids=STRANGERS)
async def test_a_refused_dialer_is_told_why(
    autojump_clock: MockClock, hello: bytes, reason: str
) -> None:
    async with listening() as listener:
        stream = listener.connect()
        await stream.send_all(hello + encode_frame(heartbeat("1", "0")))
        with pytest.raises(BadMessage, match="it refused the connection") as told:
            take_reply((await stream.receive_some())[LENGTH_BYTES:])
        assert reason in str(told.value)
        assert await stream.receive_some() == b""
        (event,) = listener.owner.all(ConnectionRejected)
        assert (event.remote, event.peer, event.reason) == ("somewhere", None, reason)
        assert listener.owner.messages == []
        assert listener.owner.lost == []
        assert listener.doors.news == []


GARBAGE = {
    "a web browser": (
        b"GET / HTTP/1.1\r\n\r\n",
        "a frame declares 1195725856 bytes, at most 49152",
    ),
    "another magic": (
        frame_of(msgspec.msgpack.encode(PeerHello("otherraft", 1, CLUSTER, "1", "0", SAID))),
        "begins with 'otherraft', not 'trioraft'",
    ),
    "a message instead": (encode_frame(heartbeat("1", "0")), "the first frame is not a handshake"),
    "zeroes": (bytes(100), "the first frame is not a handshake"),
}


@pytest.mark.parametrize(("data", "reason"), GARBAGE.values(), ids=GARBAGE)
async def test_garbage_gets_no_answer(autojump_clock: MockClock, data: bytes, reason: str) -> None:
    async with listening() as listener:
        stream = listener.connect()
        await stream.send_all(data)
        assert await stream.receive_some() == b""
        assert reason in (await listener.owner.until_rejected()).reason
        assert listener.owner.messages == []


async def test_a_silent_stranger_is_shown_out(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        start_s = trio.current_time()
        stream = listener.connect()
        assert await stream.receive_some() == b""
        assert trio.current_time() - start_s == pytest.approx(5.0)
        assert "did not say who it is within 5 s" in (await listener.owner.until_rejected()).reason


async def test_a_handshake_byte_by_byte_does_not_get_more_time(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        start_s = trio.current_time()
        stream = listener.connect()
        with pytest.raises(trio.BrokenResourceError):
            await trickle(stream, HELLO)
        assert trio.current_time() - start_s < 7
        assert "did not say who it is within 5 s" in (await listener.owner.until_rejected()).reason


async def test_a_stranger_who_leaves(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = listener.connect()
        await stream.send_all(HELLO[:10])
        await stream.aclose()
        reason = (await listener.owner.until_rejected()).reason
        assert reason == "it closed the connection without saying who it is"
        assert listener.owner.lost == []


async def test_idling_between_frames_is_fine(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = await listener.admitted()
        for number in (1, 2):
            await trio.sleep(1000)
            await stream.send_all(encode_frame(heartbeat("1", "0", number)))
            await listener.owner.until_count(number)
        assert listener.owner.events == []


async def test_a_frame_must_come_in_time(autojump_clock: MockClock) -> None:
    frame = encode_frame(replication("1", "0", 500))
    async with listening() as listener:
        stream = await listener.admitted()
        start_s = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await trickle(stream, frame)
        assert trio.current_time() - start_s < 12
        event = await listener.owner.until_rejected()
        assert (event.peer, event.reason) == ("1", "a frame took longer than 10 s")
        assert listener.owner.lost == ["1"]
        assert listener.owner.messages == []


async def test_each_frame_has_a_deadline_of_its_own(autojump_clock: MockClock) -> None:
    frames = b"".join(encode_frame(heartbeat("1", "0", n)) for n in range(20))
    half = len(frames) // 40
    async with listening() as listener:
        stream = await listener.admitted()
        for at in range(0, len(frames), half):  # 6 s a piece: no frame takes more than 10 s
            await stream.send_all(frames[at : at + half])
            await trio.sleep(4)
        await listener.owner.until(lambda r: len(r.messages) == 20)
        assert listener.owner.events == []


_LONG = encode_frame(replication("1", "0", 1000))[LENGTH_BYTES:]


def _piece(data: bytes, *, is_last: bool = False) -> bytes:
    return piece_length(len(data), is_last=is_last) + data


BREACHES = {
    "another sender": (
        encode_frame(heartbeat("2", "0")),
        "a message from '2' came over the connection of '1'",
    ),
    "another receiver": (encode_frame(heartbeat("1", "2")), "a message to '2' came to node '0'"),
    "too large": (b"\x7f\0\0\0", "a frame declares 2130706432 bytes, at most 20000"),
    "garbage": (frame_of(b"\xc1\xc1\xc1"), "is not a message"),
    "a second handshake": (HELLO, "is not a message"),
    "pieces without end": (
        (piece_length(1000, is_last=False) + bytes(1000)) * 30,
        "the pieces of a frame amount to 21000 bytes, at most 20000",
    ),
    "pieces of two frames": (
        _piece(_LONG[:50]) + _piece(_LONG[:70]) + _piece(_LONG[50:], is_last=True),
        "is not a message",
    ),
    "an empty piece": (_piece(b""), "a piece of a frame is empty"),
}


@pytest.mark.parametrize(("data", "reason"), BREACHES.values(), ids=BREACHES)
async def test_a_breach_closes_that_connection_alone(
    autojump_clock: MockClock, data: bytes, reason: str
) -> None:
    async with listening() as listener:
        stream = await listener.admitted()
        other = listener.connect()
        await other.send_all(hello_of("2", "0"))
        await stream.send_all(encode_frame(heartbeat("1", "0", 1)))
        await stream.send_all(data + encode_frame(heartbeat("1", "0", 2)))
        event = await listener.owner.until_rejected()
        assert event.peer == "1"
        assert reason in event.reason
        assert await stream.receive_some() == b""
        await other.send_all(encode_frame(heartbeat("2", "0", 3)))
        await listener.owner.until(lambda r: len(r.messages) == 2)
        assert rounds(listener.owner.messages) == [1, 3]
        assert listener.owner.lost == []  # the peer was thrown out, not lost
        assert listener.open_connections == 1


async def test_a_message_in_pieces_and_a_heartbeat_between_them(
    autojump_clock: MockClock,
) -> None:
    async with listening() as listener:
        stream = await listener.admitted()
        await stream.send_all(_piece(_LONG[:50]) + encode_frame(heartbeat("1", "0", 5)))
        await listener.owner.until_count(1)
        await stream.send_all(_piece(_LONG[50:], is_last=True))
        await listener.owner.until_rounds([5, 1])


async def test_no_pieces_before_it_is_known_who_is_there(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = listener.connect()
        hello = hello_of("1", "0")[LENGTH_BYTES:]
        await stream.send_all(_piece(hello[:10]) + _piece(hello[10:], is_last=True))
        event = await listener.owner.until_rejected()
        assert "a frame declares 2147483658 bytes" in event.reason


async def test_the_owner_may_refuse_a_message(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        listener.owner.refuses = lambda message: message.term == 13
        stream = await listener.admitted()
        await stream.send_all(encode_frame(msgspec.structs.replace(heartbeat("1", "0"), term=13)))
        event = await listener.owner.until_rejected()
        assert (event.peer, event.reason) == ("1", "the owner does not like it")
        assert await stream.receive_some() == b""


async def test_the_end_of_a_connection_is_told_once(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = await listener.admitted()
        await stream.send_all(encode_frame(heartbeat("1", "0")))
        await stream.aclose()
        await listener.owner.until(lambda r: bool(r.lost))
        await trio.testing.wait_all_tasks_blocked()
        assert listener.owner.lost == ["1"]
        assert len(listener.owner.messages) == 1
        assert listener.owner.events == []
        assert listener.open_connections == 0


async def test_a_connection_that_is_spoken_over_replaces_the_old_one(
    autojump_clock: MockClock,
) -> None:
    async with listening() as listener:
        old = await listener.admitted()
        new = await listener.admitted()
        await old.send_all(encode_frame(heartbeat("1", "0", 4)))  # it may still arrive
        await listener.owner.until_rounds([4])
        await new.send_all(encode_frame(heartbeat("1", "0", 5)))
        await listener.owner.until_rounds([4, 5])
        await until_ended(old)
        assert listener.owner.lost == []  # nor does anybody campaign for that
        assert listener.doors.news == ["+1", "?1", "+1"]
        assert listener.open_connections == 1
        await new.aclose()
        await listener.owner.until_lost("1", 1)
        assert listener.doors.news == ["+1", "?1", "+1", "-1"]
        assert listener.owner.lost == ["1"]


async def test_an_empty_frame_is_word_enough(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        old = await listener.admitted()
        new = await listener.admitted()
        await new.send_all(frame_of(b""))
        await until_ended(old)
        await new.send_all(encode_frame(heartbeat("1", "0", 5)))
        await listener.owner.until_rounds([5])
        assert listener.owner.events == []


async def test_a_word_right_behind_the_handshake_is_one_too(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        old = await listener.admitted()
        new = listener.connect()
        await new.send_all(HELLO + frame_of(b""))
        await until_ended(old)
        assert listener.open_connections == 1


async def test_what_is_newer_than_the_connection_that_is_spoken_over_stays(
    autojump_clock: MockClock,
) -> None:
    async with listening() as listener:
        oldest, middle, newest = [await listener.admitted() for _ in range(3)]
        await middle.send_all(frame_of(b""))
        await until_ended(oldest)
        assert listener.open_connections == 2
        await newest.send_all(frame_of(b""))
        await until_ended(middle)
        assert listener.owner.lost == []


async def test_a_connection_beside_another_that_nobody_wanted(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        old = await listener.admitted()
        new = await listener.admitted()
        await new.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await old.send_all(encode_frame(heartbeat("1", "0", 5)))
        await listener.owner.until_rounds([5])
        assert listener.owner.lost == []
        await old.aclose()
        await listener.owner.until_lost("1", 1)
        assert listener.doors.news == ["+1", "?1", "+1", "-1"]


async def test_the_old_connection_may_end_before_a_word_over_the_new_one(
    autojump_clock: MockClock,
) -> None:
    async with listening() as listener:
        old = await listener.admitted()
        new = await listener.admitted()
        await old.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert listener.owner.lost == []
        await new.aclose()
        await listener.owner.until_lost("1", 1)
        await trio.testing.wait_all_tasks_blocked()
        assert listener.owner.lost == ["1"]


async def test_the_connections_of_one_peer_are_bounded(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        streams = [await listener.admitted() for _ in range(CONNECTIONS_MAX + 1)]
        await until_ended(streams[0])
        assert listener.open_connections == CONNECTIONS_MAX
        assert listener.owner.lost == []
        listener.inbound.disconnect("1")
        await listener.owner.until_lost("1", 1)
        assert listener.open_connections == 0


async def test_whoever_gives_way_is_told_of_and_not_lost(autojump_clock: MockClock) -> None:
    """It is no hint that a leader is gone: the timers stand as they stood."""
    async with listening() as listener:
        first = await listener.admitted()
        await trio.testing.wait_all_tasks_blocked()
        listener.doors.full_of.append("1")
        second = listener.connect()
        await second.send_all(hello_of("2", "0"))
        take_reply((await second.receive_some())[LENGTH_BYTES:], receiver="2")
        await until_ended(first)
        event = await listener.owner.until_rejected()
        assert (event.peer, event.reason) == ("1", "node '2' takes its place: there are too many")
        await trio.testing.wait_all_tasks_blocked()
        assert listener.doors.news == ["+1", "-1", "+2"]
        assert listener.owner.lost == []
        assert listener.open_connections == 1


async def test_disconnecting_a_peer(autojump_clock: MockClock) -> None:
    async with listening() as listener:
        stream = await listener.admitted()
        listener.inbound.disconnect("1")
        listener.inbound.disconnect("2")
        assert await stream.receive_some() == b""
        assert listener.owner.all(ConnectionRejected) == []


# -- the wall --------------------------------------------------------------------------------------


@asynccontextmanager
async def on_a_port(owner: Recorder) -> AsyncIterator[tuple[str, int]]:
    """The incoming side behind a real port; yields where."""
    transport = TcpTransport("0", ("127.0.0.1", 0), {})
    async with running(transport, owner):
        yield transport.address


async def test_g8_what_a_peer_brings_that_nobody_expects_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = ExceptionGroup("several", [ArithmeticError("odd")])

    def failing(peer: str, node_id: str, payload: bytes) -> Message:
        if payload.endswith(b"!"):
            raise odd
        return decode_from(peer, node_id, payload)

    monkeypatch.setattr(inbound_module, "decode_from", failing)
    owner = Recorder()
    async with on_a_port(owner) as address:
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(HELLO + frame_of(b"!"))
            with trio.fail_after(PATIENCE_S):
                while await stream.receive_some():
                    pass
            rejected = await owner.until_rejected()
            assert rejected.reason.startswith("serving it failed: odd (")
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(HELLO + encode_frame(heartbeat("1", "0", 7)))
            await owner.until(lambda r: rounds(r.messages) == [7])


async def test_g8_what_the_owner_raises_is_the_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Recorder()
    failure = ArithmeticError("the node's own")

    def failing(_: Recorder, message: Message, origin: Introduction) -> None:
        raise failure

    monkeypatch.setattr(Recorder, "on_message", failing)

    async def meet_it() -> None:
        async with on_a_port(owner) as address, await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(HELLO + encode_frame(heartbeat("1", "0", 7)))
            await trio.sleep(PATIENCE_S)

    with pytest.raises(ExceptionGroup) as group:
        await meet_it()
    error: BaseException = group.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert error is failure
