"""`trioraft recover`: what it shows, what it asks, and how it ends."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path

import pytest

from tests.storage.support import DATABASE, fingerprint, flip
from trioraft import SQLiteStorage
from trioraft.cli.application import application
from trioraft.storage.recovery import find

from .support import CLUSTER, DISKS, IDENTITY, JOINT, THREE, stopped_node


def run(*args: str, typed: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command's exit code."""
    monkeypatch.setattr(sys, "stdin", StringIO(typed))
    with pytest.raises(SystemExit) as exit_info:
        application().main(["recover", *args])
    return int(exit_info.value.code or 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return stopped_node(tmp_path / "2", THREE, JOINT, snapshot=1)


def test_it_shows_what_the_node_has(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint(directory)
    for args in ([], ["--show", "--voters", "2"]):
        assert run(str(directory), *args, typed="", monkeypatch=monkeypatch) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert [line[15:] for line in out.splitlines()] == [
            str(directory),
            CLUSTER,
            "2",
            "7, voted for 1",
            "index 7, term 6",
            "2 to 7",
            "up to index 1, term 3, 5 bytes",
            "index 2: voters 2, 3; joint with the outgoing 0, 1, 2; learners 4",
            IDENTITY.uuid,
            "102, opening 1",
            "0 on 100, 1 on 101, 2 on 102",
        ]
    assert fingerprint(directory) == before


def test_it_shows_the_same_as_json(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(directory), "--json", typed="", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {
        "directory": str(directory),
        "cluster_id": CLUSTER,
        "node_id": "2",
        "term": 7,
        "voted_for": "1",
        "last_index": 7,
        "last_term": 6,
        "base_index": 1,
        "snapshot": {"index": 1, "term": 3, "size_bytes": 5},
        "configuration": {
            "index": 2,
            "voters": ["2", "3"],
            "outgoing": ["0", "1", "2"],
            "learners": ["4"],
            "is_joint": True,
            "addresses": {},
        },
        "identity": {
            "uuid": IDENTITY.uuid,
            "formed": True,
            "incarnation": 102,
            "openings": 1,
            "record": DISKS,
            "ancestors": [],
        },
        "notices": [],
    }


@pytest.mark.parametrize(("args", "typed"), [(["--yes"], ""), ([], f"{CLUSTER}\n")])
def test_it_recovers_once_it_is_confirmed(
    directory: Path,
    args: list[str],
    typed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = (str(directory), "--voters", "2", "--address", "2=10.0.0.4:7000", *args)
    assert run(*argv, typed=typed, monkeypatch=monkeypatch) == 0
    out, err = capsys.readouterr()
    assert "the survivor with the highest last term" in out
    assert "Nodes 0, 1, 3, 4 must never be started again" in out
    assert "forced a configuration" in out
    assert "Start node 2. Then add nodes" in out
    assert ("Type the name of the cluster" in err) is (not args)
    found = find(directory)
    assert found.configuration.voters == ("2",)
    assert found.configuration.addresses == {"2": ("10.0.0.4", 7000)}
    assert not found.configuration.outgoing
    assert (found.hard_state.term, found.hard_state.voted_for) == (8, None)
    assert (found.last_index, found.last_term) == (8, 8)


@pytest.mark.parametrize("typed", ["", "y\n", "yes\n", f"{CLUSTER}s\n", f" {CLUSTER}\n", "\n"])
def test_anything_but_the_clusters_name_is_a_no(
    directory: Path,
    typed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = fingerprint(directory)
    assert run(str(directory), "--voters", "2", typed=typed, monkeypatch=monkeypatch) == 1
    assert "not confirmed: nothing was changed" in capsys.readouterr().err
    assert fingerprint(directory) == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--voters", "0"], "not among the voters 0"),
        (["--voters", "2,,0"], "--voters is '2,,0': give a name"),
        (["--voters", "2,9"], "9 has no disk yet"),
        (["--voters", "2,9", "--address", "9"], "--address is '9': give ID=HOST:PORT"),
        (["--voters", "2,9", "--address", "9=h:1", "--address", "9=h:2"], "names '9' twice"),
        (["--yes"], "name the voters"),
        (["--json", "--voters", "2"], "--json only shows"),
    ],
)
def test_a_mistake_is_one_message(
    directory: Path,
    args: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = fingerprint(directory)
    assert run(str(directory), *args, typed=f"{CLUSTER}\n", monkeypatch=monkeypatch) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("trioraft recover: ")
    assert err.count("\n") == 1
    assert fingerprint(directory) == before


@pytest.mark.parametrize("trouble", ["runs", "damaged", "is none"])
def test_what_cannot_be_recovered_is_refused_in_one_line(
    directory: Path,
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = SQLiteStorage(directory)
    if trouble == "runs":
        storage.open(cluster_id=CLUSTER, node_id="2")
    elif trouble == "damaged":
        flip(directory / DATABASE, -100)
    else:
        directory = directory.parent
    argv = (str(directory), "--voters", "2", "--yes")
    assert run(*argv, typed="", monkeypatch=monkeypatch) == 1
    err = capsys.readouterr().err
    storage.close()
    assert {
        "runs": "in use by",
        "damaged": "Set the directory aside",
        "is none": "no storage of trioraft",
    }[trouble] in err
    assert err.count("\n") == 1


def test_a_directory_that_is_not_there_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(tmp_path / "nowhere"), typed="", monkeypatch=monkeypatch) == 2
    assert "does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
