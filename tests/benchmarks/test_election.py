"""benchmarks.election: few elections in real time, and what is told of them.

Rules of this file: real sockets and real time are the subject, so timeouts are short and trials
few; nothing here asserts a speed, which other work on the machine could spoil.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from benchmarks.commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from benchmarks.election import command as election
from benchmarks.election.cases import Case, Setup, Trial, expected_best_s, round_trip_s
from benchmarks.election.measuring import measure
from benchmarks.election.pipe import NodeSetup, Outcome
from benchmarks.election.processes import process_cluster
from benchmarks.election.report import Result
from benchmarks.election.watch import Watch, WatchedRandom
from benchmarks.processes import Process, ProcessError, python
from trioraft import Timing
from trioraft.core.events import ElectionTimerStarted, MessageReceived, MessageSent
from trioraft.core.messages import AppendEntries, AppendEntriesReply
from trioraft.core.types import Role

QUICK = Timing(election_timeout_s=(0.060, 0.120), heartbeat_interval_s=0.020)
QUICK_ARGS = ["--election-timeout-ms", "60", "120", "--heartbeat-ms", "20"]
IN_PROCESS = [case for case in Case if not case.has_processes]


def lone_node(directory: Path) -> NodeSetup:
    """A cluster of one process, with default timing."""
    return NodeSetup("", ("0",), str(directory), "seed", (0.150, 0.300), 0.050, True, False)


# -- trials ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", IN_PROCESS)
async def test_every_case_ends_with_a_leader_after_its_timers(case: Case) -> None:
    trials: list[Trial] = []
    await measure(Setup(case, 3, QUICK, seed=1), 2, trials.append)
    assert len(trials) == 2
    for trial in trials:
        assert trial.timers_s is not None
        assert 0 < trial.timers_s < trial.took_s, "nobody campaigns before its timer"
        assert trial.timers_s <= QUICK.election_timeout_s[1]
        assert trial.terms >= 1
    assert 0 < round_trip_s(trials) < QUICK.election_timeout_s[0]


@pytest.mark.parametrize(
    ("case", "fast_failover", "waits"),
    [
        (Case.DISCONNECT, True, True),
        (Case.CRASH, True, False),
        (Case.CRASH, False, True),
    ],
)
async def test_only_a_closed_connection_spares_the_followers_their_timers(
    case: Case, fast_failover: bool, waits: bool
) -> None:
    timing = Timing((0.300, 0.400), 0.020, fast_failover=fast_failover)
    trials: list[Trial] = []
    await measure(Setup(case, 3, timing, seed=2), 1, trials.append)
    timers_s = trials[0].timers_s
    assert timers_s is not None
    assert (timers_s > 0.150) is waits


@pytest.mark.parametrize("case", [case for case in Case if case.has_processes])
async def test_processes_end_with_a_leader_that_takes_proposals(case: Case) -> None:
    """Default timing: processes that share the machine with other tests would depose leaders."""
    trials: list[Trial] = []
    await measure(Setup(case, 3, Timing(), seed=3), 1, trials.append)
    trial = trials[0]
    assert trial.took_s > 0
    if case is Case.KILL:
        assert trial.timers_s is not None
        assert 0 < trial.timers_s < trial.took_s
        assert trial.terms >= 1
    else:
        assert trial.timers_s is None
        assert trial.calls > 10
        assert trial.failed_calls == 0
        assert trial.terms >= 1, "somebody else leads, at least once"


async def test_a_node_process_that_ends_by_itself_ends_the_measurement(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("no directory for a storage", encoding="utf-8")
    with pytest.raises(ProcessError, match="StorageError"):
        async with process_cluster(lone_node(tmp_path)):
            await trio.sleep_forever()


async def test_a_call_that_a_killed_process_took_is_of_unknown_outcome(tmp_path: Path) -> None:
    async with process_cluster(lone_node(tmp_path)) as cluster:
        leader = await cluster.settle()
        node = cluster.nodes[leader.node_id]
        assert (await cluster.call(node.node_id)).outcome is Outcome.DONE
        node.signal(signal.SIGSTOP)  # it takes the call, and never answers
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                assert (await cluster.call(node.node_id)).outcome is Outcome.UNKNOWN

            await trio.testing.wait_all_tasks_blocked()
            cluster.processes.kill(leader.node_id)
        await node.ended.wait()
        assert (await cluster.call(node.node_id)).outcome is Outcome.ELSEWHERE


# -- what a trial is compared with -------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "nodes", "fast_failover", "best_ms"),
    [
        (Case.BOOTSTRAP, 3, True, 150 + 150 / 4),
        (Case.DISCONNECT, 3, True, 150 + 150 / 3 - 25),
        (Case.DISCONNECT, 5, True, 150 + 150 / 5 - 25),
        (Case.CRASH, 3, True, 10 / 3),
        (Case.KILL, 3, True, 10 / 3),
        (Case.CRASH, 3, False, 150 + 150 / 3 - 25),
        (Case.TRANSFER, 3, True, None),
        (Case.ROLLING, 3, True, None),
    ],
)
def test_the_expected_best_is_that_of_the_least_timer(
    case: Case, nodes: int, fast_failover: bool, best_ms: float | None
) -> None:
    setup = Setup(case, nodes, Timing(fast_failover=fast_failover), seed=0)
    best_s = expected_best_s(setup)
    if best_ms is None or best_s is None:
        assert best_ms is best_s is None
    else:
        assert best_s * 1000 == pytest.approx(best_ms)


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


def test_without_timers_there_is_no_best_and_calls_are_counted() -> None:
    trials = (Trial(0.004, None, 1, calls=70), Trial(0.006, None, 2, calls=50, failed_calls=1))
    row = Result(Setup(Case.TRANSFER, 3, Timing(), 0), trials).summary()
    assert row["p50"] == pytest.approx(5)
    assert "best" not in row
    assert (row["calls"], row["failed_calls"], row["split_votes"]) == (120, 1, 1)


# -- the command -------------------------------------------------------------------------------


async def _made_up(setup: Setup, trials: int, note: Callable[[Trial], None]) -> None:
    """The trials are real in the tests above."""
    await trio.lowlevel.checkpoint()
    timed = expected_best_s(setup) is not None
    for number in range(trials):
        timers_s = 0.100 if timed else None
        note(Trial(0.105 + number / 1000, timers_s, 1 + number, (0.001,), calls=0 if timed else 9))


def test_the_command_prints_a_table_and_writes_json_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    json_path, plot_path = tmp_path / "election.json", tmp_path / "election.png"
    files = ["--json", str(json_path), "--plot", str(plot_path)]
    cases = [option for case in Case for option in ("--case", case.value)]
    monkeypatch.setattr(election, "measure", _made_up)
    code = election.main([*QUICK_ARGS, "--nodes", "3", "5", "--trials", "2", *cases, *files])
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
        if "best" in row:
            assert math.isfinite(row["best"])
            assert row["best"] > 0
    assert all(("best" in row) is (row["case"] not in ("transfer", "rolling")) for row in rows)
    assert plot_path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--nodes", "2"], "'2' is not a number from 3 to 15"),
        (["--nodes", "3", "x"], "'x' is not a number from 3 to 15"),
        (["--trials", "0"], "'0' is not a number from 1"),
        (["--case", "stop"], "'stop' is not one of bootstrap, disconnect, crash, kill"),
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
    assert exit_info.value.code == EXIT_USAGE
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
    monkeypatch.setattr("benchmarks.election.watched_cluster.PATIENCE_TIMEOUTS", 0.1)
    code = election.main([*QUICK_ARGS, "--nodes", "3", "--trials", "1", "--case", "bootstrap"])
    assert code == EXIT_FAILED
    assert "waited 0.012 s for a leader" in capsys.readouterr().err


def test_ctrl_c_prints_what_was_measured_so_far(tmp_path: Path) -> None:
    json_path = tmp_path / "election.json"
    arguments = [*QUICK_ARGS, "--case", "disconnect", "--nodes", "3", "5", "7", "--trials", "3"]
    command = python("benchmarks.election", *arguments, "--json", str(json_path))
    with Process(command, joins_errors=True) as process:
        begun = process.next_line()  # the first setup is done, the second begins
        process.signal(signal.SIGINT)
        said = process.rest()
        assert process.wait() == EXIT_INTERRUPTED
    assert begun.startswith("disconnect, 3 nodes: 3 trials")
    assert "Traceback" not in said
    assert "interrupted" in said
    assert "Time without a leader" in said
    document = json.loads(json_path.read_text(encoding="utf-8"))
    assert document["interrupted"] is True
    assert document["results"][0]["n"] == 3
