"""Certificates from files: for peers, and for clients.

Rules of this file: a file that cannot be used is named, with the option that named it; the ssl
module by itself does neither.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ...net.tls import TlsContexts
from .settings import TlsFiles


def peers_tls(files: TlsFiles, problems: list[str]) -> TlsContexts | None:
    """Both sides' contexts for the peers' port; None if something is wrong with the files.

    Args:
        files: all three.
        problems: what is wrong is appended.
    """
    if not _are_usable("tls", files, problems):
        return None
    return TlsContexts.from_files(
        certificate=files.certificate,
        key=files.key,
        authority=files.authority or files.certificate,
    )


def clients_tls(files: TlsFiles, problems: list[str]) -> ssl.SSLContext | None:
    """The server's context for the client port; None if something is wrong with the files.

    Args:
        files: without an authority, clients need no certificate.
        problems: what is wrong is appended.
    """
    if not _are_usable("client-tls", files, problems):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    if files.authority is not None:
        context.load_verify_locations(files.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _are_usable(prefix: str, files: TlsFiles, problems: list[str]) -> bool:
    before = len(problems)
    for name, path in (("cert", files.certificate), ("key", files.key), ("ca", files.authority)):
        if path is None:
            continue
        try:
            path.read_bytes()
        except OSError as error:
            problems.append(f"--{prefix}-{name} {str(path)!r} cannot be read: {error.strerror}")
    if len(problems) > before:
        return False
    tried = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = files.authority
    if authority is not None:
        what = f"--{prefix}-ca {str(authority)!r}"
        _try(lambda: tried.load_verify_locations(authority), what, problems)
    what = f"--{prefix}-cert {str(files.certificate)!r} with --{prefix}-key {str(files.key)!r}"
    _try(lambda: tried.load_cert_chain(files.certificate, files.key, _no_password), what, problems)
    return len(problems) == before


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise ValueError("the key has a password: give one without")


def _try(load: Callable[[], None], what: str, problems: list[str]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        said = str(error)
        if isinstance(error, ssl.SSLError):
            said = (error.reason or said).replace("_", " ").lower()
            said += " (is it PEM, and do they belong together?)"
        problems.append(f"{what} cannot be used: {said}")
