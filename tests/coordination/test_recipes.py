"""etcd's recipes, over replicated structures, under a nemesis; many more seeds:
`python -m tests.many_seeds --group coordination`."""

from __future__ import annotations

from functools import partial

import pytest
from trio.testing import MockClock

from tests.scenarios.coordination import SCENARIOS
from trioraft.testing.cluster import open_cluster


@pytest.mark.parametrize("unreliable", [False, True])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_recipes(name: str, unreliable: bool, autojump_clock: MockClock) -> None:
    await SCENARIOS[name](partial(open_cluster, seed=3, unreliable=unreliable))
