"""Credentials: who may speak as a peer. The rule is here, once, for both sides of a connection.

Rules of this file:

* Over TLS a peer is who shows a *peer's* certificate: signed by the peers' authority (OpenSSL has
  seen to that), with the peer's id among its DNS names, and made for servers (its extended key
  usage lists serverAuth; RFC 5280, 4.2.1.12). One for clients only never passes (hazard G1).
* A certificate that does not say what it is made for may be anybody's: it passes only with a name
  that the operator has named, among the peers' names or, where there are none, among `peers`.
* Where peers' names are given, and its own is not among them, it needs an invitation besides.
* Never by what the receiver's configuration says: that may be old, and a node that it does not know
  may be its leader (see `member.lineage` for what then counts). It is only asked whose disk an
  invitation belongs to.
* Plain TCP knows no credentials: whoever reaches the port may speak (see `addresses`).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import attrs

from ..core.errors import BadMessage, ConfigError
from ..core.types import Incarnation, NodeId
from .invitations import VALID_S_MAX, Invitation, check_key, invite, read
from .sentences import quoted
from .tls import certified_names, check_certifiable

if TYPE_CHECKING:
    import trio
    from cryptography import x509

SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"
ANY_PURPOSE: Final = "2.5.29.37.0"
"""An extended key usage that says no more than none."""

USED_MAX: Final = 1024
"""Invitations of which it is remembered whose disk has used them; a further one is refused."""

_X509: TypeAlias = Any  # the module `cryptography.x509`, which need not be there


@final
@attrs.frozen
class Certificate:
    """What the other side's verified certificate says."""

    names: frozenset[str]
    """Its DNS names."""
    purposes: frozenset[str] | None = None
    """Its extended key usage, as dotted numbers; None: it says nothing, or that it is for all."""


@final
@attrs.frozen
class Evidence:
    """What a peer has shown beside its certificate."""

    cluster_id: str
    """Ours: the handshake has compared them."""
    invitation: str
    incarnation: Incarnation
    """Whose disk it says that it is."""
    named: Incarnation | None = None
    """Which disk our configuration names for its id; None or 0: none."""


def require_reader() -> None:
    """Check that certificates can be read.

    Raises:
        ConfigError: cryptography is not installed.
    """
    _load_x509()


def certificate_of(stream: trio.abc.Stream) -> Certificate:
    """Return what the other side's verified certificate says; call after the TLS handshake.

    Args:
        stream: a `trio.SSLStream`.

    Raises:
        BadMessage: it cannot be read.
    """
    secured: Any = stream
    der = secured.getpeercert(binary_form=True)
    if not der:
        raise BadMessage("it shows no certificate")
    return Certificate(certified_names(secured), _purposes_of(_load_x509(), bytes(der)))


def why_never_a_peer(certificate: Path) -> str:
    """Why nobody would take this node with its own certificate; empty if somebody may.

    Args:
        certificate: the file (PEM) with the node's certificate first.

    Raises:
        ConfigError: cryptography is not installed.
    """
    text = certificate.read_text(encoding="ascii", errors="replace")
    begin = text.find(_PEM_BEGIN)
    end = text.find(_PEM_END, begin)
    try:
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(_PEM_END)])
        purposes = _purposes_of(_load_x509(), der)
    except (ValueError, BadMessage):
        return ""  # what is wrong with it OpenSSL says better
    if purposes is None or {SERVER_AUTH, _CLIENT_AUTH} <= purposes:
        return ""
    return (
        "is not made for a peer, which is server and client: its extended key usage must list "
        "serverAuth and clientAuth"
    )


_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_PEM_END: Final = "-----END CERTIFICATE-----"
_CLIENT_AUTH: Final = "1.3.6.1.5.5.7.3.2"


@final
class PeerRule:
    """Whom one node takes as a peer, and how it invites others.

    Args:
        names: patterns of the peers' names; None: any name.
        given: the names that the operator gave one by one, asked each time.
        invite_key: the cluster's invitation key; None: it neither invites nor takes invitations.
        now_s: the time in seconds since 1970.

    Raises:
        ConfigError: cryptography is not installed, or the key cannot be one.
    """

    def __init__(
        self,
        *,
        names: Collection[str] | None,
        given: Callable[[], Collection[NodeId]],
        invite_key: bytes | None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        require_reader()
        self._names = names
        self._given = given
        self._key = None if invite_key is None else check_key(invite_key)
        self._now_s = now_s
        self._used: dict[bytes, tuple[int, Incarnation]] = {}  # by nonce: until when, and by whom

    def check_certificate(self, peer: NodeId, certificate: Certificate) -> None:
        """Check that a certificate is a peer's, and this peer's: what never passes.

        Raises:
            BadMessage: it is another's, or is made for clients only.
        """
        if peer not in certificate.names:
            raise BadMessage(
                f"the certificate is for {sorted(certificate.names)}, not for node {quoted(peer)}: "
                "a node's certificate bears its id as a DNS name"
            )
        if certificate.purposes is not None and SERVER_AUTH not in certificate.purposes:
            raise BadMessage(
                f"the certificate of {quoted(peer)} is not made for a peer: the extended key usage "
                "of a peer's lists serverAuth, that of a client's does not"
            )

    def check(self, peer: NodeId, certificate: Certificate, shown: Evidence) -> None:
        """Check that whoever shows this may speak as that peer.

        Raises:
            BadMessage: the reason, which it may be told.
        """
        self.check_certificate(peer, certificate)
        why = self._why_more_is_needed(peer, certificate)
        if not why:
            return
        if not shown.invitation:
            raise BadMessage(
                f"{why}; give its name to this node (tls-peer-names, TlsContexts(peer_names=…)), "
                "or start it with an invitation (trioraft admin invite)"
            )
        if self._key is None:
            raise BadMessage(
                f"{why}, and this node has no invitation key by which to read its invitation: "
                "start it with the cluster's (invite-key), or give it the name (tls-peer-names)"
            )
        self._check_invitation(peer, read(self._key, shown.invitation), shown)

    def _why_more_is_needed(self, peer: NodeId, certificate: Certificate) -> str:
        """Why its certificate alone is not enough; empty if it is."""
        if self._names is not None:
            if any(matches(peer, pattern) for pattern in self._names):
                return ""
            return f"{quoted(peer)} is not among the names of peers"
        if certificate.purposes is not None or peer in self._given():
            return ""
        return (
            f"the certificate of {quoted(peer)} does not say what it is made for: it needs an "
            "extended key usage that lists serverAuth and clientAuth"
        )

    def _check_invitation(self, peer: NodeId, invitation: Invitation, shown: Evidence) -> None:
        """One invitation is for one id, and for the first disk that shows it."""
        if (invitation.cluster_id, invitation.node_id) != (shown.cluster_id, peer):
            raise BadMessage(
                f"its invitation is for node {quoted(invitation.node_id)} of cluster "
                f"{quoted(invitation.cluster_id)}, not for {quoted(peer)} of "
                f"{quoted(shown.cluster_id)}"
            )
        other = "invite it anew, or give its name to this node (tls-peer-names)"
        if shown.named and shown.named != shown.incarnation:
            raise BadMessage(
                f"its invitation is used up: node {quoted(peer)} has joined with another disk; "
                f"{other}"
            )
        now_s = self._now_s()
        if now_s > invitation.expires_s:
            if shown.named != shown.incarnation:
                raise BadMessage(f"its invitation has expired: {other}")
            return
        _, first = self._used.get(invitation.nonce, (0, shown.incarnation))
        if first != shown.incarnation:
            raise BadMessage(f"its invitation is used up, by another disk: {other}")
        self._remember(invitation, shown.incarnation, now_s)

    def _remember(self, invitation: Invitation, incarnation: Incarnation, now_s: float) -> None:
        if invitation.nonce not in self._used and len(self._used) >= USED_MAX:
            over = [nonce for nonce, (until_s, _) in self._used.items() if now_s > until_s]
            for nonce in over:
                del self._used[nonce]
            if not over:
                raise BadMessage(f"there are {USED_MAX} invitations in use already")
        self._used[invitation.nonce] = (invitation.expires_s, incarnation)

    def invite(self, node_id: NodeId, valid_s: float, *, cluster_id: str) -> str:
        """Write an invitation for a node that joins.

        Args:
            node_id: its name.
            valid_s: for how long, in seconds.
            cluster_id: ours.

        Raises:
            ConfigError: there is no key, the time is out of range, or no certificate can bear the
                name.
        """
        if self._key is None:
            raise ConfigError(
                "this node has no invitation key: start every member with the same one "
                "(--invite-key FILE, TcpTransport(invite_key=…)), or give the new node's name to "
                "all of them (--tls-peer-names)"
            )
        check_certifiable(node_id)
        if not 1 <= valid_s <= VALID_S_MAX:
            raise ConfigError(
                f"an invitation for {valid_s:g} s: one is valid for 1 s to {VALID_S_MAX:g} s"
            )
        expires_s = int(self._now_s() + valid_s)
        return invite(self._key, cluster_id=cluster_id, node_id=node_id, expires_s=expires_s)


def matches(name: str, pattern: str) -> bool:
    """Whether a DNS name is one of these: label by label, so that a star never spans a dot."""
    labels, patterns = name.split("."), pattern.split(".")
    return len(labels) == len(patterns) and all(map(fnmatchcase, labels, patterns))


def _load_x509() -> _X509:
    try:
        from cryptography import x509
    except ImportError as error:
        raise ConfigError(
            "TLS between nodes needs cryptography, to read what a certificate is made for: "
            "pip install 'trioraft[tls]'"
        ) from error
    return x509


def _purposes_of(x509: _X509, der: bytes) -> frozenset[str] | None:
    unreadable = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
    try:
        extensions: x509.Extensions = x509.load_der_x509_certificate(der).extensions
        found = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except unreadable as error:
        raise BadMessage(f"its certificate cannot be read: {error}") from error
    purposes = frozenset(purpose.dotted_string for purpose in found)
    return None if ANY_PURPOSE in purposes else purposes
