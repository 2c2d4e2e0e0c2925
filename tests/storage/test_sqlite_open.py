"""Opening a SQLiteStorage: whose it is, what it refuses, and that a refusal changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trioraft import ConfigError, CorruptStorage, StorageError
from trioraft.core.types import HardState
from trioraft.storage.formats import NEWEST
from trioraft.storage.log_database import meta_row
from trioraft.storage.recovery import look_into
from trioraft.storage.sqlite import SQLiteStorage

from .support import (
    CLUSTER,
    DATABASE,
    LOCK,
    WRITE_AHEAD_LOG,
    content,
    crashed_copy,
    entries,
    filled,
    fingerprint,
    open_storage,
)


def refused(path: Path, kind: type[StorageError], *words: str) -> str:
    """Opening fails with this error and these words, and changes nothing."""
    before = fingerprint(path)
    with pytest.raises(StorageError) as caught:
        open_storage(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert str(path) in message
    for word in words:
        assert word in message, message
    assert fingerprint(path) == before
    return message


# -- whose directory ---------------------------------------------------------------------------


def test_a_missing_directory_is_created(tmp_path: Path) -> None:
    storage, recovered = open_storage(tmp_path / "deep" / "down")
    assert recovered is None
    assert storage.directory == tmp_path / "deep" / "down"
    storage.close()
    assert sorted(os.listdir(storage.directory)) == [DATABASE, LOCK]


def test_nothing_happens_before_open(tmp_path: Path) -> None:
    SQLiteStorage(tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    refused(tmp_path, StorageError, "not empty", "thesis.txt", "new directory")


def test_a_fresh_volume_is_as_good_as_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    storage, recovered = open_storage(tmp_path)
    assert recovered is None
    storage.close()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be used as a storage"):
        open_storage(tmp_path / "file")


def test_another_node_is_refused(tmp_path: Path) -> None:
    filled(tmp_path).close()
    before = fingerprint(tmp_path)
    for cluster_id, node_id in ((CLUSTER, "1"), ("other", "0")):
        with pytest.raises(StorageError, match=r"belongs to node '0' of cluster 'tests', not"):
            SQLiteStorage(tmp_path).open(cluster_id=cluster_id, node_id=node_id)
    assert fingerprint(tmp_path) == before


def test_a_bound_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="log_bytes_max is 5"):
        SQLiteStorage(tmp_path, log_bytes_max=5)


# -- who holds it ------------------------------------------------------------------------------


def test_a_second_storage_in_this_process_is_refused(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    with pytest.raises(StorageError, match=r"in use by this very process.*a directory of its own"):
        open_storage(tmp_path)
    storage.append(None, entries(248, 1, 6), 248)  # and the first one still has its lock
    with pytest.raises(StorageError, match="in use"):
        open_storage(tmp_path)
    storage.close()
    assert content(tmp_path) is not None


OPENER = """
    import sys
    from trioraft import StorageError
    from trioraft.storage.sqlite import SQLiteStorage
    try:
        SQLiteStorage(sys.argv[1]).open(cluster_id="tests", node_id="0")
    except StorageError as error:
        print(error)
"""


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    command = [sys.executable, "-c", textwrap.dedent(OPENER), str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"in use by process {os.getpid()}" in told
    assert str(tmp_path) in told
    storage.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_another_program_in_the_database_is_an_error(tmp_path: Path) -> None:
    filled(tmp_path).close()
    other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match="another program has"):
        open_storage(tmp_path)
    other.execute("COMMIT")
    other.close()
    assert content(tmp_path) is not None


# -- what is not what was written --------------------------------------------------------------


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", meta_row("format", 7))
    connection.close()
    refused(tmp_path, StorageError, "format 7", "newer trioraft", f"up to format {NEWEST}")


def test_an_older_format_is_refused(tmp_path: Path) -> None:
    """As it was before a storage kept an identity; whoever looks into it is told the same."""
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", meta_row("format", 1))
        connection.execute("DELETE FROM meta WHERE key IN ('owner', 'identity')")
    connection.close()
    refused(tmp_path, StorageError, "has format 1", "before the first release", "empty directories")
    with pytest.raises(StorageError, match="has format 1"):
        look_into(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'identity'",
        "UPDATE meta SET payload = x'91c403414141' WHERE key = 'identity'",
        "UPDATE meta SET payload = NULL WHERE key = 'identity'",
        "UPDATE meta SET crc = crc + 1 WHERE key = 'identity'",
    ],
)
def test_a_changed_identity_is_refused(tmp_path: Path, statement: str) -> None:
    storage = filled(tmp_path)
    storage.append(None, (), None, b"whose disk this is")
    storage.close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute(statement)
    connection.close()
    refused(tmp_path, CorruptStorage, "the meta record 'identity'", "Set the directory aside")


def test_a_file_that_is_not_sqlite_is_refused(tmp_path: Path) -> None:
    filled(tmp_path).close()
    (tmp_path / DATABASE).write_bytes(b"not a database\n" * 5000)
    refused(tmp_path, CorruptStorage, "is not an SQLite database", "trioraft admin replace ID")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("page_size=4096",), "another program made this database"),
        (("page_size=8192", "journal_mode=WAL"), "not a database of trioraft"),
    ],
)
def test_another_database_is_refused(settings: tuple[str, ...], words: str, tmp_path: Path) -> None:
    filled(tmp_path).close()
    (tmp_path / DATABASE).unlink()
    other = sqlite3.connect(tmp_path / DATABASE)
    for setting in settings:
        other.execute(f"PRAGMA {setting}")
    other.execute("CREATE TABLE cats (name)")
    other.close()
    refused(tmp_path, CorruptStorage, words)


@pytest.mark.parametrize("left_bytes", [0, 50, 8192, 5 * 8192, 6 * 8192 + 100])
def test_a_cut_database_is_refused(left_bytes: int, tmp_path: Path) -> None:
    filled(tmp_path).close()
    os.truncate(tmp_path / DATABASE, left_bytes)
    refused(tmp_path, CorruptStorage, f"is {left_bytes} bytes long", "cut")


def test_a_cut_database_is_noticed_after_a_crash(tmp_path: Path) -> None:
    storage = filled(tmp_path / "a")
    storage.close()
    storage.open(cluster_id=CLUSTER, node_id="0")
    storage.append(None, entries(248, 1, 6), 248)
    copy = crashed_copy(storage, tmp_path / "b")
    os.truncate(copy / DATABASE, 4 * 8192)
    refused(copy, CorruptStorage, "cut")
    storage.close()


def test_a_missing_database_is_not_a_new_node(tmp_path: Path) -> None:
    filled(tmp_path).close()
    (tmp_path / DATABASE).unlink()
    refused(tmp_path, CorruptStorage, "is gone", "trioraft admin replace ID")


def test_a_missing_write_ahead_log_is_noticed(tmp_path: Path) -> None:
    storage = filled(tmp_path / "a")
    copy = crashed_copy(storage, tmp_path / "b")
    os.rename(copy / WRITE_AHEAD_LOG, tmp_path / "kept")
    refused(copy, CorruptStorage, WRITE_AHEAD_LOG, "missing or cut", "Bring it back")
    refused(copy, CorruptStorage, "start the node with an empty one", "trioraft admin replace ID")
    refused(copy, CorruptStorage, "missing or cut")  # and again: the evidence stays
    os.rename(tmp_path / "kept", copy / WRITE_AHEAD_LOG)
    storage.close()
    assert content(copy) == content(storage.directory)


def test_v7_a_missing_hard_state_is_noticed(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path)
    storage.append(HardState(7, "1"), (), None)
    storage.close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("DELETE FROM records")
    connection.close()
    refused(tmp_path, CorruptStorage, "term and vote are lost", "trioraft admin replace ID")


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_a_missing_record_is_noticed(number: int, tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("DELETE FROM records WHERE number = ?", (number,))
    connection.close()
    refused(tmp_path, CorruptStorage, f"record {number + 1} ", f"where number {number} should be")


def test_a_missing_base_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'base'")
    connection.close()
    refused(tmp_path, CorruptStorage, "'base'", "missing")


# -- what a crash may leave --------------------------------------------------------------------


def test_a_crash_while_creating_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"")
    (tmp_path / "log.sqlite3.new").write_bytes(b"half a database")
    storage, recovered = open_storage(tmp_path)
    assert recovered is None
    storage.close()
    assert sorted(os.listdir(tmp_path)) == [DATABASE, LOCK]


def test_a_crash_while_opening_is_harmless(tmp_path: Path) -> None:
    storage = filled(tmp_path / "a")
    copy = crashed_copy(storage, tmp_path / "b")
    again = crashed_copy(storage, tmp_path / "c")
    storage.close()
    expected = content(storage.directory)
    for _ in range(3):
        reopened, recovered = open_storage(copy)
        assert recovered == expected
        shutil.rmtree(again)
        crashed_copy(reopened, again)
        reopened.close()
        assert content(again) == expected


# -- what durability stands on -----------------------------------------------------------------


def test_sqlite_is_told_to_be_durable(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path)
    assert storage._opened is not None
    execute = storage._opened.log._connection.execute
    settings = {
        name: execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "locking_mode", "wal_autocheckpoint")
    }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "locking_mode": "exclusive",
        "wal_autocheckpoint": 0,
    }
    storage.close()
