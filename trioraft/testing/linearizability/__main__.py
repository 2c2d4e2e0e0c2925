"""`python -m trioraft.testing.linearizability FILE`: check a history that was kept.

Exit code 0: linearizable; 1: illegal, with its witness; 2: a mistake in the command line or in the
file; 3: the time was up.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ...core.errors import ConfigError
from .checker import Illegal, Unknown, check_linearizable
from .files import load_history
from .history import HistoryError


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the file that is named; print the result; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trioraft.testing.linearizability",
        description="Check a history of operations for linearizability.",
    )
    parser.add_argument("file", help="as written by save_history()")
    parser.add_argument(
        "--timeout-s", type=float, default=60.0, help="how long to look, in seconds"
    )
    chosen = parser.parse_args(arguments)
    try:
        operations, model = load_history(chosen.file)
        result = check_linearizable(operations, model, chosen.timeout_s)
    except (HistoryError, ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{result}\n")
    match result:
        case Illegal():
            return 1
        case Unknown():
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
