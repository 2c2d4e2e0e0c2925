"""Tiers: the simulations there are, by number, behind one protocol."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

from ..core.errors import ConfigError
from .outcomes import RunOptions, RunSeed

TIERS: Final[Mapping[int, str]] = {
    1: "trioraft.sim.simulation",
    2: "trioraft.sim.tier2",
}
"""Tier 1: many cores, no Trio. Tier 2: real nodes under a virtual clock. Modules with a `run_seed`,
imported only when asked for, so that tier 1 needs no Trio."""


SCENES: Final[Mapping[int, str]] = {1: "trioraft.sim.scenes", 2: "trioraft.sim.tier2.scenes"}
"""What plays a scenario instead."""


def run_seed_of(tier: int, options: RunOptions | None = None) -> RunSeed:
    """What runs a seed of this tier; a scenario, if the options have one.

    Raises:
        ConfigError: there is no such tier (here).
    """
    has_scenario = options is not None and options.scenario is not None
    name = (SCENES if has_scenario else TIERS).get(tier)
    if name is None:
        raise ConfigError(f"there is no tier {tier}; give one of {sorted(TIERS)}")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(f"tier {tier} is not part of this installation") from error
    run_seed: RunSeed = module.run_seed
    return run_seed
