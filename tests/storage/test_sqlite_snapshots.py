"""Snapshots on a disk: which one goes with the log after a restart, a crash or damage."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioraft import CorruptStorage, StorageError
from trioraft.core.errors import DiskFull
from trioraft.core.types import HardState, SnapshotMeta
from trioraft.storage.directory import Directory
from trioraft.storage.sqlite import SQLiteStorage

from .support import (
    CLUSTER,
    VOTERS,
    content,
    crashed_copy,
    entries,
    filled,
    fingerprint,
    flip,
    open_storage,
    snapshot,
)


def snapshot_file(storage: SQLiteStorage, meta: SnapshotMeta) -> Path:
    return storage.directory / f"snapshot-{meta.index:020d}-{meta.term:020d}.raft"


def with_two_snapshots(path: Path) -> tuple[SQLiteStorage, SnapshotMeta, SnapshotMeta]:
    """A log of 247 entries with snapshots at 3 and 44."""
    storage = filled(path)
    return storage, snapshot(storage, 3, 1), snapshot(storage, 44, 3)


def sent(index: int, term: int, data: bytes = b"from the leader") -> tuple[SnapshotMeta, bytes]:
    return SnapshotMeta(index, term, VOTERS, len(data), zlib.crc32(data)), data


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 20, 40, -1], ids=["magic", "length", "meta", "content"])
def test_the_one_before_serves_for_a_damaged_newest(position: int, tmp_path: Path) -> None:
    storage, older, newest = with_two_snapshots(tmp_path)
    storage.compact(2, 1)
    storage.close()
    assert not storage.notices
    damaged = snapshot_file(storage, newest)
    flip(damaged, position)
    recovered = storage.open(cluster_id=CLUSTER, node_id="0")
    assert recovered is not None
    assert recovered.snapshot == older
    assert recovered.base_index == 2
    assert len(recovered.entries) == 245
    assert any(str(damaged) in notice for notice in storage.notices)
    assert b"".join(storage.read_snapshot(older)) == b"snapshot 3"
    with pytest.raises(StorageError, match="not stored any more"):
        storage.read_chunk(newest, 0, 1)
    # It may be written again, and then nothing is wrong any more.
    assert snapshot(storage, 44, 3) == newest
    storage.close()
    again = content(tmp_path)
    assert again is not None
    assert again.snapshot == newest


def test_without_a_snapshot_that_the_log_reaches_the_node_stays_down(tmp_path: Path) -> None:
    storage, _, newest = with_two_snapshots(tmp_path)
    storage.compact(44, 3)
    storage.close()
    flip(snapshot_file(storage, newest), -1)
    before = fingerprint(tmp_path)
    with pytest.raises(
        CorruptStorage,
        match=r"begins after entry 44 \(term 3\) .* newest reaches entry 3 .*not what was written",
    ):
        open_storage(tmp_path)
    assert fingerprint(tmp_path) == before
    os.unlink(snapshot_file(storage, newest))
    with pytest.raises(CorruptStorage, match="newest reaches entry 3"):
        open_storage(tmp_path)


def test_damaged_snapshots_are_not_needed_by_a_whole_log(tmp_path: Path) -> None:
    storage, older, newest = with_two_snapshots(tmp_path)
    storage.close()
    for meta in (older, newest):
        os.truncate(snapshot_file(storage, meta), 30)
    recovered = storage.open(cluster_id=CLUSTER, node_id="0")
    assert recovered is not None
    assert recovered.snapshot is None
    assert len(recovered.entries) == 247
    assert len(storage.notices) == 2
    storage.close()


def test_a_damaged_snapshot_goes_when_two_newer_ones_are_there(tmp_path: Path) -> None:
    storage, older, newest = with_two_snapshots(tmp_path)
    storage.close()
    flip(snapshot_file(storage, newest), -1)
    storage.open(cluster_id=CLUSTER, node_id="0")
    snapshot(storage, 100, 5)
    assert snapshot_file(storage, older).exists()
    snapshot(storage, 200, 5)
    assert not snapshot_file(storage, older).exists()
    assert not snapshot_file(storage, newest).exists()
    storage.close()


def test_damage_is_told_at_the_end_of_reading(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    big = storage.write_snapshot(3, 1, VOTERS, [b"x" * 1_000_000])
    file = snapshot_file(storage, big)
    flip(file, 500_000)
    with pytest.raises(CorruptStorage, match=r"entries up to 3.*CRC-32"):
        list(storage.read_snapshot(big))
    os.truncate(file, 500_000)
    with pytest.raises(CorruptStorage, match="was cut"):
        list(storage.read_snapshot(big))
    with pytest.raises(CorruptStorage, match="was cut"):
        storage.read_chunk(big, 490_000, 100_000)
    storage.append(None, entries(248, 1, 6), 248)  # the log is unharmed
    storage.close()


# -- log and snapshot are not of the same time (hazard S3) -------------------------------------


def test_s3_a_snapshot_beyond_the_log_is_refused(tmp_path: Path) -> None:
    storage, _, _ = with_two_snapshots(tmp_path / "a")
    storage.close()
    other = filled(tmp_path / "b", (3, 1))
    other.close()
    for file in (tmp_path / "a").glob("snapshot-*"):
        file.rename(tmp_path / "b" / file.name)
    with pytest.raises(CorruptStorage, match=r"up to 44 \(term 3\).* from 0 \(term 0\) to 4 "):
        open_storage(tmp_path / "b")


def test_s3_a_snapshot_of_another_history_is_refused(tmp_path: Path) -> None:
    storage, _, _ = with_two_snapshots(tmp_path / "a")
    storage.close()
    other = filled(tmp_path / "b", (3, 90))
    other.close()
    for file in (tmp_path / "a").glob("snapshot-*"):
        file.rename(tmp_path / "b" / file.name)
    with pytest.raises(CorruptStorage, match="not of the same time"):
        open_storage(tmp_path / "b")


def test_a_snapshot_of_another_cluster_does_not_belong_here(tmp_path: Path) -> None:
    other = SQLiteStorage(tmp_path / "a")
    other.open(cluster_id="other", node_id="0")
    other.append(None, entries(1, 3), 1)
    snapshot(other, 3, 1)
    other.close()
    storage = filled(tmp_path / "b")
    storage.close()
    for file in (tmp_path / "a").glob("snapshot-*"):
        file.rename(tmp_path / "b" / file.name)
    recovered = storage.open(cluster_id=CLUSTER, node_id="0")
    assert recovered is not None
    assert recovered.snapshot is None
    assert "does not belong here" in storage.notices[0]
    storage.close()


# -- durability --------------------------------------------------------------------------------


def test_a_snapshot_is_durable_before_it_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = filled(tmp_path)
    order: list[str] = []
    files = "trioraft.storage.snapshot_files"
    monkeypatch.setattr(f"{files}.sync_file", lambda _: order.append("sync"))
    monkeypatch.setattr(Directory, "sync", lambda _: order.append("sync directory"))
    rename = os.rename

    def renaming(old: Path, new: Path) -> None:
        order.append("rename")
        rename(old, new)

    monkeypatch.setattr(f"{files}.os.rename", renaming)
    snapshot(storage, 3, 1)
    assert order == ["sync", "rename", "sync directory"]
    monkeypatch.setattr("trioraft.storage.received_snapshot.sync_file", lambda _: order.append("s"))
    meta, data = sent(500, 9)
    storage.receive_chunk(meta, 0, data)
    order.clear()
    storage.install_snapshot(meta)
    assert order == ["s", "rename", "sync directory"]
    storage.close()


# -- crashes -----------------------------------------------------------------------------------


def test_a_half_written_snapshot_is_removed_at_the_next_opening(tmp_path: Path) -> None:
    copy = tmp_path / "b"
    storage, _, newest = with_two_snapshots(tmp_path / "a")

    def crashing() -> Iterator[bytes]:
        yield b"x" * 100_000
        crashed_copy(storage, copy)

    storage.write_snapshot(100, 5, VOTERS, crashing())
    storage.close()
    assert [name for name in os.listdir(copy) if name.endswith(".tmp")]
    recovered = content(copy)
    assert recovered is not None
    assert recovered.snapshot == newest
    assert not [name for name in os.listdir(copy) if name.endswith(".tmp")]


@pytest.mark.parametrize("index_and_term", [(500, 9), (44, 3), (44, 9)])
def test_a_crash_while_installing_is_made_good(
    index_and_term: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = filled(tmp_path / "a")
    storage.append(HardState(12, "2"), (), None)
    meta, data = sent(*index_and_term)
    storage.receive_chunk(meta, 0, data)
    crashes: list[Path] = []

    def rename(old: Path, new: Path) -> None:
        crashes.append(crashed_copy(storage, tmp_path / "before"))
        os.replace(old, new)
        crashes.append(crashed_copy(storage, tmp_path / "after"))

    monkeypatch.setattr("trioraft.storage.snapshot_files.os.rename", rename)
    storage.install_snapshot(meta)
    monkeypatch.undo()
    storage.close()
    expected = content(storage.directory)
    assert expected is not None
    assert expected.snapshot == meta
    assert expected.hard_state == HardState(12, "2")
    for crashed in crashes:
        reopened, recovered = open_storage(crashed)
        assert recovered == expected
        assert b"".join(reopened.read_snapshot(meta)) == data
        reopened.append(None, entries(meta.index + 1, 1, 12), meta.index + 1)
        reopened.close()


def test_an_opening_that_fails_after_a_crash_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = filled(tmp_path / "a")
    meta, data = sent(500, 9)
    storage.receive_chunk(meta, 0, data)
    crashed = tmp_path / "b"

    def crashing(old: Path, new: Path) -> None:
        crashed_copy(storage, crashed)
        os.replace(old, new)

    def failing(old: Path, new: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trioraft.storage.snapshot_files.os.rename", crashing)
    storage.install_snapshot(meta)
    storage.close()
    monkeypatch.setattr("trioraft.storage.snapshot_files.os.rename", failing)
    for _ in range(2):
        with pytest.raises(DiskFull, match="renaming"):
            open_storage(crashed)
    monkeypatch.undo()
    assert content(crashed) == content(storage.directory)


def test_a_transfer_is_resumed_after_a_crash(tmp_path: Path) -> None:
    storage = filled(tmp_path / "a")
    data = bytes(range(256)) * 4000
    meta, _ = sent(500, 9, data)
    storage.receive_chunk(meta, 0, data[:600_000])
    copy = crashed_copy(storage, tmp_path / "b")
    storage.close()
    reopened, _ = open_storage(copy)
    assert reopened.receive_chunk(meta, 0, b"") == 600_000
    assert reopened.receive_chunk(meta, 600_000, data[600_000:]) == len(data)
    reopened.install_snapshot(meta)
    assert b"".join(reopened.read_snapshot(meta)) == data
    reopened.close()


def test_a_damaged_transfer_starts_over_or_is_thrown_away(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    meta, data = sent(500, 9)
    part = tmp_path / "received.part"
    for position in (3, -1):  # the header, the content
        assert storage.receive_chunk(meta, 0, data) == len(data)
        storage.close()
        flip(part, position)
        storage.open(cluster_id=CLUSTER, node_id="0")
        assert storage.receive_chunk(meta, 1, b"") == 0
    assert not part.exists()
    # Nobody has to ask before installing: it is checked there, too.
    assert storage.receive_chunk(meta, 0, data) == len(data)
    storage.close()
    flip(part, -1)
    storage.open(cluster_id=CLUSTER, node_id="0")
    with pytest.raises(CorruptStorage, match="thrown away"):
        storage.install_snapshot(meta)
    assert not part.exists()
    # Damage to what was received first is noticed with the last chunk.
    storage.receive_chunk(meta, 0, data[:-1])
    storage.close()
    flip(part, -1)
    storage.open(cluster_id=CLUSTER, node_id="0")
    assert storage.receive_chunk(meta, len(data) - 1, data[-1:]) == 0
    assert not part.exists()
    storage.append(None, entries(248, 1, 6), 248)
    storage.close()


def test_a_snapshot_is_not_named_after_close(tmp_path: Path) -> None:
    """A state machine in another thread may still be writing when the node is gone."""
    storage, _, newest = with_two_snapshots(tmp_path)

    def slow() -> Iterator[bytes]:
        yield b"x"
        storage.close()

    with pytest.raises(StorageError, match="is closed"):
        storage.write_snapshot(100, 5, VOTERS, slow())
    recovered = content(tmp_path)
    assert recovered is not None
    assert recovered.snapshot == newest
