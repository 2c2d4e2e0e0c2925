"""`trioraft inspect` of a directory that many groups share."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.serve import commands
from tests.storage.shared import GROUPS, entries_of, fill, opened
from tests.storage.support import DATABASE, VOTERS, flip

from .test_inspect import told


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three groups, one of which took a snapshot, as a killed process leaves them."""
    with opened(tmp_path / "open") as (shared, storages):
        fill(storages, 1, 12)
        storages["us"].write_snapshot(10, 1, VOTERS, [b"state"])
        storages["us"].compact(8, 1)
        storages["as"].append(None, entries_of("as", 13, 2, term=2), 13)
        storages["eu"].close()
        shared.forget("eu")
        shutil.copytree(tmp_path / "open", tmp_path / "d")
    return tmp_path / "d"


def fingerprints(directory: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file, and when it was written last."""
    files = (each for each in sorted(directory.rglob("*")) if each.is_file())
    return {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in files}


def test_it_shows_which_groups_there_are(directory: Path) -> None:
    before = fingerprints(directory)
    result = commands.run("inspect", str(directory))
    assert result.exit_code == 0
    for line in ("1, of many groups", "as: 14 records", "us: 4 records", "Nothing that was read"):
        assert line in result.stdout, result.stdout
    assert "eu" not in result.stdout
    assert fingerprints(directory) == before
    found = told(str(directory))
    assert found["groups"] == [{"name": "as", "records": 14}, {"name": "us", "records": 4}]
    assert found["group"] is None


def test_it_shows_one_of_them_as_it_shows_a_node(directory: Path) -> None:
    found = told(str(directory), "--group", "us", "--verify")
    assert (found["group"], found["term"], found["voted_for"]) == ("us", 1, "us")
    assert (found["base_index"], found["last_index"], found["records"]) == (8, 12, 4)
    assert [each["index"] for each in found["entries"]] == [12, 11, 10, 9]
    assert [each["index"] for each in found["snapshots"]] == [10]
    found = told(str(directory), "--group", "as", "--from", "12")
    shown = [(each["index"], each["term"]) for each in found["entries"]]
    assert shown == [(14, 2), (13, 2), (12, 1)]
    result = commands.run("inspect", str(directory), "--group", "us")
    assert "group" in result.stdout
    assert "after index 8" in result.stdout


def test_a_damaged_group_is_told_and_hides_no_other(directory: Path) -> None:
    with opened(directory, ("as", "us")):
        pass
    flip(directory / DATABASE, (directory / DATABASE).read_bytes().rindex(b"us 11/1 ."))
    found = told(str(directory), code=3)
    assert [each["name"] for each in found["groups"]] == ["as", "us"]
    assert "group 'us' has a record" in found["problems"][0]
    found = told(str(directory), "--group", "us", code=3)
    assert [each["index"] for each in found["entries"]] == [12, 10, 9]
    assert told(str(directory), "--group", "as", code=3)["last_index"] == 14


@pytest.mark.parametrize(
    ("statement", "names", "what"),
    [
        ("UPDATE groups SET payload = 3 WHERE id = 2", ["as"], "the row of group number 2"),
        ("UPDATE records SET link_crc = 3 WHERE number = 20", ["as", "us"], "whose record 20 is"),
    ],
)
def test_what_keeps_the_directory_from_being_opened_hides_nothing_else(
    directory: Path, statement: str, names: list[str], what: str
) -> None:
    with opened(directory, ("as", "us")):
        pass
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        connection.execute(statement)
    found = told(str(directory), code=3)
    assert [each["name"] for each in found["groups"]] == names
    assert what in found["problems"][0]
    found = told(str(directory), "--group", "as", code=3)
    assert found["last_index"] == 14
    assert [each["index"] for each in found["entries"]][:2] == [14, 13]


def test_a_group_that_is_not_there(directory: Path, tmp_path: Path) -> None:
    result = commands.run("inspect", str(directory), "--group", "eu")
    assert (result.exit_code, "there is no group 'eu'" in result.stderr) == (1, True)
    assert GROUPS[0] == "eu"
