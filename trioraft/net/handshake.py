"""The listener's side of a handshake: the first frame, its deadline, and what to say if it fails.

Rules of this file:

* Until the handshake has succeeded nothing but its first frame is read.
* Whatever goes wrong comes out as `BadMessage`, a sentence.
* Who comes and goes without a word is nobody's business: health checks do that all day.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable
from typing import TypeVar

import trio

from ..core.errors import BadMessage
from .connection import BROKEN, Connection
from .sentences import sentence_of

T = TypeVar("T")


class SaidNothing(BadMessage):
    """It was closed before its first byte: whoever it was looked whether somebody listens."""


async def first_frame(connection: Connection, tls: ssl.SSLContext | None) -> bytes | bytearray:
    """Secure the connection, if there is TLS, and return the payload that opens it.

    Raises:
        SaidNothing: it was closed before its first byte.
        BadMessage: it closed later, or the frame declares too many bytes.
        trio.BrokenResourceError: the connection broke, or TLS failed.
    """
    if not await connection.says_something():
        raise SaidNothing("it closed the connection without a word")
    if tls is not None:
        await connection.secure(tls, server_hostname=None)
    payload = await connection.first_payload()
    if payload is None:
        raise BadMessage("it closed the connection without saying who it is")
    return payload


async def in_time(handshake: Awaitable[T], timeout_s: float) -> T:
    """Wait for a handshake, for at most `timeout_s` seconds.

    Raises:
        BadMessage: it failed, the connection broke, or it took too long.
    """
    with trio.move_on_after(timeout_s):
        try:
            return await handshake
        except BROKEN as error:
            raise BadMessage(
                f"the connection broke during the handshake: {sentence_of(error)}"
            ) from error
    raise BadMessage(f"it did not say who it is within {timeout_s:g} s")
