"""Who becomes a client: the handshake of one connection.

Rules of this file:

* A stranger costs as little as can be: what a client needs is made for who has become one.
* Who is refused is told why. Who is not is welcomed by its conversation, which those who change
  roles know by then.
"""

from __future__ import annotations

import attrs
import trio

from ..core.errors import BadMessage
from ..net.connection import Connection
from ..net.handshake import SaidNothing, first_frame, in_time
from ..net.sentences import quoted
from ..net.tls import client_names
from ..net.versions import common, said_by, why_none
from ..rpc.errors import PermissionDenied
from ..rpc.protocol import MAGIC, PROTOCOL, PROTOCOL_VERSION, ClientHello, decode_hello, frame
from .context import ServiceContext
from .roles import Credentials, Permission


@attrs.frozen
class Admitted:
    """What a client has said of itself, and what it may do therefore."""

    version: int
    """Of the clients' protocol, as both speak it."""
    frame_bytes_max: int
    """Largest frame that it reads."""
    shown: Credentials
    permission: Permission


async def admit(context: ServiceContext, connection: Connection) -> Admitted | None:
    """Hear who it is. None: it is no client, and that was told."""
    try:
        return await in_time(_shake_hands(context, connection), context.limits.handshake_timeout_s)
    except SaidNothing:
        pass
    except BadMessage as error:
        context.reject(connection.remote, str(error))
    return None


async def _shake_hands(context: ServiceContext, connection: Connection) -> Admitted:
    hello = decode_hello(await first_frame(connection, context.tls))
    refused, reason = _why_not(hello, context)
    if not refused:
        reason = context.visitors.admit(connection)
        refused = "too-many" if reason else ""
    if refused:
        await connection.stream.send_all(frame(context.welcome(refused, reason)))
        raise BadMessage(reason)
    try:
        shown, permission = context.permission_of(names_of(connection), hello.token)
    except PermissionDenied as error:
        await connection.stream.send_all(frame(context.welcome("no-role", str(error))))
        raise BadMessage(str(error)) from error
    connection.deframer.frame_bytes_max = context.limits.frame_bytes_max
    spoken = common(PROTOCOL, said_by(hello.version, hello.version_max))
    return Admitted(spoken or PROTOCOL_VERSION, hello.frame_bytes_max, shown, permission)


def names_of(connection: Connection) -> tuple[str, ...]:
    """The names in the client's verified certificate; none over plain TCP, or without one."""
    stream = connection.stream
    return client_names(stream) if isinstance(stream, trio.SSLStream) else ()


def _why_not(hello: ClientHello, context: ServiceContext) -> tuple[str, str]:
    """Why this client is not taken: a `Refusal` and a sentence; both empty if it is."""
    if hello.magic != MAGIC:
        return (
            "not-a-client",
            f"it began with {quoted(hello.magic)}, a client begins with {MAGIC!r}: clients and "
            "peers have ports of their own",
        )
    theirs = said_by(hello.version, hello.version_max)
    if common(PROTOCOL, theirs) is None:
        return "version", why_none("client protocol", PROTOCOL, theirs, "this server")
    if hello.cluster_id != context.cluster_id:
        return (
            "cluster",
            f"the client is for cluster {quoted(hello.cluster_id)}, this server belongs to "
            f"{quoted(context.cluster_id)}",
        )
    if context.is_leaving:
        return "leaving", "the server is shutting down"
    return "", ""
