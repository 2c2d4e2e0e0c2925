"""What the tasks of one `TcpTransport.run` share, and one connection as they see it.

Rules of this file:

* A connection is closed by `hang_up`, which is synchronous: the descriptor is gone at once, with
  no TLS goodbye to wait for, also when the task around it was cancelled.
* No wait on a connection is without a deadline, but the one for the next frame's first byte.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
from collections.abc import Callable
from typing import TypeAlias, final

import attrs
import trio

from ..core.config import Limits
from ..core.types import Address, NodeId
from ..net.tls import TlsContexts, certified_names
from .base import TransportEvent, TransportOwner
from .codec import Deframer
from .handshake import HANDSHAKE_BYTES_MAX

RECEIVE_BYTES_MAX = 64 * 1024
"""Bytes taken from a socket at once. Larger reads cost more than they save: malloc then maps and
unmaps pages for each."""

TcpStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@final
@attrs.frozen
class Session:
    """One run of a transport: who we are, whom we tell, what is allowed."""

    node_id: NodeId
    cluster_id: str
    owner: TransportOwner
    limits: Limits
    tls: TlsContexts | None
    rng: random.Random
    advertised: Address | None = None
    """Where others can reach us; a wildcard host means the host at which they see us."""

    def tell(self, event: TransportEvent) -> None:
        """Pass an event to the owner."""
        self.owner.on_transport_event(event)


@final
@attrs.define
class Connection:
    """A byte stream to a peer, or to someone who has yet to prove it."""

    stream: trio.abc.Stream
    remote: str
    """The other side's address, for logs."""
    hang_up: Callable[[], None]
    """Close the descriptor now. Idempotent."""
    certified: frozenset[str] | None = None
    """The DNS names in the other side's certificate; None on plain TCP."""
    deframer: Deframer = attrs.Factory(lambda: Deframer(HANDSHAKE_BYTES_MAX))
    remote_host: str = ""
    """The host in that address; empty if it is not known, or does not matter."""

    @classmethod
    def over(cls, stream: trio.SocketStream, remote: str, *, remote_host: str = "") -> Connection:
        """Wrap a connected socket."""
        return cls(stream, remote, stream.socket.close, remote_host=remote_host)

    async def secure(self, context: ssl.SSLContext, *, server_hostname: str | None) -> None:
        """Do the TLS handshake: as a client of `server_hostname`, or as the server.

        Raises:
            trio.BrokenResourceError: TLS failed; its `__cause__` says how.
        """
        if not isinstance(self.stream, trio.SocketStream):
            raise TypeError(f"TLS goes over a TCP connection, this is {self.stream!r}")
        secured = trio.SSLStream(
            self.stream,
            context,
            server_hostname=server_hostname,
            server_side=server_hostname is None,
        )
        await secured.do_handshake()
        self.stream = secured
        self.certified = certified_names(secured)

    async def receive_payload(self) -> bytes | bytearray | None:
        """Return the next frame's payload; None when the other side closed.

        Raises:
            BadMessage: the frame declares too many bytes.
            trio.BrokenResourceError: the connection broke.
        """
        while True:
            payload = self.deframer.next_payload()
            if payload is not None:
                return payload
            data = await self.stream.receive_some(RECEIVE_BYTES_MAX)
            if not data:
                return None
            self.deframer.feed(data)


def sentence_of(error: BaseException) -> str:
    """Say what broke: the operating system's words rather than Trio's wrapping of them."""
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLEOFError):
        return "closed without a TLS goodbye"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(cause or error) or type(error).__name__


def tune_socket(stream: trio.SocketStream, silence_s: float) -> None:
    """Let the kernel give up on a peer that stopped acknowledging for `silence_s` seconds.

    Without it a connection that was cut silently is retransmitted ever more seldom, for minutes,
    also after the cut has healed; with it the link is replaced by a new one. The side that only
    reads is kept honest by keep-alive probes. Options this platform lacks are left out.
    """
    seconds = max(1, round(silence_s / 2))
    with contextlib.suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", max(1, seconds // 2)),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", max(1, round(silence_s * 1000))),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # a socket that was reset meanwhile
                stream.setsockopt(socket.IPPROTO_TCP, option, value)
