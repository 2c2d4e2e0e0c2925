"""Formats of the data directory: an earlier release opens it until it must not, and is told why."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trioraft import SQLiteStorage
from trioraft.core.errors import DiskFull, StorageError
from trioraft.core.features import ENTRY_CHECKSUMS, checked_command
from trioraft.core.reconfiguration import configuration_entry
from trioraft.core.types import Configuration, Entry, HardState, Recovered, SnapshotMeta
from trioraft.storage import formats
from trioraft.storage.log_database import meta_row, read_meta

ON = Configuration(("1",), features=(ENTRY_CHECKSUMS,))
PLAIN = (Entry(1, 1, b"a"), Entry(2, 1, b"b"))
SWITCHED = (configuration_entry(ON, 3, 1), checked_command(4, 1, b"c"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node"


def opened(path: Path) -> tuple[SQLiteStorage, Recovered | None]:
    storage = SQLiteStorage(path)
    return storage, storage.open(cluster_id="blue", node_id="1")


def filled(path: Path) -> SQLiteStorage:
    storage, _ = opened(path)
    storage.append(HardState(1, "1"), PLAIN, 1, b"whose disk this is")
    return storage


def format_of(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return read_meta(connection, database, "format", int)


def found_in(path: Path) -> Recovered:
    storage, recovered = opened(path)
    storage.close()
    assert recovered is not None
    return recovered


def database(path: Path) -> Path:
    return path / "log.sqlite3"


def test_opening_and_using_it_leaves_the_oldest_format(path: Path) -> None:
    """So that an earlier release may open it again."""
    storage = filled(path)
    storage.append(None, (configuration_entry(Configuration(("1",)), 3, 1),), 3)
    storage.write_snapshot(2, 1, Configuration(("1",)), [b"content"])
    storage.close()
    assert format_of(database(path)) == formats.OLDEST
    assert not formats.copy_of(database(path), formats.OLDEST).exists()


def test_it_is_migrated_with_the_first_entry_that_needs_it_and_a_copy_is_kept(path: Path) -> None:
    storage = filled(path)
    storage.append(None, SWITCHED, 3)
    copy = formats.copy_of(database(path), formats.OLDEST)
    written = copy.stat().st_mtime_ns
    storage.append(HardState(2, "1"), (checked_command(5, 2, b"d"),), 5)
    storage.close()
    assert format_of(database(path)) == formats.WITH_FEATURES
    assert found_in(path).entries == (*PLAIN, *SWITCHED, checked_command(5, 2, b"d"))
    assert copy.stat().st_mtime_ns == written
    assert copy.stat().st_mode & 0o777 == 0o600
    # What is in the copy is what was there before, whole.
    before = path.parent / "before"
    shutil.copytree(path, before)
    copy.rename(before / "log.sqlite3")
    assert format_of(before / "log.sqlite3") == formats.OLDEST
    recovered = found_in(before)
    assert recovered.entries == PLAIN
    assert recovered.hard_state == HardState(1, "1")
    assert recovered.identity == b"whose disk this is"


def test_a_snapshot_that_needs_it_migrates_it_too(path: Path) -> None:
    for index, keeps_rest in ((9, False), (2, True)):
        node = path / str(index)
        node.parent.mkdir(exist_ok=True)
        storage = filled(node)
        content = b"0123456789"
        configuration = msgspec.structs.replace(ON, index=index)
        meta = SnapshotMeta(index, 1, configuration, len(content), 0xA684C7C6)
        assert storage.receive_chunk(meta, 0, content) == len(content)
        assert not formats.copy_of(database(node), formats.OLDEST).exists()
        storage.install_snapshot(meta)
        storage.close()
        assert format_of(database(node)) == formats.WITH_FEATURES
        recovered = found_in(node)
        assert recovered.snapshot == meta
        assert (recovered.base_index == index) is True
        assert formats.copy_of(database(node), formats.OLDEST).exists(), keeps_rest


def test_truncation_does_not_take_the_format_back(path: Path) -> None:
    """It is refused by an earlier release then that could read it: safe, and seldom."""
    storage = filled(path)
    storage.append(None, SWITCHED, 3)
    storage.append(HardState(3, None), (Entry(3, 3, b"instead"),), 3)
    storage.close()
    assert format_of(database(path)) == formats.WITH_FEATURES
    assert found_in(path).entries == (*PLAIN, Entry(3, 3, b"instead"))


def test_no_room_for_the_copy_is_a_full_disk_and_nothing_is_stored(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = filled(path)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(formats, "keep_copy", no_room)
        with pytest.raises(DiskFull):
            storage.append(None, SWITCHED, 3)
        storage.append(None, (Entry(3, 1, b"plain"),), 3)
    storage.close()
    assert format_of(database(path)) == formats.OLDEST
    storage, _ = opened(path)
    storage.append(None, SWITCHED, 3)
    storage.close()
    assert found_in(path).entries == (*PLAIN, *SWITCHED)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (formats.NEWEST + 1, r"has format 4, written by a newer trioraft; this one knows up to"),
        (1, r"has format 1, written by a trioraft from before the first release; this one knows"),
    ],
)
def test_a_format_that_is_not_known_is_refused_and_nothing_is_changed(
    path: Path, number: int, said: str
) -> None:
    filled(path).close()
    with closing(sqlite3.connect(database(path))) as connection, connection:
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", meta_row("format", number)
        )
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(StorageError, match=said):
        opened(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


# -- a crash at every step of a migration --------------------------------------------------------


class Steps:
    """Copies the directory before each step that changes anything: what kill -9 would leave."""

    def __init__(self, path: Path, copies: Path) -> None:
        self.path = path
        self.copies = copies
        self.names: list[str] = []

    def note(self, name: str) -> None:
        target = self.copies / f"{len(self.names):03}"
        shutil.copytree(self.path, target, ignore=shutil.ignore_patterns("*-shm"))
        self.names.append(name)

    def before(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **named: Any) -> Any:
            self.note(name)
            return function(*arguments, **named)

        return stepped


def crashed_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    """Each step's name, and the directory as it was before it; at last, after all."""
    path, copies = tmp_path / "node", tmp_path / "copies"
    copies.mkdir()
    storage = filled(path)
    steps = Steps(path, copies)
    for name in ("create_private", "sync_file", "sync_directory"):
        monkeypatch.setattr(formats, name, steps.before(name, getattr(formats, name)))
    monkeypatch.setattr(os, "rename", steps.before("rename", os.rename))
    opened = storage._opened
    assert opened is not None
    opened.log._connection.set_trace_callback(steps.note)  # each statement
    storage.append(HardState(2, "1"), SWITCHED, 3, b"another")
    opened.log._connection.set_trace_callback(None)
    steps.note("the end")
    storage.close()
    monkeypatch.undo()
    for number, name in enumerate(steps.names):
        yield name, copies / f"{number:03}"


def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (PLAIN, HardState(1, "1"), b"whose disk this is", formats.OLDEST)
    new = ((*PLAIN, *SWITCHED), HardState(2, "1"), b"another", formats.WITH_FEATURES)
    names, seen = [], []
    for name, path in crashed_migrations(tmp_path, monkeypatch):
        names.append(name)
        recovered = found_in(path)
        number = format_of(database(path))
        state = (recovered.entries, recovered.hard_state, recovered.identity, number)
        assert state in (old, new), name
        seen.append(state == new)
        if state == new:
            assert formats.copy_of(database(path), formats.OLDEST).exists()
        # And it goes on from there: whatever is left over is in nobody's way.
        storage, _ = opened(path)
        storage.append(HardState(3, "1"), SWITCHED, 3)
        storage.close()
        assert found_in(path).entries == (*PLAIN, *SWITCHED)
        assert not list(path.glob("*.new"))
    assert {"create_private", "sync_file", "rename", "sync_directory", "COMMIT"} <= set(names)
    assert seen == sorted(seen)
    assert seen[0] is False
    assert seen[-1] is True


def test_the_number_is_written_in_the_same_transaction_as_what_needs_it(path: Path) -> None:
    storage = filled(path)
    statements: list[str] = []
    opened = storage._opened
    assert opened is not None
    opened.log._connection.set_trace_callback(statements.append)
    storage.append(None, SWITCHED, 3)
    opened.log._connection.set_trace_callback(None)
    storage.close()
    begin, commit = statements.index("BEGIN IMMEDIATE"), statements.index("COMMIT")
    between = statements[begin + 1 : commit]
    assert any("INTO records" in statement for statement in between)
    assert any("INTO meta" in statement and "format" in statement for statement in between)
