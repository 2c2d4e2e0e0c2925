"""Invitations: what lets a node speak as a peer whose name the others were not told.

Rules of this file:

* Stateless: whoever has the cluster's invitation key can write one and read one; nothing is stored.
* What is read was written with our key, or it is none of ours. No byte of it is believed before.
* Values only: who may use one, and when, `credentials` says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Annotated, Final

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import BadMessage, ConfigError
from ..core.types import NodeId

PREFIX: Final = "trioraft-invite-1"
"""What every invitation begins with."""
CHARS_MAX: Final = 1024
"""Longest text that is looked at: one for the longest name has less."""
KEY_BYTES_MIN: Final = 16
"""Shortest invitation key."""
KEY_BYTES_MAX: Final = 4096
VALID_S_MAX: Final = 30 * 24 * 3600.0
"""Longest time for which one is written, in seconds: afterwards its name is among the others'."""
_NONCE_BYTES: Final = 16


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    """What an invitation says."""

    cluster_id: str
    node_id: NodeId
    expires_s: int
    """Until when, in seconds since 1970."""
    nonce: Annotated[bytes, msgspec.Meta(min_length=_NONCE_BYTES, max_length=_NONCE_BYTES)]
    """Of this one alone."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Invitation).decode


def check_key(key: bytes) -> bytes:
    """Return a key that can be used.

    Raises:
        ConfigError: it is too short to be one, or too long.
    """
    if not isinstance(key, bytes) or not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise ConfigError(
            f"an invitation key is {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes that nobody guesses, "
            "the same on all members: make one with openssl rand -hex 32"
        )
    return key


def invite(key: bytes, *, cluster_id: str, node_id: NodeId, expires_s: int) -> str:
    """Write an invitation.

    Args:
        key: the cluster's invitation key.
        cluster_id: the cluster's name.
        node_id: who may use it.
        expires_s: until when, in seconds since 1970.
    """
    said = _encode(Invitation(cluster_id, node_id, expires_s, secrets.token_bytes(_NONCE_BYTES)))
    return f"{PREFIX}.{_text_of(said)}.{_text_of(_code_of(key, said))}"


def read(key: bytes, text: str) -> Invitation:
    """Read an invitation.

    Raises:
        BadMessage: it was not written with this key, or was altered.
    """
    prefix, _, rest = text.partition(".")
    said, _, code = rest.partition(".")
    if prefix != PREFIX or len(text) > CHARS_MAX:
        raise BadMessage(f"its invitation is none: one begins with {PREFIX}")
    try:
        content, given = _bytes_of(said), _bytes_of(code)
        if not hmac.compare_digest(given, _code_of(key, content)):
            raise BadMessage(
                "its invitation was altered, or was written with another invitation key than ours"
            )
        return _decode(content)
    except (ValueError, *UNREADABLE) as error:
        raise BadMessage("its invitation cannot be read: give it whole, in one line") from error


def _code_of(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, PREFIX.encode() + b"\0" + said, hashlib.sha256)


def _text_of(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes_of(text: str) -> bytes:
    """Exactly what `_text_of` writes: there is one text for each content."""
    content = base64.b64decode(
        text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
    )
    if _text_of(content) != text:
        raise binascii.Error("not as it was written")
    return content
