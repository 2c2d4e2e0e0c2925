"""What others say, and what broke, as one harmless line for a log.

Rules of this file: text from the network is cut to a bound, and holds no control characters.
"""

from __future__ import annotations

import os
import socket
import ssl
from datetime import UTC, datetime

from ..core.escaping import escaped

TEXT_CHARS_MAX = 512
"""How much of the other side's prose is believed to be for reading."""

_QUOTED_CHARS_MAX = 64


def quoted(text: str) -> str:
    """A value that somebody sent, in quotes."""
    return repr(text if len(text) <= _QUOTED_CHARS_MAX else text[:_QUOTED_CHARS_MAX] + "…")


def printable(text: str) -> str:
    """A sentence that somebody sent."""
    return escaped(text[:TEXT_CHARS_MAX])


def moment(at_s: float) -> str:
    """A time of the world, in seconds since the epoch, as people and programs read it."""
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # nobody's calendar goes that far
        return f"{at_s:g} s after 1970"


def sentence_of(error: BaseException) -> str:
    """Say what broke: the operating system's words rather than a wrapping of them."""
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLEOFError):
        return "it closed the connection without a TLS close_notify"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror):
        number = cause.errno or 0  # a resolver's errors have numbers of their own
        if number > 0:
            return os.strerror(number)
    return str(cause) or type(cause).__name__
