"""What a command says: the only way to standard output and standard error.

Rules of this file:

* Nothing that somebody else chose (a node's id, a key, a reason, an address, a server's error)
  reaches a terminal as it is: all text is escaped here, whatever it holds. A test sees that no
  other file of the commands prints; what rich draws is given to it as `shown_text`.
* A stream that cannot say a character says its escape: an odd encoding is no reason to fail.
* Standard output that takes nothing any more is an `OutputLost`, whoever printed, and an exit code
  of its own (`exits`); what standard error does not take is left out. A process may be started
  without any of the three streams.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

from ..core.escaping import escaped, json_escaped

if TYPE_CHECKING:
    from rich.text import Text


SHOWN_CHARS_MAX: Final = 512
"""Of one cell or line that rich draws; the rest is cut."""
WIDTH_ELSEWHERE: Final = 200
"""Columns of what is drawn into a file or a pipe."""


class OutputLost(OSError):  # noqa: N818 - what happened
    """Standard output takes nothing any more. (Its errno is none: others, click among them, have
    exits of their own for a pipe that is closed.)"""

    def __init__(self, reason: OSError) -> None:
        super().__init__(f"standard output: {reason.strerror or reason}")
        self.is_closed: bool = reason.errno == errno.EPIPE
        """By its reader, who has seen enough."""


def open_streams() -> None:
    """Make standard output and standard error those that this file promises, also for what prints
    without it: the help, what rich draws, a log."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file, or socket, would take its place
            # What is said to nobody is lost as was meant; nothing is no value to be read.
            os.open(os.devnull, os.O_WRONLY)
    sys.stdout = _guarded(sys.stdout, 1, _Output)
    sys.stderr = _guarded(sys.stderr, 2, _ErrorOutput)


def flush() -> None:
    """All that was said is out.

    Raises:
        OutputLost: it is not.
    """
    with _losing_output():
        sys.stdout.flush()


def read_input(bytes_max: int) -> bytes:
    """Standard input, to its end or so many bytes.

    Raises:
        OSError: there is none.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer.read(bytes_max)


def input_stream() -> BinaryIO:
    """Standard input, as bytes, for what is too much to be read at once.

    Raises:
        OSError: there is none.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer


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
    with _losing_output():
        sys.stdout.flush()
        sys.stdout.buffer.write(content)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int) -> None:
    """A table, as wide as the terminal, and wide enough elsewhere.

    Args:
        columns: their names.
        rows: their cells.
        numbers_from: the first column that is set on the right.
    """
    from rich.console import Console  # an extra, and slow to import: few commands draw
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns[numbers_from:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(shown_text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDTH_ELSEWHERE).print(table)


def complain(text: str) -> None:
    """One line on standard error, for whoever reads it."""
    with suppress(OSError):
        _write(sys.stderr, escaped(text) + "\n")


def ask(text: str) -> str:
    """A question on standard error; the answer is a line of standard input, "" at its end."""
    _write(sys.stderr, escaped(text), flush=True)
    line = "" if sys.stdin is None else sys.stdin.readline()
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


@contextmanager
def _losing_output() -> Iterator[None]:
    try:
        yield
    except OutputLost:
        raise
    except OSError as error:
        raise OutputLost(error) from error


class _Output(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with _losing_output():
            return super().write(text)

    def flush(self) -> None:
        with _losing_output():
            super().flush()


class _ErrorOutput(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _guarded(stream: TextIO | None, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """A stream of ours over the same file. The old one is kept by the interpreter."""
    if stream is None:
        raw = io.FileIO(number, "w", closefd=False)
        return kind(io.BufferedWriter(raw), "utf-8", "backslashreplace")
    is_by_line = stream.isatty() or number == 2
    return kind(stream.buffer, stream.encoding, "backslashreplace", line_buffering=is_by_line)
