"""Preflight: what the machine has to say about the settings, before anything of the node starts.

Rules of this file:

* Like `settings`, it reports every problem, one sentence each, and goes on to the next.
* The peers' port is taken and held. The client port and the data directory are only tried: whoever
  opens them may still find that they cannot be used.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, final

import attrs

from ...core.errors import RaftError, StorageError
from ...core.types import Address
from ...net.addresses import host_port, numeric_host
from ...storage.directory import Directory
from ...storage.health import Health
from ...transport.tcp import TcpTransport
from .certificates import clients_tls, peers_tls
from .settings import Settings

T = TypeVar("T")


@final
@attrs.frozen
class Preflight:
    """What a server needs of the machine."""

    transport: TcpTransport
    client_tls: ssl.SSLContext | None


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
    transport = _transport(settings, problems)
    _check_data(settings.data, problems, create=settings.create_data)
    if transport is not None:
        _tried(transport.bind, problems)
    _check_port("client-listen", settings.client_listen, problems)
    if len(problems) == before and transport is not None:
        return Preflight(transport, client_tls)
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
        contexts = peers_tls(settings.tls, problems)
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


# -- ports ---------------------------------------------------------------------------------


def _check_port(name: str, address: Address, problems: list[str]) -> None:
    """Whether it can be listened at."""
    host, port = address
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            numeric_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where)
            tried.listen(1)
    except OSError as error:
        problems.append(f"--{name} {host_port(address)} cannot be used: {error.strerror}")


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


def _check_storage(path: Path, problems: list[str]) -> None:
    """Whether it is a storage at all, and nobody else's at the moment."""
    directory = Directory(path, Health(path))
    try:
        directory.take()
    except StorageError as error:
        problems.append(f"--data {error}")
        return
    with suppress(StorageError):
        directory.let_go()
