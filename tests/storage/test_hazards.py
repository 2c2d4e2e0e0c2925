"""What other implementations got wrong between a crash and the next opening.

The rest of hazards S3 and V7 stands in `test_sqlite_snapshots` and `test_sqlite_open`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trioraft import CorruptStorage, Entry, StorageError
from trioraft.core.types import HardState, SnapshotMeta
from trioraft.storage.log_database import WAL_BYTES_MAX, Base, meta_row
from trioraft.storage.records import RECORD_BYTES_MAX

from .support import (
    DATABASE,
    VOTERS,
    content,
    crashed_copy,
    entries,
    filled,
    flip,
    open_storage,
    snapshot,
)


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "crashed"])
@pytest.mark.parametrize("is_compacted", [True, False], ids=["compacted", "whole"])
def test_d3_replay_does_not_bring_truncated_entries_back(
    is_closed: bool, is_compacted: bool, tmp_path: Path
) -> None:
    """Twice cut and written again with fewer entries, over several openings."""
    storage, _ = open_storage(tmp_path / "a")
    storage.append(HardState(1, "0"), entries(1, 100), 1)
    storage.append(HardState(2, "1"), entries(50, 20, 2), 50)
    if is_compacted:
        snapshot(storage, 10, 1)
        storage.compact(10, 1)
    storage.close()
    storage, _ = open_storage(tmp_path / "a")
    storage.append(HardState(3, "2"), entries(40, 1, 3), 40)
    storage.append(None, entries(41, 30, 3), 41)
    storage.append(None, (), 60)
    path = tmp_path / "a" if is_closed else crashed_copy(storage, tmp_path / "b")
    storage.close()
    base = 10 if is_compacted else 0
    expected = (*entries(base + 1, 39 - base), *entries(40, 20, 3))
    for _ in range(2):
        recovered = content(path)
        assert recovered is not None
        assert recovered.entries == expected
        assert recovered.hard_state == HardState(3, "2")


def test_d4_the_base_is_never_beyond_the_log_after_a_crash(tmp_path: Path) -> None:
    """The commit index is not stored; base and snapshot are what stands for it."""
    storage = filled(tmp_path / "a")
    snapshot(storage, 44, 3)
    copies = [crashed_copy(storage, tmp_path / "snapshot")]
    storage.compact(44, 3)
    copies.append(crashed_copy(storage, tmp_path / "compacted"))
    with pytest.raises(StorageError, match="cannot be compacted up to entry 300"):
        storage.compact(300, 3)
    storage.append(None, (), 45)  # cut down to the base
    copies.append(crashed_copy(storage, tmp_path / "cut"))
    meta = SnapshotMeta(500, 9, VOTERS, 0, 0)
    storage.receive_chunk(meta, 0, b"")
    storage.install_snapshot(meta)
    copies.append(crashed_copy(storage, tmp_path / "installed"))
    storage.close()
    ends: list[tuple[int, int]] = []
    for copy in copies:
        recovered = content(copy)
        assert recovered is not None
        assert recovered.snapshot is not None
        last_index = recovered.base_index + len(recovered.entries)
        assert recovered.base_index <= recovered.snapshot.index <= last_index
        ends.append((recovered.base_index, last_index))
    assert ends == [(0, 247), (44, 247), (44, 44), (500, 500)]


def test_d4_a_base_beyond_the_log_is_refused(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    snapshot(storage, 44, 3)
    storage.close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        newest = connection.execute("SELECT max(number) FROM records").fetchone()[0]
        row = meta_row("base", Base(300, 6, newest))
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)
    connection.close()
    with pytest.raises(CorruptStorage, match="begins after entry 300 and ends at 247"):
        open_storage(tmp_path)


def test_d6_a_record_larger_than_any_growth_step(tmp_path: Path) -> None:
    """Larger than the write-ahead log may grow, and an append larger than a record."""
    storage, _ = open_storage(tmp_path / "a")
    storage.append(HardState(1, "1"), entries(1, 1), 1)
    large = [Entry(2, 1, b"x" * (3 * WAL_BYTES_MAX))]
    larger = [Entry(index, 1, bytes([index]) * (RECORD_BYTES_MAX // 2)) for index in range(3, 6)]
    storage.append(None, large, 2)
    storage.append(None, larger, 3)
    storage.append(None, entries(6, 1), 6)
    expected = (*entries(1, 1), *large, *larger, *entries(6, 1))
    copy = crashed_copy(storage, tmp_path / "b")
    storage.close()
    for path in (tmp_path / "a", copy):
        recovered = content(path)
        assert recovered is not None
        assert recovered.entries == expected, "(too long to be shown)"
        assert recovered.hard_state == HardState(1, "1")


def test_v7_a_corrupt_vote_is_noticed(tmp_path: Path) -> None:
    """Neither another vote nor none: the node stays down."""
    storage, _ = open_storage(tmp_path)
    storage.append(HardState(7, "the node we voted for"), (), None)
    storage.close()
    database = tmp_path / DATABASE
    position = database.read_bytes().rindex(b"the node we voted for")
    for offset in (0, 20, -2):  # the vote, and the term before it
        flip(database, position + offset)
        with pytest.raises(
            CorruptStorage, match=r"does not match its CRC-32.* trioraft admin replace"
        ):
            open_storage(tmp_path)
        flip(database, position + offset)
    recovered = content(tmp_path)
    assert recovered is not None
    assert recovered.hard_state == HardState(7, "the node we voted for")
