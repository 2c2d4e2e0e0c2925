"""Records: long appends are several, lost and foreign ones are noticed."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from trioraft import CorruptStorage, Entry, StorageError
from trioraft.core.types import HardState
from trioraft.storage import records
from trioraft.storage.log_database import RecordEnds
from trioraft.storage.records import Row, StoredWrite, from_row, to_rows

from .support import content, entries, open_storage


def test_a_record_comes_back_as_it_was() -> None:
    record = StoredWrite(7, HardState(3, "2"), 11, tuple(entries(11, 5)))
    (row,) = to_rows(record, 10)
    assert from_row(row, "file", 10) == record
    assert row[:3] == (7, 11, 15)


def test_an_append_that_is_too_long_is_several_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", 10_000)
    storage, _ = open_storage(tmp_path)
    log = entries(1, 1000)
    log[500] = Entry(501, 1, b"x" * 50_000)  # longer than a record may be, alone
    storage.append(HardState(1, "1"), log, 1)
    tail = [Entry(1001 + i, 2, b"y" * 100_000) for i in range(5)]
    storage.append(None, tail, 1001)
    storage.append(HardState(2, "0"), (), None)
    storage.close()
    recovered = content(tmp_path)
    assert recovered is not None
    assert recovered.entries == (*log, *tail)
    assert recovered.hard_state == HardState(2, "0")


def test_rows_are_numbered_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", 3000)
    rows = list(to_rows(StoredWrite(7, HardState(), 1, tuple(entries(1, 200))), 0))
    assert [row[0] for row in rows] == list(range(7, 7 + len(rows)))
    assert len(rows) > 7
    last_index = 0
    for row in rows:
        record = from_row(row, "file", last_index)
        assert record.first_index == last_index + 1
        last_index = row[2]
    assert last_index == 200


def test_an_entry_that_sqlite_cannot_hold_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path)
    log = storage._opened.log if storage._opened else None
    assert log is not None
    log._length_max = 70_000_000  # as if SQLite had been built so; a real limit is 1 GB
    with pytest.raises(StorageError, match=r"an entry takes .* lower Limits.command_bytes_max"):
        storage.append(HardState(9, "9"), [Entry(1, 1, bytes(70_000_000))], 1)
    storage.append(HardState(1, "1"), entries(1, 1), 1)
    storage.close()
    recovered = content(tmp_path)
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, 1))
    assert recovered.hard_state == HardState(1, "1")


@pytest.mark.parametrize("size", [0, 1, 5119, 5120, 5121, 100_000])
def test_the_checksum_is_crc_32_however_it_is_taken(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert records.checksum(data[:size]) == zlib.crc32(data[:size])


def damaged_rows() -> list[Row]:
    (row,) = to_rows(StoredWrite(7, HardState(3, "2"), 11, tuple(entries(11, 5))), 10)
    number, first_index, last_index, crc, payload = row
    (other,) = to_rows(StoredWrite(7, HardState(3, "1"), 11, tuple(entries(11, 5))), 10)
    return [
        (8, first_index, last_index, crc, payload),
        (number, 12, last_index, crc, payload),
        (number, None, last_index, crc, payload),
        (number, first_index, 16, crc, payload),
        (number, first_index, last_index, crc ^ 1, payload),
        (number, first_index, last_index, crc, payload[:-1]),
        (number, first_index, last_index, crc, other[4]),
        (number, first_index, last_index, crc, None),  # type: ignore[list-item] # damage
        (number, first_index, last_index, crc, "text"),  # type: ignore[list-item] # damage
        (number, first_index, last_index, None, payload),  # type: ignore[list-item] # damage
    ]


@pytest.mark.parametrize("row", damaged_rows(), ids=range(len(damaged_rows())))
def test_a_row_that_was_changed_is_corrupt(row: Row) -> None:
    with pytest.raises(CorruptStorage, match=r"the\.db: record \d.*ends at 10"):
        from_row(row, "the.db", 10)


def test_record_ends_find_the_holder_of_an_entry() -> None:
    ends = RecordEnds(5)
    ends.add(None, 0)  # record 5: a hard state
    ends.add(1, 10)  # 6: 1 to 10
    ends.add(8, 9)  # 7: 8 to 9, so 6 ends at 7
    ends.add(None, 9)  # 8
    ends.add(10, 10)  # 9
    ends.add(3, 2)  # 10: cut from 3 on
    ends.add(3, 4)  # 11
    assert [ends.holder(index) for index in (1, 2, 3, 4)] == [6, 6, 11, 11]
    assert [ends.first_needed(base) for base in (0, 1, 2, 3, 4)] == [6, 6, 11, 11, 11]
    assert ends.last_record == 11
    ends.forget_before(11)
    assert (ends.first_record, ends.last_record, ends.holder(4)) == (11, 11, 11)
