"""How a command ends: its exit code, and its last words."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .saying import complain

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
"""A mistake in the command line."""
EXIT_NO: Final = 3
"""There is no such key, or it is not as expected."""
EXIT_UNKNOWN: Final = 4
"""It may or may not have happened."""
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell would say it."""
EXIT_BROKEN_PIPE: Final = 141
"""128 + SIGPIPE."""
EXIT_TERMINATED: Final = 143
"""128 + SIGTERM."""


@contextmanager
def exiting(name: str, *failures: type[Exception]) -> Iterator[None]:
    """Turn what can go wrong on a machine into one line and an exit code.

    Args:
        name: of the command, for the line: "trioraft demo".
        failures: what ends the command besides `OSError`.
    """
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        yield
    except KeyboardInterrupt:  # before or after what handles it better
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        silence_stdout()
        sys.exit(EXIT_BROKEN_PIPE)
    except expected as error:  # a full disk under standard output, a port in use, …
        if isinstance(error, OSError) and error.errno == errno.EIO:
            silence_stdout()  # the terminal is gone
        complain(f"{name}: {error}")
        sys.exit(EXIT_FAILURE)


def silence_stdout() -> None:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
