"""Hunt: one planted bug over many seeds, until it is found.

Rules of this file: a function of a module, so that hunts spread over processes. The same seeds
without the bug must be clean: whoever finds a bug must know that it is the bug that was found.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import attrs

from .bug import Bug
from .catalogue import BY_NAME

SOUND = Bug("-", "nothing", "the code as it is")
SOUND_NODES = Bug("-", "nothing_in_tier_2", "the code as it is", tier=2)
CONTROLS = (SOUND, SOUND_NODES)


@attrs.frozen
class Hunt:
    """What came of one bug."""

    name: str
    first_seed: int | None = None
    """None: it was not found."""
    failure: str = ""
    caught_by: tuple[str, ...] = ()
    """Which checks, the most frequent one first."""
    found: int = 0
    """In so many of `rated` seeds."""
    rated: int = 0
    is_sound: bool = True
    """Whether the first seed that fails is clean without the bug."""
    cpu_s: float = 0.0


def bug_of(name: str) -> Bug:
    """By its name."""
    controls = {bug.name: bug for bug in CONTROLS}
    return controls[name] if name in controls else BY_NAME[name]


def hunt(name: str, *, seeds: range, rated: int) -> Hunt:
    """Run seeds with this bug until it is found, and at least the first `rated` of them."""
    bug = bug_of(name)
    is_control = bug in CONTROLS
    first, failure, cpu_s, found = None, "", 0.0, 0
    kinds: Counter[str] = Counter()
    for place, seed in enumerate(seeds):
        if first is not None and place >= rated:
            break
        outcome = bug.run_seed(seed)
        cpu_s += outcome.cpu_s
        if outcome.failure is None:
            continue
        kinds[outcome.failure_kind] += 1
        found += place < rated
        if first is None:
            first, failure = seed, outcome.failure
    sound = SOUND if bug.tier == SOUND.tier else SOUND_NODES
    sound = attrs.evolve(sound, directed=bug.directed)
    is_sound = is_control or first is None or sound.run_seed(first).failure is None
    caught_by = tuple(kind for kind, _ in kinds.most_common())
    return Hunt(
        name, first, failure, caught_by, found, min(rated, len(seeds)), is_sound, round(cpu_s, 1)
    )


def hunts(names: Sequence[str], *, seeds: range, rated: int, jobs: int) -> Iterator[Hunt]:
    """All of these, in their order."""
    run = partial(hunt, seeds=seeds, rated=rated)
    if jobs == 1:
        yield from map(run, names)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run, names, chunksize=1)
