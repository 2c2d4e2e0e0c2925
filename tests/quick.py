"""The quick check: what most often goes wrong, before a commit.

    python -m tests.quick                # ruff, mypy, and the tests of the core and of the habits
    python -m tests.quick -k votes       # … of those tests, only some

Rules of this file: the checkers run beside the tests; all are told of, and whatever fails makes it
fail. It is meant for half a minute on two cores: what takes longer belongs into the suite.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
CHECKERS: Final = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
TESTS: Final = (
    *("tests/core", "tests/test_style.py", "tests/test_layering.py", "tests/test_decisions.py"),
    *("tests/test_hazards_listed.py", "tests/test_golden.py"),
)


def start(words: Sequence[str]) -> subprocess.Popen[str]:
    """A tool of this environment, its output kept."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    begun = time.monotonic()
    tools = [(checker, start(checker)) for checker in CHECKERS]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *TESTS, *words], cwd=ROOT, check=False
    )
    failed = ["pytest"] if tests.returncode else []
    for checker, process in tools:
        said, _ = process.communicate()
        if process.returncode:
            failed.append(checker[0])
            print(said)
    verdict = f"failed: {', '.join(failed)}" if failed else "all well"
    print(f"{verdict} ({time.monotonic() - begun:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
