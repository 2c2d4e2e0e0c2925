"""What certificates in files say: until when, and for whom.

Rules of this file: the package `cryptography` reads them, if it is there (`trioraft[tls]`). Without
it, or of a file that it cannot read, nothing is known, and nothing is claimed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PACKAGE = "cryptography"
"""What reads certificates: Python's own `ssl` shows only those of the other side."""


@final
@attrs.frozen
class TlsFiles:
    """Where the certificates of one port are (PEM)."""

    certificate: Path
    """A chain, its own certificate first."""
    key: Path
    authority: Path | None
    """Who may have signed the other side's certificate; None: it need not show one."""
    password: str | None = attrs.field(default=None, repr=False)
    """Of the key, if it has one."""
    may_be_nameless: bool = False
    """Whether the other side need not show a certificate, though there is an authority; one that
    it shows must be the authority's all the same."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All that there are."""
        three = (self.certificate, self.key, self.authority)
        return tuple(path for path in three if path is not None)

    def digest(self) -> bytes:
        """Another one as soon as any of the files has another content, or comes, or goes."""
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                content = repr(error.errno).encode()
            digest.update(hashlib.sha256(content).digest())
        return digest.digest()


@final
@attrs.frozen
class CertificateExpiry:
    """Until when a file of certificates can be used."""

    path: Path
    at_s: float
    """In seconds since the epoch."""


def can_read() -> bool:
    """Whether this process can read certificates."""
    try:
        import cryptography  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        return False
    return True


def expiries(files: TlsFiles) -> tuple[CertificateExpiry, ...]:
    """Until when these files can be used, as far as that can be read.

    A chain is good until the first of its certificates expires. Of authorities, several may be
    there for the time of an exchange: they are good until the last of them expires.
    """
    return tuple(_expiries(files))


def _expiries(files: TlsFiles) -> Iterator[CertificateExpiry]:
    chain = _read(files.certificate)
    if chain:
        yield CertificateExpiry(files.certificate, min(map(_expires_s, chain)))
    authorities = _read(files.authority) if files.authority is not None else []
    if authorities and files.authority is not None:
        yield CertificateExpiry(files.authority, max(map(_expires_s, authorities)))


def _expires_s(certificate: Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def names(path: Path) -> frozenset[str] | None:
    """The DNS names in a file's first certificate; None if that cannot be read."""
    chain = _read(path)
    if not chain:
        return None
    from cryptography import x509

    try:
        extension = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    except ValueError:  # OpenSSL takes what this package finds malformed
        return None
    return frozenset(extension.value.get_values_for_type(x509.DNSName))


def _read(path: Path) -> list[Certificate]:
    if not can_read():
        return []
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []
