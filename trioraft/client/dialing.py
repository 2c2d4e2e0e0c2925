"""Reaching a server: where it is, how its bytes are opened, and who it says it is.

Plain TCP stays on this machine unless `insecure=True` says otherwise.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias, final

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute

from ..core.errors import BadMessage, ConfigError
from ..core.types import Address, NodeId
from ..net import sentences
from ..net.addresses import AddressRules, host_port, is_loopback, numeric_host
from ..net.framing import FIRST_FRAME_BYTES_MAX, RECEIVE_BYTES_MAX, Deframer
from ..net.sockets import check_not_itself, keep_alive
from ..rpc.errors import HandshakeRefused, ServerLost
from ..rpc.protocol import (
    MAGIC,
    PROTOCOL_VERSION,
    ClientHello,
    Welcome,
    decode_welcome,
    frame,
)

KEEPALIVE_S = 20
"""Silence after which the kernel ends a connection, also where nobody asks anything, in seconds."""

Connect: TypeAlias = Callable[[Address, str], Awaitable[ByteStream]]
"""Opens a byte stream to an address; the second argument is the name its certificate must bear."""

BREAKAGES: Final = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
"""How a stream says that the connection ended."""
_WELL_FORMED = AddressRules(has_tls=False, insecure=True)
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
        except (*BREAKAGES, ValueError) as error:  # ValueError: no resolver takes that host
            raise ServerLost(f"{host_port(address)}: {sentence_of(error)}") from error
        finally:
            if stream is not None and reached is None:
                await anyio.aclose_forcefully(stream)
        return reached

    async def _shake_hands(self, stream: ByteStream, address: Address) -> Reached:
        await stream.send(frame(self.hello))
        deframer = Deframer(FIRST_FRAME_BYTES_MAX)
        while (payload := deframer.next_payload()) is None:
            deframer.feed(await stream.receive(RECEIVE_BYTES_MAX))
        welcome = decode_welcome(payload)
        refusal = f"{host_port(address)} refused us: {sentences.printable(welcome.reason)}"
        if welcome.refused in _PERMANENT:
            raise HandshakeRefused(welcome.refused, refusal)
        if welcome.refused:
            raise ServerLost(refusal)
        if welcome.magic != MAGIC:
            raise HandshakeRefused(
                "not-a-client",
                f"{host_port(address)} is no client port (it begins with "
                f"{sentences.quoted(welcome.magic)}): clients and peers have ports of their own",
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
        try:
            raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - of a stream, not of a query
            check_not_itself(raw)
            keep_alive(raw, KEEPALIVE_S)
        except OSError:
            await anyio.aclose_forcefully(stream)
            raise
        return stream

    return connect


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
        host, port = _WELL_FORMED.check("an address", address, port_min=1)
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


def sentence_of(error: BaseException) -> str:
    """Say what broke: `net.sentences.sentence_of`, and anyio's own way to say the end."""
    if isinstance(error, anyio.EndOfStream):
        return "it closed the connection"
    return sentences.sentence_of(error)
