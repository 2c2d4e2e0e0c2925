"""Clients' roles: who may read, write, and change the cluster, out of one small TOML file.

Rules of this file:

* Nobody has a role that no section gives. A token counts before a certificate; of certificates an
  exact name before a pattern, a longer pattern before a shorter one, and then what stands first.
* A request needs a role (`NEEDED`); what is not in that table needs the highest. Prefixes bound
  what is written, and what is read as well, unless `read_prefixes` says otherwise.
* Every refusal names the rule: who it is, which role it has, by which section, and what is needed.
* Tokens are known by their SHA-256 only, and compared in constant time.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import attrs

from ..core.errors import ConfigError, RaftError
from ..member.state_machine import StateMachine
from ..net.sentences import quoted
from ..rpc.errors import PermissionDenied
from ..rpc.protocol import (
    Cancel,
    GetStatus,
    Ping,
    Propose,
    Query,
    ReadBackup,
    Request,
    Take,
    Watch,
    WatchStatus,
)

FILE_BYTES_MAX: Final = 1024 * 1024
"""Largest roles file."""
NEVER_SAID: Final = "it shows no certificate and no token"


class ClientRole(enum.IntEnum):
    """What a client may do; each includes those before it."""

    NONE = 0
    """Nothing any more; no file gives it."""
    READ = 1
    """Questions and subscriptions. (Status and pings are for everybody who is admitted.)"""
    WRITE = 2
    """Commands too."""
    ADMIN = 3
    """Members, transfer of the leadership and snapshots too."""

    def __str__(self) -> str:
        return self.name.lower()


NEEDED: Final[Mapping[type, ClientRole]] = {
    Ping: ClientRole.READ,
    GetStatus: ClientRole.READ,
    Cancel: ClientRole.READ,
    Take: ClientRole.READ,
    WatchStatus: ClientRole.READ,
    Query: ClientRole.READ,
    Watch: ClientRole.READ,
    Propose: ClientRole.WRITE,
}
"""The least role for a request; any other needs `ADMIN`."""

KeysOf: TypeAlias = Callable[[bytes], Iterable[bytes]]


@final
@attrs.frozen
class RoleGrant:
    """One section of the file."""

    section: str
    role: ClientRole
    prefixes: tuple[bytes, ...] | None = None
    """Of keys that may be written; None: all."""
    read_prefixes: tuple[bytes, ...] | None = None
    """Of keys that may be read; None: all."""
    backup: bool = False
    """Whether backups may be taken, whatever the role: all keys are in them, and the sessions."""

    @property
    def may_back_up(self) -> bool:
        """Whether it may have a backup: if it says so, or has the highest role for all keys."""
        is_bounded = self.prefixes is not None or self.read_prefixes is not None
        return self.backup or (self.role >= ClientRole.ADMIN and not is_bounded)


@final
@attrs.frozen
class Credentials:
    """What a client shows of itself; the token only as its hash."""

    names: tuple[str, ...] = ()
    """Those in its verified certificate."""
    token_sha256: bytes | None = attrs.field(default=None, repr=False)

    @classmethod
    def of(cls, names: Iterable[str], token: str) -> Credentials:
        """Of a handshake; an empty token is none.

        Args:
            names: those in the certificate that it has shown.
            token: what it has said; empty: nothing.
        """
        return cls(tuple(names), hashlib.sha256(token.encode()).digest() if token else None)


@final
@attrs.frozen
class Permission:
    """What one client may do, and by which rule."""

    who: str
    grant: RoleGrant
    where: str
    written: KeysOf | None = attrs.field(default=None, eq=False)
    read: KeysOf | None = attrs.field(default=None, eq=False)

    def check(self, request: Request) -> None:
        """Let a request pass, or refuse it.

        Raises:
            PermissionDenied: this client may not ask for that; the error says what is needed.
            RaftError: what it would write or read cannot be told: the request is unreadable.
        """
        needed = NEEDED.get(type(request), ClientRole.ADMIN)
        grant = self.grant
        if isinstance(request, ReadBackup):
            if not grant.may_back_up:
                raise PermissionDenied(
                    "a backup, which has all keys and sessions, needs backup = true, or role admin "
                    f"without prefixes, but {self.who} has role {grant.role} by {grant.section} of "
                    f"{self.where}"
                )
            return
        if grant.role < needed:
            raise PermissionDenied(
                f"{self._what(request)} needs role {needed}, but {self.who} has role {grant.role} "
                f"by {grant.section} of {self.where}"
            )
        if isinstance(request, Propose):
            self._check_keys(request, self.written, grant.prefixes, "prefixes")
        elif isinstance(request, Query | Watch):
            self._check_keys(request, self.read, grant.read_prefixes, "read_prefixes")

    def _check_keys(
        self,
        request: Propose | Query | Watch,
        keys_of: KeysOf | None,
        prefixes: tuple[bytes, ...] | None,
        rule: str,
    ) -> None:
        if prefixes is None:
            return
        try:
            keys = [b""] if keys_of is None else list(keys_of(request.data))
        except RaftError:
            raise
        except Exception as error:
            raise PermissionDenied(
                f"{self._what(request)}: the state machine cannot tell which keys it touches, and "
                f"{grant_rule(self.grant, rule)} of {self.where} bounds them"
            ) from error
        for key in keys:
            if not key.startswith(prefixes):
                shown = ", ".join(quoted(prefix.decode()) for prefix in prefixes) or "none"
                raise PermissionDenied(
                    f"{self._what(request)} of {quoted(key[:80].decode(errors='replace'))} is "
                    f"beyond what {self.who} may touch by {grant_rule(self.grant, rule)} of "
                    f"{self.where}: {shown}"
                )

    @staticmethod
    def _what(request: Request) -> str:
        return type(request).__name__.removesuffix("Request")


def grant_rule(grant: RoleGrant, rule: str) -> str:
    """How a rule of a section is named."""
    return f"{rule} in {grant.section}"


EVERYTHING: Final = RoleGrant("no roles file", ClientRole.ADMIN)
NOTHING: Final = RoleGrant("no section", ClientRole.NONE)
UNLIMITED: Final = Permission("everybody", EVERYTHING, "the server")
"""Without a roles file."""


@attrs.frozen
class _Rules:
    certificates: tuple[tuple[str, RoleGrant], ...]
    """Patterns with their grants, those that count first at the front."""
    tokens: tuple[tuple[bytes, RoleGrant], ...]


@final
class Roles:
    """The roles that a service goes by. `reload` reads the file again.

    Args:
        path: the TOML file.

    Raises:
        ConfigError: it cannot be read, or says what means nothing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path: Path = Path(path)
        self._name = self.path.name  # what strangers are told; where it lies is not their affair
        self._written: KeysOf | None = None
        self._read: KeysOf | None = None
        self._machine = ""
        self._rules = _rules_of(self._content(), str(self.path))

    @property
    def has_tokens(self) -> bool:
        """Whether any section is of a token."""
        return bool(self._rules.tokens)

    @property
    def has_certificates(self) -> bool:
        """Whether any section is of a certificate's name."""
        return bool(self._rules.certificates)

    def __str__(self) -> str:
        certificates, tokens = len(self._rules.certificates), len(self._rules.tokens)
        return f"{self.path} ({certificates} of certificates, {tokens} of tokens)"

    def serve(self, machine: StateMachine, asked: StateMachine) -> None:
        """Go by this machine's keys from now on.

        Args:
            machine: gets the commands (`keys_written`).
            asked: gets the questions (`keys_read`).

        Raises:
            ConfigError: there are prefixes, and it does not say which keys a request touches.
        """
        self._written = getattr(machine, "keys_written", None)
        self._read = getattr(asked, "keys_read", None)
        self._machine = type(asked).__name__
        self._check_keys(self._rules)

    def reload(self) -> None:
        """Read the file again.

        Raises:
            ConfigError: it cannot be used; what was read before still counts.
        """
        rules = _rules_of(self._content(), str(self.path))
        self._check_keys(rules)
        self._rules = rules

    def permission_of(self, credentials: Credentials) -> Permission:
        """What who shows this may do.

        Raises:
            PermissionDenied: nothing; the message names the rule.
        """
        if credentials.token_sha256 is not None:
            return self._of_token(credentials.token_sha256)
        names = credentials.names
        for pattern, grant in self._rules.certificates:
            for name in names:
                if _matches(pattern, name):
                    return self._permission(f"certificate {quoted(name)}", grant)
        if not names:
            raise PermissionDenied(
                f"{NEVER_SAID}: roles are given by {self._name} to certificates and tokens only"
            )
        shown = ", ".join(quoted(name) for name in names[:4])
        raise PermissionDenied(
            f"its certificate's names ({shown}) are in no [certificates.…] section of {self._name}"
        )

    def _of_token(self, token_sha256: bytes) -> Permission:
        found = None
        for known, grant in self._rules.tokens:  # all of them, so that time tells nothing
            if hmac.compare_digest(known, token_sha256):
                found = grant
        if found is None:
            raise PermissionDenied(f"its token is in no [tokens.…] section of {self._name}")
        return self._permission(f"the bearer of {found.section}", found)

    def _permission(self, who: str, grant: RoleGrant) -> Permission:
        return Permission(who, grant, self._name, self._written, self._read)

    def _check_keys(self, rules: _Rules) -> None:
        if not self._machine:
            return
        for _, grant in (*rules.certificates, *rules.tokens):
            if grant.prefixes is not None and self._written is None:
                self._refuse_prefixes(grant, "prefixes", "keys_written")
            if grant.read_prefixes is not None and self._read is None:
                self._refuse_prefixes(grant, "read_prefixes", "keys_read")

    def _refuse_prefixes(self, grant: RoleGrant, rule: str, method: str) -> None:
        raise ConfigError(
            f"{self.path}: {grant_rule(grant, rule)} cannot be kept: {self._machine} has no method "
            f"{method!r} that says which keys a request touches; leave prefixes out"
        )

    def _content(self) -> Mapping[str, Any]:
        name = f"the roles file {str(self.path)!r}"
        try:
            with self.path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigError(f"{name} cannot be read: {error.strerror}") from error
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError(
                f"{name} is larger than {FILE_BYTES_MAX} bytes: it cannot be a file of roles"
            )
        try:
            return tomllib.loads(content.decode())
        except (ValueError, RecursionError) as error:
            said = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
            raise ConfigError(f"{name} is not a TOML file: {said}") from None


# -- what the file says --------------------------------------------------------------------

_KINDS: Final = ("certificates", "tokens")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def _rules_of(content: Mapping[str, Any], where: str) -> _Rules:
    for kind in content:
        if kind not in _KINDS:
            raise ConfigError(f"{where}: {kind!r} is nothing known: give {' and '.join(_KINDS)}")
    certificates = [
        (name, _grant_of(f'[certificates."{name}"]', fields, where, ()))
        for name, fields in _sections(content, "certificates", where)
    ]
    tokens: dict[bytes, RoleGrant] = {}
    for name, fields in _sections(content, "tokens", where):
        section = f"[tokens.{name}]"
        grant = _grant_of(section, fields, where, ("sha256",))
        text = fields.get("sha256")
        if not isinstance(text, str) or not _SHA256.fullmatch(text):
            raise ConfigError(
                f"{where}: {section} needs sha256, of 64 hexadecimal digits: trioraft admin "
                "new-token makes a token and its section"
            )
        if bytes.fromhex(text) in tokens:
            raise ConfigError(f"{where}: {section} has the token of another section")
        tokens[bytes.fromhex(text)] = grant
    for pattern, _ in certificates:
        if not pattern or "*" in pattern[:-1]:
            raise ConfigError(
                f'{where}: [certificates."{pattern}"]: give a name, with * at its end if all that '
                "begin so are meant"
            )
    certificates.sort(key=lambda each: (each[0].endswith("*"), -len(each[0])))
    return _Rules(tuple(certificates), tuple(tokens.items()))


def _sections(
    content: Mapping[str, Any], kind: str, where: str
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    sections = content.get(kind, {})
    if not isinstance(sections, dict):
        raise ConfigError(f"{where}: {kind} is no table: give [{kind}.NAME] sections")
    for name, fields in sections.items():
        if not isinstance(fields, dict):
            raise ConfigError(f'{where}: {kind}."{name}" is no section: give [{kind}."{name}"]')
    return sections.items()


def _grant_of(
    section: str, fields: Mapping[str, Any], where: str, further: tuple[str, ...]
) -> RoleGrant:
    known = ("role", "prefixes", "read_prefixes", "backup", *further)
    unknown = [name for name in fields if name not in known]
    if unknown:
        raise ConfigError(
            f"{where}: {section} has {quoted(unknown[0])}, which means nothing: give "
            f"{', '.join(known)}"
        )
    roles = {str(role): role for role in ClientRole if role}
    role = fields.get("role")
    if not isinstance(role, str) or role not in roles:
        raise ConfigError(f"{where}: {section} needs a role: give one of {', '.join(roles)}")
    prefixes = _prefixes(section, "prefixes", fields, where)
    read = prefixes
    if "read_prefixes" in fields:
        read = _prefixes(section, "read_prefixes", fields, where)
    backup = fields.get("backup", False)
    if not isinstance(backup, bool):
        raise ConfigError(f"{where}: backup of {section} is {backup!r}: give true or false")
    return RoleGrant(section, roles[role], prefixes, read, backup)


def _prefixes(
    section: str, name: str, fields: Mapping[str, Any], where: str
) -> tuple[bytes, ...] | None:
    given = fields.get(name)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ConfigError(f'{where}: {name} of {section} is no list of texts, as ["app/"]')
    return tuple(each.encode() for each in given)


def _matches(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern
