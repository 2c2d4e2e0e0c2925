"""Settings: what `trioraft serve` shall do, once all that was said about it makes sense.

Rules of this file:

* Every problem is found before any is reported: a user who has three things to mend learns of all
  three at once.
* Pure: no file, socket or clock is touched here; what the machine has to say comes from
  `preflight`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import attrs

from ...core.config import Limits, Timing
from ...core.errors import ConfigError
from ...core.types import Address, NodeId
from ...logs.loggers import Format, Level
from ...net.addresses import host_port, is_wildcard, numeric_host
from ...net.tls import check_certifiable
from .options import OPTIONS
from .sources import Given

_SOURCES_HINT: Final = "with {flag}, {variable} or {key!r} in the file"


@attrs.frozen
class TlsFiles:
    """Where certificates are."""

    certificate: Path
    key: Path
    authority: Path | None


@final
@attrs.frozen
class Settings:
    """One server, as it shall be; see `trioraft.cli.serve.options` for each."""

    id: NodeId
    listen: Address
    client_listen: Address
    peers: Mapping[NodeId, Address]
    """The others."""
    client_peers: Mapping[NodeId, Address]
    """Where clients reach the others."""
    data: Path
    create_data: bool
    join: bool
    cluster_id: str
    advertise: Address | None
    client_advertise: Address | None
    insecure: bool
    tls: TlsFiles | None
    client_tls: TlsFiles | None
    timing: Timing
    limits: Limits
    log_bytes_max: int | None
    client_connections_max: int
    watch_changes: int
    log_format: Format
    log_level: Level

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Of a new cluster; none if this node joins one."""
        return () if self.join else tuple(sorted({self.id, *self.peers}))


def read_settings(given: Mapping[str, Given], problems: list[str]) -> Settings | None:
    """Make settings of what was said.

    Args:
        given: by the option's name.
        problems: what is wrong is appended.

    Returns:
        The settings; None if there is any problem, an earlier one included.
    """
    return _SettingsReader(given, problems).settings()


def parsed_values(given: Mapping[str, Given]) -> dict[str, Any]:
    """By the option's name: each value that can be read by itself, whatever others are like."""
    values = {}
    for name, each in given.items():
        try:
            parsed = [OPTIONS[name].parse(text) for text in each.texts]
        except ValueError:
            continue
        values[name] = parsed if OPTIONS[name].kind == "many" else parsed[0]
    return values


class _SettingsReader:
    """Values on their way to settings, with the names under which they were given."""

    def __init__(self, given: Mapping[str, Given], problems: list[str]) -> None:
        self._given = given
        self._problems = problems
        self._values: dict[str, Any] = {}

    def settings(self) -> Settings | None:
        for name in OPTIONS:
            self._parse(name)
        values = self._values
        peers = self._peers()
        self._check_ports()
        tls = self._tls_files("tls", needs_authority=True)
        client_tls = self._tls_files("client-tls", needs_authority=not values["insecure"])
        self._check_plain(peers, tls, client_tls)
        timing, limits = self._timing(), self._limits()
        client_peers = self._client_peers()
        if self._problems or timing is None or limits is None:
            return None
        return Settings(
            **{name: values[name] for name in ("id", "listen", "data", "join", "insecure")},
            client_listen=values["client-listen"],
            peers=peers,
            client_peers=client_peers,
            create_data=values["create-data"],
            cluster_id=values["cluster-id"],
            advertise=values["advertise"],
            client_advertise=values["client-advertise"],
            tls=tls,
            client_tls=client_tls,
            timing=timing,
            limits=limits,
            log_bytes_max=values["log-bytes-max"],
            client_connections_max=values["client-connections-max"],
            watch_changes=values["watch-changes"],
            log_format=values["log-format"],
            log_level=values["log-level"],
        )

    # -- single values ---------------------------------------------------------------------

    def _parse(self, name: str) -> None:
        option, given = OPTIONS[name], self._given.get(name)
        if given is None:
            self._values[name] = None if option.default is None else option.parse(option.default)
            if option.required:
                hint = _SOURCES_HINT.format(
                    flag=f"{option.flag} {option.metavar}", variable=option.variable, key=option.key
                )
                self._problem(f"{name} is missing: give it {hint}")
            return
        parsed = []
        for text in given.texts:
            try:
                parsed.append(option.parse(text))
            except ValueError as error:
                self._problem(f"{given.where} is {text!r}: {error}")
        if option.kind == "many":
            self._values[name] = parsed
        else:
            self._values[name] = parsed[0] if parsed else None

    def _problem(self, text: str) -> None:
        self._problems.append(text)

    def _where(self, name: str) -> str:
        given = self._given.get(name)
        return OPTIONS[name].flag if given is None else given.where

    # -- several values together -----------------------------------------------------------

    def _peers(self) -> dict[NodeId, Address]:
        """The other nodes. This node's own entry says where it is reached."""
        values, where = self._values, self._where("peer")
        peers: dict[NodeId, Address] = {}
        for name, address in values["peer"] or ():
            if name in peers:
                self._problem(
                    f"{where} names node {name!r} twice, at {host_port(peers[name])} and at "
                    f"{host_port(address)}: every node has an id of its own"
                )
                continue
            peers[name] = address
        own = peers.pop(values["id"], None)
        mine = {values[name] for name in ("listen", "client-listen", "advertise")} - {None}
        if own is not None:
            self._check_own_entry(own)
            mine.add(own)
        seen: dict[Address, NodeId] = {}
        for name, address in peers.items():
            if address in mine:
                self._problem(
                    f"{where} puts node {name!r} at {host_port(address)}, which is this node's own "
                    f"address (node {values['id']!r}): is one of the ids wrong?"
                )
            elif address in seen:
                self._problem(
                    f"{where} puts nodes {seen[address]!r} and {name!r} both at "
                    f"{host_port(address)}: every node has an address of its own"
                )
            seen.setdefault(address, name)
        return peers

    def _client_peers(self) -> dict[NodeId, Address]:
        """Where clients reach the others. This node's own entry is its advertised address."""
        values, where = self._values, self._where("client-peer")
        peers: dict[NodeId, Address] = {}
        for name, address in values["client-peer"] or ():
            if name in peers:
                self._problem(
                    f"{where} names node {name!r} twice, at {host_port(peers[name])} and at "
                    f"{host_port(address)}"
                )
            peers[name] = address
        own = peers.pop(values["id"], None)
        values["client-advertise"] = values["client-advertise"] or own
        return peers

    def _check_own_entry(self, own: Address) -> None:
        """Among the peers this node may stand as well: where the others reach it."""
        values = self._values
        listen, advertise = values["listen"], values["advertise"]
        if advertise is None and (listen is None or own[1] == listen[1]):
            values["advertise"] = own
        elif own != advertise:
            self._problem(
                f"{self._where('peer')} puts node {values['id']!r} at {host_port(own)}, but that "
                f"is this node, at {host_port(advertise or listen)}: is {self._where('id')} wrong, "
                "or the address? (Where ports are mapped, give --advertise.)"
            )

    def _check_ports(self) -> None:
        values = self._values
        peers, clients = values["listen"], values["client-listen"]
        if peers is None or clients is None or peers[1] != clients[1]:
            return
        if peers[0] == clients[0] or is_wildcard(peers[0]) or is_wildcard(clients[0]):
            self._problem(
                f"{self._where('listen')} and {self._where('client-listen')} are both port "
                f"{peers[1]}: peers and clients never share one"
            )

    def _tls_files(self, prefix: str, *, needs_authority: bool) -> TlsFiles | None:
        names = [f"{prefix}-cert", f"{prefix}-key", f"{prefix}-ca"]
        files = [self._values[name] for name in names]
        if not any(self._given.get(name) for name in names):
            return None
        certificate, key, authority = files
        needed = names if needs_authority else names[:2]
        missing = [name for name in needed if name not in self._given]
        if missing:
            said = ", ".join(self._where(name) for name in names if name in self._given)
            wanted = " and ".join(OPTIONS[name].flag for name in missing)
            self._problem(f"{said} is not enough for TLS: give {wanted} as well")
        if prefix == "tls":
            self._check_ids_for_tls()
        if certificate is None or key is None:
            return None
        return TlsFiles(certificate, key, authority)

    def _check_ids_for_tls(self) -> None:
        names = [self._values["id"], *(name for name, _ in self._values["peer"] or ())]
        for name in dict.fromkeys(names):
            if name is None:
                continue
            try:
                check_certifiable(name)
            except ConfigError as error:
                self._problem(str(error))

    def _check_plain(
        self, peers: Mapping[NodeId, Address], tls: TlsFiles | None, client_tls: TlsFiles | None
    ) -> None:
        values = self._values
        if values["insecure"]:
            return
        if not any(self._given.get(name) for name in ("tls-cert", "tls-key", "tls-ca")):
            said = [(self._where("listen"), values["listen"])]
            said += [(self._where("peer"), address) for address in peers.values()]
            self._complain_of_plain(said, "node", "--tls-cert, --tls-key and --tls-ca", tls)
        if not any(self._given.get(name) for name in ("client-tls-cert", "client-tls-key")):
            said = [(self._where("client-listen"), values["client-listen"])]
            wanted = "--client-tls-cert and --client-tls-key"
            self._complain_of_plain(said, "client", wanted, client_tls)

    def _complain_of_plain(
        self, said: list[tuple[str, Address | None]], who: str, wanted: str, tls: TlsFiles | None
    ) -> None:
        far = [(where, at) for where, at in said if at is not None and not _is_loopback(at[0])]
        if tls is None and far:
            where, address = far[0]
            self._problem(
                f"{where} is {host_port(address)}, beyond this machine, and without TLS whoever "
                f"reaches the port can pose as a {who}: give {wanted}, or say --insecure if the "
                "network is trusted"
            )

    def _timing(self) -> Timing | None:
        values = self._values
        names = ("election-timeout", "heartbeat", "fast-failover")
        if any(values[name] is None for name in names):
            return None  # a problem already
        try:
            return Timing(
                election_timeout_s=values["election-timeout"],
                heartbeat_interval_s=values["heartbeat"],
                fast_failover=values["fast-failover"],
                lease_clock_drift_max=values["lease-clock-drift-max"],
            )
        except ConfigError as error:
            self._problem(f"timing: {error}")
            return None

    def _limits(self) -> Limits | None:
        names = ("snapshot-entries", "snapshot-bytes", "command-bytes-max")
        values = {OPTIONS[name].field: self._values[name] for name in names}
        if None in values.values():
            return None  # a problem already
        try:
            return Limits(**values)
        except ConfigError as error:
            self._problem(f"limits: {error}")
            return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(numeric_host(host)).is_loopback
    except ValueError:
        return False  # a name: where it leads is not ours to say
