"""Explore the small spaces whole, without and with the bugs that are planted in them.

    python -m tests.exhaustive                    # all: some minutes
    python -m tests.exhaustive "a lease" --bugs   # one, and its bugs

Rules of this file: exit code 1 if a space is wrong, is not looked at as a whole, or does not show a
bug that is planted in it. What was looked at is printed with its bounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import attrs

from tests.sim.planted.catalogue import BY_NAME
from tests.sim.planted.leases import IN_SMALL_SPACES

from .space import Budget, Report, Space
from .spaces import SPACES, Bounds

STATES_MAX = 4_000_000
PLANTED = {**BY_NAME, **{bug.name: bug for bug in IN_SMALL_SPACES}}


def explored(bounds: Bounds, bug: str | None = None, *, states_max: int = STATES_MAX) -> Report:
    """What this space holds; with a planted bug, up to where it shows."""
    space = bounds.make()
    if bug is None:
        return space.explore(states_max=states_max)
    planted = PLANTED[bug]
    if planted.patch is None:
        return attrs.evolve(space, make_core=planted.make_core).explore(states_max=states_max)
    with planted.patch.applied():
        return space.explore(states_max=states_max)


def bounds_of(space: Space) -> str:
    """In words."""
    budget = [f"{name} {n}" for name, n in zip(Budget._fields, space.budget, strict=True) if n]
    return f"{len(space.ids)} nodes, {', '.join(budget)}"


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustive")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(SPACES)}")
    parser.add_argument("--bugs", action="store_true", help="with the planted bugs, too")
    options = parser.parse_args(words)
    unknown = set(options.names) - set(SPACES)
    if unknown:
        parser.error(f"there is no space {', '.join(sorted(unknown))}")
    bad = 0
    for name in options.names or SPACES:
        bounds, begun_s = SPACES[name], time.monotonic()
        report = explored(bounds, states_max=bounds.states_max or STATES_MAX)
        is_bounded = report.is_whole or bounds.states_max is not None
        is_right = report.failure is None and is_bounded
        bad += not is_right
        verdict = "right" if report.is_whole else "right as far as it was looked at"
        if not is_right:
            verdict = report.failure or "NOT LOOKED AT AS A WHOLE"
        print(
            f"{name} ({bounds_of(bounds.make())}): {report.states} states of {report.nodes} states "
            f"of nodes, {report.depth} deep, in {time.monotonic() - begun_s:.0f} s: {verdict}",
            flush=True,
        )
        for how in report.path:
            print(f"    {how}")
        for bug in bounds.bugs if options.bugs else ():
            with_bug = explored(bounds, bug)
            bad += with_bug.failure is None
            found = with_bug.failure or "NOT FOUND"
            print(f"  {bug}: {found}, after {with_bug.states} states", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
