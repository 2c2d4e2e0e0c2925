"""benchmarks.throughput: tiny loads on real processes, and what is told of them.

Rules of this file: real processes, sockets and disks are the subject, so loads are short; nothing
here asserts a speed, which other work on the machine could spoil.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from benchmarks.processes import Process, ProcessError, nodes, python
from benchmarks.processes.pipe import Bound, Peers, line_of
from benchmarks.throughput import command as throughput
from benchmarks.throughput import measuring
from benchmarks.throughput.cases import (
    CONCURRENCIES,
    Case,
    Mode,
    Storage,
    System,
    cases_of,
)
from benchmarks.throughput.measuring import Endurance, Result, Settings, measure
from benchmarks.throughput.pipe import (
    Began,
    Load,
    Mark,
    Opened,
    Setup,
    decode_answer,
)
from benchmarks.throughput.plot import save_plot
from benchmarks.throughput.report import ratio_of


def result_of(case: Case, ops_per_s: float = 1000.0) -> Result:
    return Result(case, int(ops_per_s), 1.0, 0.5, 2.0, 30.0, 40.0, load_average=0.1)


# -- what is measured --------------------------------------------------------------------------


def test_all_cases_are_measured_and_rivals_right_after_each_other() -> None:
    systems, modes = [System.TRIORAFT, System.PYSYNCOBJ], [Mode.TASKS, Mode.WINDOW]
    cases = cases_of(systems, list(Storage), modes, None)
    assert len(cases) == len(set(cases)) == 24
    for ours, theirs in zip(cases[::2], cases[1::2], strict=True):
        assert (ours.system, theirs.system) == (System.TRIORAFT, System.PYSYNCOBJ)
        assert ours.peers == theirs.peers
    assert {case.concurrency for case in cases if case.mode is Mode.TASKS} == {1, 64, 1000}
    assert CONCURRENCIES[Mode.WINDOW] == (64, 1000, 10_000)


def test_what_a_system_has_not_got_is_left_out() -> None:
    cases = cases_of(list(System), [Storage.JOURNAL], [Mode.TASKS], [7, 7])
    assert cases == [Case(System.PYSYNCOBJ, Storage.JOURNAL, Mode.TASKS, 7)]


def test_a_ratio_is_to_the_same_load_on_a_storage_of_the_same_kind() -> None:
    ours = result_of(Case(System.TRIORAFT, Storage.SQLITE, Mode.TASKS, 64), 1000)
    theirs = result_of(Case(System.PYSYNCOBJ, Storage.JOURNAL, Mode.TASKS, 64), 100)
    others = [
        result_of(Case(System.PYSYNCOBJ, Storage.MEMORY, Mode.TASKS, 64), 1),
        result_of(Case(System.PYSYNCOBJ, Storage.JOURNAL, Mode.TASKS, 1), 1),
        result_of(Case(System.PYSYNCOBJ, Storage.JOURNAL, Mode.WINDOW, 64), 1),
    ]
    assert ratio_of(ours, [ours, *others, theirs]) == pytest.approx(10)
    assert ratio_of(ours, [ours, *others]) is None
    assert ratio_of(theirs, [ours, theirs]) is None


def test_endurance_compares_the_first_fifth_with_the_last() -> None:
    slow_half = tuple(Mark(ops, 5 + 2 * (ops - 5), 0.0, 50.0 + ops) for ops in range(6, 11))
    fast_half = tuple(Mark(ops, float(ops), 0.0, 50.0) for ops in range(6))
    row = Endurance(Storage.MEMORY, fast_half + slow_half).row()
    assert row["first_fifth_ops_per_s"] == pytest.approx(1.0)
    assert row["last_fifth_ops_per_s"] == pytest.approx(0.5)
    assert row["change_percent"] == pytest.approx(-50)
    assert (row["entries"], row["rss_mb_max"]) == (10, 60)


def test_endurance_tells_the_first_million_from_the_rest_and_what_it_took_of_a_processor() -> None:
    marks = tuple(
        Mark(
            number * 500_000,
            float(number),
            1.5 * min(number, 2) + max(0, number - 2),
            50.0 + number,
        )
        for number in range(7)
    )
    row = Endurance(Storage.SQLITE, marks).row()
    assert row["first_million"] == {"ops_per_s": 500_000, "cpu_us": 3, "rss_mb_end": 52}
    assert row["after_first_million"] == {"ops_per_s": 500_000, "cpu_us": 2, "rss_mb_end": 56}
    assert (row["first_fifth_cpu_us"], row["last_fifth_cpu_us"]) == (3, 2)


# -- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--storage", "memory", "--mode", "tasks", "--mode", "window", "--concurrency", "8"],
        ["--storage", "sqlite", "--mode", "tasks", "--concurrency", "3"],
    ],
    ids=["memory", "sqlite"],
)
def test_a_tiny_load_is_measured(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "throughput.json"
    common = ["--system", "trioraft", "--seconds", "0.2", "--dir", str(tmp_path)]
    assert throughput.main([*common, *arguments, "--json", str(file)]) == 0
    storage = arguments[1]
    out, err = capsys.readouterr()
    assert "Throughput and latency" in out
    assert f"trioraft, {storage}, tasks" in err, "progress is told"
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["interrupted"] is False
    assert len(written["results"]) == arguments.count("--mode")
    for row in written["results"]:
        assert (row["system"], row["storage"]) == ("trioraft", storage)
        assert row["mode"] in ("tasks", "window")
        assert row["concurrency"] in (3, 8)
        assert row["ops_per_s"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["cpu_us_per_op"] > 0
        assert row["rss_mb"] > 10
    assert [path.name for path in tmp_path.iterdir()] == ["throughput.json"], "all is tidied up"


def test_a_log_grows_and_a_node_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "throughput.json"
    arguments = ["--case", "endurance", "--case", "restart", "--storage", "memory"]
    arguments += ["--entries", "1000", "--dir", str(tmp_path), "--json", str(file)]
    assert throughput.main(arguments) == 0
    out = capsys.readouterr().out
    assert "Does a command become dearer" in out
    assert "How long does a node take to come back" in out
    written = json.loads(file.read_text(encoding="utf-8"))
    assert [row["entries"] for row in written["endurance"]] == [1000]
    assert [row["snapshots"] for row in written["restart"]] == [False, True]
    for row in written["restart"]:
        assert 0 < row["open_s"] <= row["applied_s"]


def test_pysyncobj_is_measured_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("pysyncobj")
    file = tmp_path / "throughput.json"
    arguments = ["--system", "pysyncobj", "--mode", "tasks", "--concurrency", "200"]
    arguments += ["--seconds", "0.2", "--dir", str(tmp_path), "--json", str(file)]
    assert throughput.main(arguments) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert [row["storage"] for row in rows] == ["memory", "journal"]
    assert all(row["ops_per_s"] > 0 and row["cpu_us_per_op"] > 0 for row in rows)


def test_a_missing_pysyncobj_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert throughput.main(["--system", "pysyncobj"]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert "trioraft[bench]" in said
    assert said.count("\n") == 1
    arguments = ["--storage", "journal"]  # which only PySyncObj has
    assert throughput.main(arguments) == EXIT_USAGE
    assert "left out: PySyncObj is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode", "foo"], "'foo' is not one of 'tasks', 'window'"),
        (["--concurrency", "0"], "'--concurrency'"),
        (["--seconds", "no"], "'--seconds'"),
        (["--frobnicate"], "No such option: --frobnicate"),
        (["--system", "trioraft", "--storage", "journal"], "there is no such case"),
        (["--case", "endurance", "--storage", "journal"], "endurance is of trioraft"),
        (["--dir", "no/such/directory"], "give a directory that can be written"),
        (["--json", "no/such/directory/file.json"], "there is no directory"),
        (["--json", "."], "it is a directory"),
        (["--plot", "throughput.txt"], "ends in .png"),
        (["--profile", "throughput.prof"], "--profile is for one case of trioraft"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--system" not in arguments:
        arguments = [*arguments, "--system", "trioraft"]
    assert throughput.main(arguments) == EXIT_USAGE
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert "--profile-follower" in out


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "throughput.png"
    systems, modes = [System.TRIORAFT, System.PYSYNCOBJ], [Mode.TASKS, Mode.WINDOW]
    cases = cases_of(systems, list(Storage), modes, None)
    for some in (cases, cases[:1], cases[-2:]):
        save_plot([result_of(case, 10.0 + 999 * n) for n, case in enumerate(some)], path)
        assert path.read_bytes().startswith(b"\x89PNG")


# -- what goes wrong ---------------------------------------------------------------------------


async def test_a_node_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "file").touch()
    no_directory = nullcontext(str(file))
    monkeypatch.setattr(measuring, "_directory", lambda _settings: no_directory)
    monkeypatch.setattr(measuring, "NODES", 1)  # a process costs half a second
    case = Case(System.TRIORAFT, Storage.SQLITE, Mode.TASKS, 1)
    with pytest.raises(ProcessError, match=r"node \d failed: "):
        await measure(case, Settings(0.2, tmp_path))


def test_a_process_that_dies_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nodes, "line_of", lambda _setup: b"nonsense\n")
    monkeypatch.setattr(measuring, "NODES", 1)
    arguments = ["--system", "trioraft", "--storage", "memory", "--seconds", "0.2"]
    assert throughput.main(arguments) == EXIT_FAILED
    said = capsys.readouterr().err
    assert " ended with exit code 1" in said
    assert "DecodeError" in said


def test_a_node_ends_with_its_input_whatever_it_is_doing(tmp_path: Path) -> None:
    setup = Setup(System.TRIORAFT, Storage.MEMORY, "0", ("0",), str(tmp_path))
    argument = line_of(setup).decode().strip()
    with Process(python("benchmarks.throughput.node", argument)) as node:
        port = decode_answer(node.next_line())
        assert isinstance(port, Bound)
        node.say(line_of(Peers({"0": port.port})))
        node.say(line_of(Load(Mode.TASKS, 2, warm_up_s=0.0, seconds=600.0, ops_min=1)))
        answers = [decode_answer(node.next_line()) for _ in range(2)]
        assert [type(answer) for answer in answers] == [Opened, Began]
        node.end_input()
        assert node.wait() == 0


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="to await another's child takes a pidfd")
def test_ctrl_c_prints_what_was_measured_so_far_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "throughput.json"
    arguments = ["--system", "trioraft"]
    arguments += ["--storage", "memory", "--mode", "tasks", "--concurrency", "2"]
    arguments += ["--concurrency", "3", "--seconds", "0.2", "--dir", str(tmp_path)]
    command = python("benchmarks.throughput", *arguments, "--json", str(file))
    with Process(command, joins_errors=True) as process:
        begun = [process.next_line() for _ in range(2)]  # the first case is done
        children = _wait_for_children(process.pid, 3)
        process.signal(signal.SIGINT)
        said = process.rest()
        assert process.wait() == EXIT_INTERRUPTED
    assert begun == ["trioraft, memory, tasks 2", "trioraft, memory, tasks 3"]
    assert "Traceback" not in said
    assert "interrupted" in said
    assert "2 tasks" in said
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["interrupted"] is True
    assert [row["concurrency"] for row in written["results"]] == [2]
    for descriptor in children:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(0), "a node process outlived the one that started it"
        os.close(descriptor)
    assert [path.name for path in tmp_path.iterdir()] == ["throughput.json"], "all is tidied up"


def _wait_for_children(pid: int, count: int) -> list[int]:
    """Descriptors that become readable when the children of this process end."""
    threads = Path(f"/proc/{pid}/task")
    if not (threads / str(pid) / "children").exists():
        pytest.skip("this kernel does not list children")
    deadline_s = time.monotonic() + 10
    children: list[str] = []
    while len(children) < count:
        children = [child for file in threads.glob("*/children") for child in _words(file)]
        assert time.monotonic() < deadline_s, f"there are only {len(children)} children"
        time.sleep(0.01)  # nothing tells of another's children
    return [os.pidfd_open(int(child)) for child in children]


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []  # that thread is gone
