"""Simulated clusters from seeds that nobody has tried yet.

    python -m tests.fresh_seeds              # 5,000 of tier 1 and 1,000 of tier 2
    python -m tests.fresh_seeds 123456789    # those of that run again

Rules of this file: what lands is checked with seeds that are the same for everybody (`.ci/run`), so
somebody has to look at others; the first one is drawn from the clock, and printed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

COUNTS: Final = {"1": 5000, "2": 1000}
"""Seeds of each tier."""


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    if len(words) > 1 or not all(word.isdecimal() for word in words):
        print(f"python -m tests.fresh_seeds [FIRST]: not {' '.join(words)!r}", file=sys.stderr)
        return 2
    first = int(words[0]) if words else int(time.time())
    print(f"from seed {first} on: python -m tests.fresh_seeds {first}", flush=True)
    codes = [
        subprocess.run(
            [
                *(sys.executable, "-m", "trioraft", "sim", "--tier", tier, "--jobs", "auto"),
                *("--seeds", f"{first}:{first + count}"),
            ],
            check=False,
        ).returncode
        for tier, count in COUNTS.items()
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
