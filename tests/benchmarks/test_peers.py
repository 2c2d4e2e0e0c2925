"""benchmarks.peers: who is compared with whom, and what is told of it.

Rules of this file: what is told of figures is tested with figures of our own; programs in Go are
built where Go and its libraries are, and the loads on real processes are as short as can be.
Nothing here asserts a speed.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
from pathlib import Path

import attrs
import pytest

from benchmarks.commands import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from benchmarks.peers import command, toolchain
from benchmarks.peers.cases import BIG, LOADS, Load, Peer
from benchmarks.peers.measuring import Settings
from benchmarks.peers.report import BEGIN, END, markdown, updated
from benchmarks.peers.results import Results, Sample, document, merged, ratio_of, read
from benchmarks.processes import Process, ProcessError, python

KEYS = {load.key: load for load in LOADS}
PAGE = Path(__file__).parents[2] / "docs/benchmarks.md"


def results_of(*samples: Sample) -> Results:
    return Results(samples, {"trioraft": "0"}, {"cpus": 2}, {"etcd": "it is not here"}, 1.0)


def sample_of(number: int, key: str, peer: Peer, per_s: float, p50_ms: float = 1.0) -> Sample:
    return Sample(number, key, peer, per_s, p50_ms, 2 * p50_ms, 3 * p50_ms, 40.0, 50.0, ops=9)


# -- ratios ------------------------------------------------------------------------------------


def test_a_ratio_is_of_the_same_round_and_above_one_where_trioraft_is_ahead() -> None:
    ratio = ratio_of({0: 10, 1: 40, 2: 90}, {0: 10, 1: 20, 3: 1}, is_rate=True)
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (1, 1.5, 2), "round 2 and 3 have no other half"
    less = ratio_of({0: 10.0}, {0: 40.0}, is_rate=False)
    assert less is not None
    assert less.median == 4, "a latency of a quarter is four times better"
    assert ratio_of({0: 1}, {1: 1}, is_rate=True) is None
    assert ratio_of({0: 1}, {0: 0}, is_rate=True) is None, "nothing is no times as much"


def test_tables_have_medians_ratios_and_what_limits_their_worth() -> None:
    results = results_of(
        *(sample_of(n, "library/64", Peer.TRIORAFT, rate) for n, rate in enumerate((900, 1000, 5))),
        *(sample_of(n, "library/64", Peer.HASHICORP, rate) for n, rate in enumerate((300, 500, 9))),
        sample_of(0, "service/open", Peer.TRIORAFT, 2000, p50_ms=4.0),
        sample_of(0, "service/open", Peer.ETCD, 2000, p50_ms=1.0),
        attrs.evolve(sample_of(0, "service/big", Peer.TRIORAFT, 30), failed=7, terms=2),
        Sample(0, "kill", Peer.TRIORAFT, trials_ms=(10.0, 20.0)),
        Sample(0, "kill", Peer.ETCD, trials_ms=(300.0, 300.0)),
    )
    text = markdown(results)
    assert "| 64 callers | trioraft | 900 |  | 1.00 | 2.00 | 3.00 | 40 |" in text
    assert "|  | hashicorp/raft | 300 | **2.00** (0.56–3.00) |" in text
    assert "p50 **0.25** (0.25–0.25), p99 **0.25** (0.25–0.25)" in text
    assert f"service, put, {BIG}, trioraft: 9 done, 7 failed, 2 more terms." in text
    assert "| etcd | 2 | 300 | 300 | 300 | 300 | 20 |" in text
    assert "etcd was left out: it is not here" in text
    assert "3 rounds of 1 s" in text


def test_rounds_of_several_runs_are_rounds_of_one() -> None:
    one = results_of(sample_of(0, "library/1", Peer.TRIORAFT, 1))
    two = results_of(
        *(sample_of(n, "library/1", Peer.TRIORAFT, 2 + n) for n in range(2)),
    )
    both = merged([one, two])
    assert [(s.round, s.ops_per_s) for s in both.samples] == [(0, 1), (1, 2), (2, 3)]


def test_a_file_says_all_that_was_measured() -> None:
    results = results_of(
        sample_of(0, "library/1", Peer.TRIORAFT, 1),
        Sample(1, "kill", Peer.ETCD, trials_ms=(1.5,)),
    )
    assert read(json.loads(json.dumps(document(results)))) == results
    with pytest.raises(ValueError, match="no file of benchmarks"):
        read({"benchmark": "kv"})


def test_a_page_is_changed_between_its_marks_only() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert updated(page, "\nnew\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    for wrong in ("no marks", f"{END}\n{BEGIN}", page + page, BEGIN):
        with pytest.raises(ValueError, match="once each"):
            updated(wrong, "new")


def test_the_page_of_benchmarks_has_the_marks() -> None:
    text = PAGE.read_text(encoding="utf-8")
    updated(text, "new")
    assert "python -m benchmarks.peers" in text.replace(BEGIN, "").replace(END, "")


# -- what is there -----------------------------------------------------------------------------


def test_what_is_missing_is_named_as_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert toolchain.what_is_missing(Peer.TRIORAFT) is None
    said = toolchain.what_is_missing(Peer.ETCD, tmp_path)
    assert said is not None
    assert said.endswith("apt-get install etcd-server golang-go golang-etcd-server-dev")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    for folder in toolchain.PROGRAMS[Peer.ETCD].libraries:
        (tmp_path / "src" / folder).mkdir(parents=True)
    assert toolchain.what_is_missing(Peer.ETCD, tmp_path) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "trioraft[bench]" in (toolchain.what_is_missing(Peer.PYSYNCOBJ) or "")


def test_there_are_no_module_files() -> None:
    names = {path.name for path in toolchain.GO_FOLDER.iterdir()}
    assert names == {"load.go", "hashicorp.go", "etcd.go"}
    assert {file for p in toolchain.PROGRAMS.values() for file in p.files} == names


# -- the command, with peers that are figures --------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, Peer]]:
    """What the command has measured, which costs nothing."""
    calls = []

    async def measure(load: Load, peer: Peer, number: int, settings: Settings) -> Sample:
        calls.append((number, load.key, peer))
        assert settings.seconds == 1.5
        if (peer, number) == (Peer.PYSYNCOBJ, 0):
            raise ProcessError("it fell over")
        return sample_of(number, load.key, peer, 100.0 if peer is Peer.TRIORAFT else 50.0)

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(toolchain, "build", lambda _peers, _folder: {})
    monkeypatch.setattr(
        toolchain, "what_is_missing", lambda peer: "it is not here" if peer is Peer.ETCD else None
    )
    monkeypatch.setattr(toolchain, "versions", lambda _peers: {"trioraft": "0"})
    return calls


def test_peers_take_turns_in_each_round_and_one_that_fails_stops_nobody(
    measured: list[tuple[int, str, Peer]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page, plot = (tmp_path / name for name in ("p.json", "p.html", "p.png"))
    arguments = ["--only", "library/1", "service/put/1", "--rounds", "2", "--seconds", "1.5"]
    arguments += ["--json", str(file), "--page", str(page), "--plot", str(plot)]
    assert command.main(arguments) == EXIT_FAILED
    libraries = (Peer.TRIORAFT, Peer.HASHICORP, Peer.PYSYNCOBJ)
    assert measured == [
        (number, key, peer)
        for number in range(2)
        for key, peers in (("library/1", libraries), ("service/put/1", libraries[:1]))
        for peer in peers
    ]
    out, err = capsys.readouterr()
    assert "library/1, pysyncobj failed: it fell over" in err
    assert "Failed: library/1, pysyncobj, round 1: it fell over" in out
    assert "left out: it is not here" in err
    assert "2.00 (2.00–2.00)" in out
    assert len(read(json.loads(file.read_text(encoding="utf-8"))).samples) == 7
    assert "data:image/png;base64," in page.read_text(encoding="utf-8")
    assert plot.stat().st_size > 1000


def test_a_page_is_brought_up_to_date_from_a_file(tmp_path: Path) -> None:
    file, page = tmp_path / "p.json", tmp_path / "p.md"
    results = results_of(sample_of(0, "library/1", Peer.TRIORAFT, 123456))
    file.write_text(json.dumps(document(results)), encoding="utf-8")
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    assert command.main(["--from", str(file), "--update", str(page)]) == 0
    assert "123,456" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "nothing/*"], "nothing is left"),
        (["--only", "library/window", "--peers", "etcd"], "nothing is left"),
        (["--rounds", "0"], "at least 1 round"),
        (["--dir", "/nowhere/at/all"], "give a directory"),
        (["--json", "/nowhere/at/all.json"], "cannot write"),
        (["--from", "/nowhere/at/all.json"], "No such file"),
        (["--peers", "zookeeper"], "invalid Peer value"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_measured(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == EXIT_USAGE
    assert complaint in capsys.readouterr().err


def test_all_loads_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--list"])
    out = capsys.readouterr().out
    assert all(key in out for key in KEYS)


# -- real processes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "keys"),
    [
        (Peer.TRIORAFT, ["library/open", "service/put/64", "service/open"]),
        (Peer.HASHICORP, ["library/64", "kill"]),
        (Peer.ETCD, ["service/get/64", "service/open", "kill"]),
        (Peer.PYSYNCOBJ, ["library/open", "kill"]),
    ],
)
def test_every_peer_is_measured_where_it_is(
    peer: Peer, keys: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (why := toolchain.what_is_missing(peer)) is not None:
        pytest.skip(why)
    file = tmp_path / "peers.json"
    arguments = ["--peers", peer, "--only", *keys, "--rounds", "1", "--seconds", "0.3"]
    arguments += ["--trials", "1", "--dir", str(tmp_path), "--json", str(file)]
    assert command.main(arguments) == 0, capsys.readouterr().err
    samples = read(json.loads(file.read_text(encoding="utf-8"))).samples
    assert sorted(sample.load for sample in samples) == sorted(keys)
    for sample in samples:
        if sample.load == "kill":
            assert len(sample.trials_ms) == 1
            assert sample.trials_ms[0] > 0
            continue
        assert sample.ops_per_s > 0
        assert 0 < sample.p50_ms <= sample.p99_ms <= sample.p999_ms
        assert (sample.failed, sample.terms) == (0, 0)
        if sample.load.endswith("/open"):
            assert sample.ops == 600, "every call that was due is waited for"
    assert [path.name for path in tmp_path.iterdir()] == ["peers.json"], "all is tidied up"


def test_ctrl_c_delivers_what_there_is_and_leaves_nothing(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "peers.json"
    data.mkdir()
    options = ["--peers", "trioraft", "--only", "library/1", "service/put/1", "--seconds", "0.3"]
    options += ["--rounds", "1000", "--dir", str(data), "--json", str(file)]
    with Process(
        python("benchmarks.peers", *options), joins_errors=True, directory=tmp_path
    ) as process:
        while "2/2000" not in process.next_line():
            pass
        process.signal(signal.SIGINT)
        said = process.rest()
        assert process.wait() == EXIT_INTERRUPTED, said
    assert "interrupted" in said
    assert read(json.loads(file.read_text(encoding="utf-8"))).was_interrupted
    assert list(data.iterdir()) == []


@pytest.mark.skipif(shutil.which("go") is None, reason="needs golang-go")
def test_a_program_that_does_not_build_is_said_with_the_compilers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "load.go").write_text(
        "package main\nfunc main() { nonsense() }\n", encoding="utf-8"
    )
    monkeypatch.setattr(toolchain, "GO_FOLDER", tmp_path)
    monkeypatch.setitem(
        toolchain.PROGRAMS, Peer.ETCD, toolchain.Program(files=("load.go",), libraries={})
    )
    with pytest.raises(toolchain.BuildError, match="undefined: nonsense"):
        toolchain.build([Peer.ETCD], tmp_path)
