"""Bug: one planted mistake, and how to run a seed with it.

Rules of this file:

* A mistake is a broken core, a broken disk, or something put in place of a function for as long as
  a seed runs. Afterwards everything is as it was.
* What a mistake is about stands in the docstring of what is broken, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from trioraft.core.raft import Raft
from trioraft.sim import simulation
from trioraft.sim.disk import Disk
from trioraft.sim.judging import check_history
from trioraft.sim.outcomes import RunOptions, RunOutcome
from trioraft.sim.process import MakeCore, MakeDisk
from trioraft.sim.tiers import run_seed_of

CHECKED = RunOptions(check_history=check_history)
_PREFIX = re.compile(r"^(Hazard \w+|For `[^`]+`): ")
_SUFFIX = re.compile(r" \(hazard \w+\)$")


@attrs.frozen
class Patch:
    """Something that stands where something else stood."""

    owner: object
    name: str
    broken: object

    @contextmanager
    def applied(self) -> Iterator[None]:
        """For a while."""
        whole = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.broken)
        try:
            yield
        finally:
            setattr(self.owner, self.name, whole)


@attrs.frozen
class Bug:
    """One mistake."""

    hazard: str
    """Which it is, by the names of `core` and its tests; "-" if it has none."""
    name: str
    what: str
    """What is wrong, in one sentence."""
    tier: int = 1
    make_core: MakeCore = Raft
    make_disk: MakeDisk = Disk
    patch: Patch | None = None
    directed: str | None = None
    """The runs that are directed at it; None: storms of everything."""

    def run_seed(self, seed: int, options: RunOptions = CHECKED) -> RunOutcome:
        """One seed with the mistake in place."""
        options = attrs.evolve(options, directed=self.directed)
        if self.patch is None:
            return self._run(seed, options)
        with self.patch.applied():
            return self._run(seed, options)

    def _run(self, seed: int, options: RunOptions) -> RunOutcome:
        if self.tier != simulation.TIER:
            return run_seed_of(self.tier)(seed, options)
        make_core, make_disk = self.make_core, self.make_disk
        return simulation.run_seed(seed, options, make_core=make_core, make_disk=make_disk)


def broken_core(hazard: str, core: type[Raft], *, directed: str | None = None) -> Bug:
    """A core that is broken."""
    return Bug(hazard, core.__name__, _what(core), make_core=core, directed=directed)


def broken_disk(hazard: str, disk: type[Disk]) -> Bug:
    """A disk that is broken."""
    return Bug(hazard, disk.__name__, _what(disk), make_disk=disk)


def patched(
    hazard: str,
    owner: object,
    name: str,
    broken: Any,
    *,
    tier: int = 1,
    directed: str | None = None,
) -> Bug:
    """A function that is broken."""
    patch = Patch(owner, name, broken)
    return Bug(hazard, broken.__name__, _what(broken), tier, patch=patch, directed=directed)


def _what(broken: object) -> str:
    first = " ".join((broken.__doc__ or "").split()).partition(". ")[0].rstrip(".")
    return _SUFFIX.sub("", _PREFIX.sub("", first))
