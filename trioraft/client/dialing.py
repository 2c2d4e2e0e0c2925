"""Reaching a server: where it is, how its bytes are opened, and who it says it is.

Rules of this file:

* Addresses and certificates are checked when they are given; what cannot work never starts.
* Plain TCP stays on this machine unless `insecure=True` says otherwise.
* Whatever goes wrong on the way comes out as `ServerLost` (try again) or `HandshakeRefused`
  (trying again is of no use), with the address in it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias, final

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute

from ..core.errors import BadMessage, ConfigError
from ..core.types import Address, NodeId
from ..net.addresses import host_port, numeric_host
from ..rpc.errors import HandshakeRefused, ServerLost
from ..rpc.protocol import (
    HELLO_BYTES_MAX,
    MAGIC,
    PROTOCOL_VERSION,
    ClientHello,
    Welcome,
    decode_welcome,
    frame,
    printable,
)
from ..transport.codec import Deframer

RECEIVE_BYTES_MAX = 64 * 1024
"""Bytes taken from a stream at once."""
KEEPALIVE_S = 10
"""Seconds of silence after which the kernel asks whether the other side is still there."""

Connect: TypeAlias = Callable[[Address, str], Awaitable[ByteStream]]
"""Opens a byte stream to an address; the second argument is the name its certificate must bear."""

_BREAKAGES = (
    OSError,
    ValueError,  # a host that no resolver takes
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
_PERMANENT = ("not-a-client", "version", "cluster")


@final
@attrs.frozen
class Reached:
    """A stream to a server that took us."""

    stream: ByteStream
    welcome: Welcome
    deframer: Deframer


@final
@attrs.frozen
class Dialer:
    """How servers are reached; the same for all of them."""

    hello: ClientHello
    connect: Connect
    timeout_s: float
    """For connecting and the handshake together."""

    async def dial(self, address: Address, server_name: str) -> Reached:
        """Connect and shake hands.

        Args:
            address: where.
            server_name: what the server's certificate must bear, over TLS.

        Raises:
            ServerLost: it cannot be reached now, or not within `timeout_s`.
            HandshakeRefused: it is no client port, or one of another cluster or version.
        """
        stream: ByteStream | None = None
        reached: Reached | None = None
        try:
            with anyio.fail_after(self.timeout_s):
                stream = await self.connect(address, server_name)
                reached = await self._shake_hands(stream, address)
        except TimeoutError:
            raise ServerLost(
                f"{host_port(address)}: no answer within {self.timeout_s:g} s"
            ) from None
        except BadMessage as error:
            raise HandshakeRefused("not-a-client", f"{host_port(address)}: {error}") from error
        except _BREAKAGES as error:
            raise ServerLost(f"{host_port(address)}: {sentence_of(error)}") from error
        finally:
            if stream is not None and reached is None:
                await anyio.aclose_forcefully(stream)
        return reached

    async def _shake_hands(self, stream: ByteStream, address: Address) -> Reached:
        await stream.send(frame(self.hello))
        deframer = Deframer(HELLO_BYTES_MAX)
        while (payload := deframer.next_payload()) is None:
            deframer.feed(await stream.receive(RECEIVE_BYTES_MAX))
        welcome = decode_welcome(payload)
        if welcome.refused in _PERMANENT:
            raise HandshakeRefused(
                welcome.refused, f"{host_port(address)} refused us: {printable(welcome.reason)}"
            )
        if welcome.refused:
            raise ServerLost(f"{host_port(address)} refused us: {printable(welcome.reason)}")
        if welcome.magic != MAGIC:
            raise HandshakeRefused(
                "not-a-client",
                f"{host_port(address)} is no client port (it begins with {welcome.magic[:64]!r}): "
                "clients and peers have ports of their own",
            )
        if welcome.version != PROTOCOL_VERSION:
            raise HandshakeRefused(
                "version",
                f"{host_port(address)} speaks client protocol {welcome.version}, this program "
                f"speaks {PROTOCOL_VERSION}",
            )
        deframer.frame_bytes_max = self.hello.frame_bytes_max
        return Reached(stream, welcome, deframer)


def connect_over(context: ssl.SSLContext | None) -> Connect:
    """How to open TCP connections: with TLS if a context is given."""

    async def connect(address: Address, server_name: str) -> ByteStream:
        host, port = address
        host = numeric_host(host)
        stream: ByteStream
        if context is None:
            stream = await anyio.connect_tcp(host, port)
        else:
            stream = await anyio.connect_tcp(
                host,
                port,
                ssl_context=context,
                tls_hostname=server_name,
                tls_standard_compatible=False,  # frames say where they end
            )
        _keep_alive(stream)
        return stream

    return connect


def _keep_alive(stream: ByteStream) -> None:
    """Notice some day that the other side is gone, also where nobody asks it anything."""
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - of a stream, not of a query
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # a socket that was reset meanwhile
                raw.setsockopt(socket.IPPROTO_TCP, option, value)


def checked_addresses(
    addresses: Iterable[Address] | Mapping[NodeId, Address], *, may_leave_machine: bool
) -> dict[Address, NodeId | None]:
    """The addresses that a client was given, with the ids they were given for.

    Raises:
        ConfigError: one is unusable, there are none, or plain TCP would leave this machine.
    """
    if isinstance(addresses, str):
        raise ConfigError(f"addresses is the string {addresses!r}; give (host, port) pairs")
    if isinstance(addresses, Mapping):
        named: list[tuple[NodeId | None, Address]] = list(addresses.items())
    else:
        named = [(None, address) for address in addresses]
    checked: dict[Address, NodeId | None] = {}
    for node_id, address in named:
        try:
            host, port = address
        except (TypeError, ValueError):
            raise ConfigError(f"an address is {address!r}: give (host, port)") from None
        if not isinstance(host, str) or not host or host != host.strip():
            raise ConfigError(f"an address has the host {host!r}: give a name or an IP address")
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise ConfigError(f"{host!r} has the port {port!r}: give one of 1..65535")
        if not may_leave_machine and not is_loopback(host):
            raise ConfigError(
                f"{host_port((host, port))} is on another machine and there is no ssl_context: "
                "over plain TCP anyone on the way reads and changes everything. Give "
                "ssl_context=…, or say insecure=True if the network is trusted"
            )
        checked[(host, port)] = node_id
    if not checked:
        raise ConfigError("no address was given: name at least one server's client port")
    return checked


def is_loopback(host: str) -> bool:
    """Whether this is surely this machine."""
    try:
        return ipaddress.ip_address(numeric_host(host)).is_loopback
    except ValueError:
        return False  # a name: where it leads is not ours to say


def sentence_of(error: BaseException) -> str:
    """Say what broke, in the operating system's words where there are some."""
    cause: BaseException = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {cause.verify_message}"
    if isinstance(cause, anyio.EndOfStream | ssl.SSLEOFError):
        return "it closed the connection"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(cause) or type(cause).__name__
