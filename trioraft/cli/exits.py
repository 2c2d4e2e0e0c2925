"""How a command ends: its exit code, and its last words."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from .saying import OutputLost, complain

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
"""A mistake in the command line."""
EXIT_NO: Final = 3
"""There is no such key, or it is not as expected."""
EXIT_UNKNOWN: Final = 4
"""It may or may not have happened."""
EXIT_OUTPUT: Final = 74
"""What was asked may well be done, but what it says could not be written (sysexits' EX_IOERR)."""
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell would say it."""
EXIT_BROKEN_PIPE: Final = 141
"""128 + SIGPIPE: as EXIT_OUTPUT, where the reader has gone."""
EXIT_TERMINATED: Final = 143
"""128 + SIGTERM."""


def quit_at_ctrl_c() -> None:
    """Until the command itself begins, nothing was done, and nothing is to be tidied up: Ctrl-C
    ends the process there and then. (Raised within an import, it may come out as any error.)"""
    signal.signal(signal.SIGINT, quit_at_once)


def raise_at_ctrl_c() -> None:
    """The command begins."""
    if signal.getsignal(signal.SIGINT) is quit_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def quit_as_init() -> None:
    """A container's first process gets no signal that it does not handle: without this, SIGTERM
    would be lost on whatever does not watch for it, imports included."""
    if _is_init() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, quit_at_once)


def leave_to_system(number: signal.Signals) -> None:
    """Have this signal end the process from now on, whatever it is busy with."""
    signal.signal(number, quit_at_once if _is_init() else signal.SIG_DFL)


def leave_no_zombies() -> None:
    """As a container's first process: what others have started in it, and left behind, becomes a
    child of this one when it ends. Only for who starts nothing itself."""
    if _is_init():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _is_init() -> bool:
    return os.getpid() == 1


def quit_at_once(number: int, _frame: FrameType | None) -> None:
    """Handle a signal: end the process there and then, with the code that a shell would give."""
    os._exit(128 + number)


@contextmanager
def exiting(name: str, *failures: type[Exception]) -> Iterator[None]:
    """Turn what can go wrong on a machine into one line and an exit code.

    Args:
        name: of the command, for the line: "trioraft demo".
        failures: what ends the command besides `OSError`.
    """
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        with _ungrouped():
            yield
    except KeyboardInterrupt:  # before or after what handles it better
        sys.exit(EXIT_INTERRUPTED)
    except OutputLost as error:
        silence_stdout()
        if error.is_closed:
            sys.exit(EXIT_BROKEN_PIPE)
        complain(f"{name}: {error}")
        sys.exit(EXIT_OUTPUT)
    except expected as error:  # a full disk, a port in use, …
        complain(f"{name}: {in_words(error)}")
        sys.exit(EXIT_FAILURE)


@contextmanager
def _ungrouped() -> Iterator[None]:
    """What ends a command may come out of a group of tasks."""
    try:
        yield
    except BaseExceptionGroup as group:
        for kind in (KeyboardInterrupt, OutputLost):
            found: BaseException | None = group.subgroup(kind)
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            if found is not None:
                raise found from None
        raise


def silence_stdout() -> None:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def in_words(error: Exception) -> str:
    """An error for people: which file it was, if any, and the system's words without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    if error.filename is None:
        return error.strerror
    return f"{os.fsdecode(error.filename)!r}: {error.strerror}"
