"""The outgoing side: one connection to one peer, made again whenever it ends.

Rules of this file:

* A link only writes; a reader stands by to notice the end, since the peer never writes back.
* The queue belongs to a connection, or to the attempt to make one. When that fails, what waited
  is discarded: Raft repeats what still matters, and old messages are only in the way.
* The queue is bounded by messages and by bytes, those in the hands of the kernel call included.
* Everything queued leaves in one write, as soon as the scheduler comes round. A message that finds
  the link idle is given to the kernel at once, which spares it a turn of the scheduler.
"""

from __future__ import annotations

import math
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias, final

import trio

from ..core.errors import BadMessage
from ..core.messages import Message
from ..core.types import Address, NodeId
from ..net.addresses import host_port, numeric_host
from ..net.connection import BROKEN, Connection
from ..net.framing import LENGTH_BYTES
from ..net.sentences import sentence_of
from ..net.sockets import check_not_itself
from .base import LinkDown, LinkUp, MessagesDropped
from .codec import encode_frame
from .context import TransportContext
from .handshake import HANDSHAKE_BYTES_MAX, check_certificate, check_reply, encode_hello

WRITE_BYTES_MAX = 1024 * 1024
"""Bytes after which a write is not made larger: a blocked write's deadline is for this much."""

REASONS_TOLD_MAX = 8
"""Different reasons told in one outage: a peer that makes up new ones does not fill the log."""

_DOUBLINGS_MAX = 30

_Carrier: TypeAlias = Callable[[trio.abc.Stream], Awaitable[str]]


class _Down(Exception):  # noqa: N818 - an ending, not an error: every connection has one
    """Why a connection ended, or was not made."""

    def __init__(self, reason: str, *, was_up: bool = False, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_up = was_up
        self.refused = refused


@final
class Link:
    """The link to one peer.

    Args:
        context: the run it belongs to.
        peer: whom it leads to.
        address: where that is.
        is_answer: whether it is there only because the peer has connected to us. Then it does not
            tell where we are: two non-members that answered each other would never part.
        elsewhere: where it may be as well, asked at each attempt: these are tried in turn once
            the address did not lead to it (it has moved), and the one that does is kept to.
    """

    def __init__(
        self,
        context: TransportContext,
        peer: NodeId,
        address: Address,
        *,
        is_answer: bool = False,
        elsewhere: Callable[[], Iterable[Address]] = tuple,
    ) -> None:
        self.is_answer = is_answer  # may change; counts when it connects
        self._context = context
        self._peer = peer
        self._address = address
        self._elsewhere = elsewhere
        self._in_vain = 0  # attempts that did not reach it: they choose the address
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0  # the queue's, and those of the write under way
        self._writing = 0  # messages in the write under way
        self._accepting = False
        self._dropped = 0  # in the present episode of a full queue
        self._news = trio.Event()  # something was queued
        self._idle_fd: int | None = None  # of a plain socket, while nothing waits to be written
        self._peer_back = trio.Event()
        self._attempts = 0
        self._failures = 0  # in a row
        self._up_s = math.inf  # since when the connection is ready, if there is one
        self._told_reasons: set[str] = set()  # in the present outage
        self._refusal_is_news = False  # it was up, so a refused attempt says the peer is gone
        self._scope = trio.CancelScope()

    @property
    def address(self) -> Address:
        return self._address

    def offer(self, message: Message) -> None:
        """Queue a message, or drop it. Never blocks, never raises."""
        if not self._accepting:
            return
        frame = encode_frame(message)
        limits = self._context.limits
        waiting = len(self._queue) + self._writing
        if waiting and (  # one message alone always fits: else a small bound would stop it for ever
            waiting >= limits.link_queue_messages_max
            or self._queued_bytes + len(frame) > limits.link_queue_bytes_max
        ):
            self._dropped += 1
            return
        if len(frame) - LENGTH_BYTES > limits.frame_bytes_max:
            self._dropped += 1  # the peer would close the connection over it
            return
        if self._idle_fd is not None:
            frame = _rest_after_write(self._idle_fd, frame)
            if not frame:
                self._tell_dropped()
                return
            self._idle_fd = None  # from here on in order, behind what is left
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._news.set()

    def peer_is_back(self) -> None:
        """The peer has just connected to us: if this link is pausing, try again now."""
        self._failures = self._in_vain = 0
        self._peer_back.set()

    def close(self) -> None:
        """End `run`. Idempotent."""
        self._scope.cancel()

    async def run(self) -> None:
        """Keep the link up until cancelled or closed."""
        with self._scope:
            while True:
                self._accepting = True
                try:
                    await self._connect_and_carry()
                except _Down as down:
                    self._note_end(down)
                await self._pause()

    # -- one connection -----------------------------------------------------------------------

    async def _connect_and_carry(self) -> None:
        """Make a connection and use it up. Always raises `_Down`, unless cancelled."""
        known = tuple(dict.fromkeys((self._address, *self._elsewhere())))
        address = known[self._in_vain % len(known)]
        stream = await self._dial(address, self._attempts // len(known))
        timeout_s = self._context.limits.frame_timeout_s
        connection = Connection.over(stream, timeout_s, host_port(address))
        connection.deframer.frame_bytes_max = HANDSHAKE_BYTES_MAX
        try:
            await self._introduce(connection)
            self._note_up()
            await self._carry(connection.stream)
        finally:
            connection.hang_up()

    async def _dial(self, address: Address, attempt: int) -> trio.SocketStream:
        timeout_s = self._context.limits.connect_timeout_s
        where = host_port(address)
        with trio.move_on_after(timeout_s):
            try:
                return await dial(address, attempt)
            except (OSError, ValueError) as error:  # ValueError: no resolver would take that name
                refused = isinstance(error, ConnectionRefusedError)
                raise _Down(
                    f"cannot connect to {where}: {sentence_of(error)}", refused=refused
                ) from error
            finally:
                self._attempts += 1
        raise _Down(f"cannot connect to {where}: no answer within {timeout_s:g} s")

    async def _introduce(self, connection: Connection) -> None:
        timeout_s = self._context.limits.handshake_timeout_s
        where = connection.remote
        with trio.move_on_after(timeout_s):
            try:
                return await self._handshake(connection)
            except BadMessage as error:
                raise _Down(f"handshake with {where} failed: {error}") from error
            except BROKEN as error:
                raise _Down(f"handshake with {where} failed: {sentence_of(error)}") from error
        raise _Down(f"handshake with {where} failed: no answer within {timeout_s:g} s")

    async def _handshake(self, connection: Connection) -> None:
        context = self._context
        if context.tls is not None:
            await connection.secure(context.tls.client, server_hostname=self._peer)
        if connection.certified is not None:
            check_certificate(self._peer, connection.certified)
        hello = encode_hello(
            cluster_id=context.cluster_id,
            introduction=context.owner.introduction(self._peer),
            address=None if self.is_answer else context.advertised,
        )
        await connection.stream.send_all(hello)
        payload = await connection.first_payload()
        if payload is None:
            hint = "" if context.tls is None else " (perhaps it does not trust our certificate)"
            raise BadMessage(f"it closed the connection without an answer{hint}")
        said = check_reply(payload, sender=self._peer, receiver=context.node_id)
        context.owner.on_introduction(said)

    async def _carry(self, stream: trio.abc.Stream) -> None:
        """Write until the connection ends, which either the writer or the reader notices."""
        endings: list[str] = []
        async with trio.open_nursery() as nursery:

            async def note_ending_of(carrier: _Carrier) -> None:
                endings.append(await carrier(stream))
                nursery.cancel_scope.cancel()

            name = f"raft[{self._context.node_id}].link[{self._peer}].reader"
            nursery.start_soon(note_ending_of, self._await_end, name=name)
            await note_ending_of(self._write)
        raise _Down(endings[0], was_up=True)

    async def _await_end(self, stream: trio.abc.Stream) -> str:
        try:
            data = await stream.receive_some(1)
        except BROKEN as error:
            return f"connection lost: {sentence_of(error)}"
        return "it sent data on a connection that is ours to write" if data else "it closed"

    async def _write(self, stream: trio.abc.Stream) -> str:
        timeout_s = self._context.limits.frame_timeout_s
        fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        while True:
            if not self._queue:
                self._news = trio.Event()
                self._idle_fd = fd
                try:
                    await self._news.wait()
                finally:
                    self._idle_fd = None
            data = self._take()
            with trio.move_on_after(timeout_s) as patience:
                try:
                    await stream.send_all(data)
                except BROKEN as error:
                    return f"connection lost: {sentence_of(error)}"
            if patience.cancelled_caught:
                return f"it took no data for {timeout_s:g} s"
            self._queued_bytes -= len(data)
            self._writing = 0

    def _take(self) -> bytes:
        """Take what is queued, up to `WRITE_BYTES_MAX` but at least one frame."""
        self._tell_dropped()  # there is room again
        queue = self._queue
        if self._queued_bytes <= WRITE_BYTES_MAX or len(queue) == 1:
            frames = list(queue)
            queue.clear()
        else:
            frames = [queue.popleft()]
            size = len(frames[0])
            while queue and size + len(queue[0]) <= WRITE_BYTES_MAX:
                size += len(queue[0])
                frames.append(queue.popleft())
        self._writing = len(frames)
        return frames[0] if len(frames) == 1 else b"".join(frames)

    # -- beginnings and ends -------------------------------------------------------------------

    def _note_up(self) -> None:
        self._up_s = trio.current_time()
        self._told_reasons.clear()
        self._refusal_is_news = True
        self._context.tell(LinkUp(trio.current_time(), self._peer))

    def _note_end(self, down: _Down) -> None:
        """Discard the queue and tell the owner: each reason once, however often it recurs."""
        self._accepting = False
        self._tell_dropped()
        self._queue.clear()
        self._queued_bytes = 0
        self._writing = 0
        self._in_vain += not down.was_up
        told = self._told_reasons
        if down.reason not in told and len(told) < REASONS_TOLD_MAX:
            told.add(down.reason)
            self._context.tell(LinkDown(trio.current_time(), self._peer, down.reason))
        if down.was_up:
            self._context.owner.on_peer_lost(self._peer)
        elif down.refused and self._refusal_is_news:
            self._refusal_is_news = False  # the other attempts of this outage say nothing new
            self._context.owner.on_peer_lost(self._peer)

    def _tell_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._context.tell(MessagesDropped(trio.current_time(), self._peer, count))

    async def _pause(self) -> None:
        """Back off: doubling, with jitter, cut short when the peer itself connects to us."""
        first_s, longest_s = self._context.limits.reconnect_backoff_s
        if self._has_lasted(longest_s):
            self._failures = 0
        pause_s: float = min(longest_s, first_s * 2 ** min(self._failures, _DOUBLINGS_MAX))
        self._failures += 1
        self._peer_back = trio.Event()
        with trio.move_on_after(pause_s * self._context.rng.uniform(0.5, 1.0)):
            await self._peer_back.wait()

    def _has_lasted(self, enough_s: float) -> bool:
        """Whether what has just ended was a connection that lasted: one that is taken and dropped
        at once, again and again, is a failure like any other."""
        up_s, self._up_s = self._up_s, math.inf
        return trio.current_time() - up_s >= enough_s


def _rest_after_write(fd: int, frame: bytes) -> bytes:
    """Give the kernel what it takes at once; return the rest. A broken connection takes nothing
    here, and is noticed by whoever waits on it."""
    try:
        return frame[os.write(fd, frame) :]
    except OSError:
        return frame


async def dial(address: Address, attempt: int) -> trio.SocketStream:
    """Connect a socket; a host of several addresses is tried at another one each attempt.

    A literal address (or `localhost`, taken as 127.0.0.1) is resolved without a thread, so that
    cancelling leaves nothing behind.

    Raises:
        OSError: the name cannot be resolved, or the address cannot be reached.
    """
    host, port = address
    found = await trio.socket.getaddrinfo(numeric_host(host), port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[attempt % len(found)]
    sock = trio.socket.socket(family, kind, protocol)
    try:
        # Our own port, should it hit the one of a node that is down, must not keep that node from
        # binding it again.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.connect(where)
        check_not_itself(sock)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)
