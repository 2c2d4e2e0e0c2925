"""The live page at a server's HTTP port: the server watches its cluster as a client of all members.

Rules of this file:

* It asks for nothing that a client could not: it shows the certificate that it shows its own
  clients, and what a member refuses it is said on the page.
* A page without TLS at this machine's own address takes requests that were sent to a number, or to
  localhost: any other name could be anybody's.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import Any, Final

import attrs

from ...client.client import Client
from ...core.errors import ConfigError
from ...core.types import Address
from ...live.app import live_routes
from ...live.hub import Hub
from ...net.addresses import is_loopback, is_wildcard
from ...net.certificates import TlsFiles
from ...service.port import Service
from .settings import Settings

HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what is listened at
"""How a server reaches itself that listens everywhere."""


@attrs.frozen
class LivePage:
    """A page that is to be served."""

    hub: Hub
    routes: list[Any]


def live_page_of(settings: Settings, service: Service) -> LivePage:
    """The page of this server's cluster."""
    is_tls = settings.http_tls is not None
    is_named_freely = is_tls or (
        settings.http_listen is not None and not is_loopback(settings.http_listen[0])
    )

    def is_known(host: str) -> bool:
        return is_named_freely or _is_of_this_machine(host)

    def open_client() -> Client:
        return Client(
            [_own_address(settings, service)],
            cluster_id=settings.cluster_id,
            ssl_context=_as_client(settings.client_tls),
            insecure=True,  # where members take plain TCP from each other's machines, so may we
        )

    hub = Hub(open_client)
    return LivePage(hub, live_routes(hub, is_known))


def _own_address(settings: Settings, service: Service) -> Address:
    if settings.client_advertise is not None:
        return settings.client_advertise
    host, port = service.address
    return (HERE.get(host, "127.0.0.1") if is_wildcard(host) else host, port)


def _as_client(files: TlsFiles | None) -> ssl.SSLContext | None:
    """What the server shows as a client: the certificate of its clients' port."""
    if files is None:
        return None
    try:
        authority = files.authority
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        context.load_cert_chain(files.certificate, files.key, files.password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"this page's server cannot use --client-tls-cert as a client: {error}"
        ) from error
    return context


def _is_of_this_machine(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
