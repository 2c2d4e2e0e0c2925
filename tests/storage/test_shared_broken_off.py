"""A write that is broken off half-way, by want of memory or Ctrl-C, is nobody's beginning."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trioraft import SharedLog, StorageError
from trioraft.core.types import HardState, Recovered
from trioraft.storage.shared_database import SharedDatabase

from .shared import GROUPS, content, entries_of, fill, open_group, opened
from .support import content as content_of_one
from .support import crashed_copy, entries, filled, snapshot

REFUSED = r"failed earlier and is not used any more: .* was broken off \(MemoryError\)"


def breaks_off_once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException
) -> None:
    """Its next call raises that, and does nothing."""
    as_ever: Callable[..., Any] = getattr(owner, name)

    def failing(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(owner, name, as_ever)
        raise error

    monkeypatch.setattr(owner, name, failing)


def append(
    storage: Any, group: str, index: int, identity: bytes | None = None, count: int = 1
) -> None:
    storage.append(HardState(1, group), entries_of(group, index, count), index, identity)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_d5_nobody_writes_into_a_transaction_that_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """What others wrote next would be in it, and acknowledged, and never be committed."""
    with opened(tmp_path / "s") as (_, storages):
        fill(storages, 1, 2)
        breaks_off_once(monkeypatch, SharedDatabase, "_insert_rows", error)
        with pytest.raises(type(error)):
            append(storages["eu"], "eu", 3, b"identity")  # more than one statement
        acknowledged = dict.fromkeys(GROUPS, 2)
        for group in ("us", "as", "eu"):
            with suppress(StorageError):
                append(storages[group], group, 3)
                acknowledged[group] = 3
        shutil.copytree(tmp_path / "s", tmp_path / "killed")
    for group, found in content(tmp_path / "killed").items():
        assert isinstance(found, Recovered)
        assert len(found.entries) >= acknowledged[group], f"of group {group}, {acknowledged}"
        assert found.entries == tuple(entries_of(group, 1, len(found.entries)))


def test_who_waited_with_it_is_told_that_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as (shared, storages):
        fill(storages, 1, 2)
        breaks_off_once(monkeypatch, SharedDatabase, "_insert_rows", MemoryError())
        calls = [partial(append, storages[group], group, 3, b"x") for group in GROUPS]
        with pytest.raises(MemoryError):
            shared.write_together(calls)
        for group in GROUPS:
            with pytest.raises(StorageError, match=REFUSED):
                append(storages[group], group, 3)
        with pytest.raises(StorageError, match=REFUSED):
            open_group(shared, "new")
    for group, found in content(tmp_path).items():
        assert found == Recovered(HardState(1, group), tuple(entries_of(group, 1, 2)))


class OutOfMemory:
    """A connection that lacks memory once, after a transaction was begun."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._has_failed = False

    def executemany(self, *args: Any) -> object:
        if not self._has_failed:
            self._has_failed = True
            raise MemoryError
        return self._connection.executemany(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("is_compaction", [False, True])
def test_so_it_is_with_a_log_of_its_own(tmp_path: Path, is_compaction: bool) -> None:
    storage = filled(tmp_path / "s")
    snapshot(storage, 200, 5)
    assert storage._opened is not None
    log = storage._opened.log
    log._connection = OutOfMemory(log._connection)  # type: ignore[assignment] # as good as one
    call = partial(storage.append, None, entries(248, 1, 6), 248, b"identity")
    if is_compaction:
        call = partial(storage.compact, 150, 5)
    with pytest.raises(MemoryError):
        call()
    with pytest.raises(StorageError, match=REFUSED):
        storage.append(None, entries(248, 1, 6), 248)
    found = content_of_one(crashed_copy(storage, tmp_path / "killed"))
    storage.close()
    assert found is not None
    assert len(found.entries) == 247


class Turn:
    """The turn at a database, and whether anybody waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.is_waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_what_is_written_while_it_is_closed_does_not_have_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing removes the write-ahead log; a note after that, that it is open, would make the next
    one miss it."""
    insert, has_begun, turn = SharedDatabase._insert, threading.Event(), Turn()

    def slow(database: SharedDatabase, rows: Sequence[Any], groups: Sequence[Any]) -> None:
        insert(database, rows, groups)
        if not groups:  # not the beginning of a group
            has_begun.set()
            assert turn.is_waited_for.wait(60)

    def without_room(database: SharedDatabase) -> None:
        """Something is in the write-ahead log, and nothing is noted."""
        database._connection.execute("UPDATE meta SET crc = crc")

    monkeypatch.setattr(SharedDatabase, "_insert", slow)
    monkeypatch.setattr(SharedDatabase, "write_probe", without_room)
    shared = SharedLog(tmp_path)
    shared.open(cluster_id="tests", node_id="0")
    assert shared._opened is not None
    database = shared._opened.database
    database._turn = turn  # type: ignore[assignment] # of the same kind
    with monkeypatch.context() as before:
        before.setattr(SharedDatabase, "_note", lambda _: None)
        storage, _ = open_group(shared, "eu")
    writer = threading.Thread(target=append, args=(storage, "eu", 1))
    writer.start()
    assert has_begun.wait(60)
    shared.close()
    writer.join()
    found = content(tmp_path)["eu"]
    assert isinstance(found, Recovered)
    assert len(found.entries) == 1
