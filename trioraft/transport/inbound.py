"""The incoming side: admit a connection, then read it to its end.

Rules of this file:

* An incoming connection is only read; the one thing ever written to it is the handshake's answer.
* Nothing is passed on before the handshake has succeeded, and then only messages that bear the
  handshake's sender and this node's id. Whoever has no credential leaves no trace but a line in the
  log: no term, log, snapshot, timer, link or table is touched.
* Who is let in, and what follows from it, the `Admission` decides; it need not be a member.
* A peer speaks over one connection to us. It may open another beside one that it does not trust;
  all are read until it says something over the new one, which replaces the older ones. That is no
  loss: a peer is lost when its last connection ends.
* What comes over a connection costs its sender that connection, and nobody else anything: see the
  wall in `net.listening`. What the owner raises is the owner's, and passes the wall.
"""

from __future__ import annotations

import sys
from typing import Final, Protocol, final

import trio

from ..core.errors import BadMessage
from ..core.messages import Introduction
from ..core.types import Address, NodeId
from ..net.connection import BROKEN, Connection, FrameTooSlow
from ..net.credentials import certificate_of
from ..net.events import ConnectionRejected
from ..net.handshake import SaidNothing, first_frame, in_time
from ..net.holdings import Holdings
from ..net.listening import OwnerFailed
from ..net.rejections import Rejections
from ..net.visitors import Visitors
from .context import TransportContext
from .handshake import (
    HANDSHAKE_BYTES_MAX,
    PeerHello,
    check_hello,
    check_said_again,
    decode_from,
    decode_hello,
    encode_reply,
    spoken_with,
    versions_of,
)


class Admission(Protocol):
    """Who knows the peers."""

    def who_gives_way(self, peer: NodeId) -> NodeId | None:
        """Whose connections end because this peer, whose handshake is right, is about to arrive;
        None: nobody's."""

    def on_doubt(self, peer: NodeId) -> None:
        """This peer is about to connect beside an earlier connection of its own."""

    def on_arrival(self, peer: NodeId, told: Address | None, remote_host: str) -> None:
        """This peer has connected, perhaps in place of an earlier connection of its own; it told
        where it wants to be answered, if at all; this is the host that we see (empty: unknown)."""

    def on_departure(self, peer: NodeId) -> None:
        """The last connection of this peer has ended."""


CONNECTIONS_MAX: Final = 4
"""Connections of one peer at a time; the oldest gives way to a further one."""


@final
class Inbound:
    """All incoming connections of one run.

    Args:
        context: the run.
        admission: decides whom to admit, and is told who comes and goes.
    """

    def __init__(self, context: TransportContext, admission: Admission) -> None:
        self._context = context
        self._admission = admission
        self._readings: dict[NodeId, list[trio.CancelScope]] = {}  # the newest last
        limits = context.limits
        self.visitors: Visitors = Visitors(
            context.door.knows, limits.inbound_connections_max, sys.maxsize
        )
        """Strangers, and admitted peers: of these the `Admission` says who is too many."""
        self.half_frames: Holdings = Holdings("half frames", limits.inbound_half_frames_bytes_max)
        self.rejections: Rejections = Rejections(self._tell)
        """What is told of connections that were refused or ended."""

    async def serve(self, connection: Connection) -> None:
        """Serve one connection to its end, and close it.

        Raises:
            OwnerFailed: what it brought was handed to the owner, who failed.
        """
        connection.deframer.frame_bytes_max = HANDSHAKE_BYTES_MAX
        try:
            timeout_s = self._context.limits.handshake_timeout_s
            try:
                hello = await in_time(self._handshake(connection), timeout_s)
            except SaidNothing:
                pass
            except BadMessage as error:
                self.reject(connection.remote, None, str(error))
            else:
                await self._read_from(hello, connection)
        finally:
            connection.hang_up()

    def disconnect(self, peer: NodeId) -> None:
        """Close this peer's connection, if it has one."""
        for reading in self._readings.get(peer, ()):
            reading.cancel()

    def reject(self, remote: str, peer: NodeId | None, reason: str) -> None:
        """Tell why a connection is closed, if it is not too often."""
        self.rejections.add(remote, peer, reason)

    def _tell(self, remote: str, peer: NodeId | None, reason: str) -> None:
        self._context.tell(ConnectionRejected(trio.current_time(), remote, peer, reason))

    async def _handshake(self, connection: Connection) -> PeerHello:
        context = self._context
        tls = None if context.tls is None else context.tls.server
        hello = decode_hello(await first_frame(connection, tls))
        try:
            certificate = None if tls is None else certificate_of(connection.stream)
            check_hello(hello, cluster_id=context.cluster_id, node_id=context.node_id)
            context.check_credentials(hello.introduction, certificate, hello.invitation)
            said = self._introduce(hello)
            spoken = spoken_with(hello, versions_of(said))
        except BadMessage as error:
            await connection.stream.send_all(encode_reply(None, str(error)))
            raise
        reply = encode_reply(said, invitation=context.invitation, version=spoken)
        await connection.stream.send_all(reply)
        return hello

    def _introduce(self, hello: PeerHello) -> Introduction:
        """Have the owner meet the dialer, and return what it says of itself.

        Raises:
            BadMessage: it does not want to.
        """
        owner = self._context.owner
        try:
            owner.on_introduction(hello.introduction)
            return owner.introduction(hello.sender)
        except BadMessage:
            raise
        except Exception as error:
            raise OwnerFailed(error) from error

    async def _read_from(self, hello: PeerHello, connection: Connection) -> None:
        """Read an admitted connection until it ends, and tell the owner how."""
        peer = hello.sender
        trio.lowlevel.current_task().name = f"raft[{self._context.node_id}].inbound[{peer}]"
        connection.deframer.frame_bytes_max = self._context.limits.frame_bytes_max
        connection.deframer.takes_pieces = True
        reading = trio.CancelScope()
        try:
            self._take_in(hello, connection.remote_host, reading)
            self.visitors.admit(connection)
            with reading, connection.reading(self._context.limits.frame_timeout_s):
                await self._read(peer, connection, hello.introduction, reading)
        except FrameTooSlow as error:
            self.reject(connection.remote, peer, str(error))
        except BadMessage as error:
            self.reject(connection.remote, peer, str(error))
            return  # the peer is there: it was not lost, it was thrown out
        except BROKEN:
            pass  # reset: the same as its end
        finally:
            is_last = self._drop(peer, reading)
        if is_last:
            try:
                self._context.owner.on_peer_lost(peer)
            except Exception as error:
                raise OwnerFailed(error) from error

    def _drop(self, peer: NodeId, reading: trio.CancelScope) -> bool:
        """A connection has ended. Return whether its peer is gone with it."""
        readings = self._readings.get(peer, [])
        if reading not in readings:
            return False
        readings.remove(reading)
        if readings:
            return False
        del self._readings[peer]
        self._admission.on_departure(peer)
        return True

    def _take_in(self, hello: PeerHello, remote_host: str, reading: trio.CancelScope) -> None:
        """Let a connection be read, beside the peer's earlier ones."""
        peer = hello.sender
        gives_way = self._admission.who_gives_way(peer)
        if gives_way is not None:
            self._throw_out(gives_way, f"node {peer!r} takes its place: there are too many")
        readings = self._readings.setdefault(peer, [])
        if readings:
            self._admission.on_doubt(peer)
        if len(readings) >= CONNECTIONS_MAX:
            readings.pop(0).cancel()
        readings.append(reading)
        self._admission.on_arrival(peer, hello.address, remote_host)

    def _throw_out(self, peer: NodeId, reason: str) -> None:
        """End the connections of a peer, now. It is there: it was not lost."""
        for reading in tuple(self._readings.get(peer, ())):
            self._drop(peer, reading)
            reading.cancel()
        self.reject("a non-member", peer, reason)

    def _replace(self, peer: NodeId, reading: trio.CancelScope) -> None:
        """The peer speaks over this connection: the older ones are given up."""
        readings = self._readings.get(peer, [])
        if reading in readings:
            while readings[0] is not reading:
                readings.pop(0).cancel()

    async def _read(
        self, peer: NodeId, connection: Connection, origin: Introduction, reading: trio.CancelScope
    ) -> None:
        deframer = connection.deframer
        node_id = self._context.node_id
        owner = self._context.owner
        has_spoken = deframer.pending  # right behind its handshake
        if has_spoken:
            self._replace(peer, reading)
        while True:
            took_frames = False
            try:
                while (payload := deframer.next_payload()) is not None:
                    message = decode_from(peer, node_id, payload)
                    if type(message) is Introduction:
                        origin = check_said_again(message, origin)
                    try:
                        owner.on_message(message, origin)
                    except BadMessage:
                        raise
                    except Exception as error:
                        raise OwnerFailed(error) from error
                    took_frames = True
                    if not connection.has_asked:
                        connection.note_use()
            finally:
                if took_frames:
                    self._end_batch()
            if not await connection.receive(took_frames=took_frames):
                return
            if not has_spoken:
                has_spoken = True
                self._replace(peer, reading)

    def _end_batch(self) -> None:
        try:
            self._context.owner.on_batch_end()
        except Exception as error:
            raise OwnerFailed(error) from error
