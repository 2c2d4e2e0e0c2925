"""FaultyStorage: the switches do what they say."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from trioraft import ConfigError, DescriptorsExhausted, MemoryStorage, StorageError
from trioraft.core.errors import DiskFull
from trioraft.core.types import HardState, SnapshotMeta
from trioraft.storage.sqlite import SQLiteStorage
from trioraft.testing.faulty_storage import FaultyStorage

from .support import CLUSTER, VOTERS, entries


def opened(storage: FaultyStorage) -> FaultyStorage:
    storage.open(cluster_id=CLUSTER, node_id="0")
    return storage


def log_of(storage: FaultyStorage) -> int:
    """How many entries are there after a restart."""
    storage.close()
    recovered = storage.open(cluster_id=CLUSTER, node_id="0")
    assert recovered is not None
    return len(recovered.entries)


def test_a_failed_append_stores_nothing_and_is_final() -> None:
    storage = opened(FaultyStorage(MemoryStorage()))
    storage.append(None, entries(1, 1), 1)
    storage.fail_next_append()
    with pytest.raises(StorageError, match="on purpose"):
        storage.append(HardState(1, "1"), entries(2, 1), 2)
    with pytest.raises(StorageError, match="failed earlier"):
        storage.append(None, entries(2, 1), 2)
    assert storage.writes == 1
    assert storage.calls == ["open", "append", "append", "append"]
    assert log_of(storage) == 1
    storage.append(None, entries(2, 1), 2)
    assert log_of(storage) == 2


def test_a_full_disk_is_full_until_it_is_not() -> None:
    storage = opened(FaultyStorage(MemoryStorage()))
    storage.append(None, entries(1, 5), 1)
    storage.write_snapshot(5, 1, VOTERS, [b"x"])
    storage.disk_full = True
    meta = SnapshotMeta(9, 1, VOTERS, 1, 0)
    for call in (
        lambda: storage.append(None, entries(6, 1), 6),
        lambda: storage.append(None, entries(6, 1), 6),
        lambda: storage.write_snapshot(5, 1, VOTERS, [b"x"]),
        lambda: storage.receive_chunk(meta, 0, b"x"),
        lambda: storage.install_snapshot(meta),
        lambda: storage.compact(3, 1),
    ):
        with pytest.raises(DiskFull, match="on purpose"):
            call()
    storage.disk_full = False
    storage.append(None, entries(6, 1), 6)
    assert log_of(storage) == 6
    storage.compact(3, 1)
    assert log_of(storage) == 3


def test_without_descriptors_snapshots_fail_and_the_log_does_not() -> None:
    storage = opened(FaultyStorage(MemoryStorage()))
    storage.append(None, entries(1, 5), 1)
    kept = storage.write_snapshot(5, 1, VOTERS, [b"x"])
    storage.no_descriptors = True
    meta = SnapshotMeta(9, 1, VOTERS, 1, 0)
    for call in (
        lambda: storage.write_snapshot(5, 1, VOTERS, [b"x"]),
        lambda: storage.read_snapshot(kept),
        lambda: storage.read_chunk(kept, 0, 1),
        lambda: storage.receive_chunk(meta, 0, b"x"),
        lambda: storage.install_snapshot(meta),
    ):
        with pytest.raises(DescriptorsExhausted, match="on purpose"):
            call()
    storage.append(None, entries(6, 1), 6)
    storage.compact(3, 1)
    storage.no_descriptors = False
    assert storage.read_chunk(kept, 0, 1) == b"x"
    assert log_of(storage) == 3


def test_one_append_may_find_no_room() -> None:
    storage = opened(FaultyStorage(MemoryStorage()))
    storage.fail_next_append(DiskFull("no room"))
    with pytest.raises(DiskFull):
        storage.append(None, entries(1, 1), 1)
    storage.append(None, entries(1, 1), 1)


def test_a_hanging_disk_holds_an_append_back(tmp_path: Path) -> None:
    storage = opened(FaultyStorage(SQLiteStorage(tmp_path)))
    with storage.held():
        writer = threading.Thread(target=storage.append, args=(None, entries(1, 1), 1))
        writer.start()
        assert storage.wait_until_held(10)
        assert storage.writes == 0
    writer.join()
    assert storage.writes == 1
    assert log_of(storage) == 1
    storage.close()


def test_a_slow_disk_takes_its_time(tmp_path: Path) -> None:
    storage = opened(FaultyStorage(SQLiteStorage(tmp_path)))
    storage.delay_s = 0.05
    start = time.perf_counter()
    storage.append(None, entries(1, 1), 1)
    assert time.perf_counter() - start >= 0.05
    storage.close()


def test_what_is_not_called_in_threads_cannot_wait() -> None:
    storage = opened(FaultyStorage(MemoryStorage()))
    with pytest.raises(ConfigError, match="blocking=True"), storage.held():
        pass
    storage.delay_s = 1
    with pytest.raises(ConfigError, match="blocking=True"):
        storage.append(None, entries(1, 1), 1)
    assert FaultyStorage(MemoryStorage(), blocking=True).blocking
