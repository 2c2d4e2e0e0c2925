"""A full disk is no disaster, a failing one is final.

Full: nothing of the call is stored, and the storage goes on when there is room. Failed: everything
is refused until it is opened anew (hazard D5).
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trioraft import CorruptStorage, StorageError
from trioraft.core.errors import DiskFull
from trioraft.core.types import HardState, SnapshotMeta
from trioraft.storage.sqlite import SQLiteStorage

from .support import (
    VOTERS,
    WRITE_AHEAD_LOG,
    content,
    crashed_copy,
    entries,
    filled,
    open_storage,
    snapshot,
)


def fill(storage: SQLiteStorage, first: int, count: int = 50) -> int:
    """Append until there is no room. Returns the last index that was stored."""
    for index in range(first, first + 100_000, count):
        try:
            storage.append(HardState(index, "1"), entries(index, count), index)
        except DiskFull:
            return index - 1
    raise AssertionError("there was room without end")


# -- full, by the storage's own bound ----------------------------------------------------------


def test_a_full_log_is_rolled_back_and_goes_on_after_compaction(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path, log_bytes_max=1024 * 1024)
    last_index = fill(storage, 1)
    assert 5000 < last_index < 10_000
    with pytest.raises(DiskFull, match="Nothing of it is stored; make room"):
        storage.append(HardState(99_999, "2"), entries(last_index + 1, 500), last_index + 1)
    storage.close()
    storage, recovered = open_storage(tmp_path, log_bytes_max=1024 * 1024)
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, last_index))
    assert recovered.hard_state == HardState(last_index - 49, "1")
    snapshot(storage, last_index - 10, 1)
    storage.compact(last_index - 10, 1)
    storage.append(None, entries(last_index + 1, 500), last_index + 1)
    storage.close()
    recovered = content(tmp_path)
    assert recovered is not None
    assert recovered.entries == tuple(entries(last_index - 9, 510))


def test_a_full_log_can_be_opened_and_closed_again_and_again(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path, log_bytes_max=256 * 1024)
    last_index = fill(storage, 1, 1)
    for _ in range(60):  # each opening writes a little
        storage.close()
        storage, recovered = open_storage(tmp_path, log_bytes_max=256 * 1024)
        assert recovered is not None
        assert len(recovered.entries) == last_index
    storage.close()


def fill_to_the_brim(storage: SQLiteStorage) -> int:
    """Append until there is no room for anything. Returns the last index that was stored."""
    last_index = 0
    for count in (200, 50, 10, 1):
        last_index = fill(storage, last_index + 1, count)
    for _ in range(10_000):  # the rest of the last page
        try:
            storage.append(None, (), None)
        except DiskFull:
            return last_index
    raise AssertionError("there was room without end")


def test_killed_after_an_opening_that_found_no_room(tmp_path: Path) -> None:
    """Nothing was written to the write-ahead log, so nothing is missing there."""
    storage, _ = open_storage(tmp_path / "a", log_bytes_max=1024 * 1024)
    last_index = fill_to_the_brim(storage)
    storage.close()
    storage, _ = open_storage(tmp_path / "a", log_bytes_max=1024 * 1024)
    copy = crashed_copy(storage, tmp_path / "b")
    storage.close()
    recovered = content(copy)
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, last_index))


def append_one_more(storage: SQLiteStorage, last_index: int) -> None:
    storage.append(None, entries(last_index + 1, 1), last_index + 1)


def compact_some(storage: SQLiteStorage, last_index: int) -> None:
    storage.compact(last_index - 10, 1)


@pytest.mark.parametrize("write", [append_one_more, compact_some])
def test_a_write_ahead_log_that_began_late_is_missed_too(
    write: Callable[[SQLiteStorage, int], None], tmp_path: Path
) -> None:
    """There was no room when it was opened; what was written later must not be lost in silence."""
    storage, _ = open_storage(tmp_path / "a", log_bytes_max=1024 * 1024)
    last_index = fill_to_the_brim(storage)
    snapshot(storage, last_index - 10, 1)
    storage.close()
    storage, _ = open_storage(tmp_path / "a", log_bytes_max=1024 * 1024)
    assert storage._opened is not None
    storage._opened.log._connection.execute("PRAGMA max_page_count=1000000")  # there is room now
    write(storage, last_index)
    whole = crashed_copy(storage, tmp_path / "whole")
    lost = crashed_copy(storage, tmp_path / "lost")
    storage.close()
    assert content(whole) == content(storage.directory)
    (lost / WRITE_AHEAD_LOG).unlink()
    with pytest.raises(CorruptStorage, match="missing or cut"):
        open_storage(lost)


# -- full, by a small file system --------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a small disk with")
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted (are we root?): {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_rolled_back_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 1024 * 1024)
    storage, _ = open_storage(small_disk / "storage")
    last_index = fill(storage, 1)
    with pytest.raises(DiskFull):
        storage.append(HardState(99_999, "2"), entries(last_index + 1, 5000), last_index + 1)
    (small_disk / "ballast").unlink()
    storage.append(None, entries(last_index + 1, 50), last_index + 1)
    storage.close()
    recovered = content(small_disk / "storage")
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, last_index + 50))
    assert recovered.hard_state == HardState(last_index - 49, "1")


def test_snapshots_that_find_no_room_leave_nothing(small_disk: Path) -> None:
    storage = filled(small_disk / "storage")
    older = snapshot(storage, 3, 1)
    with pytest.raises(DiskFull, match="writing the snapshot"):
        storage.write_snapshot(44, 3, VOTERS, (b"x" * 100_000 for _ in range(50)))
    sent = SnapshotMeta(500, 9, VOTERS, 5_000_000, 0)
    kept_bytes = 0
    for _ in range(5):  # there is room for these
        kept_bytes = storage.receive_chunk(sent, kept_bytes, b"x" * 100_000)
    with pytest.raises(DiskFull, match=r"received\.part"):
        storage.receive_chunk(sent, kept_bytes, b"x" * 3_000_000)
    assert kept_bytes == 500_000
    assert storage.receive_chunk(sent, kept_bytes + 1, b"") == kept_bytes
    # A small one takes the big one's place, and all of its room.
    data = b"small"
    small = SnapshotMeta(500, 9, VOTERS, len(data), zlib.crc32(data))
    assert storage.receive_chunk(small, 0, data) == len(data)
    assert b"".join(storage.read_snapshot(older)) == b"snapshot 3"
    storage.install_snapshot(small)
    storage.append(None, entries(501, 1, 9), 501)
    storage.close()
    names = sorted(os.listdir(small_disk / "storage"))
    assert not [name for name in names if name.endswith((".tmp", ".part"))], names


def test_a_full_disk_does_not_keep_a_node_from_starting(small_disk: Path) -> None:
    storage = filled(small_disk / "storage")
    storage.close()
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (free.f_bfree * free.f_bsize))
    storage, recovered = open_storage(small_disk / "storage")
    assert recovered is not None
    with pytest.raises(DiskFull):
        storage.append(HardState(9, "2"), entries(248, 1, 9), 248)
    (small_disk / "ballast").unlink()
    storage.append(HardState(9, "2"), entries(248, 1, 9), 248)
    storage.close()
    recovered = content(small_disk / "storage")
    assert recovered is not None
    assert len(recovered.entries) == 248


# -- failing -----------------------------------------------------------------------------------

WRITES_FAIL = """
    import resource, sys
    from trioraft import Entry, StorageError
    from trioraft.storage.sqlite import SQLiteStorage
    storage = SQLiteStorage(sys.argv[1])
    storage.open(cluster_id="tests", node_id="0")
    storage.append(None, [Entry(1, 1, b"kept")], 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for attempt in range(3):
        try:
            storage.append(None, [Entry(2, 1, b"x" * 500_000)], 2)
        except StorageError as error:
            print(type(error).__name__, error)
        # There is room for this, but the disk is not trusted any more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    storage.close()
"""


def test_a_failed_write_is_final(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITES_FAIL), str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("StorageError the disk failed while appending to the log")
    assert all("failed earlier and is not used any more" in line for line in lines[1:])
    recovered = content(tmp_path)
    assert recovered is not None
    assert [e.data for e in recovered.entries] == [b"kept"]


QUOTA = """
    import errno, os, resource, sys
    from trioraft import Entry, StorageError
    from trioraft.storage.sqlite import SQLiteStorage
    storage = SQLiteStorage(sys.argv[1])
    storage.open(cluster_id="tests", node_id="0")
    storage.append(None, [Entry(1, 1, b"kept")], 1)
    # SQLite says SQLITE_IOERR_WRITE for this limit, as it does for a quota.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    pwrite = os.pwrite
    def without_room(*_):
        raise OSError(int(sys.argv[2]), "no room")
    os.pwrite = without_room
    for _ in range(2):
        try:
            storage.append(None, [Entry(2, 1, b"x" * 500_000)], 2)
        except StorageError as error:
            print(type(error).__name__)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    os.pwrite = pwrite
    try:
        storage.append(None, [Entry(2, 1, b"room")], 2)
    except StorageError as error:
        print(type(error).__name__)
    storage.close()
    print(sorted(os.listdir(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("code", "errors", "kept"),
    [
        (errno.EDQUOT, ["DiskFull"] * 2, [b"kept", b"room"]),
        (errno.ENOSPC, ["DiskFull"] * 2, [b"kept", b"room"]),
        (errno.EIO, ["StorageError"] * 3, [b"kept"]),
    ],
)
def test_a_quota_is_a_full_disk(
    code: int, errors: list[str], kept: list[bytes], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(QUOTA), str(tmp_path), str(code)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == [*errors, "['log.sqlite3', 'trioraft.lock']"]
    recovered = content(tmp_path)
    assert recovered is not None
    assert [e.data for e in recovered.entries] == kept


def calls(storage: SQLiteStorage) -> list[Callable[[], object]]:
    """Everything that may be asked of an open storage."""
    meta = SnapshotMeta(500, 9, VOTERS, 1, 0)
    return [
        lambda: storage.append(None, entries(248, 1, 6), 248),
        lambda: storage.compact(3, 1),
        lambda: snapshot(storage, 44, 3),
        lambda: storage.read_snapshot(meta),
        lambda: storage.read_chunk(meta, 0, 1),
        lambda: storage.receive_chunk(meta, 0, b"x"),
        lambda: storage.install_snapshot(meta),
    ]


@pytest.mark.parametrize("where", ["snapshot_files", "received_snapshot"])
def test_a_failed_fsync_is_final(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = filled(tmp_path)
    kept = snapshot(storage, 3, 1)
    syncs: list[int] = []

    def failing(descriptor: int) -> None:
        syncs.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(f"trioraft.storage.{where}.sync_file", failing)
    sent = SnapshotMeta(500, 9, VOTERS, 1, 0)
    writes: dict[str, Callable[[], object]] = {
        "snapshot_files": lambda: snapshot(storage, 44, 3),
        "received_snapshot": lambda: storage.receive_chunk(sent, 0, b"x"),
    }
    with pytest.raises(StorageError, match="Input/output error"):
        writes[where]()
    monkeypatch.undo()
    for call in calls(storage):
        with pytest.raises(StorageError, match="failed earlier and is not used any more"):
            call()
    assert len(syncs) == 1
    storage.close()
    storage, recovered = open_storage(tmp_path)
    assert recovered is not None
    assert recovered.snapshot == kept
    assert len(recovered.entries) == 247
    for call in calls(storage)[:2]:
        call()
    storage.close()


def test_an_error_of_the_state_machine_is_not_the_disks(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise OSError(errno.EIO, "the state machine reads a file of its own")

    storage = filled(tmp_path)
    with pytest.raises(OSError, match="of its own"):
        storage.write_snapshot(3, 1, VOTERS, chunks())
    storage.append(None, entries(248, 1, 6), 248)
    snapshot(storage, 3, 1)
    storage.close()


def test_corruption_found_while_open_is_no_failure(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    meta = SnapshotMeta(500, 9, VOTERS, 1, 12345)
    assert storage.receive_chunk(meta, 0, b"x") == 0
    empty = SnapshotMeta(500, 9, VOTERS, 0, 12345)
    assert storage.receive_chunk(empty, 0, b"") == 0
    with pytest.raises(CorruptStorage):
        storage.install_snapshot(empty)
    storage.append(None, entries(248, 1, 6), 248)
    storage.close()
