"""Keys and certificates: what an authority, a member, a port for clients and a client have.

Rules of this file:

* This is the only file of the commands that needs the package `cryptography`.
* A certificate says what it is for, and no more: a client's never passes for a server's. Members
  and clients have authorities of their own: whoever signs clients must not make members.
* Nothing is written here.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self, TypeAlias, final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Use: TypeAlias = Literal["peer", "client-port", "client"]
"""What a certificate is for: a member among members, a member before its clients, a client."""

_BACKDATED: Final = timedelta(hours=1)
"""Clocks of other machines may be behind ours."""
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_USES: Final = {
    "peer": (_SERVER, _CLIENT),  # each member dials, and is dialed
    "client-port": (_SERVER,),
    "client": (_CLIENT,),
}
_COMMON_NAME_CHARS_MAX: Final = 64


@final
@attrs.frozen
class Issued:
    """A certificate and its key, as they stand in files."""

    certificate: bytes
    key: bytes
    expires_s: float
    """In seconds since the epoch."""


@final
@attrs.frozen
class Authority:
    """What signs; whoever has its key can make members, or clients."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, whose: str, days: int) -> Self:
        """Make one that signs for that many days from now on.

        Args:
            whose: "peers" or "clients"; its name has a part that no other has, so that two can be
                told apart while one takes the other's place.
            days: how long it is good for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"trioraft {whose} authority {secrets.token_hex(4)}")
        builder = _begun(name, name, key, days, None)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificates: bytes, key: bytes) -> Self:
        """Of an authority's files: of several certificates, that which belongs to the key.

        Raises:
            ValueError: they are unreadable, have a password, or do not belong together.
        """
        try:
            loaded = serialization.load_pem_private_key(key, None)
        except TypeError:
            raise ValueError("the key has a password: give one without") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("the key is of another kind than `trioraft certs` makes")  # noqa: TRY004 - the file's fault
        for certificate in x509.load_pem_x509_certificates(certificates):
            if certificate.public_key() == loaded.public_key():
                return cls(certificate, loaded)
        raise ValueError("none of the certificates belongs to the key")

    def issued(self) -> Issued:
        """As its own files hold it."""
        return _issued(self.certificate, self.key)

    def sign(self, name: str, hosts: Sequence[str], use: Use, days: int) -> Issued:
        """Make a certificate with a new key.

        Args:
            name: whose it is; stands in it as a DNS name.
            hosts: further names, and IP addresses, under which it is reached.
            use: what it is for.
            days: how long it is good for; not longer than the authority itself.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate
        subject = _name(name[:_COMMON_NAME_CHARS_MAX])
        builder = _begun(subject, issuer.subject, key, days, issuer.not_valid_after_utc)
        names = [_general_name(each) for each in dict.fromkeys((name, *hosts))]
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        for extension, is_critical in (
            (x509.BasicConstraints(False, None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage(_USES[use]), False),
            (x509.SubjectAlternativeName(names), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), False),
        ):
            builder = builder.add_extension(extension, critical=is_critical)
        return _issued(builder.sign(self.key, hashes.SHA256()), key)


def hosts_of(certificate: bytes) -> tuple[str, ...]:
    """Every name and address in a certificate's file, its own name among them.

    Raises:
        ValueError: it cannot be read.
    """
    found = x509.load_pem_x509_certificate(certificate)
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in extension.value)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: int,
    latest: datetime | None,
) -> x509.CertificateBuilder:
    """A certificate with all that authorities' and others' have in common."""
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end if latest is None else min(end, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.not_valid_after_utc.timestamp(),
    )
