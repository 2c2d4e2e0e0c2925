"""Mutual TLS: which contexts are needed, and whose name a certificate bears.

Rules of this file:

* Both sides show a certificate, and each id is bound to one: the certificate of node X has X
  among its DNS subject alternative names, exactly as it is written (case counts, no wildcards).
* A context that would let anybody in is refused when it is given, not when somebody comes.
"""

from __future__ import annotations

import re
import ssl
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, final

import attrs

from ..core.errors import ConfigError
from ..core.types import NodeId

if TYPE_CHECKING:
    import trio

_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")
_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")


@final
@attrs.frozen
class TlsContexts:
    """The two `ssl.SSLContext`s of a node: Python's contexts serve one side only.

    Args:
        server: made with `ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)` or
            `ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)`; has the node's certificate
            and the authority loaded, and `verify_mode = ssl.CERT_REQUIRED`.
        client: made with `ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)` or
            `ssl.create_default_context(ssl.Purpose.SERVER_AUTH)`; has the same loaded.

    Raises:
        ConfigError: a context is for the wrong side, or does not ask for the peer's certificate.
    """

    server: ssl.SSLContext
    client: ssl.SSLContext

    def __attrs_post_init__(self) -> None:
        _check_side("TlsContexts.server", self.server, "server")
        _check_side("TlsContexts.client", self.client, "client")
        _check_asks("TlsContexts.server", self.server, "pose as a node")
        _check_asks("TlsContexts.client", self.client, "pose as a node")

    @classmethod
    def from_files(
        cls,
        *,
        certificate: str | PathLike[str],
        key: str | PathLike[str],
        authority: str | PathLike[str],
        password: str | None = None,
    ) -> TlsContexts:
        """Make both contexts (TLS 1.3) from PEM files.

        Args:
            certificate: this node's chain; bears the node id as a DNS name and allows use as
                server and as client.
            key: its private key.
            authority: the certificates that may have signed a peer's; no others are trusted.
            password: of the key, if it has one.

        Raises:
            OSError: a file cannot be read (`ssl.SSLError`: is not what it should be).
        """
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority)
            context.load_cert_chain(certificate, key, password)
        return cls(server, client)


def contexts_of(given: TlsContexts | ssl.SSLContext | None) -> TlsContexts | None:
    """Accept what `TcpTransport(ssl_context=…)` was given.

    A single context works only if it was made for both sides (`ssl.PROTOCOL_TLS`, which Python
    deprecates).

    Raises:
        ConfigError: it serves one side only.
    """
    if given is None or isinstance(given, TlsContexts):
        return given
    if isinstance(given, ssl.SSLContext) and given.protocol == ssl.PROTOCOL_TLS:
        return TlsContexts(given, given)
    raise ConfigError(
        f"ssl_context is {given!r}: a node is server and client, and an ssl.SSLContext serves one "
        "side; give TlsContexts(server, client) or TlsContexts.from_files(…)"
    )


def server_context_of(
    given: TlsContexts | ssl.SSLContext | None, *, insecure: bool
) -> ssl.SSLContext | None:
    """Accept what `open_service(ssl_context=…)` was given: only the server's side is needed.

    Args:
        given: contexts of both sides, or the server's.
        insecure: whether clients may come without a certificate.

    Raises:
        ConfigError: it serves clients only, or does not ask for their certificates.
    """
    if given is None:
        return None
    context = given.server if isinstance(given, TlsContexts) else given
    _check_side("ssl_context", context, "server")
    if not insecure:
        way_out = ", or say insecure=True if the network is trusted"
        _check_asks("ssl_context", context, "write and change the cluster", way_out)
    return context


def _check_side(name: str, context: object, side: Literal["server", "client"]) -> None:
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(f"{name} is {context!r}: give an ssl.SSLContext")
    other = ssl.PROTOCOL_TLS_CLIENT if side == "server" else ssl.PROTOCOL_TLS_SERVER
    if context.protocol == other:
        raise ConfigError(
            f"{name} was made with {context.protocol.name}, which serves the other side only: use "
            f"ssl.PROTOCOL_TLS_{side.upper()}"
        )


def _check_asks(name: str, context: ssl.SSLContext, danger: str, way_out: str = "") -> None:
    if context.verify_mode is not ssl.CERT_REQUIRED:
        raise ConfigError(
            f"{name} has verify_mode {context.verify_mode.name}: anyone could {danger}; set "
            f"verify_mode = ssl.CERT_REQUIRED and load the authority{way_out}"
        )


def check_certifiable(node_id: NodeId) -> None:
    """Check that a certificate can bear this id.

    Raises:
        ConfigError: the id is not usable as a DNS name.
    """
    if not _DNS_NAME.fullmatch(node_id) or _IPV4.fullmatch(node_id) or len(node_id) > 253:
        raise ConfigError(
            f"node id {node_id!r} cannot be a DNS name in a certificate: over TLS, ids are "
            "labels of letters, digits, '-' and '_', joined by dots"
        )


def client_names(stream: trio.SSLStream[trio.SocketStream]) -> tuple[str, ...]:
    """Return all names in a client's verified certificate: subject alternative names of any kind,
    and the common name; none if it showed no certificate. Call after the handshake."""
    certificate: dict[str, Any] = stream.getpeercert() or {}
    names = [name for _, name in certificate.get("subjectAltName", ())]
    for part in certificate.get("subject", ()):
        names += [value for kind, value in part if kind == "commonName"]
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def certified_names(stream: trio.SSLStream[trio.SocketStream]) -> frozenset[str]:
    """Return the DNS names in the other side's verified certificate; call after the handshake."""
    certificate = stream.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    return frozenset(name for kind, name in names if kind == "DNS")
