"""Bit rot: whatever is flipped in the database's files, never other data comes back.

The one thing that no log can tell from a crash is damage to the very last transaction in the
write-ahead log: it may be missing then, as if it had never been finished, but nothing else.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.thorough import tries
from trioraft import CorruptStorage, Entry
from trioraft.core.types import Recovered
from trioraft.storage import wal_check

from .support import (
    DATABASE,
    WRITE_AHEAD_LOG,
    content,
    crashed_copy,
    entries,
    filled,
    flip,
    open_storage,
    snapshot,
)

FLIPS = tries(100)
FRAME_BYTES = 24 + 8192


@pytest.fixture
def work() -> Iterator[Path]:
    """A place for hundreds of damaged copies: in memory where there is a file system for that."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path) / "damaged"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed storage that was compacted, so that it has free pages too."""
    storage = filled(tmp_path_factory.mktemp("closed") / "s")
    snapshot(storage, 200, 5)
    storage.compact(150, 5)
    for index in range(248, 280):
        storage.append(None, entries(index, 1, 6), index)
    storage.close()
    return storage.directory


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed process leaves: all but a few pages are in the write-ahead log."""
    path = tmp_path_factory.mktemp("crashed")
    storage = filled(path / "a")
    for index in range(248, 256):
        storage.append(None, entries(index, 1, 6), index)
    copy = crashed_copy(storage, path / "b")
    storage.close()
    return copy


def what_becomes_of(damaged: Path) -> Recovered | str:
    """What it holds, also after it was used again; or how it is refused."""
    try:
        storage, recovered = open_storage(damaged)
    except CorruptStorage as error:
        return "refused" if str(damaged) in str(error) else f"without a name: {error}"
    assert recovered is not None
    last_index = recovered.base_index + len(recovered.entries)
    more = entries(last_index + 1, 70, 6)
    storage.append(None, more, last_index + 1)
    storage.close()
    again = content(damaged)
    assert again is not None
    assert again.entries == (*recovered.entries, *more)
    return recovered


def damage(intact: Path, work: Path, name: str, position: int, bit: int) -> Recovered | str:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(intact, work)
    flip(work / name, position, bit)
    return what_becomes_of(work)


def test_flips_in_the_database(closed: Path, work: Path) -> None:
    expected = content(closed)
    assert isinstance(expected, Recovered)
    rng = random.Random(1)
    size = (closed / DATABASE).stat().st_size
    places = [(position, rng.randrange(8)) for position in range(100)]  # SQLite's header
    places += [(rng.randrange(size), rng.randrange(8)) for _ in range(FLIPS)]
    outcomes: Counter[str] = Counter()
    for position, bit in places:
        found = damage(closed, work, DATABASE, position, bit)
        assert found in (expected, "refused"), f"bit {bit} of byte {position}"
        outcomes["refused" if found == "refused" else "same"] += 1
    assert outcomes["refused"] > FLIPS // 3, outcomes


def test_flips_in_every_record(closed: Path, work: Path) -> None:
    """In an entry's data, and in the term and the vote that stand before it."""
    database = (closed / DATABASE).read_bytes()
    for index in (249, 262, 279):
        needle = b"%d/6 ." % index
        position = database.rindex(needle)
        for offset in (0, 50, -3, -8, -10):
            found = damage(closed, work, DATABASE, position + offset, 1)
            assert found == "refused", (index, offset)


def test_the_error_names_file_record_and_entries(closed: Path, tmp_path: Path) -> None:
    position = (closed / DATABASE).read_bytes().rindex(b"262/6 .")
    shutil.copytree(closed, tmp_path / "d")
    flip(tmp_path / "d" / DATABASE, position)
    with pytest.raises(
        CorruptStorage,
        match=r"log\.sqlite3: record \d+ \(entries 262 to 262 .* does not match its CRC-32.* "
        r"Nothing was changed\. Do not restore",
    ):
        open_storage(tmp_path / "d")


def end_of_frames(log: Path) -> int:
    """Where the zeros begin that were written ahead."""
    content = log.read_bytes()
    frames = range(32, len(content) - FRAME_BYTES + 1, FRAME_BYTES)
    return max(start for start in frames if any(content[start : start + 24])) + FRAME_BYTES


def test_flips_in_the_write_ahead_log(crashed: Path, tmp_path: Path, work: Path) -> None:
    shutil.copytree(crashed, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    assert isinstance(expected, Recovered)
    without_last = expected.entries[:-1]
    rng = random.Random(2)
    size = end_of_frames(crashed / WRITE_AHEAD_LOG)
    frames = range(32, size, FRAME_BYTES)
    places = [rng.randrange(32) for _ in range(20)]
    places += [start + offset for start in frames for offset in (0, 5, 8, 16, 4000)]
    places += [rng.randrange(size) for _ in range(FLIPS)]
    outcomes: Counter[str] = Counter()
    for position in places:
        found = damage(crashed, work, WRITE_AHEAD_LOG, position, rng.randrange(8))
        if found == "refused" or found == expected:
            outcomes["refused" if found == "refused" else "same"] += 1
            continue
        assert isinstance(found, Recovered)
        assert found.entries == without_last, f"byte {position} of {size}"
        assert position >= frames[-1], "only the last transaction may be missing"
        outcomes["last missing"] += 1
    assert outcomes["refused"] > FLIPS // 2, outcomes
    assert outcomes["last missing"] > 0, outcomes


def test_an_unfinished_transaction_is_no_damage(crashed: Path, tmp_path: Path) -> None:
    """The process was killed while it wrote: SQLite drops what was never acknowledged."""
    shutil.copytree(crashed, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    assert isinstance(expected, Recovered)
    for cut_bytes in (1, 4000, 8192, 8216):
        work = tmp_path / f"{cut_bytes}"
        shutil.copytree(crashed, work)
        log = work / WRITE_AHEAD_LOG
        with log.open("r+b") as file:
            file.truncate(end_of_frames(log) - cut_bytes)
        found = content(work)
        assert found is not None
        assert found.entries == expected.entries[:-1]


def test_zeros_behind_the_last_frame_are_no_damage(
    crashed: Path, tmp_path: Path, work: Path
) -> None:
    """They are written ahead, and nothing is missed where they are cut, or were never written."""
    shutil.copytree(crashed, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    end, size = end_of_frames(crashed / WRITE_AHEAD_LOG), (crashed / WRITE_AHEAD_LOG).stat().st_size
    assert size > end
    for position in (end, end + 24, (end + size) // 2, size - 1):
        assert damage(crashed, work, WRITE_AHEAD_LOG, position, 3) == expected
    for cut_at in (end, end + 1, end + 5000):
        copy = tmp_path / f"cut at {cut_at}"
        shutil.copytree(crashed, copy)
        with (copy / WRITE_AHEAD_LOG).open("r+b") as file:
            file.truncate(cut_at)
        assert content(copy) == expected


def test_older_rounds_of_the_write_ahead_log_are_no_damage(tmp_path: Path) -> None:
    """After it was copied into the database it is written from its beginning again."""
    storage = filled(tmp_path / "a")
    log: list[Entry] = []
    for index in range(248, 254):
        log += entries(index, 1, 6, data_bytes=1_500_000)
        storage.append(None, log[-1:], index)
        found = content(crashed_copy(storage, tmp_path / str(index)))
        assert found is not None
        assert list(found.entries[247:]) == log
    storage.close()


def test_a_foreign_byte_order_is_read() -> None:
    """SQLite writes its sums over words of the machine that created the log."""
    data = bytes(range(16))
    swapped = b"".join(data[i : i + 4][::-1] for i in range(0, 16, 4))
    same = wal_check._checksum(data, (1, 2), False)
    assert wal_check._checksum(swapped, (1, 2), True) == same
