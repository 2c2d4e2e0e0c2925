"""`trioraft sim --dask` over a real Dask cluster on this machine.

    python -m tests.sim.dask_local

Rules of this file: it needs `distributed`, and takes as long as its processes need to start; so
it is no test of the suite.
"""

from __future__ import annotations

import sys
from typing import Any

from distributed import LocalCluster

from trioraft.sim.judging import check_history
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.spread import over_dask, over_processes

SEEDS = range(24)


def main() -> int:
    """Whether the cluster and this process come to the same outcomes."""
    options = RunOptions(nodes=3, check_history=check_history)
    start: Any = LocalCluster  # it has no types
    with start(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as local:
        address = local.scheduler_address
        there = list(over_dask(SEEDS, tier=1, options=options, address=address))
    here = list(over_processes(SEEDS, tier=1, options=options, jobs=1))
    print(f"{len(there)} seeds over {address}: {'the same' if there == here else 'NOT the same'}")
    return 0 if there == here else 1


if __name__ == "__main__":
    sys.exit(main())
