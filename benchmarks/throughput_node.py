"""python -m benchmarks.throughput_node SETUP: one node of a cluster under measurement.

Rules of this file: it is started by `benchmarks.throughput`, not by hand. SETUP is a
`throughput_pipe.Setup` in JSON; which system it names decides what is imported.
"""

from __future__ import annotations

import sys

from .throughput_cases import System
from .throughput_pipe import decode_setup


def main() -> int:
    """Be the node that the only argument describes; returns the exit code."""
    setup = decode_setup(sys.argv[1])
    if setup.system is System.TRIORAFT:
        from .throughput_trioraft import run
    else:
        from .throughput_pysyncobj import run
    return run(setup)


if __name__ == "__main__":
    sys.exit(main())
