"""`trioraft sim --scenario`: many seeds of one text, on cores and on real nodes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from trioraft.cli.application import application
from trioraft.scenario import load, parse
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.tiers import run_seed_of
from trioraft.tasks.slices import Turn
from trioraft.viz.analysis import analyse_log

FAILING = "3 nodes\ndisconnect everyone\nexpect one leader within 1s\n"


def sim(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(application(), ["sim", *words])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("tier", ["1", "2"])
def test_all_seeds_are_played_and_counted(tier: str) -> None:
    words = ("--scenario", "leader-disconnect", "--seeds", "0:4", "--jobs", "1")
    code, output = sim(*words, "--tier", tier)
    assert code == 0
    assert "leader-disconnect: 4 seeds, 0 failed;" in output
    assert "8 leaders" in output


@pytest.mark.parametrize("tier", [1, 2])
def test_a_failing_seed_says_the_line_and_has_its_log_and_its_picture(
    tier: int, tmp_path: Path
) -> None:
    path = tmp_path / "mine.scenario"
    path.write_text(FAILING, encoding="utf-8")
    code, output = sim(
        *("--scenario", str(path), "--seeds", "3:4", "--jobs", "1"),
        *("--tier", str(tier), "--trace", str(tmp_path)),
    )
    assert code == 1
    assert f"{path}:3: expect one leader within 1s seen instead: nobody leads" in output
    assert f"--scenario {path}" in output
    assert "drawn" not in output
    (run,) = analyse_log(tmp_path / f"trioraft-sim-{tier}-3.raftlog")
    assert run.status == "FAIL"
    assert len(run.nodes) == 3
    assert (tmp_path / f"trioraft-sim-{tier}-3" / "index.html").exists()


@pytest.mark.parametrize("tier", [1, 2])
@pytest.mark.parametrize("name", ["disconnect-loop", "kv-append-after-crash"])
def test_the_same_seed_is_the_same_run(name: str, tier: int) -> None:
    if name.startswith("kv") and tier == 1:
        name = "leader-and-another-disconnect"
    options = RunOptions(scenario=load(name))
    run = run_seed_of(tier, options)
    assert run(5, options) == run(5, options)
    assert run(5, options).digest != run(6, options).digest


def test_a_seed_is_one_run_however_slow_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What shares a slice of the loop is measured by virtual time."""
    options = RunOptions(scenario=load("kv-append-after-crash"))
    run, end = run_seed_of(2, options), Turn.end

    def slowly(turn: Turn) -> None:
        time.sleep(0.006)
        end(turn)

    quick = run(5, options)
    monkeypatch.setattr(Turn, "end", slowly)
    assert run(5, options) == quick


def test_only_cores_can_stand_still() -> None:
    text = "pause leader\nexpect another leader\nresume\nexpect old leader is follower"
    options = RunOptions(scenario=parse(text))
    assert run_seed_of(1, options)(0, options).failure is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scenario", "nowhere"), "there is no scenario 'nowhere'"),
        (("--scenario", "kv-append-basic", "--tier", "1"), "needs keys and values"),
        (("--scenario", "leader-disconnect", "--nodes", "5"), "a scenario says itself"),
        (("--scenario", "leader-disconnect", "--faults", "1"), "a scenario says itself"),
    ],
)
def test_what_does_not_fit_is_a_mistake(words: tuple[str, ...], said: str) -> None:
    code, output = sim(*words, "--seeds", "1", "--jobs", "1")
    assert code == 2
    assert said in output


def test_a_scenario_of_its_own_rules_is_checked_after_every_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tier 1: what a storm would find, a scenario finds."""
    from tests.sim.planted.voting import ForgetsItsVote
    from trioraft.sim import scenes
    from trioraft.sim.simulation import Simulation

    real = Simulation

    def broken(*arguments: object, **more: object) -> object:
        return real(*arguments, **more, make_core=ForgetsItsVote)  # type: ignore[arg-type] # as given

    monkeypatch.setattr(scenes, "Simulation", broken)
    text = "3 nodes\nrepeat 30 times\ncrash everyone\nrestart\nexpect one leader\nend\n"
    options = RunOptions(
        scenario=parse(f"pre-vote off\nelection timeout 150ms to 160ms\n{text[8:]}")
    )
    failures = [run_seed_of(1, options)(seed, options).failure for seed in range(20)]
    assert any("InvariantViolation" in str(failure) for failure in failures)
