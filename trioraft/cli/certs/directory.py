"""The directory that `trioraft certs` keeps: what is in it, and how files come into it.

    peers-ca.pem   peers-ca.key       who signs members; the keys stay with whoever signs
    clients-ca.pem clients-ca.key     who signs clients, and what members show to clients
    ID/            for node ID's machine, all of it:
        peer.pem client-port.pem peers-ca.pem clients-ca.pem  and keys; invite.key
    clients/       NAME.pem NAME.key  for a client, with clients-ca.pem

Rules of this file:

* Nothing is overwritten but what the user says shall be made anew.
* A file is there as a whole or not at all. A key comes before its certificate, so that a
  certificate has its key beside it; only a successor of an authority is published before its key
  signs: until then the old one does. Nobody but the owner reads a key.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, final

import attrs
from cryptography import x509

from ...core.errors import ConfigError
from ...core.types import NodeId
from .signing import Authority, Issued, Use, hosts_of

CLIENTS: Final = "clients"
"""The directory of clients' certificates: no node has that name."""
AUTHORITY_DAYS: Final = 3650
INVITE_BYTES: Final = 32
Whose = Literal["peers", "clients"]
_WHOSE: Final[tuple[Whose, Whose]] = ("peers", "clients")
_LEAVES: Final[Mapping[Use, Whose]] = {"peer": "peers", "client-port": "clients"}
"""What each node has, and who signs it."""


@final
@attrs.frozen
class Made:
    """A file, or a certificate with its key, that was written."""

    path: Path
    what: str
    expires_s: float | None = None
    """In seconds since the epoch; None: it does not expire."""


@final
@attrs.frozen
class Wanted:
    """What shall be there."""

    nodes: Mapping[NodeId, tuple[str, ...]]
    """With the hosts of each; none: those that its certificates have, if it has some."""
    clients: Sequence[str]
    days: int
    renew: bool = False
    """Make those anew that are there."""


@final
class Team:
    """A directory with the certificates of one cluster.

    Raises, whatever is called:
        ConfigError: it cannot be done; nothing that was there is changed.
        OSError: the file system failed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[Made] = []
        self._authorities: dict[Whose, Authority] = {}

    @property
    def is_new(self) -> bool:
        """Whether nobody signs here yet."""
        return not any(self._ca(whose).exists() for whose in _WHOSE)

    @property
    def nodes(self) -> list[NodeId]:
        """Those that have certificates."""
        if not self.directory.is_dir():
            return []
        found = (path.parent.name for path in self.directory.glob("*/peer.pem"))
        return sorted(name for name in found if name != CLIENTS)

    @property
    def clients(self) -> list[str]:
        """Those that have certificates."""
        return sorted(path.stem for path in (self.directory / CLIENTS).glob("*.pem"))

    def make(self, wanted: Wanted) -> None:
        """Make what is wanted and not there; authorities too, where there are none."""
        for name, hosts in wanted.nodes.items():
            self._check_same(name, hosts, renew=wanted.renew)
        _directory(self.directory)
        if self.is_new:
            for whose in _WHOSE:
                self._found(whose)
        for name, hosts in wanted.nodes.items():
            self._make_node(name, hosts, wanted)
        for name in wanted.clients:
            _directory(self.directory / CLIENTS)
            path = self.directory / CLIENTS / f"{name}.pem"
            self._make_leaf(path, name, (), "client", wanted)

    def renew_authorities(self) -> None:
        """Make successors of both, which sign from now on; old and new are trusted until
        `retire_authorities`."""
        for whose in _WHOSE:
            if len(self._certificates(whose)) > 1:
                raise ConfigError(
                    f"{self._ca(whose)} holds an authority and its successor already: end that "
                    "exchange first, with --renew and then --retire-ca"
                )
            self._authority(whose)  # the key of the old one is the right to do this
        for whose in _WHOSE:
            old = self._ca(whose).read_bytes()
            issued = Authority.new(whose, AUTHORITY_DAYS).issued()
            self._publish(whose, issued.certificate + old)
            _write(_key_of(self._ca(whose)), issued.key, secret=True)
            self.made.append(
                Made(self._ca(whose), f"successor, and the old one, of {whose}", issued.expires_s)
            )

    def retire_authorities(self) -> None:
        """Trust the successors only."""
        for whose in _WHOSE:
            if len(self._certificates(whose)) < 2:
                raise ConfigError(f"{self._ca(whose)} holds one authority: none is to be retired")
            for path in self._signed_by(whose):
                self._check_signed_anew(path, whose)
        for whose in _WHOSE:
            issued = self._authority(whose).issued()
            self._publish(whose, issued.certificate)
            self.made.append(
                Made(self._ca(whose), f"only the successor of {whose}", issued.expires_s)
            )

    # -- authorities -------------------------------------------------------------------------

    def _ca(self, whose: Whose) -> Path:
        return self.directory / f"{whose}-ca.pem"

    def _certificates(self, whose: Whose) -> list[x509.Certificate]:
        path = self._ca(whose)
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())
        except ValueError as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error

    def _found(self, whose: Whose) -> None:
        path = self._ca(whose)
        if _key_of(path).exists():
            raise ConfigError(f"{_key_of(path)} is there without {path.name}: move it away")
        issued = Authority.new(whose, AUTHORITY_DAYS).issued()
        _write(_key_of(path), issued.key, secret=True)
        _write(path, issued.certificate)
        self.made.append(Made(path, f"signs {whose}", issued.expires_s))

    def _authority(self, whose: Whose) -> Authority:
        known = self._authorities.get(whose)
        if known is not None:
            return known
        path = self._ca(whose)
        for each in (path, _key_of(path)):
            if not each.exists():
                raise ConfigError(
                    f"{each} is not there: bring it back, as nothing is signed without it"
                )
        try:
            authority = Authority.read(path.read_bytes(), _key_of(path).read_bytes())
        except ValueError as error:
            raise ConfigError(f"{path} and {_key_of(path).name} cannot be used: {error}") from error
        self._authorities[whose] = authority
        return authority

    def _publish(self, whose: Whose, certificates: bytes) -> None:
        """Replace an authority's file, and its copies for the nodes' machines."""
        _write(self._ca(whose), certificates)
        for name in self.nodes:
            _write(self.directory / name / self._ca(whose).name, certificates)
        self._authorities.pop(whose, None)

    def _signed_by(self, whose: Whose) -> Iterator[Path]:
        for name in self.nodes:
            for use, signer in _LEAVES.items():
                if signer == whose:
                    yield self.directory / name / f"{use}.pem"
        if whose == "clients":
            for name in self.clients:
                yield self.directory / CLIENTS / f"{name}.pem"

    def _check_signed_anew(self, path: Path, whose: Whose) -> None:
        leaf = x509.load_pem_x509_certificate(path.read_bytes())
        if leaf.issuer != self._authority(whose).certificate.subject:
            raise ConfigError(
                f"{path} is signed by the old authority: make new ones with --renew, and see that "
                "they are in use everywhere, before it is retired"
            )

    # -- those that are signed -----------------------------------------------------------------

    def _check_same(self, name: NodeId, hosts: tuple[str, ...], *, renew: bool) -> None:
        path = self.directory / name / "client-port.pem"
        if renew or not hosts or not path.exists():
            return
        has = set(_hosts(path))
        if has != {name, *hosts}:
            raise ConfigError(
                f"node {name!r} has certificates for {', '.join(sorted(has))}: to have others, say "
                "--renew as well"
            )

    def _make_node(self, name: NodeId, hosts: tuple[str, ...], wanted: Wanted) -> None:
        folder = self.directory / name
        _directory(folder)
        for whose in _WHOSE:
            copy, content = folder / self._ca(whose).name, self._ca(whose).read_bytes()
            if not copy.exists() or copy.read_bytes() != content:
                _write(copy, content)
        self._invite(folder)
        for use in _LEAVES:
            self._make_leaf(folder / f"{use}.pem", name, hosts, use, wanted)

    def _make_leaf(
        self, path: Path, name: str, hosts: tuple[str, ...], use: Use, wanted: Wanted
    ) -> None:
        if path.exists():
            if not wanted.renew:
                return
            hosts = hosts or _hosts(path)
        elif _key_of(path).exists():
            raise ConfigError(f"{_key_of(path)} is there without {path.name}: move it away")
        authority = self._authority(_LEAVES.get(use, "clients"))
        try:
            issued: Issued = authority.sign(name, hosts, use, wanted.days)
        except ValueError as error:
            raise ConfigError(f"{path} cannot be made: {error}") from error
        _write(_key_of(path), issued.key, secret=True)
        _write(path, issued.certificate)
        what = {"peer": "to members", "client-port": "to clients", "client": "a client"}[use]
        self.made.append(Made(path, f"{name}, {what}", issued.expires_s))

    def _invite(self, folder: Path) -> None:
        """What invitations are made and checked with, the same on all nodes."""
        path = folder / "invite.key"
        if path.exists():
            return
        _write(path, self._invite_key, secret=True)
        self.made.append(Made(path, "for invitations"))

    @cached_property
    def _invite_key(self) -> bytes:
        found = {path.read_bytes() for path in sorted(self.directory.glob("*/invite.key"))}
        if len(found) > 1:
            raise ConfigError(
                f"the invite.key of the nodes in {self.directory} differ: give all of them one of "
                "those first"
            )
        return found.pop() if found else secrets.token_hex(INVITE_BYTES).encode() + b"\n"


def _hosts(path: Path) -> tuple[str, ...]:
    try:
        return hosts_of(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _key_of(path: Path) -> Path:
    return path.with_suffix(".key")


def _directory(path: Path) -> None:
    """Make it, for its owner alone, unless it is there."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True)


def _write(path: Path, content: bytes, *, secret: bool = False) -> None:
    """Put a file in its place, as a whole."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)  # of a run that was interrupted
    mode = 0o600 if secret else 0o644
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
