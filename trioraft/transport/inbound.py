"""The incoming side: admit a connection, then read it to its end.

Rules of this file:

* An incoming connection is only read; the one thing ever written to it is the handshake's answer.
* Nothing is passed on before the handshake has succeeded, and then only messages that bear the
  handshake's sender and this node's id.
* Who is let in, and what follows from it, the `Admission` decides; it need not be a member.
* A peer has one connection to us. A newer one replaces the older, which can only be a corpse.
* What a stranger does costs him his connection and nobody else anything.
"""

from __future__ import annotations

import math
from typing import Protocol, final

import attrs
import trio

from ..core.errors import BadMessage
from ..core.types import Address, NodeId
from .base import ConnectionRejected
from .handshake import (
    PeerHello,
    check_hello,
    decode_from,
    decode_hello,
    encode_reply,
)
from .session import RECEIVE_BYTES_MAX, Connection, Session, sentence_of


class Admission(Protocol):
    """Who knows the peers."""

    def check_room(self, peer: NodeId) -> None:
        """Check that this peer, whose handshake is right, may connect.

        Raises:
            BadMessage: the reason, which it will be told.
        """

    def on_arrival(self, peer: NodeId, told: Address | None, remote_host: str) -> None:
        """This peer has connected, perhaps in place of an earlier connection of its own; it told
        where it wants to be answered, if at all; this is the host that we see (empty: unknown)."""

    def on_departure(self, peer: NodeId) -> None:
        """The last connection of this peer has ended."""


@final
@attrs.define
class _Reading:
    """One admitted connection: its scope's deadline is that of a half-read frame."""

    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    ended_on_purpose: bool = False


@final
class Inbound:
    """All incoming connections of one run.

    Args:
        session: the run.
        doorkeeper: decides whom to admit, and is told who comes and goes.
    """

    def __init__(self, session: Session, doorkeeper: Admission) -> None:
        self._session = session
        self._doorkeeper = doorkeeper
        self._readings: dict[NodeId, _Reading] = {}

    async def serve(self, connection: Connection) -> None:
        """Serve one connection to its end, and close it. Raises only what the owner raises."""
        try:
            hello = await self._admit(connection)
            if hello is not None:
                await self._read_from(hello, connection)
        finally:
            connection.hang_up()

    def disconnect(self, peer: NodeId) -> None:
        """Close this peer's connection, if it has one."""
        reading = self._readings.get(peer)
        if reading is not None:
            reading.ended_on_purpose = True
            reading.scope.cancel()

    def reject(self, remote: str, peer: NodeId | None, reason: str) -> None:
        """Tell why a connection is closed."""
        self._session.tell(ConnectionRejected(trio.current_time(), remote, peer, reason))

    async def _admit(self, connection: Connection) -> PeerHello | None:
        """Do the handshake, and tell the owner why if it fails."""
        timeout_s = self._session.limits.handshake_timeout_s
        reason = f"it did not say who it is within {timeout_s:g} s"
        with trio.move_on_after(timeout_s):
            try:
                return await self._handshake(connection)
            except BadMessage as error:
                reason = str(error)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                reason = f"the connection broke during the handshake: {sentence_of(error)}"
        self.reject(connection.remote, None, reason)
        return None

    async def _handshake(self, connection: Connection) -> PeerHello:
        session = self._session
        if session.tls is not None:
            await connection.secure(session.tls.server, server_hostname=None)
        payload = await connection.receive_payload()
        if payload is None:
            raise BadMessage("it closed the connection without saying who it is")
        hello = decode_hello(payload)
        try:
            check_hello(
                hello,
                cluster_id=session.cluster_id,
                node_id=session.node_id,
                certified=connection.certified,
            )
            self._doorkeeper.check_room(hello.sender)
        except BadMessage as error:
            await connection.stream.send_all(encode_reply(str(error)))
            raise
        await connection.stream.send_all(encode_reply())
        return hello

    async def _read_from(self, hello: PeerHello, connection: Connection) -> None:
        """Read an admitted connection until it ends; tell the owner how, unless we ended it."""
        peer = hello.sender
        trio.lowlevel.current_task().name = f"raft[{self._session.node_id}].inbound[{peer}]"
        connection.deframer.frame_bytes_max = self._session.limits.frame_bytes_max
        reading = _Reading()
        try:
            self._take_over(hello, connection.remote_host, reading)
            with reading.scope:
                await self._read(peer, connection, reading.scope)
        except BadMessage as error:
            self.reject(connection.remote, peer, str(error))
            return  # the peer is there: it was not lost, it was thrown out
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # reset: the same as its end
        finally:
            if self._readings.get(peer) is reading:
                del self._readings[peer]
                self._doorkeeper.on_departure(peer)
        if reading.scope.cancelled_caught and not reading.ended_on_purpose:
            timeout_s = self._session.limits.frame_timeout_s
            self.reject(connection.remote, peer, f"a frame took longer than {timeout_s:g} s")
        self._session.owner.on_peer_lost(peer)

    def _take_over(self, hello: PeerHello, remote_host: str, reading: _Reading) -> None:
        """Let a connection take the place of the peer's earlier one.

        Raises:
            BadMessage: others have come while our welcome was on its way, and now it is full.
        """
        self._doorkeeper.check_room(hello.sender)
        self.disconnect(hello.sender)
        self._readings[hello.sender] = reading
        self._doorkeeper.on_arrival(hello.sender, hello.address, remote_host)

    async def _read(self, peer: NodeId, connection: Connection, scope: trio.CancelScope) -> None:
        deframer = connection.deframer
        node_id = self._session.node_id
        owner = self._session.owner
        timeout_s = self._session.limits.frame_timeout_s
        while True:
            whole_frames = False
            try:
                while (payload := deframer.next_payload()) is not None:
                    owner.on_message(decode_from(peer, node_id, payload))
                    whole_frames = True
            finally:
                if whole_frames:
                    owner.on_batch_end()
            # The deadline belongs to the frame that is half there; more bytes do not extend it.
            if not deframer.pending:
                if scope.deadline != math.inf:
                    scope.deadline = math.inf
            elif whole_frames or scope.deadline == math.inf:
                scope.deadline = trio.current_time() + timeout_s
            data = await connection.stream.receive_some(RECEIVE_BYTES_MAX)
            if not data:
                return
            deframer.feed(data)
