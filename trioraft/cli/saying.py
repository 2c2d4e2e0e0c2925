"""What a command says: the only way to standard output and standard error.

Rules of this file:

* Nothing that somebody else chose (a node's id, a key, a reason, an address, a server's error)
  reaches a terminal as it is: all text is escaped here, whatever it holds. A test sees that no
  other file of the commands prints; what rich draws is given to it as `shown_text`.
* A stream that cannot say a character says its escape: an odd encoding is no reason to fail.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TextIO

from ..core.escaping import escaped, json_escaped

if TYPE_CHECKING:
    from rich.text import Text


SHOWN_CHARS_MAX: Final = 512
"""Of one cell or line that rich draws; the rest is cut."""


def say(text: str, *, flush: bool = False) -> None:
    """One line on standard output; an end of line within it is escaped too."""
    _write(sys.stdout, escaped(text, keep="\t") + "\n", flush=flush)


def say_block(text: str) -> None:
    """Several lines, whose ends the caller means."""
    _write(sys.stdout, escaped(text, keep="\t\n") + "\n")


def say_json(text: str) -> None:
    """A JSON text, and the same one whoever reads it."""
    _write(sys.stdout, json_escaped(text) + "\n", flush=True)


def say_bytes(content: bytes) -> None:
    """Exactly these bytes: for who asked for them, and for other programs."""
    sys.stdout.buffer.write(content)


def complain(text: str) -> None:
    """One line on standard error."""
    _write(sys.stderr, escaped(text) + "\n")


def ask(text: str) -> str:
    """A question on standard error; the answer is a line of standard input, "" at its end."""
    _write(sys.stderr, escaped(text), flush=True)
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        _write(sys.stderr, "\n")
    return line


def show_progress(text: str) -> None:
    """Standard error is a terminal: this line in place of its last one; "" takes it away."""
    _write(sys.stderr, f"\r{escaped(text)}\x1b[K", flush=True)


def shown_text(text: str, style: str = "") -> Text:
    """A line of its own for rich, which means no markup by it and colours nothing in it."""
    from rich.text import Text  # an extra: whoever has no rich draws nothing

    return Text(escaped(text[:SHOWN_CHARS_MAX]), style=style)


def _write(stream: TextIO, text: str, *, flush: bool = False) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    if flush:
        stream.flush()
