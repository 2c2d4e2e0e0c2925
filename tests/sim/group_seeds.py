"""Seeds of the simulation of many groups: `python -m tests.sim.group_seeds FROM TO [shared]`.

`shared`: the groups of a process share a log.
"""

from __future__ import annotations

import sys
import traceback

from trioraft.sim.tier2.groups import run_groups_seed


def main(first: int, end: int, *, shares_log: bool) -> int:
    """Run them, one after the other, until one fails. Returns the exit code."""
    for seed in range(first, end):
        outcome = run_groups_seed(seed, shares_log=shares_log)
        print(f"seed {seed}: {outcome.steps} steps, {outcome.counts}", flush=True)
        if outcome.failure is not None:
            traceback.print_exception(outcome.failure)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), shares_log="shared" in sys.argv[3:]))
