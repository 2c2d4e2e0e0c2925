"""Mutual TLS: which contexts are needed, and whose name a certificate bears.

Rules of this file:

* Both sides show a certificate, and each id is bound to one: the certificate of node X has X
  among its DNS subject alternative names, exactly as it is written (case counts, no wildcards).
* A context that would let anybody in is refused when it is given, not when somebody comes.
* Nobody keeps a context: each handshake takes the present one from whoever holds it, so that
  certificates can be exchanged while connections live (hazard G9).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypeAlias, final

import attrs

from ..core.errors import ConfigError
from ..core.types import NodeId
from .certificates import Expiry, TlsFiles, expiries

if TYPE_CHECKING:
    import trio

_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9_*?-]{1,63}(\.[A-Za-z0-9_*?-]{1,63})*")
_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")


class UnusableCertificates(ConfigError):  # noqa: N818 - what they are
    """Files of certificates that TLS cannot work with; each problem is a sentence.

    Fault: of whoever made or named the files.
    Remedy: each sentence of `problems` says what to change.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems: tuple[str, ...] = tuple(problems)


@attrs.define(eq=False)
class LiveTls:
    """Contexts that may come from files, and can be read from them again.

    Every new handshake takes the contexts as they are then. There are new ones each time, as a
    context forgets no authority that it has loaded; connections that exist keep the one that they
    were made with.
    """

    _not_from_files: ClassVar[frozenset[str]] = frozenset()
    _files: TlsFiles | None = attrs.field(default=None, init=False)
    _digest: bytes | None = attrs.field(default=None, init=False)
    _expiries: tuple[Expiry, ...] = attrs.field(default=(), init=False)

    @property
    def files(self) -> TlsFiles | None:
        """Where they were read from; None: they were given."""
        return self._files

    @property
    def is_current(self) -> bool:
        """Whether the files still hold what was read from them; True if there are none."""
        return self._files is None or self._files.digest() == self._digest

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """Until when each of the files can be used, as far as that is known."""
        return self._expiries

    @property
    def expires_s(self) -> float | None:
        """When the first of them cannot be used any more, in seconds since the epoch; None: not
        known (given contexts do not say, and files are read by the package `cryptography`)."""
        return min((each.at_s for each in self._expiries), default=None)

    def read_again(self) -> Self:
        """Read the files, and change nothing yet: for another thread, see `adopt`.

        Raises:
            UnusableCertificates: they cannot be used.
            ConfigError: these contexts were not made from files.
        """
        if self._files is None:
            raise ConfigError(
                "these TLS contexts were not made from files: make them with from_files(…), or "
                "give their successors to adopt(…)"
            )
        return self._from(self._files)

    def adopt(self, successor: Self) -> None:
        """From now on, be as those: every new handshake takes them."""
        for field in attrs.fields(type(self)):
            if field.name not in self._not_from_files:
                setattr(self, field.name, getattr(successor, field.name))

    def reload(self) -> None:
        """Read the files again: every new handshake takes what they hold now, authorities
        included. Connections that exist stay. Waits for the file system, and for nothing else.

        Raises:
            UnusableCertificates: they cannot be used; what was there before stays in use.
            ConfigError: these contexts were not made from files.
        """
        self.adopt(self.read_again())

    @classmethod
    def _from(cls, files: TlsFiles) -> Self:
        raise NotImplementedError

    def _remember(self, files: TlsFiles, digest: bytes) -> Self:
        """Where these come from. The digest was taken before: what changed since is found."""
        self._files, self._digest, self._expiries = files, digest, expiries(files)
        return self


@final
@attrs.define(eq=False)
class TlsContexts(LiveTls):
    """The two `ssl.SSLContext`s of a node: Python's contexts serve one side only.

    Made by `from_files`, they can be read again at any time: see `reload`.

    Args:
        server: made with `ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)` or
            `ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)`; has the node's certificate
            and the authority loaded, and `verify_mode = ssl.CERT_REQUIRED`.
        client: made with `ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)` or
            `ssl.create_default_context(ssl.Purpose.SERVER_AUTH)`; has the same loaded.
        peer_names: which names peers have, as ("node-*.example",): a star stands for anything
            within one label, and case counts. Others need an invitation. None: any that the
            authority has signed in a peer's certificate (see `net.credentials`).

    Raises:
        ConfigError: a context is for the wrong side, or does not ask for the peer's certificate;
            or a pattern cannot match any name.
    """

    _not_from_files: ClassVar[frozenset[str]] = frozenset({"peer_names"})
    server: ssl.SSLContext
    client: ssl.SSLContext
    peer_names: tuple[str, ...] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        check_peer_names(self.peer_names)
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
        peer_names: tuple[str, ...] | None = None,
    ) -> TlsContexts:
        """Make both contexts (TLS 1.3) from PEM files.

        Args:
            certificate: this node's chain; bears the node id as a DNS name, and its extended key
                usage lists serverAuth and clientAuth.
            key: its private key.
            authority: the certificates that may have signed a peer's; no others are trusted.
            password: of the key, if it has one.
            peer_names: as of the class.

        Raises:
            UnusableCertificates: a file cannot be read, or is not what it should be.
        """
        if peer_names is not None:
            check_peer_names(peer_names)
        contexts = cls._from(TlsFiles(Path(certificate), Path(key), Path(authority), password))
        contexts.peer_names = peer_names
        return contexts

    @classmethod
    def _from(cls, files: TlsFiles) -> TlsContexts:
        digest = files.digest()
        server = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
        client = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)
        return cls(server, client)._remember(files, digest)


@final
@attrs.define(eq=False)
class ServerTls(LiveTls):
    """The context of a port that only serves, as one for clients; see `TlsContexts` for a node's.

    Args:
        server: made with `ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)`.

    Raises:
        ConfigError: the context is for the other side.
    """

    server: ssl.SSLContext

    def __attrs_post_init__(self) -> None:
        _check_side("ssl_context", self.server, "server")

    @classmethod
    def from_files(
        cls,
        *,
        certificate: str | PathLike[str],
        key: str | PathLike[str],
        authority: str | PathLike[str] | None,
        password: str | None = None,
    ) -> ServerTls:
        """Make it (TLS 1.3) from PEM files.

        Args:
            certificate: the chain that clients are shown.
            key: its private key.
            authority: the certificates that may have signed a client's; None: clients need none.
            password: of the key, if it has one.

        Raises:
            UnusableCertificates: a file cannot be read, or is not what it should be.
        """
        trusted = None if authority is None else Path(authority)
        return cls._from(TlsFiles(Path(certificate), Path(key), trusted, password))

    @classmethod
    def _from(cls, files: TlsFiles) -> ServerTls:
        digest = files.digest()
        server = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
        return cls(server)._remember(files, digest)


# -- from files --------------------------------------------------------------------------------

Labels: TypeAlias = tuple[str, str, str]
"""How to name the certificate, the key and the authority."""
_LABELS: Final[Labels] = ("certificate", "key", "authority")


def problems_of(files: TlsFiles, labels: Labels = _LABELS) -> list[str]:
    """What keeps these files from being used, a sentence each.

    Args:
        files: to be looked at.
        labels: of the options that named them, say.
    """
    return _problems(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files, labels)


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    problems = _problems(context, files, _LABELS)
    if problems:
        raise UnusableCertificates(problems)
    if files.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _problems(context: ssl.SSLContext, files: TlsFiles, labels: Labels) -> list[str]:
    """Load the files into a context; what is in the way."""
    certificate, key, authority = files.certificate, files.key, files.authority
    problems: list[str] = []
    for label, path in zip(labels, (certificate, key, authority), strict=True):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            problems.append(f"{label} {str(path)!r} cannot be read: {error.strerror}")
    if problems:
        return problems
    if authority is not None:
        what = f"{labels[2]} {str(authority)!r}"
        problems += _tried(lambda: context.load_verify_locations(authority), what)
    what = f"{labels[0]} {str(certificate)!r} with {labels[1]} {str(key)!r}"
    password = files.password or _no_password
    problems += _tried(lambda: context.load_cert_chain(certificate, key, password), what)
    return problems


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise ValueError("the key has a password: give one without")


def _tried(load: Callable[[], None], what: str) -> Iterator[str]:
    try:
        load()
    except (OSError, ValueError) as error:
        said = str(error)
        if isinstance(error, ssl.SSLError):
            said = (error.reason or said).replace("_", " ").lower()
            said += " (is it PEM, and do they belong together?)"
        yield f"{what} cannot be used: {said}"


# -- what is given -----------------------------------------------------------------------------


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


def server_tls_of(
    given: TlsContexts | ServerTls | ssl.SSLContext | None, *, insecure: bool
) -> TlsContexts | ServerTls | None:
    """Accept what `open_service(ssl_context=…)` was given: only the server's side is needed.

    Args:
        given: contexts of both sides, or the server's.
        insecure: whether clients may come without a certificate.

    Raises:
        ConfigError: it serves clients only, or does not ask for their certificates.
    """
    if given is None:
        return None
    tls = given if isinstance(given, TlsContexts | ServerTls) else ServerTls(given)
    if not insecure:
        way_out = ", or say insecure=True if the network is trusted"
        _check_asks("ssl_context", tls.server, "write and change the cluster", way_out)
    return tls


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


def check_peer_names(patterns: tuple[str, ...] | None) -> None:
    """Check that each pattern can match a name.

    Raises:
        ConfigError: one cannot, or there are none.
    """
    if patterns is None:
        return
    if isinstance(patterns, str) or not patterns:
        raise ConfigError(f"peer_names is {patterns!r}: give a tuple of names, or None for any")
    for pattern in patterns:
        if not _NAME_PATTERN.fullmatch(pattern):
            raise ConfigError(
                f"{pattern!r} is no pattern of names: give labels of letters, digits, '-', '_', "
                "'*' and '?', joined by dots, as node-*.example"
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
