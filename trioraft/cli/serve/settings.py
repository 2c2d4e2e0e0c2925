"""Settings: what was said on the command line, in the environment and in a file, and what
`trioraft serve` shall do once all of that makes sense.

Rules of this file:

* Nothing is raised: what is wrong becomes a sentence that begins with where it was said, and every
  problem is found before any is reported. (That is why click's own environment and default map do
  not serve: they end at the first wrong value, and take an empty variable for none.)
* No socket or directory is touched here; what the machine has to say comes from `preflight`.
"""

from __future__ import annotations

import difflib
import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import attrs

from ...core.config import Limits, Timing
from ...core.errors import ConfigError
from ...core.types import Address, NodeId
from ...logs.loggers import Format, Level
from ...net.addresses import host_port, is_loopback, is_service_name, is_wildcard
from ...net.certificates import TlsFiles
from ...net.tls import check_certifiable
from ..files import read_small
from .options import CONFIG_FLAG, CONFIG_VARIABLE, ENVIRONMENT_PREFIX, OPTIONS, Option

OTHER_VARIABLES: Final = frozenset(
    {CONFIG_VARIABLE, "TRIORAFT_ADDRESSES", "TRIORAFT_TOKEN", "TRIORAFT_TOKEN_FILE"}
)
"""What the environment may also say to trioraft."""
_SERVICE_LINK: Final = re.compile(r"TRIORAFT_(.+_)?(SERVICE_(HOST|PORT)|PORT)(_.*)?")
"""What Kubernetes puts into a container's environment for a service that is called trioraft."""

_INT_BITS_MAX: Final = 64
"""No setting is a larger number."""

Flags: TypeAlias = Mapping[str, str | bool | Sequence[str] | None]
"""What the command line says, by the option's name; None or an empty list: nothing."""


@attrs.frozen
class Given:
    """What was said about an option."""

    texts: tuple[str, ...]
    """One, except for an option of kind "many"."""
    where: str
    """As in "--listen", "TRIORAFT_LISTEN" or "node.toml: listen"."""


def gather(flags: Flags, environment: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    """What was said, by the option's name: the command line wins over the environment, the
    environment over the file.

    Args:
        flags: the command line; "config" names the file.
        environment: of the process.
        problems: what is wrong is appended.
    """
    found: dict[str, Given] = {}
    config = flags.get("config") or environment.get(CONFIG_VARIABLE)
    if isinstance(config, str) and config:
        where = CONFIG_FLAG if flags.get("config") else CONFIG_VARIABLE
        found.update(_from_file(Path(config), where, problems))
    for name, option in OPTIONS.items():
        flag, text = flags.get(name), environment.get(option.variable)
        if flag not in (None, False, [], ()):
            found[name] = Given(_texts_of_flag(flag), option.flag)
        elif text is not None:
            texts = re.findall(r"[^,\s]+", text) if option.kind == "many" else [text]
            found[name] = Given(tuple(texts), option.variable)
    problems += _slips(environment)
    return found


def _texts_of_flag(flag: str | bool | Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(flag, str):
        return (flag,)
    return tuple(flag) if isinstance(flag, Sequence) else ("true",)


def _slips(environment: Mapping[str, str]) -> Iterator[str]:
    """The environment is not ours: of what is no setting there, only what looks like a slip of the
    pen is reported."""
    known = [*(option.variable for option in OPTIONS.values()), *OTHER_VARIABLES]
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in known:
            continue
        meant = difflib.get_close_matches(variable, known, 1, 0.85)
        if meant and not _SERVICE_LINK.fullmatch(variable):
            yield f"{variable} is no setting: did you mean {meant[0]}?"


def _from_file(path: Path, where: str, problems: list[str]) -> Iterator[tuple[str, Given]]:
    try:
        content = tomllib.loads(read_small(path).decode("utf-8"))
    except OSError as error:
        problems.append(f"{where} {str(path)!r} cannot be read: {error.strerror}")
        return
    except ValueError as error:  # no TOML, or no UTF-8
        problems.append(f"{where} {str(path)!r} is not a TOML file: {error}")
        return
    except RecursionError:  # tables or lists within each other, hundreds deep
        problems.append(f"{where} {str(path)!r} is nested too deeply: no setting is nested so")
        return
    by_key = {option.key: option for option in OPTIONS.values()}
    for key, value in content.items():
        option = by_key.get(key)
        if option is None:
            meant = difflib.get_close_matches(key.replace("_", "-"), by_key, 1, 0.6)
            hint = f": did you mean {meant[0]!r}?" if meant else "; docs/serve.md lists them all"
            problems.append(f"{path}: {key!r} is no setting{hint}")
            continue
        texts = _texts_of(option, value)
        if texts is not None:
            yield option.name, Given(texts, f"{path}: {key}")
            continue
        shape = "one value"
        if option.kind == "many":
            shape = 'a table, as { 1 = "127.0.0.1:7001" }, or a list of "ID=HOST:PORT"'
        problems.append(f"{path}: {key} is {_shown(value)}: give {shape}")


def _shown(value: object) -> str:
    """A file's value, bounded in depth and length."""
    is_huge = isinstance(value, int) and value.bit_length() > _INT_BITS_MAX
    return "a huge number" if is_huge else reprlib.repr(value)


def _texts_of(option: Option, value: object) -> tuple[str, ...] | None:
    """A file's value as it would stand on the command line; None if it has the wrong shape."""
    if option.kind == "many":
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return tuple(f"{name}={item}" for name, item in value.items())
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        return None
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, int) and value.bit_length() > _INT_BITS_MAX:
        return None  # written in hexadecimal, it may have more digits than Python shows
    if isinstance(value, str | int | float):
        return (str(value),)
    return None


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
    found_alone: bool
    cluster_id: str
    advertise: Address | None
    client_advertise: Address | None
    insecure: bool
    tls: TlsFiles | None
    tls_peer_names: tuple[str, ...] | None
    invite_key: Path | None
    invitation: Path | None
    client_tls: TlsFiles | None
    client_roles: Path | None
    http_listen: Address | None
    http_insecure: bool
    http_tls: TlsFiles | None
    timing: Timing
    limits: Limits
    log_bytes_max: int | None
    client_connections_max: int | None
    watch_changes: int
    log_format: Format
    log_level: Level
    tracing: bool

    @property
    def is_alone(self) -> bool:
        """Whether this node was told of no others, and would found a cluster by itself."""
        return self.voters == (self.id,)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Of a new cluster; none if this node joins one."""
        return () if self.join else tuple(sorted({self.id, *self.peers}))


@final
class SettingsReader:
    """Values on their way to settings, with the names under which they were given.

    Args:
        given: what was said, by the option's name.
        problems: what is wrong is appended.
    """

    def __init__(self, given: Mapping[str, Given], problems: list[str]) -> None:
        self.values: dict[str, Any] = {}
        """By the option's name: what can be read by itself, or the default; else None."""
        self._given = given
        self._problems = problems
        for name in OPTIONS:
            self.values[name] = self._parsed(name)

    def settings(self) -> Settings | None:
        """The settings; None if there is any problem, an earlier one included."""
        peers = self._peers()
        self._check_ports()
        tls = self._tls_files("tls", needs_authority=True)
        client_tls = self._tls_files(
            "client-tls",
            needs_authority=not (self.values["insecure"] or self.values["client-roles"]),
        )
        http_tls = self._tls_files("http-tls", needs_authority=False)
        self._check_plain(peers, tls, client_tls)
        self._check_http(http_tls)
        timing, limits = self._timing(), self._limits()
        client_peers = self._client_peers()
        if self._problems or timing is None or limits is None:
            return None
        fields = attrs.fields_dict(Settings)
        by_option = {option.field: self.values[name] for name, option in OPTIONS.items()}
        return Settings(
            **{field: value for field, value in by_option.items() if field in fields},
            peers=peers,
            client_peers=client_peers,
            tls=tls,
            client_tls=client_tls,
            http_tls=http_tls,
            timing=timing,
            limits=limits,
        )

    # -- single values ---------------------------------------------------------------------

    def _parsed(self, name: str) -> Any:
        option, given = OPTIONS[name], self._given.get(name)
        if given is None:
            if option.required:
                self._problem(
                    f"{name} is missing: give it with {option.flag} {option.metavar}, "
                    f"{option.variable} or {option.key!r} in the file"
                )
            return None if option.default is None else option.parse(option.default)
        parsed = []
        for text in given.texts:
            try:
                parsed.append(option.parse(text))
            except ValueError as error:
                self._problem(f"{given.where} is {text!r}: {error}")
        if option.kind == "many":
            return parsed
        return parsed[0] if parsed else None

    def _problem(self, text: str) -> None:
        self._problems.append(text)

    def _where(self, name: str) -> str:
        given = self._given.get(name)
        return OPTIONS[name].flag if given is None else given.where

    # -- several values together -----------------------------------------------------------

    def _peers(self) -> dict[NodeId, Address]:
        """The other nodes. This node's own entry says where it is reached."""
        values, where = self.values, self._where("peer")
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
        values, where = self.values, self._where("client-peer")
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
        values = self.values
        if is_service_name(own[0]):
            return  # it says where this node is only to the others
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
        pairs = (
            ("listen", "client-listen", "peers and clients never share one"),
            ("listen", "http-listen", "HTTP has one of its own"),
            ("client-listen", "http-listen", "HTTP has one of its own"),
        )
        for first, second, why in pairs:
            one, other = self.values[first], self.values[second]
            if one is None or other is None or one[1] != other[1]:
                continue
            if one[0] == other[0] or is_wildcard(one[0]) or is_wildcard(other[0]):
                self._problem(
                    f"{self._where(first)} and {self._where(second)} are both port {one[1]}: {why}"
                )

    def _tls_files(self, prefix: str, *, needs_authority: bool) -> TlsFiles | None:
        names = [f"{prefix}-cert", f"{prefix}-key", f"{prefix}-ca"]
        files = [self.values[name] for name in names]
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
        names = [self.values["id"], *(name for name, _ in self.values["peer"] or ())]
        for name in dict.fromkeys(name for name in names if name is not None):
            try:
                check_certifiable(name)
            except ConfigError as error:
                self._problem(str(error))

    def _check_plain(
        self, peers: Mapping[NodeId, Address], tls: TlsFiles | None, client_tls: TlsFiles | None
    ) -> None:
        values = self.values
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

    def _check_http(self, tls: TlsFiles | None) -> None:
        values, listen = self.values, self.values["http-listen"]
        names = ("http-insecure", "http-tls-cert", "http-tls-key", "http-tls-ca")
        given = [self._where(name) for name in names if name in self._given]
        if listen is None:
            if given and "http-listen" not in self._given:
                self._problem(f"{given[0]} is for --http-listen, which is not given")
            return
        is_allowed = values["insecure"] or values["http-insecure"] or tls is not None
        if not (
            is_allowed
            or is_loopback(listen[0])
            or {"http-tls-cert", "http-tls-key"} & {*self._given}
        ):
            self._problem(
                f"{self._where('http-listen')} is {host_port(listen)}, beyond this machine, and "
                "without TLS whoever is on the way reads along: give --http-tls-cert and "
                "--http-tls-key, or say --http-insecure if status and metrics are no secret there"
            )

    def _complain_of_plain(
        self, said: list[tuple[str, Address | None]], who: str, wanted: str, tls: TlsFiles | None
    ) -> None:
        far = [(where, at) for where, at in said if at is not None and not is_loopback(at[0])]
        if tls is None and far:
            where, address = far[0]
            self._problem(
                f"{where} is {host_port(address)}, beyond this machine, and without TLS whoever "
                f"reaches the port can pose as a {who}: give {wanted}, or say --insecure if the "
                "network is trusted"
            )

    def _timing(self) -> Timing | None:
        values = self.values
        if None in (values["election-timeout"], values["heartbeat"], values["fast-failover"]):
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
        values = {OPTIONS[name].field: self.values[name] for name in names}
        if None in values.values():
            return None  # a problem already
        try:
            return Limits(**values)
        except ConfigError as error:
            self._problem(f"limits: {error}")
            return None
