"""Compaction of a long log: at once for whoever opens it, in slices for the disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trioraft.storage import log_database

from .support import DATABASE, content, crashed_copy, entries, open_storage, snapshot


def records_in(path: Path) -> int:
    with sqlite3.connect(path / DATABASE) as connection:
        (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
    connection.close()
    return int(count)


def test_a_long_log_goes_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_database, "SWEEP_RECORDS_MAX", 50)
    monkeypatch.setattr(log_database, "WAL_BYTES_MAX", 10 * 8192)
    storage, _ = open_storage(tmp_path / "a")
    for index in range(1, 301):
        storage.append(None, entries(index, 1), index)
    snapshot(storage, 290, 1)
    storage.compact(290, 1)
    left: list[int] = []
    for index in range(301, 341):
        storage.append(None, entries(index, 1), index)
        if index % 10 == 0:
            copy = crashed_copy(storage, tmp_path / str(index))
            recovered = content(copy)
            assert recovered is not None
            assert recovered.base_index == 290
            assert recovered.entries == tuple(entries(291, index - 290))
            left.append(records_in(copy))
    storage.close()
    assert left[0] > left[1] > 50
    assert left[-1] <= 340 - 290 + 2 + 1  # what is held, the marks of opening, and one to spare


def test_large_records_go_in_slices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_database, "SWEEP_BYTES_MAX", 50_000)
    storage, _ = open_storage(tmp_path)
    for index in range(1, 21):
        storage.append(None, entries(index, 1, data_bytes=20_000), index)
    snapshot(storage, 20, 1)
    storage.compact(19, 1)
    storage.close()
    # 2 empty records and 3 of 20 kB begin within the first 50 kB; 20 + 2 were there.
    assert records_in(tmp_path) == 22 - 5


def test_the_room_is_used_again(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path)
    sizes: list[int] = []
    index = 1
    for _ in range(6):
        for _ in range(20):
            storage.append(None, entries(index, 1000), index)
            index += 1000
        snapshot(storage, index - 1, 1)
        storage.compact(index - 1, 1)
        sizes.append((tmp_path / DATABASE).stat().st_size)
    storage.close()
    assert sizes[-1] < 2 * sizes[1]
