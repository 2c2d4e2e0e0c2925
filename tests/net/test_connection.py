"""One connection: the deadline of a frame that is half there, and who is at the other end.

Rules of this file: virtual time, but where a socket's options are the subject.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest
import trio
from anyio.abc import SocketAttribute
from trio.testing import MockClock, memory_stream_pair

from trioraft.client.connection import connect_over
from trioraft.core.errors import BadMessage
from trioraft.net.connection import Connection, FrameTooSlow
from trioraft.net.framing import frame_of, piece_length
from trioraft.net.handshake import first_frame, in_time
from trioraft.net.sockets import check_not_itself, give_up_sending, keep_alive

FRAME = frame_of(b"abc")
PIECE = piece_length(2, is_last=False) + b"ab"
LAST_PIECE = piece_length(1, is_last=True) + b"c"
TIMEOUT_S = 10.0


def connection_pair() -> tuple[Connection, trio.abc.Stream]:
    ours, theirs = memory_stream_pair()
    connection = Connection(ours, "memory", lambda: None)
    connection.deframer.takes_pieces = True
    return connection, theirs


async def payloads(connection: Connection, *, work_s: float = 0.0) -> list[bytes]:
    """What comes until the other side closes; each payload takes time to be worked on."""
    taken: list[bytes] = []
    is_open = True
    with connection.reading(TIMEOUT_S):
        while is_open:
            took_frames = False
            while (payload := connection.deframer.next_payload()) is not None:
                taken.append(bytes(payload))
                took_frames = True
                connection.stop_the_clock()
                await trio.sleep(work_s)
            is_open = await connection.receive(took_frames=took_frames)
    return taken


async def send_slowly(stream: trio.abc.Stream, pieces: list[bytes], pause_s: float) -> None:
    for piece in pieces:
        await stream.send_all(piece)
        await trio.sleep(pause_s)
    await stream.aclose()


PIECES = {
    "nothing": ([], 1000.0, 0),
    "whole frames, seldom": ([FRAME, FRAME], 1000.0, 2),
    "a frame just in time": ([FRAME[:1], FRAME[1:]], 9.9, 1),
    "each has its own time": ([FRAME[:4], FRAME[4:] + FRAME[:4], FRAME[4:]], 9.0, 2),
    "each piece has its own time": ([PIECE, LAST_PIECE], 9.0, 1),
    "a frame between pieces": ([PIECE, FRAME, LAST_PIECE], 9.0, 2),
    "cut in the length": ([FRAME + FRAME[:2], FRAME[2:4], FRAME[4:]], 4.0, 2),
}


@pytest.mark.parametrize(("pieces", "pause_s", "frames"), PIECES.values(), ids=PIECES)
async def test_frames_in_time(
    autojump_clock: MockClock, pieces: list[bytes], pause_s: float, frames: int
) -> None:
    connection, theirs = connection_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly, theirs, pieces, pause_s)
        assert await payloads(connection) == [b"abc"] * frames


async def test_more_bytes_do_not_extend_the_time(autojump_clock: MockClock) -> None:
    connection, theirs = connection_pair()
    pieces = [FRAME] + [FRAME[at : at + 1] for at in range(len(FRAME))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly, theirs, pieces, 4.0)
        with pytest.raises(FrameTooSlow, match="a frame took longer than 10 s"):
            await payloads(connection)
        assert trio.current_time() == pytest.approx(4.0 + TIMEOUT_S, abs=0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("begun", [PIECE, PIECE + LAST_PIECE[:2]], ids=["at all", "whole"])
async def test_a_piece_that_does_not_come_in_time(autojump_clock: MockClock, begun: bytes) -> None:
    connection, theirs = connection_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly, theirs, [PIECE, begun, b"", b""], 4.0)
        with pytest.raises(FrameTooSlow, match="a frame took longer than 10 s"):
            await payloads(connection)
        assert trio.current_time() == pytest.approx(4.0 + TIMEOUT_S, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_time_in_which_nobody_reads_does_not_count(autojump_clock: MockClock) -> None:
    connection, theirs = connection_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly, theirs, [FRAME + FRAME[:3], FRAME[3:]], 25.0)
        assert await payloads(connection, work_s=20.0) == [b"abc"] * 2


# -- the handshake -------------------------------------------------------------------------


async def test_a_first_frame_is_small(autojump_clock: MockClock) -> None:
    connection, theirs = connection_pair()
    await theirs.send_all((4097).to_bytes(4, "big"))
    with pytest.raises(BadMessage, match="at most 4096"):
        await in_time(first_frame(connection, None), 5.0)


@pytest.mark.parametrize(
    ("data", "closes", "reason"),
    [
        (b"", False, "it did not say who it is within 5 s"),
        (FRAME[:5], False, "it did not say who it is within 5 s"),
        (FRAME[:5], True, "it closed the connection without saying who it is"),
    ],
)
async def test_a_handshake_that_fails_says_why(
    autojump_clock: MockClock, data: bytes, closes: bool, reason: str
) -> None:
    connection, theirs = connection_pair()
    await theirs.send_all(data)
    if closes:
        await theirs.aclose()
    with pytest.raises(BadMessage, match=reason):
        await in_time(first_frame(connection, None), 5.0)


async def test_a_handshake_that_breaks_says_why(autojump_clock: MockClock) -> None:
    connection, _ = connection_pair()
    await connection.stream.aclose()
    with pytest.raises(BadMessage, match=r"broke during the handshake: .*Closed"):
        await in_time(first_frame(connection, None), 5.0)


# -- sockets -------------------------------------------------------------------------------


@contextmanager
def connected_to_itself() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        yield sock


def test_a_socket_that_is_connected_to_itself_is_refused() -> None:
    with connected_to_itself() as sock, pytest.raises(ConnectionRefusedError):
        check_not_itself(sock)


async def test_a_client_does_not_take_itself_for_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with connected_to_itself() as sock:

        class Stream:
            def extra(self, attribute: object) -> socket.socket:
                assert attribute is SocketAttribute.raw_socket
                return sock

            async def aclose(self) -> None:
                sock.close()

        async def connect_tcp(host: str, port: int) -> Stream:
            return Stream()

        monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
        with pytest.raises(ConnectionRefusedError):
            await connect_over(None)(("127.0.0.1", 1), "")
        assert sock.fileno() == -1


def test_the_kernel_is_told_when_to_give_up() -> None:
    with socket.socket() as sock:
        keep_alive(sock, 10.0)
        give_up_sending(sock, 10.0)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for name, value in (
            ("TCP_KEEPIDLE", 5),
            ("TCP_KEEPINTVL", 2),
            ("TCP_KEEPCNT", 2),
            ("TCP_USER_TIMEOUT", 10_000),
        ):
            if hasattr(socket, name):
                assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


def test_a_socket_without_such_options_is_left_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keep_alive(ours, 10.0)
        give_up_sending(ours, 10.0)
