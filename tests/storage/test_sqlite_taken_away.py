"""What is done to a directory while its storage is open: nothing is acknowledged that the next
start would not find, and nobody else's files are touched.

Each test takes something away between two writes; the second one, which succeeds as far as SQLite
and the kernel are concerned, must be refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from trioraft import StorageError
from trioraft.storage.directory import LOCK
from trioraft.storage.sqlite import SQLiteStorage

from .support import (
    DATABASE,
    VOTERS,
    WRITE_AHEAD_LOG,
    content,
    entries,
    fingerprint,
    open_storage,
    snapshot,
)


def removed(path: Path) -> None:
    shutil.rmtree(path)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced_by_nothing(path: Path) -> None:
    """As when a volume is unmounted: what lay under it shows again."""
    moved(path)
    path.mkdir()


def replaced_by_a_copy(path: Path) -> None:
    """As when a backup is played in."""
    moved(path)
    shutil.copytree(path.with_name("elsewhere"), path)


def database_removed(path: Path) -> None:
    (path / DATABASE).unlink()


def database_moved(path: Path) -> None:
    (path / DATABASE).rename(path / "log.bak")


def database_replaced(path: Path) -> None:
    shutil.copy(path / DATABASE, path / "copy")
    (path / "copy").replace(path / DATABASE)


def write_ahead_log_removed(path: Path) -> None:
    (path / WRITE_AHEAD_LOG).unlink()


def write_ahead_log_replaced(path: Path) -> None:
    shutil.copy(path / WRITE_AHEAD_LOG, path / "copy")
    (path / "copy").replace(path / WRITE_AHEAD_LOG)


def database_emptied(path: Path) -> None:
    """As by `> log.sqlite3`, or by what turns over logs."""
    os.truncate(path / DATABASE, 0)


def write_ahead_log_emptied(path: Path) -> None:
    os.truncate(path / WRITE_AHEAD_LOG, 0)


def write_ahead_log_cut(path: Path) -> None:
    os.truncate(path / WRITE_AHEAD_LOG, (path / WRITE_AHEAD_LOG).stat().st_size - 1)


WAYS = (
    removed,
    moved,
    replaced_by_nothing,
    replaced_by_a_copy,
    database_removed,
    database_moved,
    database_replaced,
    write_ahead_log_removed,
    write_ahead_log_replaced,
    database_emptied,
    write_ahead_log_emptied,
    write_ahead_log_cut,
)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def take_away(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    way: Callable[[Path], None] = request.param
    return way


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SQLiteStorage]:
    """Open, with five entries."""
    storage, _ = open_storage(tmp_path / "data")
    storage.append(None, entries(1, 5), 1)
    yield storage
    storage.close()


def test_d7_a_write_into_files_that_were_taken_away_is_not_acknowledged(
    storage: SQLiteStorage, take_away: Callable[[Path], None]
) -> None:
    path = storage.directory
    take_away(path)
    with pytest.raises(StorageError) as caught:
        storage.append(None, entries(6, 1), 6)
    message = str(caught.value)
    assert f"{path / DATABASE}" in message
    assert "removed, moved, replaced or cut while this node had it open" in message
    assert "bring back what was there" in message
    assert "trioraft admin replace ID" in message
    with pytest.raises(StorageError, match="failed earlier"):  # and so is everything after it
        storage.append(None, entries(6, 1), 6)


def test_d7_closing_then_touches_nothing(
    storage: SQLiteStorage, take_away: Callable[[Path], None]
) -> None:
    """SQLite would remove the write-ahead log by its name, whosever file that is by now."""
    path = storage.directory
    take_away(path)
    with pytest.raises(StorageError):
        storage.append(None, entries(6, 1), 6)
    before = fingerprint(path) if path.exists() else None
    storage.close()
    assert (fingerprint(path) if path.exists() else None) == before


def test_d7_what_is_brought_back_is_whole(storage: SQLiteStorage) -> None:
    path = storage.directory
    moved(path)
    with pytest.raises(StorageError):
        storage.append(None, entries(6, 1), 6)
    storage.close()
    path.with_name("elsewhere").rename(path)
    recovered = content(path)
    assert recovered is not None
    assert recovered.entries[:5] == tuple(entries(1, 5))


def test_d7_a_snapshot_is_not_written_into_another_directory(
    storage: SQLiteStorage, take_away: Callable[[Path], None]
) -> None:
    path = storage.directory
    take_away(path)
    with pytest.raises(StorageError, match="while this node had it open"):
        snapshot(storage, 3, 1)
    if path.exists():
        assert not [name for name in os.listdir(path) if name.startswith("snapshot")]


def test_d7_nothing_is_forgotten_that_only_a_removed_snapshot_stands_for(
    storage: SQLiteStorage,
) -> None:
    path = storage.directory
    snapshot(storage, 3, 1)
    (found,) = path.glob("snapshot-*")
    found.unlink()
    with pytest.raises(StorageError, match="removed or moved while this node had it"):
        storage.compact(3, 1)
    storage.close()
    recovered = content(path)
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, 5))


def test_d7_a_snapshot_that_was_removed_by_hand_is_an_error_and_not_asked_for_again(
    storage: SQLiteStorage,
) -> None:
    meta = snapshot(storage, 3, 1)
    (found,) = storage.directory.glob("snapshot-*")
    found.unlink()
    with pytest.raises(StorageError, match="removed or moved while this node had it"):
        storage.read_chunk(meta, 0, 10)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_d7_a_received_snapshot_that_was_taken_away_does_not_become_the_base(
    storage: SQLiteStorage, tmp_path: Path, is_replaced: bool
) -> None:
    path = storage.directory
    other, _ = open_storage(tmp_path / "other")
    other.append(None, entries(1, 9), 1)
    meta = other.write_snapshot(9, 1, VOTERS, [b"nine"])
    other.close()
    assert storage.receive_chunk(meta, 0, b"nine") == 4
    (path / "received.part").rename(path / "away")
    if is_replaced:
        shutil.copy(path / "away", path / "received.part")
    with pytest.raises(StorageError, match="while a snapshot was being received"):
        storage.install_snapshot(meta)
    storage.close()
    recovered = content(path)
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, 5))


# -- forks ---------------------------------------------------------------------------------------

FORKING = """
import os, sys
from pathlib import Path
from tests.storage.support import entries, open_storage, snapshot
from trioraft import StorageError

storage, _ = open_storage(Path(sys.argv[1]))
storage.append(None, entries(1, 5), 1)
snapshot(storage, 3, 1)
child = os.fork()
if child == 0:
    for use in (
        lambda: storage.append(None, entries(6, 1, term=9), 6),
        lambda: snapshot(storage, 4, 1),
        lambda: storage.compact(3, 1),
    ):
        try:
            use()
        except StorageError as error:
            assert f"opened by process {os.getppid()}, and this is a fork of it" in str(error)
        else:
            sys.exit(9)
    if sys.argv[2] == "closes":
        storage.close()
    sys.exit(7)  # and Python tears down what is left
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
storage.append(None, entries(6, 1), 6)
print(sorted(os.listdir(sys.argv[1])), flush=True)  # nobody else writes it out
os._exit(0)  # as if it were killed
"""


@pytest.mark.parametrize("how", ["closes", "ends"])
def test_d8_a_fork_neither_uses_nor_closes_what_its_parent_has_open(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FORKING), str(path), how],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert WRITE_AHEAD_LOG in done.stdout
    recovered = content(path)
    assert recovered is not None
    assert recovered.entries == tuple(entries(1, 6))


def test_d8_a_fork_does_not_keep_the_lock(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path / "data")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    os.close(reading)
    storage.close()
    assert content(tmp_path / "data") is not None
    os.close(writing)
    os.waitpid(child, 0)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="looks at /proc")
def test_d8_a_child_that_has_not_run_yet_does_not_keep_the_lock_either(tmp_path: Path) -> None:
    """Between the fork and the child's first moment it holds what its parent held, as this copy of
    the descriptor does."""
    storage, _ = open_storage(tmp_path / "data")
    lock = str(tmp_path / "data" / LOCK)
    held = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if _target(fd) == lock)
    copied = os.dup(held)
    try:
        storage.close()
        assert content(tmp_path / "data") is not None
    finally:
        os.close(copied)


def _target(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # it was that of the listing
        return ""


# -- a file system that became read-only ---------------------------------------------------------


def test_a_file_system_that_became_read_only_is_told_as_such(
    storage: SQLiteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To remount one takes more rights than a test has; the kernel's flag is all that is asked."""
    as_it_is = os.statvfs(storage.directory)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("trioraft.storage.snapshot_files.sync_file", refuse)
    monkeypatch.setattr(
        "os.statvfs", lambda _: SimpleNamespace(f_flag=as_it_is.f_flag | os.ST_RDONLY)
    )
    with pytest.raises(StorageError, match=r"is read-only \(writing .*mount it for writing"):
        snapshot(storage, 3, 1)


def test_a_directory_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    """Whoever runs this may be root, for whom permissions are no obstacle: a file system that is
    read-only for everybody is always there."""
    with pytest.raises(StorageError, match=r"cannot be used as a storage: .*may create or write"):
        open_storage(Path("/proc/1/trioraft"))
    assert not (tmp_path / "data").exists()
