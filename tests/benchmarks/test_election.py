"""benchmarks.election: few elections in real time, and what is told of them.

Rules of this file: real sockets and real time are the subject, so timeouts are short and trials
few; nothing here asserts a speed, which other work on the machine could spoil.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from benchmarks import election
from benchmarks.election_cases import Case, Setup, Trial, expected_best_s, measure, round_trip_s
from benchmarks.election_cluster import Watch, WatchedRandom
from benchmarks.election_report import Result
from trioraft import Timing
from trioraft.core.events import ElectionTimerStarted, MessageReceived, MessageSent
from trioraft.core.messages import AppendEntries, AppendEntriesReply
from trioraft.core.types import Role

QUICK = Timing(election_timeout_s=(0.060, 0.120), heartbeat_interval_s=0.020)
QUICK_ARGS = ["--election-timeout-ms", "60", "120", "--heartbeat-ms", "20"]


# -- trials ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", list(Case))
async def test_every_case_ends_with_a_leader_after_its_timers(case: Case) -> None:
    trials: list[Trial] = []
    await measure(Setup(case, 3, QUICK, seed=1), 2, trials.append)
    assert len(trials) == 2
    for trial in trials:
        assert 0 < trial.timers_s < trial.took_s, "nobody campaigns before its timer"
        assert trial.timers_s <= QUICK.election_timeout_s[1]
        assert trial.terms >= 1
    assert 0 < round_trip_s(trials) < QUICK.election_timeout_s[0]


@pytest.mark.parametrize(
    ("case", "fast_failover", "waits"),
    [
        (Case.DISCONNECT, True, True),
        (Case.STOP, True, False),
        (Case.STOP, False, True),
    ],
)
async def test_only_a_closed_connection_spares_the_followers_their_timers(
    case: Case, fast_failover: bool, waits: bool
) -> None:
    timing = Timing((0.300, 0.400), 0.020, fast_failover=fast_failover)
    trials: list[Trial] = []
    await measure(Setup(case, 3, timing, seed=2), 1, trials.append)
    assert (trials[0].timers_s > 0.150) is waits


# -- what a trial is compared with -------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "nodes", "fast_failover", "best_ms"),
    [
        (Case.BOOTSTRAP, 3, True, 150 + 150 / 4),
        (Case.DISCONNECT, 3, True, 150 + 150 / 3 - 25),
        (Case.DISCONNECT, 5, True, 150 + 150 / 5 - 25),
        (Case.STOP, 3, True, 10 / 3),
        (Case.STOP, 3, False, 150 + 150 / 3 - 25),
    ],
)
def test_the_expected_best_is_that_of_the_least_timer(
    case: Case, nodes: int, fast_failover: bool, best_ms: float
) -> None:
    setup = Setup(case, nodes, Timing(fast_failover=fast_failover), seed=0)
    assert expected_best_s(setup) * 1000 == pytest.approx(best_ms)


def test_a_watch_knows_when_its_node_would_lose_patience() -> None:
    watch = Watch(WatchedRandom("seed"))
    heartbeat = AppendEntries("0", "1", 1, 0, 0, (), 0, round=7)
    watch.debug("", trace=ElectionTimerStarted(10.0, 0.2, 1))
    assert watch.due_s(10.0, 11.0) == pytest.approx(10.2)
    watch.debug("", trace=MessageReceived(10.1, heartbeat, 1, None, Role.FOLLOWER))
    assert watch.due_s(10.1, 11.0) == pytest.approx(10.3)
    assert watch.due_s(10.05, 11.0) == pytest.approx(10.2), "what came later does not count"
    watch.debug("", trace=MessageReceived(10.2, heartbeat, 2, None, Role.FOLLOWER))
    assert watch.due_s(10.2, 11.0) == pytest.approx(10.3), "a deposed leader is not listened to"
    watch.forget()
    assert watch.due_s(10.2, 11.0) == pytest.approx(10.3)


async def test_a_hint_brings_the_deadline_forward(autojump_clock: trio.testing.MockClock) -> None:
    rng = WatchedRandom("seed")
    watch = Watch(rng)
    now = trio.current_time()
    watch.debug("", trace=ElectionTimerStarted(now, 0.2, 1))
    rng.uniform(0.15, 0.3)
    assert watch.due_s(now, now) == pytest.approx(now + 0.2)
    drawn_s = rng.uniform(0.0, 0.010)
    assert watch.due_s(now, now) == pytest.approx(now + drawn_s)


def test_a_round_trip_is_a_heartbeat_and_its_own_answer() -> None:
    watch = Watch(WatchedRandom("seed"))
    heartbeat = AppendEntries("0", "1", 1, 0, 0, (), 0, round=7)
    for at_s, number in ((5.0, 6), (5.001, 7)):
        reply = AppendEntriesReply("1", "0", 1, success=True, match_index=0, round=number)
        if number == 6:
            watch.debug("", trace=MessageSent(at_s, heartbeat))
        watch.debug("", trace=MessageReceived(at_s, reply, 1, None, Role.LEADER))
    assert watch.round_trips_s == [pytest.approx(0.001)]


def test_best_is_the_median_of_each_trials_own() -> None:
    trips = (0.001, 0.003)
    trials = tuple(Trial(took, took - 0.005, 1, trips) for took in (0.1, 0.2, 0.6))
    row = Result(Setup(Case.DISCONNECT, 3, Timing(), 0), trials).summary()
    assert row["p50"] == pytest.approx(200)
    assert row["best"] == pytest.approx(195 + 2)
    assert row["above_best"] == pytest.approx(3)


# -- the command -------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_writes_json_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_path, plot_path = tmp_path / "election.json", tmp_path / "election.png"
    files = ["--json", str(json_path), "--plot", str(plot_path)]
    code = election.main([*QUICK_ARGS, "--nodes", "3", "5", "--trials", "2", *files])
    assert code == 0
    out = capsys.readouterr().out
    assert "p50−best" in out
    assert all(case.value in out for case in Case)
    rows: list[dict[str, Any]] = json.loads(json_path.read_text(encoding="utf-8"))["results"]
    assert [(row["case"], row["nodes"]) for row in rows] == [
        (case.value, nodes) for case in Case for nodes in (3, 5)
    ]
    for row in rows:
        assert row["n"] == 2
        assert row["unit"] == "ms"
        assert row["min"] <= row["p50"] <= row["p90"] <= row["p99"] <= row["max"]
        assert math.isfinite(row["best"])
        assert row["best"] > 0
    assert plot_path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nodes", "2"], "'2' is not a number from 3 to 15"),
        (["--nodes", "3", "x"], "'x' is not a number from 3 to 15"),
        (["--trials", "0"], "'0' is not a number from 1"),
        (["--case", "crash"], "'crash' is not one of bootstrap, disconnect, stop"),
        (["--heartbeat-ms", "3000"], "heartbeat_interval_s is 3 s"),
        (["--election-timeout-ms", "300", "150"], "the lower bound is above the upper"),
        (["--election-timeout-ms", "nan", "150"], "positive, finite time"),
        (["--json", "no/such/directory/file.json"], "there is no directory"),
        (["--json", "."], "it is a directory"),
        (["--plot", "election.txt"], "ends in .png"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        election.main(argv)
    assert exit_info.value.code == election.EXIT_USAGE
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_help_shows_cases_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        election.main(["--help"])
    assert exit_info.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert all(case.value in out for case in Case)


def test_an_election_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.election_cluster.PATIENCE_TIMEOUTS", 0.1)
    code = election.main([*QUICK_ARGS, "--nodes", "3", "--trials", "1", "--case", "bootstrap"])
    assert code == election.EXIT_FAILED
    assert "waited 0.012 s for a leader" in capsys.readouterr().err


def test_ctrl_c_prints_what_was_measured_so_far(tmp_path: Path) -> None:
    json_path = tmp_path / "election.json"
    argv = [sys.executable, "-m", "benchmarks.election", *QUICK_ARGS, "--case", "disconnect"]
    argv += ["--nodes", "3", "5", "7", "--trials", "3", "--json", str(json_path)]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        if process.stderr is None:
            pytest.fail("there is no pipe to read")
        said = process.stderr.readline()  # the first setup is done, the second begins
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert said.startswith("disconnect, 3 nodes: 3 trials")
    assert process.returncode == election.EXIT_INTERRUPTED
    assert "Traceback" not in err
    assert "interrupted" in err
    assert "disconnect" in out
    document = json.loads(json_path.read_text(encoding="utf-8"))
    assert document["interrupted"] is True
    assert document["results"][0]["n"] == 3
