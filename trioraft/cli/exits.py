"""How a command ends: its exit code, and its last words.

Rules of this file: 0 all well, 1 a failure, 2 a mistake in the command line; 130 after Ctrl-C, 141
when the reader of our output went away, 143 after SIGTERM, as a shell would say it.
"""

from __future__ import annotations

import os
import sys
from typing import Final

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT."""
EXIT_BROKEN_PIPE: Final = 141
"""128 + SIGPIPE."""
EXIT_TERMINATED: Final = 143
"""128 + SIGTERM."""


def silence_stdout() -> None:
    """Nobody reads our output any more: let the interpreter's last flush go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
