"""What broke, and what others said, as one line."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
import trio

from trioraft.net.sentences import printable, quoted, sentence_of


def broken_by(cause: BaseException | None) -> BaseException:
    error = trio.BrokenResourceError("wrapped")
    error.__cause__ = cause
    return error


def not_tls() -> ssl.SSLError:
    """What reading something else than TLS raises."""
    incoming, context = ssl.MemoryBIO(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    incoming.write(b"no TLS at all")
    with pytest.raises(ssl.SSLError) as error:
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return error.value


SENTENCES = {
    "the system's words": (OSError(errno.ECONNRESET, "x"), "Connection reset by peer"),
    "those of a wrapped error": (broken_by(OSError(errno.EPIPE, "x")), "Broken pipe"),
    "wrapped twice": (broken_by(broken_by(OSError(errno.EPIPE, "x"))), "Broken pipe"),
    "a resolver's": (socket.gaierror(socket.EAI_NONAME, "no such name"), "no such name"),
    "one of several attempts": (
        ExceptionGroup("all failed", [ConnectionRefusedError(errno.ECONNREFUSED, "x")]),
        "Connection refused",
    ),
    "TLS ended early": (
        broken_by(ssl.SSLEOFError(8, "EOF")),
        "it closed the connection without a TLS close_notify",
    ),
    "TLS": (broken_by(not_tls()), "TLS failed: "),
    "no cause": (broken_by(None), "wrapped"),
    "no words": (trio.ClosedResourceError(), "ClosedResourceError"),
}


@pytest.mark.parametrize(("error", "said"), SENTENCES.values(), ids=SENTENCES)
def test_what_broke(error: BaseException, said: str) -> None:
    assert said in sentence_of(error)


def test_what_others_say_is_one_bounded_line() -> None:
    assert printable("a\nb\x1b[31m" + "c" * 1000) == r"a\nb\x1b[31m" + "c" * 504
    assert quoted("a\n") == r"'a\n'"
    assert quoted("x" * 65) == repr("x" * 64 + "…")
