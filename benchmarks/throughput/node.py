"""python -m benchmarks.throughput.node SETUP: one node of a cluster under measurement.

Rules of this file: it is started by `benchmarks.throughput`, not by hand. SETUP is a
`pipe.Setup` in JSON; which system it names decides what is imported.
"""

from __future__ import annotations

import sys

from .cases import System
from .pipe import decode_setup


def main() -> int:
    """Be the node that the only argument describes; returns the exit code."""
    setup = decode_setup(sys.argv[1])
    if setup.system is System.TRIORAFT:
        from .trioraft import run
    else:
        from .pysyncobj import run
    return run(setup)


if __name__ == "__main__":
    sys.exit(main())
