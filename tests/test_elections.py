"""The eight scenarios of the seeds: in virtual time with a few seeds and under stress, and over
TCP in real time. `python -m tests.many_seeds` tells each a thousand times."""

from __future__ import annotations

from functools import partial

import pytest
from trio.testing import MockClock

from tests.many_seeds import MODES, Mode
from tests.scenarios.elections import SCENARIOS
from trioraft.testing.cluster import open_cluster

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_in_virtual_time(name: str, mode: Mode, seed: int, autojump_clock: MockClock) -> None:
    await SCENARIOS[name](partial(open_cluster, seed=seed, **mode.options))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_over_tcp(name: str) -> None:
    await SCENARIOS[name](partial(open_cluster, network="tcp"))
