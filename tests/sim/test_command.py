"""`trioraft sim`: its options, what it prints and writes, how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from tests.sim.planted.voting import ForgetsItsVote
from trioraft.cli import sim as command
from trioraft.cli.application import application
from trioraft.core.errors import ConfigError
from trioraft.sim import spread
from trioraft.sim.outcomes import RunOptions
from trioraft.sim.simulation import run_seed
from trioraft.sim.spread import in_chunks, over_processes
from trioraft.sim.tiers import run_seed_of

run_broken = partial(run_seed, make_core=ForgetsItsVote)


def sim(*words: str) -> tuple[int, str]:
    """Run the command; its exit code and all that it said."""
    result = CliRunner().invoke(application(), ["sim", *words])
    return result.exit_code, result.output


@contextmanager
def with_a_broken_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever seed is run in this process fails."""
    with monkeypatch.context() as patch:
        for module in (command, spread):
            patch.setattr(module, "run_seed_of", lambda *_: run_broken)
        yield


def test_clean_seeds_end_with_0_and_a_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    words = ("--seeds", "0:2", "--nodes", "3", "--jobs", "1", "--recheck")
    code, output = sim(*words, "--json", str(path))
    assert code == 0
    assert "2 seeds, 0 failed" in output
    assert "1 seeds again in another process: 0 differ" in output
    report = json.loads(path.read_text(encoding="utf-8"))
    assert (report["seeds"], report["failures"]) == ([0, 2], [])
    assert report["summary"]["delivered"] > 0


def test_a_failing_seed_says_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    words = ("--seeds", "0:1", "--nodes", "3", "--jobs", "1")
    with with_a_broken_core(monkeypatch):
        code, output = sim(*words, "--trace", str(tmp_path), "--json", str(path))
        assert code == 1
        assert "seed 0 FAILED: InvariantViolation" in output
        (failure,) = json.loads(path.read_text(encoding="utf-8"))["failures"]
        assert failure["replay"] in output
        replay = failure["replay"].split()[2:]
        assert replay[replay.index("--seeds") + 1] == "0:1"
        again, said = sim(*replay, "--trace", str(tmp_path))
    assert again == 1
    assert f"seed 0 FAILED: {failure['failure'][:40]}" in said
    log = (tmp_path / "trioraft-sim-1-0.raftlog").read_text(encoding="utf-8").splitlines()
    assert log[0] == "=== RUN   sim_tier_1_seed_0"
    assert log[-1].startswith("--- FAIL: sim_tier_1_seed_0 (")
    assert any("becomes Candidate" in line for line in log)


def test_a_trace_can_be_had_of_a_clean_seed(tmp_path: Path) -> None:
    code, output = sim("--seeds", "3:4", "--nodes", "3", "--jobs", "1", "--trace", str(tmp_path))
    assert code == 0
    (path,) = tmp_path.glob("*.raftlog")
    assert (path.with_suffix("") / "index.html").is_file()
    assert str(path) in output
    assert path.read_text(encoding="utf-8").splitlines()[-1].startswith("--- PASS:")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--seeds", "5:5"), "is empty"),
        (("--seeds", "x"), "no range"),
        (("--jobs", "0"), "a number from 1"),
        (("--faults", "1,x"), "no list of numbers"),
        (("--nodes", "99"), "--nodes"),
        (("--tier", "3"), "--tier"),
        (("--json", "/nowhere/at/all.json"), "no directory"),
        (("--trace", "/nowhere/at/all"), "no directory"),
    ],
)
def test_a_wrong_option_is_said_before_anything_starts(
    words: tuple[str, ...], complaint: str
) -> None:
    code, output = sim(*words)
    assert code == 2
    assert complaint in output


def test_processes_give_what_one_process_gives_in_the_same_order() -> None:
    options = RunOptions(nodes=3)
    seeds = range(4)
    alone = list(over_processes(seeds, tier=1, options=options, jobs=1))
    assert [outcome.seed for outcome in alone] == [0, 1, 2, 3]
    assert list(over_processes(seeds, tier=1, options=options, jobs=2)) == alone


def test_every_seed_is_in_one_chunk() -> None:
    chunks = list(in_chunks(range(3, 100), 2))
    assert [seed for chunk in chunks for seed in chunk] == list(range(3, 100))
    assert len(chunks) > 4


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no tier 9"):
        run_seed_of(9)


class Cluster:
    """As much of `distributed.Client` as is used, in this process. `python -m tests.sim.dask_local`
    runs the same over a real one."""

    def __init__(self, address: str, timeout: str) -> None:
        self.address = address

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def nthreads(self) -> dict[str, int]:
        return {"one": 1, "other": 1}

    def submit(self, run: Callable[[range], Any], seeds: range, *, pure: bool) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(run(seeds))
        return future


def test_a_dask_cluster_gives_what_one_process_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = ModuleType("distributed")
    vars(distributed)["Client"] = Cluster
    monkeypatch.setitem(sys.modules, "distributed", distributed)
    options, seeds = RunOptions(nodes=3), range(3)
    there = list(spread.over_dask(seeds, tier=1, options=options, address="tcp://127.0.0.1:1"))
    assert there == list(over_processes(seeds, tier=1, options=options, jobs=1))


def test_dask_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="trioraft\\[dask\\]"):
        list(spread.over_dask(range(1), tier=1, options=RunOptions(), address="tcp://127.0.0.1:1"))
