"""Certificates for tests that trustme cannot make: for a purpose, or for none."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final, final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trioraft.net.tls import TlsContexts

CLIENT: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER: Final = (ExtendedKeyUsageOID.SERVER_AUTH,)
PEER: Final = (*SERVER, *CLIENT)
ANY: Final = (*CLIENT, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
UNSAID: Final = ()
"""No extended key usage at all."""


@final
class Authority:
    """Signs certificates, and keeps them as files in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = directory / f"{name}.pem"
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        built = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(key_id, critical=False)
        )
        self._write(self.file, built)

    def issue(
        self,
        name: str,
        purposes: tuple[x509.ObjectIdentifier, ...] = PEER,
        *,
        file: str | None = None,
        more_names: tuple[str, ...] = (),
    ) -> tuple[Path, Path]:
        """A certificate for this DNS name, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(each) for each in (name, *more_names)])
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        built = (
            self._builder(subject, key)
            .add_extension(names, critical=False)
            .add_extension(signer, critical=False)
        )
        if purposes:
            built = built.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        certificate = self._directory / f"{file or name}.crt"
        key_file = self._directory / f"{file or name}.key"
        self._write(certificate, built)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_file

    def contexts(
        self,
        name: str,
        purposes: tuple[x509.ObjectIdentifier, ...] = PEER,
        *,
        peer_names: tuple[str, ...] | None = None,
    ) -> TlsContexts:
        """What a node of this name, with such a certificate, is given."""
        certificate, key = self.issue(name, purposes)
        return TlsContexts.from_files(
            certificate=certificate, key=key, authority=self.file, peer_names=peer_names
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + 30 * day)
        )

    def _write(self, path: Path, built: x509.CertificateBuilder) -> None:
        signed = built.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
