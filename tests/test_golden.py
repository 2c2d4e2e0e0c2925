"""The golden files: bytes are what they were, and what they were can still be read.

Rules of this file: what differs is told by name; `python -m tests.golden --update` writes the
files anew, and CONTRIBUTING.md says when that is right.
"""

from __future__ import annotations

import ast
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from tests.golden import examples
from tests.golden.__main__ import main, present_files
from tests.golden.files import FOLDER, Example, differences, sections_of, text_of
from trioraft import SQLiteStorage
from trioraft.core.messages import Message
from trioraft.kv import commands as kv
from trioraft.machines.sessions import Envelope
from trioraft.rpc import protocol


def golden(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_bytes_are_what_they_were(name: str) -> None:
    assert differences(golden(name), text_of(examples.EXAMPLES[name]())) == []


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_what_they_were_can_still_be_read(name: str) -> None:
    sections = sections_of(golden(name))
    for example in examples.EXAMPLES[name]():
        if example.decode is not None:
            assert example.decode(sections[example.name].data) == example.value, example.name


def test_raftlog_is_what_it_was() -> None:
    assert examples.raftlog() == golden(examples.RAFTLOG)


def test_a_database_of_these_rows_can_still_be_opened(tmp_path: Path) -> None:
    """Rows as they stand in the golden file, in a directory that knows nothing else of them."""
    directory = tmp_path / "node"
    examples.fill_directory(directory)
    with closing(sqlite3.connect(directory / "log.sqlite3")) as connection, connection:
        connection.execute("DELETE FROM meta")
        connection.execute("DELETE FROM records")
        for name, section in sections_of(golden("sqlite_rows.txt")).items():
            table, _, _ = name.partition(" ")
            if table == "table":
                continue
            values = (*ast.literal_eval(section.value), section.data)
            places = ", ".join("?" * len(values))
            target = {"meta": "meta", "record": "records"}[table]
            connection.execute(f"INSERT INTO {target} VALUES ({places})", values)  # noqa: S608 - ours
    storage = SQLiteStorage(directory)
    recovered = storage.open(cluster_id="blue", node_id="1")
    storage.close()
    assert recovered is not None
    assert recovered.hard_state == examples.HARD_STATE
    assert recovered.entries == examples.LOG[2:]
    assert (recovered.base_index, recovered.base_term) == (2, 1)


def kinds(values: Iterable[object]) -> set[type]:
    return {type(value) for value in values}


@pytest.mark.parametrize(
    ("union", "values"),
    [
        (Message, examples.PEER_MESSAGES),
        (protocol.Request, examples.REQUESTS),
        (protocol.Answer, [example.value for example in examples.client_frames()]),
        (protocol.NodeNews, examples.NEWS),
        (kv.Command, examples.KV_COMMANDS),
        (kv.Query, examples.KV_QUERIES),
        (kv.Result, examples.KV_RESULTS),
        (kv.Answer, examples.KV_ANSWERS),
        (Envelope, [example.value for example in examples.log_commands()]),
    ],
    ids=lambda value: None,
)
def test_every_kind_has_an_example(union: object, values: Iterable[object]) -> None:
    assert set(get_args(union)) - kinds(values) == set()


def test_names_are_used_once_and_every_file_is_used() -> None:
    for name, make in examples.EXAMPLES.items():
        names = [example.name for example in make()]
        assert len(set(names)) == len(names), name
    written = {path.name for path in FOLDER.glob("*.txt")}
    assert written == {*examples.EXAMPLES, examples.RAFTLOG}


# -- the files themselves ------------------------------------------------------------------

ONE = Example("One", (1, "# not a name"), bytes(range(100)))
TWO = Example("Two", None, b"")


def test_what_is_written_is_read() -> None:
    sections = sections_of(text_of([ONE, TWO]))
    assert list(sections) == ["One", "Two"]
    assert sections["One"].data == ONE.data
    assert sections["One"].value == repr(ONE.value)
    assert sections["Two"].data == b""


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ([ONE], [ONE, TWO], "Two is new"),
        ([ONE, TWO], [ONE], "Two is gone"),
        ([TWO], [Example("Two", None, b"\x01")], "Two was None as , and is None as 01"),
        ([TWO], [Example("Two", 2, b"")], "Two was shown as None, and is 2"),
        ([ONE, TWO], [TWO, ONE], "another order"),
    ],
)
def test_differences_are_told(before: list[Example], now: list[Example], said: str) -> None:
    (difference,) = differences(text_of(before), text_of(now))
    assert said in difference


def test_the_command_compares_and_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.golden.__main__.FOLDER", tmp_path)
    assert main([]) == 1
    assert main(["--update"]) == 0
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == (
        present_files()
    )
    changed = tmp_path / "peer_frames.txt"
    changed.write_text(golden("peer_frames.txt").replace("7472696f", "7472696e"), encoding="utf-8")
    capsys.readouterr()
    assert main([]) == 1
    assert "Hello was PeerHello(magic='trioraft'" in capsys.readouterr().out
    assert main(["--update"]) == 0
    assert main([]) == 0
