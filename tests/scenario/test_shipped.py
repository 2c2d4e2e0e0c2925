"""The scenarios that come with the package: each plays wherever it can, with the same verdict.

Over sockets the elections are told by tests/test_elections.py, and all of them by
`python -m tests.many_scenarios`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.scenarios import elections, kv
from trioraft import ConfigError
from trioraft.scenario import ScenarioError, load, shipped_names
from trioraft.sim import scenes
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.tiers import run_seed_of
from trioraft.testing import play

SEEDS = range(3)


@pytest.mark.parametrize("name", shipped_names())
def test_each_says_what_it_shows(name: str) -> None:
    scenario = load(name)
    assert scenario.about.endswith((".", "?"))
    assert any(step.phrase.kind == "expectation" for step in scenario.steps)


def test_those_of_the_tests_are_shipped() -> None:
    told = {name.replace("_", "-") for name in (*elections.NAMES, *kv.PLAYED)}
    assert told <= {*shipped_names()}
    assert {name for name in shipped_names() if not name.startswith("why-")} == told


@pytest.mark.parametrize("name", shipped_names())
async def test_each_plays_in_virtual_time(name: str, autojump_clock: MockClock) -> None:
    for seed in SEEDS:
        await play(name, seed=seed)


@pytest.mark.parametrize("name", shipped_names())
@pytest.mark.parametrize("tier", [1, 2])
def test_each_plays_in_the_simulator(tier: int, name: str) -> None:
    options = RunOptions(scenario=load(name))
    missing = [need for need, _ in load(name).needs() if need in scenes.MISSING]
    for seed in SEEDS:
        if tier == 1 and missing:
            with pytest.raises(ScenarioError, match="which the simulator's tier 1 has not"):
                run_seed_of(tier, options)(seed, options)
        else:
            assert run_seed_of(tier, options)(seed, options).failure is None


def test_a_name_may_be_written_as_tests_write_it() -> None:
    assert load("leader_disconnect") == load("leader-disconnect")


def test_a_name_that_there_is_not_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'leader-disconnect'"):
        load("leader-disconect")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the scenario"),
        (b"\xff", "is no text in UTF-8"),
        (b"#" * 200_000, "is no scenario: it has more than"),
    ],
)
def test_a_file_that_is_none_is_said(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "x.scenario"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(path)
