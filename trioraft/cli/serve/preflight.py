"""Preflight: what the machine has to say about the settings, before anything of the node starts.

The peers' port is taken and held. The client port and the data directory are only tried: whoever
opens them may still find that they cannot be used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, final

import attrs

from ...core.errors import ConfigError, RaftError, StorageError
from ...core.types import Address, NodeId
from ...http.limits import HttpLimits
from ...http.port import missing_packages
from ...member.identity import decode_identity
from ...net.addresses import host_port
from ...net.certificates import TlsFiles, names
from ...net.credentials import why_never_a_peer
from ...net.descriptors import raise_descriptors_max
from ...net.listening import listen_now
from ...net.tls import ServerTls, TlsContexts, problems_of
from ...service.context import ServiceLimits
from ...service.port import DESCRIPTORS_RESERVED
from ...service.roles import Roles
from ...storage.directory import Directory, make_private
from ...storage.health import Health
from ...storage.log_database import read_identity
from ...tracing.optional import Tracer
from ...transport.tcp import TcpTransport
from ..files import read_small
from .settings import Settings

T = TypeVar("T")


DESCRIPTORS_OF_A_PEER: Final = 16
"""Links, attempts and connections of one other node, at their worst."""
CONNECTIONS_MIN: Final = 16
"""Clients below which a server is of no use."""


@final
@attrs.frozen
class Preflight:
    """What a server needs of the machine."""

    transport: TcpTransport
    tls: TlsContexts | None
    """Of the peers' port; None: plain TCP."""
    client_tls: ServerTls | None
    client_limits: ServiceLimits
    roles: Roles | None = None
    tracer: Tracer | None = None
    """None: nobody traces."""
    http_tls: ServerTls | None = None
    warnings: tuple[str, ...] = ()
    """What is to be said at the start, a sentence each."""


def prepare(settings: Settings, problems: list[str]) -> Preflight | None:
    """Look at certificates, data directory and ports, and take the ports.

    Args:
        settings: sound in themselves.
        problems: what is wrong is appended.

    Returns:
        What was taken; None if a problem was found, and then nothing is held.
    """
    before = len(problems)
    files = settings.client_tls
    has_roles = settings.client_roles is not None
    client_tls = None if files is None else clients_tls(files, problems, has_roles=has_roles)
    roles = _roles(settings, problems)
    tls = None if settings.tls is None else _peers_tls(settings, settings.tls, problems)
    is_plain = settings.tls is None
    http_tls = _http_tls(settings, problems)
    client_limits = fitting_limits(settings, problems)
    tracer = _tried(lambda: tracer_of(settings), problems)
    transport = None if tls is None and not is_plain else _transport(settings, tls, problems)
    _check_data(settings.data, problems, create=settings.create_data)
    if len(problems) == before:
        _check_founding(settings, problems)
    if transport is not None:
        _tried(transport.bind, problems)
    _check_port("client-listen", settings.client_listen, problems)
    if settings.http_listen is not None:
        _check_port("http-listen", settings.http_listen, problems)
    if len(problems) == before and transport is not None:
        warnings = (*_warnings(settings, tls, client_tls), *_untraced(tracer))
        return Preflight(
            transport, tls, client_tls, client_limits, roles, tracer, http_tls, warnings
        )
    if transport is not None:
        transport.close()
    return None


def look_around(values: Mapping[str, Any], problems: list[str]) -> None:
    """Of settings that are not sound: what the machine has to say of those that can be read, so
    that the user learns of it now and not after mending the others.

    Args:
        values: by the option's name, as far as they could be parsed.
        problems: what is wrong is appended.
    """
    data = values.get("data")
    if data is not None and (data.exists() or not values.get("create-data")):
        _check_data(data, problems, create=False)
    for name in ("listen", "client-listen", "http-listen"):
        if values.get(name) is not None:
            _check_port(name, values[name], problems)


def _tried(step: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return step()
    except (OSError, RaftError) as error:
        problems.append(str(error))
        return None


def _transport(
    settings: Settings, contexts: TlsContexts | None, problems: list[str]
) -> TcpTransport | None:
    before = len(problems)
    key = _content_of("invite-key", settings.invite_key, problems)
    invitation = _content_of("invitation", settings.invitation, problems) or b""
    if len(problems) > before:
        return None

    def make() -> TcpTransport:
        return TcpTransport(
            settings.id,
            settings.listen,
            settings.peers,
            ssl_context=contexts,
            insecure=settings.insecure,
            advertise=settings.advertise,
            invite_key=key,
            invitation=invitation.decode("ascii", errors="replace"),
        )

    return _tried(make, problems)


def _roles(settings: Settings, problems: list[str]) -> Roles | None:
    path, files = settings.client_roles, settings.client_tls
    if path is None:
        return None
    roles = _tried(lambda: Roles(path), problems)
    if roles is not None and roles.has_certificates and (files is None or files.authority is None):
        problems.append(
            f"--client-roles {str(path)!r} names certificates, but no client shows one: give "
            "--client-tls-cert, --client-tls-key and --client-tls-ca, or give tokens only"
        )
    return roles


# -- certificates --------------------------------------------------------------------------


def _content_of(name: str, path: Path | None, problems: list[str]) -> bytes | None:
    """What a short file holds, without the white space around it; None: there is none."""
    if path is None:
        return None
    try:
        return read_small(path, wants_file=True).strip()
    except OSError as error:
        problems.append(f"--{name} {str(path)!r} cannot be read: {error.strerror}")
        return None


def _warnings(
    settings: Settings, tls: TlsContexts | None, client_tls: ServerTls | None
) -> Iterator[str]:
    """What is no mistake, and yet may not be meant."""
    clients = settings.client_tls
    if tls is None or clients is None or client_tls is None or clients.authority is None:
        return
    shared = {*tls.server.get_ca_certs(True)} & {*client_tls.server.get_ca_certs(True)}
    if shared and settings.tls_peer_names is None:
        yield (
            "peers and clients have an authority in common: only the purpose in a certificate "
            "(serverAuth) keeps a client from being a peer; give the peers an authority of their "
            "own, or say their names with --tls-peer-names"
        )


def _peers_tls(settings: Settings, files: TlsFiles, problems: list[str]) -> TlsContexts | None:
    """Both sides' contexts for the peers' port; None if something is wrong with the files.

    Args:
        settings: whose id the certificate must bear.
        files: all three.
        problems: what is wrong is appended.
    """
    if not _are_usable("tls", files, problems):
        return None
    before = len(problems)
    unfit = _tried(lambda: unfit_for(settings.id, files), problems)
    if unfit:
        problems.append(f"--tls-cert {unfit}")
    if len(problems) > before:
        return None
    return TlsContexts.from_files(
        certificate=files.certificate,
        key=files.key,
        authority=files.authority or files.certificate,
        peer_names=settings.tls_peer_names,
    )


def unfit_for(node_id: NodeId, files: TlsFiles) -> str | None:
    """Why peers would not take this certificate for the node's; None: they would, as far as that
    can be read.

    Raises:
        ConfigError: cryptography is not installed.
    """
    bears = names(files.certificate)
    if bears is None or node_id in bears:
        why_never = why_never_a_peer(files.certificate)
        return f"{str(files.certificate)!r} {why_never}" if why_never else None
    return (
        f"{str(files.certificate)!r} is for {sorted(bears)}, not for node {node_id!r}: peers want "
        "the node's id among its DNS names"
    )


def clients_tls(
    files: TlsFiles, problems: list[str], *, has_roles: bool = False
) -> ServerTls | None:
    """The server's context for the client port; None if something is wrong with the files.

    Args:
        files: without an authority, clients need no certificate.
        problems: what is wrong is appended.
        has_roles: whether clients' roles are known; then who shows no certificate may show a token,
            and gets nothing without.
    """
    if not _are_usable("client-tls", files, problems):
        return None
    return ServerTls.from_files(
        certificate=files.certificate,
        key=files.key,
        authority=files.authority,
        may_be_nameless=has_roles,
    )


def _http_tls(settings: Settings, problems: list[str]) -> ServerTls | None:
    """The context for the HTTP port; None: plain HTTP, or something is wrong."""
    if settings.http_listen is not None:
        missing = missing_packages()
        if missing:
            problems.append(
                f"--http-listen needs {', '.join(missing)}; install it with: "
                "pip install 'trioraft[http]'"
            )
    files = settings.http_tls
    if files is None or not _are_usable("http-tls", files, problems):
        return None
    return ServerTls.from_files(
        certificate=files.certificate, key=files.key, authority=files.authority
    )


def _are_usable(prefix: str, files: TlsFiles, problems: list[str]) -> bool:
    before = len(problems)
    for name, path in (("cert", files.certificate), ("key", files.key), ("ca", files.authority)):
        if path is None:
            continue
        try:
            read_small(path, wants_file=True)
        except OSError as error:
            problems.append(f"--{prefix}-{name} {str(path)!r} cannot be read: {error.strerror}")
    if len(problems) == before:
        problems += problems_of(files, (f"--{prefix}-cert", f"--{prefix}-key", f"--{prefix}-ca"))
    return len(problems) == before


# -- tracing -------------------------------------------------------------------------------


def tracer_of(settings: Settings) -> Tracer | None:
    """The process's tracer, if it is to trace.

    Raises:
        ConfigError: there is no OpenTelemetry.
    """
    if not settings.tracing:
        return None
    try:
        from ...tracing.spans import global_tracer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--tracing needs {error.name}; install it with: pip install 'trioraft[otel]'"
        ) from error
    return global_tracer()


def _untraced(tracer: Tracer | None) -> Iterator[str]:
    if tracer is None:
        return
    from ...tracing.spans import has_provider

    if not has_provider():
        yield (
            "--tracing: nobody takes the spans, for no tracer provider is set in this process: "
            "start it as opentelemetry-instrument trioraft serve … (docs/tracing.md)"
        )


# -- descriptors ---------------------------------------------------------------------------


def fitting_limits(settings: Settings, problems: list[str]) -> ServiceLimits:
    """The client port's bounds, such that this process has descriptors for all of them; its limit
    is raised as far as that needs, and as the system lets it.

    Args:
        settings: with the bound, if one was given.
        problems: a bound that was given, and for which there are not enough.
    """
    wanted = settings.client_connections_max or ServiceLimits().connections_max
    others = (
        ServiceLimits().strangers_max
        + settings.limits.inbound_connections_max
        + DESCRIPTORS_OF_A_PEER * len(settings.peers)
        + DESCRIPTORS_RESERVED
        + (0 if settings.http_listen is None else HttpLimits().connections_max)
    )
    allowed = raise_descriptors_max(wanted + others)
    room = allowed - others
    if room < wanted and settings.client_connections_max is not None:
        problems.append(
            f"--client-connections-max is {wanted}, and this process may have {allowed} "
            f"descriptors, of which {others} are for its disk, its peers and those who knock: give "
            f"at most {max(room, 0)}, or raise the limit (ulimit -n, LimitNOFILE=) to "
            f"{wanted + others}"
        )
    elif room < CONNECTIONS_MIN:
        problems.append(
            f"this process may have {allowed} descriptors, and needs {others + CONNECTIONS_MIN}: "
            "raise the limit (ulimit -n, LimitNOFILE=)"
        )
    connections_max = max(min(wanted, room), CONNECTIONS_MIN)
    return ServiceLimits(
        connections_max=connections_max, connections_of_host_max=max(1, connections_max * 3 // 4)
    )


# -- ports ---------------------------------------------------------------------------------


def _check_port(name: str, address: Address, problems: list[str]) -> None:
    """Whether it can be listened at."""
    try:
        listen_now(address, f"--{name} {host_port(address)} cannot be used").close()
    except OSError as error:
        problems.append(str(error.strerror))


# -- the data directory --------------------------------------------------------------------


def _check_data(path: Path, problems: list[str], *, create: bool) -> None:
    if not path.exists():
        if create:
            _tried(lambda: make_private(path), problems)
        else:
            problems.append(
                f"--data {str(path)!r} does not exist: if this node had data, its volume is not "
                "mounted; if it is new, create the directory, or say --create-data"
            )
            return
    if not path.is_dir():
        problems.append(f"--data {str(path)!r} is not a directory")
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        problems.append(f"--data {str(path)!r} cannot be written by this process")
    else:
        _check_storage(path, problems)


def _check_founding(settings: Settings, problems: list[str]) -> None:
    """Whether a new cluster of one node is meant, if it is one: the founder of a cluster that has
    grown looks the same once its directory was emptied, and would found a second one."""
    if settings.is_alone is settings.found_alone or _has_history(settings.data, problems):
        return
    if settings.is_alone:
        problems.append(
            f"node {settings.id!r} is new and is told of no other nodes: name them with --peer, "
            "say --join if it is to be added to a cluster, or --found-alone if it is to found a "
            "cluster of its own"
        )
        return
    other = "--join" if settings.join else "--peer"
    problems.append(
        f"--found-alone and {other} contradict each other: this node founds a cluster alone, or it "
        "is one of several; leave one of them out"
    )


def _has_history(path: Path, problems: list[str]) -> bool:
    """Whether the node belongs to a cluster; True if that cannot be seen, which is a problem."""
    directory = Directory(path, Health(path))
    try:
        if directory.acquire().is_new:
            directory.release()
            return False
        try:
            stored = read_identity(directory.database)
            return stored is not None and decode_identity(stored).uuid is not None
        finally:
            directory.release()
    except StorageError as error:
        problems.append(f"--data {error}")
        return True


def _check_storage(path: Path, problems: list[str]) -> None:
    """Whether it is a storage at all, and nobody else's at the moment."""
    directory = Directory(path, Health(path))
    try:
        directory.acquire()
    except StorageError as error:
        problems.append(f"--data {error}")
        return
    with suppress(StorageError):
        directory.release()
