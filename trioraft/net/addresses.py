"""Addresses: which can be used, and how they are written.

Rules of this file:

* An address is checked when it arrives, whoever gave it; what passes can be handed to the resolver
  without it raising anything but `OSError`.
* Plain TCP stays on this machine unless `insecure=True` says otherwise: whoever can reach a plain
  port can vote.
* Addresses may come from a stranger's handshake: a message shows no more of them than a line holds.
"""

from __future__ import annotations

import ipaddress
from typing import final

import attrs

from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from .tls import check_certifiable

HOST_CHARS_MAX = 253
"""What a DNS name may have at most."""


@final
@attrs.frozen
class AddressRules:
    """What an address must be like for this node."""

    has_tls: bool
    insecure: bool
    """Plain TCP may leave this machine."""

    def check_peer(self, name: str, peer: NodeId, address: Address) -> Address:
        """Return where a peer is, if it can be reached there.

        Args:
            name: what the address is, for the message.
            peer: whose address it is; over TLS its id must fit into a certificate.
            address: host, and port from 1.

        Raises:
            ConfigError: the sentence says what is wrong with it, and what to give.
        """
        if self.has_tls:
            check_certifiable(peer)
        return self.check(name, address, port_min=1)

    def check(self, name: str, address: Address, *, port_min: int) -> Address:
        """Return the address as a pair of host and port; `port_min=0` lets the port be open.

        Raises:
            ConfigError: as for `check_peer`.
        """
        try:
            host, port = address
        except (TypeError, ValueError):
            raise ConfigError(f"{name} is {address!r}: give (host, port)") from None
        _check_host(name, host)
        if isinstance(port, bool) or not isinstance(port, int) or not port_min <= port <= 65535:
            raise ConfigError(f"{name} has the port {port!r}: give one of {port_min}..65535")
        if not self.has_tls and not self.insecure and not _is_loopback(host):
            raise ConfigError(
                f"{name} is {host_port((host, port))}, and there is no ssl_context: over plain "
                "TCP whoever reaches the port can vote. Give ssl_context=TlsContexts(…), stay on "
                "127.0.0.1, or say insecure=True if the network is trusted"
            )
        return (host, port)


def _check_host(name: str, host: object) -> None:
    if not isinstance(host, str) or not host or not host.isprintable() or " " in host:
        shown = host[:HOST_CHARS_MAX] if isinstance(host, str) else host
        raise ConfigError(
            f"{name} has the host {shown!r}: give a name or an address, such as '127.0.0.1', "
            "or '0.0.0.0' to listen on all interfaces"
        )
    if len(host) > HOST_CHARS_MAX:
        raise ConfigError(
            f"{name} has a host of {len(host)} characters: give at most {HOST_CHARS_MAX}"
        )


def host_port(address: Address) -> str:
    """Render an address: `127.0.0.1:4000`, `[::1]:4000`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def numeric_host(host: str) -> str:
    """Spare `localhost` the resolver, and so a thread."""
    return "127.0.0.1" if host == "localhost" else host


def is_wildcard(host: str) -> bool:
    """Whether this means all interfaces, so that nobody can dial it."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(numeric_host(host)).is_loopback
    except ValueError:
        return False  # a name: where it leads is not ours to say
