"""Digests of simulated runs: whether the code still does exactly what it did.

    python -m tests.sim.digests                             # both tiers, seeds 0 … 999
    python -m tests.sim.digests --tier 1 --seeds 0:100 --jobs 2
    python -m tests.sim.digests --update                    # write them anew, all of them

A digest covers every message, timer, write, fault and answer of a run, so moving code, or taking it
apart and putting it together again, leaves all of them as they are. A change of behaviour does not:
then they are written anew, in the commit that changes it and says so.

Rules of this file:

* A seed that is not in the file is an error, not a seed that is right.
* Exit code 1 if a run differs; the first seed that does is named, with the command to look at it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from tests.many_seeds import seed_range
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.spread import over_processes
from trioraft.sim.tiers import TIERS

PATH: Final = Path(__file__).parent.parent / "golden" / "digests"
SEEDS: Final = range(1000)
"""Those in the file, of each tier."""
DIGITS: Final = 16
"""Of each digest's 32: enough to tell two runs apart."""
LINE_SEEDS: Final = 10


@attrs.frozen
class Difference:
    """A run that is not what it was."""

    tier: int
    seed: int
    was: str
    digest: str

    def __str__(self) -> str:
        return (
            f"tier {self.tier}, seed {self.seed}: the digest was {self.was}…, it is {self.digest}\n"
            f"look at it: trioraft sim --tier {self.tier} --seeds {self.seed}:{self.seed + 1} "
            "--trace ."
        )


def text_of(digests: Mapping[int, Mapping[int, str]]) -> str:
    """The file: of each tier a heading, then ten seeds a line."""
    lines = []
    for tier, by_seed in sorted(digests.items()):
        lines.append(f"# tier {tier}, seeds 0:{len(by_seed)}")
        ordered = [by_seed[seed][:DIGITS] for seed in range(len(by_seed))]
        for start in range(0, len(ordered), LINE_SEEDS):
            lines.append(" ".join(ordered[start : start + LINE_SEEDS]))
    return "\n".join(lines) + "\n"


def digests_of(text: str) -> dict[int, dict[int, str]]:
    """What stands in the file: of each tier the digests by seed."""
    found: dict[int, dict[int, str]] = {}
    for line in text.splitlines():
        if line.startswith("# tier "):
            by_seed = found[int(line.split()[2].rstrip(","))] = {}
        else:
            for digest in line.split():
                by_seed[len(by_seed)] = digest
    return found


def runs(tier: int, seeds: range, jobs: int) -> Iterator[tuple[int, str]]:
    """Every seed with the digest of its run, in order."""
    for outcome in over_processes(seeds, tier=tier, options=RunOptions(), jobs=jobs):
        yield outcome.seed, outcome.digest


def differing(
    tier: int, golden: Mapping[int, str], present: Iterable[tuple[int, str]]
) -> Iterator[Difference]:
    """The runs that are not what they were.

    Raises:
        KeyError: a seed has no golden digest.
    """
    for seed, digest in present:
        if not digest.startswith(golden[seed]):
            yield Difference(tier, seed, golden[seed], digest)


def read() -> dict[int, dict[int, str]]:
    """The golden digests."""
    return digests_of(PATH.read_text(encoding="utf-8"))


def _check(tier: int, golden: Mapping[int, str], seeds: range, jobs: int) -> int:
    if not golden or seeds.stop > len(golden):
        wanted = f"{seeds.start}:{seeds.stop}"
        print(f"tier {tier} has digests of seeds 0:{len(golden)}, not of {wanted}")
        return 1
    count = 0
    for difference in differing(tier, golden, runs(tier, seeds, jobs)):
        count += 1
        if count == 1:
            print(f"the first that differs: {difference}", flush=True)
    print(f"tier {tier}: {len(seeds)} seeds, {count} differ", flush=True)
    return 1 if count else 0


def main(words: list[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.digests",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tier", type=int, choices=sorted(TIERS), action="append")
    parser.add_argument("--seeds", type=seed_range, default=SEEDS, metavar="A:B")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--update", action="store_true", help="write all seeds of the tier anew")
    options = parser.parse_args(words)
    golden = read() if PATH.exists() else {}
    tiers = options.tier or sorted(TIERS)
    if not options.update:
        return max(_check(t, golden.get(t, {}), options.seeds, options.jobs) for t in tiers)
    for tier in tiers:
        golden[tier] = dict(runs(tier, SEEDS, options.jobs))
        print(f"tier {tier}: {len(golden[tier])} digests", flush=True)
    PATH.write_text(text_of(golden), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
