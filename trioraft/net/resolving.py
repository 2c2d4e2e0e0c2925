"""Names on their way to addresses: all of a name's, asked for again each time.

Rules of this file:

* An address written out in full needs nobody; a name may lead to several machines, or to one over
  several ways, so all of its addresses are there for whoever tries them.
* "srv+NAME" as a host, with port 0, stands for the SRV records of that name (RFC 2782), which have
  hosts and ports. The package dnspython reads them, an optional one.
* Nothing is kept as long as the resolver answers. Where it fails, or did not answer in time when it
  was asked last, what it said before is used: machines outlive their name servers' outages.
* Any event loop will do: whoever makes a `Resolver` says how the system is asked, and bounds the
  time.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, final

import attrs

from ..core.errors import ConfigError
from ..core.types import Address
from .addresses import host_port, is_service_name, numeric_host, service_of

FOUND_MAX: Final = 64
"""Most addresses that are taken of one name."""
KNOWN_MAX: Final = 256
"""Most names of which the last answer is kept."""
PACKAGE: Final = "dnspython"
"""What reads SRV records."""


@final
@attrs.frozen
class ResolvedAddress:
    """Where a name leads."""

    address: Address
    """Its host is written out in full."""
    host: str
    """What was looked up for it, which a certificate would bear: the name itself, or the one that
    an SRV record names."""


@final
@attrs.frozen
class ServiceRecord:
    """One SRV record."""

    host: str
    port: int
    priority: int = 0
    """Lower ones come first."""
    weight: int = 0
    """Of those of one priority, how likely each comes first."""


class GetAddrInfo(Protocol):
    """As `socket.getaddrinfo`, without blocking the event loop."""

    async def __call__(self, host: str, port: int, *, type: Any) -> Sequence[tuple[Any, ...]]:
        """What the system knows of a host."""


FindServices: TypeAlias = Callable[[str], Awaitable[Sequence[ServiceRecord]]]
"""The SRV records of a name; raises OSError if there are none."""


@final
class Resolver:
    """Looks names up.

    Args:
        getaddrinfo: how the system is asked for a host's addresses.
        services: how SRV records are found; default: by dnspython, in the event loop that runs.
        rng: draws among SRV records of one priority; its own if None.
    """

    def __init__(
        self,
        getaddrinfo: GetAddrInfo,
        services: FindServices | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._getaddrinfo = getaddrinfo
        self._services = services
        self._rng = random.Random() if rng is None else rng
        self._known: dict[Address, tuple[ResolvedAddress, ...]] = {}
        self._unanswered: set[Address] = set()  # whoever asked last gave up

    def check(self, address: Address) -> None:
        """Check that a name of this kind can be looked up.

        Raises:
            ConfigError: it is a service's, and there is nothing that reads SRV records.
        """
        if is_service_name(address[0]) and self._services is None:
            check_can_read_services(address)

    async def find(self, address: Address) -> tuple[ResolvedAddress, ...]:
        """All addresses that this one leads to, in the order in which to try them.

        Cancelling gives up the wait.

        Raises:
            OSError: none is known.
            ValueError: no resolver takes such a name.
        """
        host, port = address
        if is_literal(host):
            return (ResolvedAddress((numeric_host(host), port), host),)
        if address in self._unanswered and address in self._known:
            self._unanswered.discard(address)
            return self._known[address]
        self._unanswered.add(address)
        try:
            found = await self._look_up(address)
        except OSError:
            self._unanswered.discard(address)
            if address in self._known:
                return self._known[address]
            raise
        self._unanswered.discard(address)
        self._known.pop(address, None)
        self._known[address] = found
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
        return found

    async def _look_up(self, address: Address) -> tuple[ResolvedAddress, ...]:
        host, port = address
        if not is_service_name(host):
            return await self._of_host(host, port)
        name = service_of(host)
        services = self._services
        records = await (_by_dnspython(name) if services is None else services(name))
        found: list[ResolvedAddress] = []
        failure: OSError = OSError(f"{name} has no SRV records")
        for record in self._in_order(records)[:FOUND_MAX]:
            try:
                found += await self._of_host(record.host, record.port)
            except OSError as error:
                failure = error
        if not found:
            raise failure
        return tuple(dict.fromkeys(found))[:FOUND_MAX]

    async def _of_host(self, host: str, port: int) -> tuple[ResolvedAddress, ...]:
        if is_literal(host):
            return (ResolvedAddress((numeric_host(host), port), host),)
        answers = await self._getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys((str(where[0]), int(where[1])) for *_, where in answers)
        return tuple(ResolvedAddress(each, host) for each in _by_turns(addresses))[:FOUND_MAX]

    def _in_order(self, records: Iterable[ServiceRecord]) -> list[ServiceRecord]:
        """By priority, and by chance and weight within one."""

        def key(record: ServiceRecord) -> tuple[int, float]:
            return record.priority, -(self._rng.random() ** (1 / (record.weight or 0.1)))

        return sorted(records, key=key)


def _by_turns(addresses: Iterable[Address]) -> list[Address]:
    """The family that the system prefers first, and then by turns (RFC 8305, section 4): where one
    family leads nowhere, the next attempt tries the other. Name servers turn what they list, so
    within a family the order is our own: attempt after attempt comes round to all."""
    families: dict[bool, list[Address]] = {}
    for address in addresses:
        families.setdefault(":" in address[0], []).append(address)
    rows = [sorted(family) for family in families.values()]
    longest = max(map(len, rows), default=0)
    return [row[number] for number in range(longest) for row in rows if number < len(row)]


def is_literal(host: str) -> bool:
    """Whether this host needs no looking up."""
    try:
        ipaddress.ip_address(numeric_host(host))
    except ValueError:
        return False
    return True


def check_can_read_services(address: Address) -> None:
    """Check that dnspython is there.

    Raises:
        ConfigError: it is not; says how to install it.
    """
    try:
        import dns.asyncresolver  # noqa: F401 - only whether it is there; it is optional
    except ImportError:
        raise ConfigError(
            f"{host_port(address)} stands for SRV records, and without the package {PACKAGE} they "
            "cannot be read; install it with: pip install 'trioraft[dns]'"
        ) from None


async def _by_dnspython(name: str) -> list[ServiceRecord]:
    """The SRV records of a name, as the system's name servers have them.

    Raises:
        OSError: there are none, or nobody answered.
    """
    import dns.asyncresolver

    return await records_by(dns.asyncresolver.get_default_resolver(), name)


async def records_by(resolver: Any, name: str) -> list[ServiceRecord]:
    """The SRV records of a name, by a `dns.asyncresolver.Resolver`.

    Raises:
        OSError: there are none, or nobody answered.
    """
    import dns.asyncbackend
    import dns.exception

    # By itself it would stay with the event loop that it has met first.
    trio = sys.modules.get("trio.lowlevel")  # a client on asyncio is not made to load it
    loop = "trio" if trio is not None and trio.in_trio_run() else "asyncio"
    try:
        answer = await resolver.resolve(name, "SRV", backend=dns.asyncbackend.get_backend(loop))
    except dns.exception.DNSException as error:
        raise OSError(f"{name} cannot be looked up: {error}") from error
    return [
        ServiceRecord(str(each.target).rstrip("."), each.port, each.priority, each.weight)
        for each in answer
        if str(each.target) != "."  # decidedly not there (RFC 2782)
    ]
