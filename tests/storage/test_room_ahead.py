"""The write-ahead log is made longer ahead of what is written, by zeros."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest

from tests.storage.support import entries, open_storage
from trioraft import SQLiteStorage
from trioraft.core.types import HardState
from trioraft.storage.directory import ROOM_AHEAD_BYTES_MAX, WRITE_AHEAD_LOG
from trioraft.storage.log_database import WAL_BYTES_MAX


def opened(path: Path) -> SQLiteStorage:
    storage, _ = open_storage(path)
    storage.append(HardState(1, None), (), None)
    return storage


def test_it_becomes_longer_seldom_and_not_for_ever(tmp_path: Path) -> None:
    storage = opened(tmp_path / "a")
    log = tmp_path / "a" / WRITE_AHEAD_LOG
    sizes = [log.stat().st_size]
    for index in range(1, 701):
        storage.append(None, entries(index, 1, 1), index)
        sizes.append(log.stat().st_size)
    steps = [after - before for before, after in pairwise(sizes)]
    assert sum(step > 0 for step in steps) < 20
    assert max(steps) <= ROOM_AHEAD_BYTES_MAX + 100_000
    assert sizes[-1] <= WAL_BYTES_MAX + 100_000
    storage.close()
    again, recovered = open_storage(tmp_path / "a")
    assert recovered is not None
    assert len(recovered.entries) == 700
    again.close()


def test_where_there_is_no_room_ahead_everything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path / "a")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "pwrite", full)
    for index in range(1, 101):
        storage.append(None, entries(index, 1, 1), index)
    monkeypatch.undo()
    storage.close()
    again, recovered = open_storage(tmp_path / "a")
    assert recovered is not None
    assert len(recovered.entries) == 100
    again.close()


def test_somebody_elses_file_is_left_as_it_is(tmp_path: Path) -> None:
    """It took the place of ours between the look at it and the opening."""
    storage = opened(tmp_path / "a")
    log = tmp_path / "a" / WRITE_AHEAD_LOG
    directory = storage._use().directory
    kept = log.rename(tmp_path / "ours")
    log.write_bytes(b"not ours")
    directory._ahead_bytes = 0
    directory.make_room_ahead(2 * WAL_BYTES_MAX)
    assert log.read_bytes() == b"not ours"
    log.unlink()
    kept.rename(log)
    storage.close()
