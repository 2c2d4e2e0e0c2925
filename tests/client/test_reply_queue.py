"""How a server's answers leave: at once where nothing is before them, and by a task otherwise."""

from __future__ import annotations

import os
import socket

import trio

from trioraft.net.connection import Connection
from trioraft.rpc.protocol import Result, encode_value, frame
from trioraft.service.context import ServiceLimits
from trioraft.service.conversation import SMALL_BYTES, ReplyQueue

ANSWER = Result(1, encode_value("an answer"))


def pair() -> tuple[Connection, ReplyQueue, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    connection = Connection(stream, "a client", stream.socket.close)
    queue = ReplyQueue(connection, ServiceLimits())
    queue.frame_bytes_max = 2**24
    theirs.settimeout(10)
    return connection, queue, theirs


async def test_what_was_gathered_leaves_at_once_and_together() -> None:
    connection, queue, theirs = pair()
    queue.gather()
    queue.put(ANSWER)
    queue.put(ANSWER)
    assert not queue.is_empty
    queue.leave()
    assert queue.is_empty
    assert theirs.recv(2**16) == 2 * frame(ANSWER)
    queue.leave()  # nothing
    connection.hang_up()
    theirs.close()


async def test_what_the_kernel_does_not_take_is_sent_by_the_task_in_order() -> None:
    connection, queue, theirs = pair()
    sent = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.send_forever)
        for size in (100, 10 * SMALL_BYTES, 100, SMALL_BYTES - 100, 100) * 20:
            answer = Result(sent, encode_value(bytes(size)))
            queue.gather()
            queue.put(answer)
            queue.leave()
            sent += 1
        expected = b"".join(
            frame(Result(number, encode_value(bytes(size))))
            for number, size in enumerate((100, 10 * SMALL_BYTES, 100, SMALL_BYTES - 100, 100) * 20)
        )
        got = bytearray()
        while len(got) < len(expected):
            await trio.lowlevel.wait_readable(theirs)
            got += theirs.recv(2**20)
        assert got == expected
        await queue.drained()
        nursery.cancel_scope.cancel()
    connection.hang_up()
    theirs.close()


async def test_nothing_is_written_to_a_number_that_is_another_connections_by_now() -> None:
    connection, queue, theirs = pair()
    assert isinstance(connection.stream, trio.SocketStream)
    number = connection.stream.socket.fileno()
    reader, writer = os.pipe()
    connection.hang_up()
    os.dup2(writer, number)
    try:
        queue.gather()
        queue.put(ANSWER)
        queue.leave()
        os.set_blocking(reader, False)
        try:
            stray = os.read(reader, 100)
        except BlockingIOError:
            stray = b""
        assert stray == b""
    finally:
        for each in (reader, writer, number):
            os.close(each)
        theirs.close()
