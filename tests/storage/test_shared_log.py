"""Many groups, one log: what goes together, what does not, and what it takes."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import attrs
import pytest

from trioraft import ConfigError, CorruptStorage, Entry, SharedLog, SQLiteStorage, StorageError
from trioraft.core.errors import DescriptorsExhausted, DiskFull
from trioraft.core.types import HardState, Recovered, SnapshotMeta
from trioraft.protocols import Storage
from trioraft.storage.log_database import meta_row
from trioraft.storage.shared_database import SharedDatabase

from .shared import (
    CLUSTER,
    GROUPS,
    content,
    entries_of,
    fill,
    open_group,
    open_shared,
    opened,
)
from .support import DATABASE, VOTERS, filled
from .test_out_of_descriptors import descriptors_left
from .test_sqlite_disk_full import small_disk

__all__ = ["small_disk"]  # a fixture

MANY = tuple(f"group {number}" for number in range(24))


def database_of(shared: SharedLog) -> SharedDatabase:
    assert shared._opened is not None
    return shared._opened.database


def append(storage: Storage, group: str, index: int) -> None:
    storage.append(HardState(1, group), entries_of(group, index, 1), index)


def all_at_once(
    shared: SharedLog, calls: Sequence[Callable[[], None]]
) -> list[BaseException | None]:
    """Each in a thread of its own, while the one before has not let go: all of them wait."""
    database = database_of(shared)
    with ThreadPoolExecutor(len(calls)) as pool:
        with database._turn:
            futures = [pool.submit(call) for call in calls]
            while len(database._waiting) < len(calls):
                if any(future.done() for future in futures):
                    break  # it was refused, and does not wait
                threading.Event().wait(0.001)
        return [future.exception(timeout=60) for future in futures]


# -- together ----------------------------------------------------------------------------------


def test_who_waits_is_written_in_one_transaction(tmp_path: Path) -> None:
    with opened(tmp_path, MANY) as (shared, storages):
        before = shared.transactions
        outcomes = all_at_once(
            shared, [partial(append, storages[group], group, 1) for group in MANY]
        )
        assert outcomes == [None] * len(MANY)
        assert shared.transactions == before + 1
    for group, found in content(tmp_path).items():
        assert found == Recovered(HardState(1, group), tuple(entries_of(group, 1, 1)))


def test_calls_that_are_made_together_are_one_transaction(tmp_path: Path) -> None:
    with opened(tmp_path, MANY) as (shared, storages):
        before = shared.transactions
        for index in (1, 2, 3):
            calls = [partial(append, storages[group], group, index) for group in MANY]
            assert shared.write_together(calls) == [None] * len(MANY)
        assert shared.transactions == before + 3
    for group, found in content(tmp_path).items():
        assert found == Recovered(HardState(1, group), tuple(entries_of(group, 1, 3)))


def test_an_identity_goes_with_its_append(tmp_path: Path) -> None:
    with opened(tmp_path) as (shared, storages):
        before = shared.transactions
        calls = [
            partial(storages[group].append, None, entries_of(group, 1, 1), 1, group.encode())
            for group in GROUPS
        ]
        assert shared.write_together(calls) == [None] * 3
        assert shared.transactions == before + 1
    for group, found in content(tmp_path).items():
        assert isinstance(found, Recovered)
        assert found.identity == group.encode()


def test_what_is_refused_does_not_disturb_the_others(tmp_path: Path) -> None:
    with opened(tmp_path) as (shared, storages):
        database_of(shared)._length_max = 100_000
        eu, us, as_ = (storages[group] for group in GROUPS)
        outcomes = shared.write_together(
            [
                partial(append, eu, "eu", 1),
                partial(us.append, None, [Entry(1, 1, b"x" * 200_000)], 1),
                partial(append, as_, "as", 9),
            ]
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], StorageError)
        assert "an entry takes 200" in str(outcomes[1])
        assert isinstance(outcomes[2], StorageError)
        assert "do not continue" in str(outcomes[2])
        fill({"eu": eu}, 2, 1)
        fill({"us": us, "as": as_}, 1, 2)
    for group, found in content(tmp_path).items():
        assert found == Recovered(HardState(1, group), tuple(entries_of(group, 1, 2)))


def test_much_that_waits_is_several_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.storage.shared_database.TRANSACTION_BYTES_MAX", 10_000)
    with opened(tmp_path, MANY) as (shared, storages):
        before = shared.transactions
        calls = [
            partial(storages[group].append, None, [Entry(1, 1, b"x" * 3000)], 1) for group in MANY
        ]
        assert shared.write_together(calls) == [None] * len(MANY)
        assert shared.transactions == before + len(MANY) // 2


# -- trouble -----------------------------------------------------------------------------------


def test_a_failed_sync_is_everybodys_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as (shared, storages):
        fill(storages, 1, 3)
        tried: list[int] = []

        def failing(*_: object) -> None:
            tried.append(1)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
            raise error

        monkeypatch.setattr(SharedDatabase, "_insert", failing)
        calls = [partial(append, storages[group], group, 4) for group in GROUPS]
        outcomes = all_at_once(shared, calls)
        assert all("SQLITE_IOERR_FSYNC" in str(outcome) for outcome in outcomes)
        assert len({id(outcome) for outcome in outcomes}) == 3
        monkeypatch.undo()
        for group, storage in storages.items():
            with pytest.raises(StorageError, match="failed earlier and is not used any more"):
                append(storage, group, 4)
            with pytest.raises(StorageError, match="failed earlier and is not used any more"):
                storage.write_snapshot(1, 1, VOTERS, [b"x"])
        with pytest.raises(StorageError, match="failed earlier"):
            open_group(shared, "new")
        assert tried == [1]
    for group, found in content(tmp_path).items():
        assert found == Recovered(HardState(1, group), tuple(entries_of(group, 1, 3)))


def test_what_waits_behind_a_failed_write_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.storage.shared_database.TRANSACTION_BYTES_MAX", 1)
    with opened(tmp_path) as (shared, storages):
        tried: list[int] = []

        def failing(*_: object) -> None:
            tried.append(1)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(SharedDatabase, "_insert", failing)
        calls = [partial(append, storages[group], group, 1) for group in GROUPS]
        outcomes = shared.write_together(calls)
        assert "the disk failed while appending" in str(outcomes[0])
        assert all("failed earlier" in str(outcome) for outcome in outcomes[1:])
        assert tried == [1]


def fill_up(storages: Mapping[str, Storage]) -> dict[str, int]:
    """Append to all in turn until there is no room. Returns the last index of each."""
    last = dict.fromkeys(storages, 0)
    for _ in range(1000):
        for group, storage in storages.items():
            first = last[group] + 1
            try:
                storage.append(HardState(1, group), entries_of(group, first, 40), first)
            except DiskFull:
                return last
            last[group] += 40
    raise AssertionError("there was room without end")


def much(storages: Mapping[str, Storage], last: Mapping[str, int]) -> list[Callable[[], None]]:
    """More than there is room for."""
    return [
        partial(storage.append, None, entries_of(group, last[group] + 1, 3000), last[group] + 1)
        for group, storage in storages.items()
    ]


def test_a_full_log_is_full_for_all_and_goes_on_after_any_compaction(tmp_path: Path) -> None:
    with opened(tmp_path, log_bytes_max=1024 * 1024) as (shared, storages):
        last = fill_up(storages)
        outcomes = all_at_once(shared, much(storages, last))
        assert [type(outcome) for outcome in outcomes] == [DiskFull] * 3
        storages["us"].write_snapshot(last["us"] - 10, 1, VOTERS, [b"x"])
        storages["us"].compact(last["us"] - 10, 1)
        for group, storage in storages.items():
            storage.append(None, entries_of(group, last[group] + 1, 50), last[group] + 1)
    for group, found in content(tmp_path).items():
        assert isinstance(found, Recovered)
        assert found.hard_state == HardState(1, group)
        first = found.base_index + 1
        assert found.entries == tuple(entries_of(group, first, last[group] + 51 - first))
        assert first == (last[group] - 9 if group == "us" else 1)


def test_what_is_too_much_for_the_disk_holds_up_nobody_else(tmp_path: Path) -> None:
    """They come again together, after the same pause: a vote would wait for as long as another
    group has more than there is room for."""
    with opened(tmp_path, log_bytes_max=512 * 1024) as (shared, storages):
        fill(storages, 1, 2)
        calls = [
            partial(append, storages["eu"], "eu", 3),
            partial(storages["us"].append, None, entries_of("us", 3, 6000), 3),
            partial(append, storages["as"], "as", 3),
        ]
        outcomes = shared.write_together(calls)
        assert [type(outcome) for outcome in outcomes] == [type(None), DiskFull, type(None)]
    for group, count in {"eu": 3, "us": 2, "as": 3}.items():
        found = content(tmp_path)[group]
        assert found == Recovered(HardState(1, group), tuple(entries_of(group, 1, count)))


def test_a_full_disk_is_rolled_back_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 1024 * 1024)
    with opened(small_disk / "shared") as (shared, storages):
        last = fill_up(storages)
        outcomes = shared.write_together(much(storages, last))
        assert [type(outcome) for outcome in outcomes] == [DiskFull] * 3
        (small_disk / "ballast").unlink()
        for group, storage in storages.items():
            storage.append(None, entries_of(group, last[group] + 1, 50), last[group] + 1)
    found = content(small_disk / "shared")
    for group in GROUPS:
        expected = tuple(entries_of(group, 1, last[group] + 50))
        assert found[group] == Recovered(HardState(1, group), expected)


def test_a_folder_that_is_there_is_made_durable_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it may have been killed, or be another group's thread, before it was."""
    fsync, synced = os.fsync, list[int]()

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    with opened(tmp_path) as (_, storages):
        fill(storages, 1, 20)
        for group in ("eu", "us"):
            (tmp_path / "groups" / str(GROUPS.index(group) + 1)).mkdir(parents=True, exist_ok=True)
            synced.clear()
            storages[group].write_snapshot(15, 1, VOTERS, [b"x"])
            for path in (tmp_path, tmp_path / "groups"):
                assert path.stat().st_ino in synced, f"{path} for {group}"


def test_files_that_were_taken_away_are_missed_by_the_next_write(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as (_, storages):
        fill(storages, 1, 2)
        os.rename(tmp_path / "s", tmp_path / "moved")
        with pytest.raises(StorageError, match="is gone: it was removed, moved"):
            append(storages["eu"], "eu", 3)
        with pytest.raises(StorageError, match="failed earlier"):
            append(storages["us"], "us", 3)
    found = content(tmp_path / "moved")["us"]
    assert isinstance(found, Recovered)
    assert len(found.entries) == 2


def test_g5_without_descriptors_appends_go_on_and_the_rest_is_tried_again(tmp_path: Path) -> None:
    """Of a group's folder nothing is held open; what needs it is refused before it begins."""
    data = b"a snapshot from elsewhere"
    meta = SnapshotMeta(500, 9, VOTERS, len(data), zlib.crc32(data))
    with opened(tmp_path) as (_, storages):
        fill(storages, 1, 20)
        eu, us = storages["eu"], storages["us"]
        assert us.receive_chunk(meta, 0, data) == len(data)
        older = eu.write_snapshot(5, 1, VOTERS, [b"older"])
        calls: list[Callable[[], object]] = [
            lambda: eu.write_snapshot(10, 1, VOTERS, [b"x"]),
            lambda: b"".join(eu.read_snapshot(older)),
            lambda: storages["as"].receive_chunk(meta, 0, data),
            lambda: us.install_snapshot(meta, b"new"),
        ]
        with descriptors_left(0):
            for call in calls:
                with pytest.raises(DescriptorsExhausted):
                    call()
            fill(storages, 21, 20)
        us.append(None, entries_of("us", 41, 1), 41)  # the log is as it was
        for call in calls:
            call()
    found = content(tmp_path)
    here = found["us"]
    assert isinstance(here, Recovered)
    assert (here.snapshot, here.base_index, here.identity) == (meta, 500, b"new")


def test_a_database_that_was_replaced_is_missed_after_the_write(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as (_, storages):
        fill(storages, 1, 2)
        shutil.copytree(tmp_path / "s", tmp_path / "kept")
        os.rename(tmp_path / "s" / DATABASE, tmp_path / "moved")
        shutil.copy(tmp_path / "moved", tmp_path / "s" / DATABASE)
        with pytest.raises(StorageError, match="is another file now"):
            append(storages["eu"], "eu", 3)
    found = content(tmp_path / "kept")["eu"]
    assert isinstance(found, Recovered)
    assert len(found.entries) == 2


# -- room --------------------------------------------------------------------------------------


def records_in(path: Path) -> int:
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def test_the_table_does_not_grow_and_a_group_that_sleeps_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.storage.shared_database.SWEEP_EVERY", 32)
    monkeypatch.setattr("trioraft.storage.shared_database.SWEEP_RECORDS_MAX", 64)
    monkeypatch.setattr("trioraft.storage.shared_database.SWEEP_DEAD_MIN", 128)
    with opened(tmp_path) as (shared, storages):
        fill({"as": storages["as"]}, 1, 7)
        storages["as"].close()
        busy = {group: storages[group] for group in ("eu", "us")}
        for round_number in range(60):
            first = round_number * 20 + 1
            for index in range(first, first + 20):
                calls = [
                    partial(storage.append, None, [Entry(index, 1, group.encode())], index)
                    for group, storage in busy.items()
                ]
                assert shared.write_together(calls) == [None, None]
            for group, storage in busy.items():
                storage.write_snapshot(first + 15, 1, VOTERS, [group.encode()])
                storage.compact(first + 10, 1)
    assert records_in(tmp_path) < 500
    found = content(tmp_path)
    assert found["as"] == Recovered(HardState(1, "as"), tuple(entries_of("as", 1, 7)))
    for group in busy:
        here = found[group]
        assert isinstance(here, Recovered)
        assert here.base_index == 59 * 20 + 11
        assert [entry.data for entry in here.entries] == [group.encode()] * 9


def bytes_in(path: Path) -> int:
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        query = "SELECT sum(length(payload)) FROM records"
        return int(connection.execute(query).fetchone()[0])


@pytest.mark.parametrize("asleep", [0, 400])
def test_the_table_does_not_grow_by_large_records_beside_many_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asleep: int
) -> None:
    """Few records may be nearly all that there is: bytes count as well."""
    module = "trioraft.storage.shared_database"
    monkeypatch.setattr(f"{module}.SWEEP_BYTES_MAX", 64 * 1024)
    monkeypatch.setattr(f"{module}.SWEEP_EVERY_BYTES", 32 * 1024)
    monkeypatch.setattr(f"{module}.SWEEP_DEAD_BYTES_MIN", 128 * 1024)
    with opened(tmp_path) as (_, storages):
        fill({"as": storages["as"]}, 1, asleep)
        storages["as"].close()
        us = storages["us"]
        for index in range(1, 501):
            us.append(None, [Entry(index, 1, b"x" * 8192)], index)
            if index % 10 == 0:
                us.write_snapshot(index, 1, VOTERS, [b"us"])
                us.compact(index - 2, 1)
    assert bytes_in(tmp_path) < 1024 * 1024, "of 4 MiB"
    found = content(tmp_path)
    assert found["as"] == Recovered(
        HardState(1, "as") if asleep else HardState(), tuple(entries_of("as", 1, asleep))
    )
    here = found["us"]
    assert isinstance(here, Recovered)
    assert [entry.index for entry in here.entries] == [499, 500]


def test_a_forgotten_group_is_new_and_its_records_go(tmp_path: Path) -> None:
    with opened(tmp_path) as (shared, storages):
        fill(storages, 1, 30)
        storages["us"].write_snapshot(20, 1, VOTERS, [b"x"])
        with pytest.raises(StorageError, match=r"'us' .* is in use: close it first"):
            shared.forget("us")
        storages["us"].close()
        shared.forget("us")
        shared.forget("us")
        assert shared.groups == ("as", "eu")
        database = database_of(shared)
        database._make_room()
        count = database._connection.execute("SELECT count(*) FROM records").fetchone()
        assert count == (62,)  # each began with one
        storages["eu"].close()
        shared.forget("eu")
        us, recovered = open_group(shared, "us")
        assert recovered is None
        append(us, "us", 1)
    found = content(tmp_path)
    assert set(found) == {"as", "us"}
    assert found["us"] == Recovered(HardState(1, "us"), tuple(entries_of("us", 1, 1)))
    assert found["as"] == Recovered(HardState(1, "as"), tuple(entries_of("as", 1, 30)))
    shared = open_shared(tmp_path)
    database_of(shared)._make_room()
    shared.close()
    assert records_in(tmp_path) == 31 + 2  # each began with one
    assert set(content(tmp_path)) == {"as", "us"}
    assert os.listdir(tmp_path / "groups") == []


def rows_of_groups(path: Path) -> list[int]:
    with closing(sqlite3.connect(path / DATABASE)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM groups ORDER BY id")]


@pytest.mark.parametrize("is_swept", [False, True])
def test_groups_that_come_and_go_leave_nothing_and_no_number_is_given_twice(
    tmp_path: Path, is_swept: bool
) -> None:
    """Neither to one of the same name, nor after the row of the last one is gone."""
    with opened(tmp_path) as (shared, storages):
        fill(storages, 1, 2)
        for number in range(20):
            storage, recovered = open_group(shared, f"room {number % 4}")
            assert recovered is None
            append(storage, "room", 1)
            storage.write_snapshot(1, 1, VOTERS, [b"x"])
            storage.close()
            shared.forget(f"room {number % 4}")
        if is_swept:
            database_of(shared)._make_room()
            fill(storages, 3, 1)
    assert len(rows_of_groups(tmp_path)) == (3 if is_swept else 23)
    for _ in range(2):  # the records, and then the rows
        shared = open_shared(tmp_path)
        database_of(shared)._make_room()
        shared.close()
    assert rows_of_groups(tmp_path) == [1, 2, 3]
    with opened(tmp_path, (*GROUPS, "room 0")) as (shared, storages):
        append(storages["room 0"], "room", 1)
    assert rows_of_groups(tmp_path) == [1, 2, 3, 24]
    assert set(content(tmp_path)) == {*GROUPS, "room 0"}


def test_thousand_groups_take_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = descriptors()
    threads = threading.active_count()
    shared = open_shared(tmp_path)
    names = [f"{number}" for number in range(1000)]
    storages = [shared.storage_of(name) for name in names]
    for storage in storages:
        storage.open(cluster_id=CLUSTER, node_id="0")
    calls = [partial(append, each, name, 1) for each, name in zip(storages, names, strict=True)]
    assert shared.write_together(calls) == [None] * 1000
    assert descriptors() <= before + 5
    assert threading.active_count() == threads
    for storage in storages:
        storage.close()
    shared.close()
    shared = open_shared(tmp_path)
    assert shared.groups == tuple(sorted(names))
    _, recovered = open_group(shared, "777")
    assert recovered == Recovered(HardState(1, "777"), tuple(entries_of("777", 1, 1)))
    shared.close()
    assert descriptors() <= before


# -- whose it is -------------------------------------------------------------------------------


def test_the_whole_belongs_to_one_process(tmp_path: Path) -> None:
    with opened(tmp_path) as (shared, _):
        with pytest.raises(StorageError, match="is in use"):
            shared.open(cluster_id=CLUSTER, node_id="0")
        with pytest.raises(StorageError, match="is in use by this very process"):
            open_shared(tmp_path)
    for cluster_id, node_id in (("another", "0"), (CLUSTER, "another")):
        with pytest.raises(StorageError, match="belongs to node '0' of cluster 'tests'"):
            SharedLog(tmp_path).open(cluster_id=cluster_id, node_id=node_id)


def test_a_group_is_open_once(tmp_path: Path) -> None:
    with opened(tmp_path) as (shared, storages):
        with pytest.raises(StorageError, match=r"group 'eu' .* is in use"):
            open_group(shared, "eu")
        storages["eu"].close()
        open_group(shared, "eu")


def test_the_two_kinds_of_directory_are_not_taken_for_each_other(tmp_path: Path) -> None:
    filled(tmp_path / "one").close()
    with opened(tmp_path / "many"):
        pass
    with pytest.raises(StorageError, match="the log of one node: open it with SQLiteStorage") as at:
        open_shared(tmp_path / "one")
    assert not isinstance(at.value, CorruptStorage)
    with pytest.raises(StorageError, match="the logs of many groups: open it with SharedLog") as at:
        SQLiteStorage(tmp_path / "many").open(cluster_id=CLUSTER, node_id="0")
    assert not isinstance(at.value, CorruptStorage)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", meta_row("format", 2))
    with pytest.raises(StorageError, match="in format 2, written by a newer trioraft"):
        open_shared(tmp_path)


def test_a_group_of_before_a_field_was_added_is_read(tmp_path: Path) -> None:
    """Fields are only ever appended, so a row may have fewer than are known now."""
    with opened(tmp_path) as (_, storages):
        fill(storages, 1, 2)
    expected = content(tmp_path)
    group = [1, "eu", [CLUSTER, "0"], [0, 0, 1], b"identity"]
    _, crc, payload = meta_row("group 1", group)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.execute("INSERT OR REPLACE INTO groups VALUES (?, ?, ?)", (1, crc, payload))
    here = expected["eu"]
    assert isinstance(here, Recovered)
    assert content(tmp_path) == {**expected, "eu": attrs.evolve(here, identity=b"identity")}


def test_a_snapshot_of_another_group_is_not_taken(tmp_path: Path) -> None:
    with opened(tmp_path) as (_, storages):
        fill(storages, 1, 20)
        storages["us"].write_snapshot(15, 1, VOTERS, [b"of us"])
        storages["eu"].write_snapshot(10, 1, VOTERS, [b"of eu"])
    folders = {
        name: folder for folder in (tmp_path / "groups").iterdir() for name in os.listdir(folder)
    }
    (newer,) = (name for name in folders if "15-" in name)
    (older,) = (name for name in folders if "10-" in name)
    os.link(folders[newer] / newer, folders[older] / newer)
    with opened(tmp_path, ()) as (shared, _):
        eu, recovered = open_group(shared, "eu")
        assert recovered is not None
        assert recovered.snapshot is not None
        assert b"".join(eu.read_snapshot(recovered.snapshot)) == b"of eu"
        assert "does not belong here" in eu.notices[0]


def test_a_received_snapshot_is_adopted_after_a_crash(tmp_path: Path) -> None:
    data = b"of the leader"
    meta = SnapshotMeta(500, 9, VOTERS, len(data), zlib.crc32(data))
    with opened(tmp_path / "s") as (_, storages):
        fill(storages, 1, 3)
        assert storages["us"].receive_chunk(meta, 0, data) == len(data)
        storages["us"].install_snapshot(meta, b"identity")
        storages["us"].append(None, [Entry(501, 9, b"more")], 501)
        shutil.copytree(tmp_path / "s", tmp_path / "crashed")
    (folder,) = (tmp_path / "crashed" / "groups").iterdir()
    (name,) = os.listdir(folder)
    os.rename(folder / name, folder / "received.part")  # it had not got its name yet
    found = content(tmp_path / "crashed")
    here = found["us"]
    assert isinstance(here, Recovered)
    assert (here.snapshot, here.base_index, here.identity) == (meta, 500, b"identity")
    assert [entry.data for entry in here.entries] == [b"more"]
    assert os.listdir(folder) == [name]
    assert found["eu"] == Recovered(HardState(1, "eu"), tuple(entries_of("eu", 1, 3)))


def test_what_is_closed_is_not_used(tmp_path: Path) -> None:
    shared = SharedLog(tmp_path)
    shared.close()
    storage = shared.storage_of("eu")
    with pytest.raises(StorageError, match="is not open: open it first"):
        storage.open(cluster_id=CLUSTER, node_id="0")
    shared.open(cluster_id=CLUSTER, node_id="0")
    storage.open(cluster_id=CLUSTER, node_id="0")
    append(storage, "eu", 1)
    shared.close()
    shared.close()
    with pytest.raises(StorageError, match="is not open"):
        append(storage, "eu", 2)
    assert isinstance(shared.write_together([lambda: None])[0], StorageError)
    storage.close()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\0"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a group"):
        SharedLog(tmp_path).storage_of(name)


def test_a_bound_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="log_bytes_max is 1000"):
        SharedLog(tmp_path, log_bytes_max=1000)


def test_a_fork_has_nothing_of_it(tmp_path: Path) -> None:
    def lines(reader: int) -> Iterator[str]:
        with os.fdopen(reader) as file:
            yield from file

    with opened(tmp_path) as (shared, storages):
        fill(storages, 1, 2)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            calls = (partial(append, storages["eu"], "eu", 3), partial(open_group, shared, "x"))
            for call in calls:
                try:
                    call()
                except StorageError as error:
                    os.write(writer, f"{error}\n".encode())
            os._exit(0)
        os.close(writer)
        said = list(lines(reader))
        os.waitpid(child, 0)
        assert "is not open" in said[0]
        assert "this is a fork of it" in said[1]
        fill(storages, 3, 2)
    found = content(tmp_path)["us"]
    assert isinstance(found, Recovered)
    assert len(found.entries) == 4
