"""Rules of this file: a few trials say whether the figure is sound, in virtual time; the bounds
are wide enough for another order of random draws, and far too narrow for a broken election."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import stats
from benchmarks.figure16 import command as figure16
from benchmarks.figure16.core_cluster import CoreCluster, Costs, carries_no_entries
from benchmarks.figure16.trials import (
    CUT_S,
    NO_RANDOMNESS,
    RANDOMNESS,
    SCALE,
    WIDEST,
    Line,
    Measured,
    Mode,
    Range,
    costs_of,
    lines_of,
    measure,
    time_without_leader,
    timing_of,
)
from trioraft.core.messages import Message, RequestVote
from trioraft.core.types import Configuration, Entry, Recovered

FIVE_MS_OF_RANDOMNESS = RANDOMNESS[2]
SHORTEST = SCALE[0]


def downtimes_s(mode: Mode, timeouts: Range, trials: int = 20) -> list[float]:
    return [time_without_leader(mode, timeouts, f"test {trial}") for trial in range(trials)]


# -- the trials ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_trial() -> None:
    first = downtimes_s(Mode.PAPER, FIVE_MS_OF_RANDOMNESS)
    assert first == downtimes_s(Mode.PAPER, FIVE_MS_OF_RANDOMNESS)
    assert len(set(first)) == len(first), "every trial has a seed of its own"


def test_the_figures_do_not_depend_on_the_number_of_processes() -> None:
    lines = [Line(Mode.PAPER, FIVE_MS_OF_RANDOMNESS), Line(Mode.TRIORAFT, SHORTEST)]
    told: list[tuple[int, int]] = []
    alone = measure(lines, trials=50, seed=3, jobs=1)
    shared = measure(lines, trials=50, seed=3, jobs=2, on_progress=lambda *at: told.append(at))
    assert alone == shared
    assert list(alone) == lines
    assert [len(set(times_s)) for times_s in alone.values()] == [50, 50], "a seed for each trial"
    assert told[-1] == (100, 100)
    assert measure(lines, trials=50, seed=4, jobs=1) != alone


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("timeouts", [FIVE_MS_OF_RANDOMNESS, WIDEST, SHORTEST], ids=str)
def test_nobody_leads_before_the_smallest_possible_downtime(mode: Mode, timeouts: Range) -> None:
    # The heartbeat is as old as half of the minimum timeout at most, and votes take their time.
    assert min(downtimes_s(mode, timeouts)) > timeouts.low_ms / 1000 / 2


def test_without_randomness_the_paper_ties_for_ten_seconds_and_trioraft_does_not() -> None:
    papers = downtimes_s(Mode.PAPER, NO_RANDOMNESS, trials=5)
    assert sum(time_s > 10 for time_s in papers) >= 4
    assert max(papers) <= CUT_S
    assert max(downtimes_s(Mode.TRIORAFT, NO_RANDOMNESS)) < 2


def test_medians_are_near_the_papers() -> None:
    little = stats.percentile(downtimes_s(Mode.PAPER, FIVE_MS_OF_RANDOMNESS, trials=100), 50)
    assert 0.150 < little < 0.450, "the paper says 287 ms"
    shortest = stats.summarize(downtimes_s(Mode.PAPER, SHORTEST, trials=100))
    assert 0.025 < shortest.mean < 0.055, "the paper says 35 ms"
    widest = stats.percentile(downtimes_s(Mode.PAPER, WIDEST, trials=100), 50)
    assert 0.130 < widest < 0.230
    assert widest < little, "randomness is worth its price"


@pytest.mark.parametrize("timeouts", dict.fromkeys((*RANDOMNESS, *SCALE)), ids=str)
def test_trioraft_elects_with_every_range(timeouts: Range) -> None:
    assert max(downtimes_s(Mode.TRIORAFT, timeouts)) < 2


def test_the_model_has_the_papers_broadcast_time() -> None:
    costs = costs_of(Mode.PAPER)
    assert costs.broadcast_s(4) == pytest.approx(0.015, rel=0.01)
    rng = random.Random(1)
    rounds = [max(_answer_s(costs, rng) for _ in range(4)) for _ in range(20_000)]
    assert sum(rounds) / len(rounds) == pytest.approx(costs.broadcast_s(4), rel=0.02)


def _answer_s(costs: Costs, rng: random.Random) -> float:
    return costs.draw_one_way_s(rng) + costs.draw_write_s(rng) + costs.draw_one_way_s(rng)


# -- the cluster they run in ---------------------------------------------------------------


def cluster_of(logs: dict[str, int], costs: Costs, mode: Mode = Mode.PAPER) -> CoreCluster:
    configuration = Configuration(tuple(logs))
    recovered = {
        node_id: Recovered(
            entries=tuple(Entry(index, 0) for index in range(1, length + 1)),
            configuration=configuration,
        )
        for node_id, length in logs.items()
    }
    return CoreCluster(recovered, timing_of(mode, WIDEST), costs, random.Random(0))


def test_a_leader_can_be_given_at_once_and_its_crash_is_survived() -> None:
    cluster = cluster_of({"0": 3, "1": 2, "2": 1}, costs_of(Mode.PAPER))
    cluster.deliver = carries_no_entries
    cluster.start_under("0")
    assert cluster.leader_id == "0"
    assert [cluster.core(node_id).log.last_index for node_id in "12"] == [2, 1]
    cluster.crash("0")
    assert cluster.leader_id is None
    assert cluster.run_until_leader(at_most_s=cluster.now + 60) == "1", "2 lacks an entry"


def test_an_election_without_end_is_cut() -> None:
    cluster = cluster_of({"0": 0, "1": 0, "2": 0}, costs_of(Mode.PAPER))
    cluster.deliver = lambda _message: False
    for node_id in "012":
        cluster.start(node_id)
    assert cluster.run_until_leader(at_most_s=30) is None
    assert cluster.now == 30


@pytest.mark.parametrize("overlap", [True, False])
def test_vote_requests_wait_for_the_disk_unless_told_otherwise(overlap: bool) -> None:
    asked_at_s: list[float] = []

    def watch(message: Message) -> bool:
        if isinstance(message, RequestVote):
            asked_at_s.append(cluster.now)
        return True

    costs = Costs(disk_write_mean_s=0.020, vote_requests_overlap_write=overlap)
    cluster = cluster_of({"0": 0, "1": 0, "2": 0}, costs)
    cluster.deliver = watch
    cluster.start("0")
    patience_ends_at_s = cluster.core("0").deadline
    assert cluster.run_until_leader(at_most_s=10) == "0"
    assert len(asked_at_s) == 2, "each of the others once, not again after the write"
    assert all((at_s == patience_ends_at_s) is overlap for at_s in asked_at_s)


# -- the command ---------------------------------------------------------------------------


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(figure16.app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_the_command_writes_a_table_and_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure16.json"
    code, out, _ = invoke("--trials", "4", "--jobs", "1", "--no-plot", "--json", str(path))
    assert code == 0
    assert "how much randomness" in out
    assert "how short a timeout" in out
    says = [line.split() for line in out.splitlines() if "paper says" in line]
    assert ["150–155", "paper", "says", "1000", "·", "287", *"·····"] in says
    check_shape(json.loads(path.read_text(encoding="utf-8")))


def check_shape(written: dict[str, Any]) -> None:
    results = written["results"]
    assert written["model"]["broadcast_ms"] == pytest.approx(15, abs=0.1)
    assert len(results) == len(lines_of([Mode.PAPER, Mode.TRIORAFT]))
    assert {result["mode"] for result in results} == {"paper", "trioraft"}
    for result in results:
        low, high = result["range_ms"]
        assert result["n"] == (4 if high > low else 1)
        assert result["unit"] == "ms"
        assert 0 <= result["cut"] <= result["over_10_s"] <= result["n"]
        order = [result[name] for name in ("min", "p50", "p90", "p99", "max")]
        assert order == sorted(order)
        assert low / 2 < result["min"] <= result["mean"] <= result["max"] <= CUT_S * 1000


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "figure16.png"
    modes = [Mode.PAPER, Mode.TRIORAFT]
    # One election of each line was cut: it must not be drawn as finished, nor upset anything.
    measured: Measured = {line: [0.1, 0.2, CUT_S] for line in lines_of(modes)}
    measured[Line(Mode.PAPER, NO_RANDOMNESS)] = [CUT_S] * 3
    figure16.draw(path, measured, modes)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_missing_extra_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(figure16, "measure", fail_to_measure)
    code, out, errors = invoke("--plot", str(tmp_path / "figure16.png"))
    assert (code, out) == (1, "")
    assert "trioraft[bench]" in errors


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figure16, "measure", fail_to_measure)
    code, out, errors = invoke("--no-plot", "--json", str(tmp_path))
    assert (code, out) == (1, "")
    assert "is a directory" in errors


def fail_to_measure(*_arguments: object, **_options: object) -> Measured:
    pytest.fail("it measured")


def test_an_interrupt_ends_it_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> Measured:
        raise KeyboardInterrupt

    monkeypatch.setattr(figure16, "measure", interrupted)
    path = tmp_path / "figure16.json"
    code, out, errors = invoke("--no-plot", "--json", str(path))
    assert (code, out) == (130, "")
    assert errors.strip() == "interrupted: the trials so far are dropped, nothing was written"
    assert not path.exists()
