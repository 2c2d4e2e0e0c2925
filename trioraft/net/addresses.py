"""Addresses: which can be used, and how they are written.

Rules of this file:

* An address is checked when it arrives, whoever gave it; what passes can be handed to the resolver
  without it raising anything but `OSError`.
* Plain TCP stays on this machine unless `insecure=True` says otherwise: whoever can reach a plain
  port can vote, or write. What "this machine" is, `is_loopback` decides for every port.
* A host is judged as it will be dialed: `numeric_host` comes first, here and there.
* Addresses may come from the handshake of anybody: a message shows no more of them than a line
  holds.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, final

import attrs

from ..core.errors import ConfigError
from ..core.types import Address, NodeId
from .tls import check_certifiable

HOST_CHARS_MAX = 253
"""What a DNS name may have at most."""

SERVICE_PREFIX = "srv+"
"""Before a name whose SRV records say hosts and ports; as an address it has the port 0."""


@final
@attrs.frozen
class AddressRules:
    """What an address must be like for this node."""

    has_tls: bool
    insecure: bool
    """Plain TCP may leave this machine."""
    power: str = "vote"
    """What whoever reaches the port can do over plain TCP, for the message."""

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
        return self.check_dialable(name, address)

    def check_dialable(self, name: str, address: Address) -> Address:
        """As `check`, of what is to be connected to: with a port, or SRV records that have it.

        Raises:
            ConfigError: as for `check_peer`.
        """
        is_pair = isinstance(address, list | tuple) and len(address) == 2
        is_service = is_pair and is_service_name(address[0])
        if is_service and (address[1] != 0 or not service_of(address[0])):
            raise ConfigError(
                f"{name} is {address!r}: SRV records have the port, so give ('srv+NAME', 0)"
            )
        return self.check(name, address, port_min=0 if is_service else 1)

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
        if not self.has_tls and not self.insecure and not is_loopback(host):
            raise ConfigError(
                f"{name} is {host_port((host, port))}, and there is no ssl_context: over plain "
                f"TCP whoever reaches the port can {self.power}. Give ssl_context=TlsContexts(…), "
                "stay on 127.0.0.1, or say insecure=True if the network is trusted"
            )
        return (host, port)


_ANY: Final = AddressRules(has_tls=False, insecure=True)


def is_well_formed(address: Address) -> bool:
    """Whether this can be an address at all; for one that somebody has told."""
    try:
        _ANY.check("an address", address, port_min=1)
    except ConfigError:
        return False
    return True


def _check_host(name: str, host: object) -> None:
    if isinstance(host, str) and host.startswith("["):
        raise ConfigError(
            f"{name} has the host {host[:HOST_CHARS_MAX]!r}: give it without the brackets, as "
            "'::1'; they stand only where a port follows in the same text"
        )
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
    """Render an address: `127.0.0.1:4000`, `[::1]:4000`, `srv+_trioraft._tcp.example.org`."""
    host, port = address
    if is_service_name(host):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_service_name(host: object) -> bool:
    """Whether this stands for the SRV records of a name."""
    return isinstance(host, str) and host.startswith(SERVICE_PREFIX)


def service_of(host: str) -> str:
    """Whose SRV records a host stands for."""
    return host.removeprefix(SERVICE_PREFIX)


def numeric_host(host: str) -> str:
    """Spare `localhost` the resolver, and so a thread. Names have no case (RFC 4343)."""
    return "127.0.0.1" if host.lower() == "localhost" else host


def is_loopback(host: str) -> bool:
    """Whether this is certainly this machine: `localhost`, or an address written out in full.

    Not so names, wherever they lead today, nor the short forms that some resolvers take and others
    do not (`127.1`, `0x7f000001`).
    """
    address = _literal(numeric_host(host))
    return address is not None and address.is_loopback


def is_wildcard(host: str) -> bool:
    """Whether this means all interfaces, so that nobody can dial it; also in a short form (`0`)."""
    address = _literal(host)
    if address is not None:
        return address.is_unspecified
    try:
        return not any(socket.inet_aton(host))
    except (OSError, ValueError):
        return False  # a name


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is written here in full; None if it is a name, or a short form."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # to the kernel it is that one; Python's versions disagree
    return address
