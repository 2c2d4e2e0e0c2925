"""The scenarios of the key-value service, in virtual time, calm and where messages get lost.
`python -m tests.many_seeds --group kv` tells each a thousand times."""

from __future__ import annotations

from functools import partial

import pytest
from trio.testing import MockClock

from tests.many_seeds import MODES, Mode
from tests.scenarios import kv, kv_recipes
from trioraft.testing.cluster import open_cluster

SCENARIOS = kv.SCENARIOS | kv_recipes.SCENARIOS
WEATHER = [mode for mode in MODES if mode.name != "collisions"]


@pytest.mark.parametrize("mode", WEATHER, ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_in_virtual_time(name: str, mode: Mode, autojump_clock: MockClock) -> None:
    await SCENARIOS[name](partial(open_cluster, seed=0, **mode.options))
