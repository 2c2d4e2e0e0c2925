"""Preflight: what the machine has to say about the settings, before anything of the node starts.

The peers' port is taken and held. The client port and the data directory are only tried: whoever
opens them may still find that they cannot be used.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, final

import attrs

from ...core.errors import RaftError, StorageError
from ...core.types import Address
from ...member.identity import decode_identity
from ...net.addresses import host_port
from ...net.listening import listen_now
from ...net.tls import TlsContexts
from ...service.roles import Roles
from ...storage.directory import Directory
from ...storage.health import Health
from ...storage.log_database import read_identity
from ...transport.tcp import TcpTransport
from .settings import Settings, TlsFiles

T = TypeVar("T")


@final
@attrs.frozen
class Preflight:
    """What a server needs of the machine."""

    transport: TcpTransport
    client_tls: ssl.SSLContext | None
    roles: Roles | None = None


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
    client_tls = None if files is None else clients_tls(files, problems)
    roles = _roles(settings, problems)
    transport = _transport(settings, problems)
    _check_data(settings.data, problems, create=settings.create_data)
    if len(problems) == before:
        _check_founding(settings, problems)
    if transport is not None:
        _tried(transport.bind, problems)
    _check_port("client-listen", settings.client_listen, problems)
    if len(problems) == before and transport is not None:
        return Preflight(transport, client_tls, roles)
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
    for name in ("listen", "client-listen"):
        if values.get(name) is not None:
            _check_port(name, values[name], problems)


def _tried(step: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return step()
    except (OSError, RaftError) as error:
        problems.append(str(error))
        return None


def _transport(settings: Settings, problems: list[str]) -> TcpTransport | None:
    before = len(problems)
    contexts = None
    if settings.tls is not None:
        contexts = _peers_tls(settings.tls, problems)
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


def _peers_tls(files: TlsFiles, problems: list[str]) -> TlsContexts | None:
    """Both sides' contexts for the peers' port; None if something is wrong with the files.

    Args:
        files: all three.
        problems: what is wrong is appended.
    """
    if not _are_usable("tls", files, problems):
        return None
    return TlsContexts.from_files(
        certificate=files.certificate,
        key=files.key,
        authority=files.authority or files.certificate,
    )


def clients_tls(files: TlsFiles, problems: list[str]) -> ssl.SSLContext | None:
    """The server's context for the client port; None if something is wrong with the files.

    Args:
        files: without an authority, clients need no certificate.
        problems: what is wrong is appended.
    """
    if not _are_usable("client-tls", files, problems):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    if files.authority is not None:
        context.load_verify_locations(files.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _are_usable(prefix: str, files: TlsFiles, problems: list[str]) -> bool:
    before = len(problems)
    for name, path in (("cert", files.certificate), ("key", files.key), ("ca", files.authority)):
        if path is None:
            continue
        try:
            path.read_bytes()
        except OSError as error:
            problems.append(f"--{prefix}-{name} {str(path)!r} cannot be read: {error.strerror}")
    if len(problems) > before:
        return False
    tried = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = files.authority
    if authority is not None:
        what = f"--{prefix}-ca {str(authority)!r}"
        _try(lambda: tried.load_verify_locations(authority), what, problems)
    what = f"--{prefix}-cert {str(files.certificate)!r} with --{prefix}-key {str(files.key)!r}"
    _try(lambda: tried.load_cert_chain(files.certificate, files.key, _no_password), what, problems)
    return len(problems) == before


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise ValueError("the key has a password: give one without")


def _try(load: Callable[[], None], what: str, problems: list[str]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        said = str(error)
        if isinstance(error, ssl.SSLError):
            said = (error.reason or said).replace("_", " ").lower()
            said += " (is it PEM, and do they belong together?)"
        problems.append(f"{what} cannot be used: {said}")


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
            _tried(lambda: path.mkdir(parents=True), problems)
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
