"""Hunt the planted bugs.

    python -m tests.sim.planted --seeds 0:2500 --jobs 2 --markdown      # all; writes the page
    python -m tests.sim.planted --only V1 --only cuts_what_follows      # by hazard or name
    python -m tests.sim.planted --some 6 --seeds 40000:42000 --rated 0  # six, as the seeds say

Rules of this file: exit code 1 if a bug is not found, if the seed that finds it fails without it
too, or if the code as it is fails in any of `--controls` seeds.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from .bug import Bug
from .catalogue import BUGS, RARE
from .hunt import CONTROLS, Hunt, bug_of, hunts
from .table import PAGE, caught_by, page


def main(words: Sequence[str]) -> int:
    """Run the command; its exit code."""
    options = _parsed(words)
    first, last = map(int, options.seeds.split(":"))
    seeds = range(first, last)
    chosen = _some(_chosen(options.only), options.some, first)
    if not chosen or not seeds:
        print("nothing to hunt", file=sys.stderr)
        return 2
    done, bad = [], 0
    names = [bug.name for bug in chosen]
    for hunt in hunts(names, seeds=seeds, rated=options.rated, jobs=options.jobs):
        done.append(hunt)
        bad += hunt.first_seed is None or not hunt.is_sound
        print(_line(hunt), flush=True)
    controls = range(first, first + options.controls)
    if controls:
        for hunt in hunts([b.name for b in CONTROLS], seeds=controls, rated=0, jobs=options.jobs):
            bad += hunt.first_seed is not None
            print(_line(hunt), flush=True)
    print(f"{len(done)} planted bugs, {bad} of them wrong")
    if options.markdown:
        command = shlex.join(["python", "-m", "tests.sim.planted", *words])
        PAGE.write_text(page(chosen, done, command), encoding="utf-8")
        print(f"wrote {PAGE}")
    return 1 if bad else 0


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.planted")
    parser.add_argument("--seeds", default="0:2500", metavar="A:B")
    parser.add_argument("--only", action="append", default=[], metavar="HAZARD|NAME")
    parser.add_argument("--some", type=int, metavar="N", help="so many, chosen by the first seed")
    parser.add_argument("--rated", type=int, default=50, help="run at least so many seeds of each")
    parser.add_argument("--controls", type=int, default=0, help="seeds of the code as it is")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help=f"write docs/{PAGE.name}")
    return parser.parse_args(words)


def _chosen(only: Sequence[str]) -> list[Bug]:
    return [bug for bug in BUGS if not only or bug.hazard in only or bug.name in only]


def _some(bugs: list[Bug], count: int | None, first_seed: int) -> list[Bug]:
    """A stretch of those that are found soon, another one for each first seed."""
    if count is None or not bugs:
        return bugs
    bugs = [bug for bug in bugs if bug.name not in RARE]
    start = first_seed % len(bugs)
    return (bugs[start:] + bugs[:start])[:count]


def _line(hunt: Hunt) -> str:
    bug = bug_of(hunt.name)
    where = "not found" if hunt.first_seed is None else f"seed {hunt.first_seed}"
    rate = f"{hunt.found} of {hunt.rated}, " if hunt.rated else ""
    sound = "" if hunt.is_sound else ", WHICH FAILS WITHOUT IT TOO"
    cost = f"{rate}{hunt.cpu_s:.1f} s"
    return f"{bug.hazard:3} {hunt.name:30} {where:10} {cost}: {caught_by(hunt)}{sound}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
