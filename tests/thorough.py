"""Tests that could go on for ever: how much each run of the suite does, and a run that does more.

    python -m tests.thorough        # ten times as much, about ten minutes
    python -m tests.thorough 30

Rules of this file: a test that draws its cases at random asks `tries` how many, and its file
stands in `FILES`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

VARIABLE: Final = "THOROUGH"
FILES: Final = (
    "tests/core/test_arbitrary_messages.py",
    "tests/core/test_durability.py",
    "tests/core/test_log.py",
    "tests/core/test_quorum.py",
    "tests/storage/test_model.py",
    "tests/storage/test_shared_crash.py",
    "tests/storage/test_shared_damage.py",
    "tests/storage/test_shared_full.py",
    "tests/storage/test_sqlite_crash.py",
    "tests/storage/test_sqlite_damage.py",
    "tests/storage/test_sqlite_full_again.py",
    "tests/test_node.py",
)


def tries(count: int) -> int:
    """How many cases a test tries that does so many in each run of the suite."""
    return count * int(os.environ.get(VARIABLE, "1"))


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    times = words[0] if words else "10"
    if len(words) > 1 or not times.isdecimal():
        print(f"python -m tests.thorough [TIMES]: not {' '.join(words)!r}", file=sys.stderr)
        return 2
    return subprocess.run(
        [sys.executable, "-m", "pytest", *FILES],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, VARIABLE: times},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
