"""A process without descriptors has no failed disk (hazard G5).

The log's hot path opens nothing. Whatever has to open a file says what is lacking, leaves all as it
was, and works again as soon as there is a descriptor.
"""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trioraft import DescriptorsExhausted, StorageError
from trioraft.core.types import SnapshotMeta
from trioraft.storage import health as health_module
from trioraft.storage.health import Health
from trioraft.storage.sqlite import SQLiteStorage

from .support import VOTERS, content, entries, filled, open_storage, snapshot

LACK = "no descriptors are left while"


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """So many files may be opened within; those that are open stay so."""
    free = [os.dup(0) for _ in range(count + 1)]
    for descriptor in free:
        os.close(descriptor)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def meta_of(index: int, term: int, data: bytes) -> SnapshotMeta:
    return SnapshotMeta(index, term, VOTERS, len(data), zlib.crc32(data))


def test_g5_the_log_needs_no_descriptor(tmp_path: Path) -> None:
    storage = filled(tmp_path)
    for index in (3, 10, 44):
        snapshot(storage, index, storage_term(storage, index))
    with descriptors_left(0):
        for index in range(248, 448):  # the write-ahead log is copied many times meanwhile
            storage.append(None, entries(index, 1, 6, 100_000), index)
        storage.compact(3, 1)
    storage.close()
    recovered = content(tmp_path)
    assert recovered is not None
    assert (recovered.base_index, recovered.entries[-1].index) == (3, 447)


def storage_term(storage: SQLiteStorage, index: int) -> int:
    assert storage._opened is not None
    term = storage._opened.log.term_at(index)
    assert term is not None
    return term


Call = Callable[[SQLiteStorage, SnapshotMeta], object]
CALLS: dict[str, Call] = {
    "write_snapshot": lambda storage, _: snapshot(storage, 44, 3),
    "read_snapshot": lambda storage, meta: b"".join(storage.read_snapshot(meta)),
    "read_chunk": lambda storage, meta: storage.read_chunk(meta, 0, 4),
    "receive_chunk": lambda storage, _: storage.receive_chunk(meta_of(500, 9, b"x"), 0, b"x"),
}


@pytest.mark.parametrize("name", CALLS)
def test_g5_what_has_to_open_a_file_may_be_tried_again(name: str, tmp_path: Path) -> None:
    storage = filled(tmp_path)
    meta = snapshot(storage, 3, 1)
    names = sorted(os.listdir(tmp_path))
    with descriptors_left(0):
        for _ in range(2):
            with pytest.raises(DescriptorsExhausted, match=LACK):
                CALLS[name](storage, meta)
        storage.append(None, entries(248, 1, 6), 248)
    assert sorted(os.listdir(tmp_path)) == names
    CALLS[name](storage, meta)
    storage.close()


def test_g5_a_snapshot_that_was_received_is_installed_later(tmp_path: Path) -> None:
    data = b"a snapshot from elsewhere"
    meta = meta_of(500, 9, data)
    storage = filled(tmp_path)
    assert storage.receive_chunk(meta, 0, data[:10]) == 10
    with descriptors_left(0):  # the file of the transfer is open
        assert storage.receive_chunk(meta, 10, data[10:]) == len(data)
    storage.close()
    storage, before = open_storage(tmp_path)
    with descriptors_left(0):
        with pytest.raises(DescriptorsExhausted, match=r"received\.part"):
            storage.install_snapshot(meta)
        storage.append(None, entries(248, 1, 6), 248)
    assert before is not None
    assert before.snapshot is None
    storage.install_snapshot(meta)
    storage.close()
    recovered = content(tmp_path)
    assert recovered is not None
    assert (recovered.snapshot, recovered.base_index) == (meta, 500)


def test_g5_a_transfer_that_is_complete_is_installed_without(tmp_path: Path) -> None:
    meta = meta_of(500, 9, b"x")
    storage = filled(tmp_path)
    storage.receive_chunk(meta, 0, b"x")
    with descriptors_left(0):
        storage.install_snapshot(meta)
    assert b"".join(storage.read_snapshot(meta)) == b"x"
    storage.close()


@pytest.mark.parametrize("is_new", [True, False])
def test_g5_an_opening_says_what_it_lacks_wherever_it_lacks_it(
    is_new: bool, tmp_path: Path
) -> None:
    if not is_new:
        storage = filled(tmp_path)
        snapshot(storage, 3, 1)
        storage.receive_chunk(meta_of(500, 9, b"xy"), 0, b"x")
        storage.close()
    told = [str(lack) for lack in iter_until_opened(tmp_path)]
    assert len(told) >= 3
    assert all("ulimit -n" in sentence for sentence in told)


def iter_until_opened(path: Path) -> Iterator[DescriptorsExhausted]:
    """Open it with one more descriptor each time, until that works."""
    for count in range(20):
        storage = SQLiteStorage(path)
        try:
            with descriptors_left(count):
                storage.open(cluster_id="tests", node_id="0")
        except DescriptorsExhausted as lack:
            yield lack
        else:
            storage.close()
            return


def test_g5_a_complete_transfer_that_cannot_be_looked_at_is_not_missing(tmp_path: Path) -> None:
    """The log may have been cut for it already; without it, it would be damaged."""
    storage = filled(tmp_path)
    storage.receive_chunk(meta_of(500, 9, b"x"), 0, b"x")
    assert storage._opened is not None
    received = storage._opened.received
    with descriptors_left(0), pytest.raises(DescriptorsExhausted):
        received.find()
    storage.close()


class NoCheckpoints:
    """A connection whose write-ahead log cannot be copied: a quota, perhaps."""

    def __init__(self, inner: sqlite3.Connection) -> None:
        self._inner = inner

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if "wal_checkpoint" in sql:
            raise with_code(sqlite3.SQLITE_IOERR_WRITE)
        return self._inner.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_g5_what_is_durable_is_not_refused_for_what_comes_after_it(tmp_path: Path) -> None:
    """An append ends in a copy of the write-ahead log. It may wait, and says nothing."""
    storage = filled(tmp_path)
    assert storage._opened is not None
    log = storage._opened.log
    connection: Any = log._connection
    log._connection = NoCheckpoints(connection)  # type: ignore[assignment] # as much of one as is used
    with descriptors_left(0):
        storage.append(None, entries(248, 1, 6, 5 * 1024 * 1024), 248)
    log._connection = connection
    storage.close()
    recovered = content(tmp_path)
    assert recovered is not None
    assert recovered.entries[-1].index == 248


def with_code(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_g5_both_lacks_have_one_name(code: int, tmp_path: Path) -> None:
    health = Health(tmp_path)
    error = health.error("opening it", OSError(code, os.strerror(code)))
    assert isinstance(error, DescriptorsExhausted)
    health.check()  # nothing failed


def test_g5_sqlite_that_cannot_open_a_file_is_asked_why(tmp_path: Path) -> None:
    cannot_open = with_code(sqlite3.SQLITE_CANTOPEN)
    health = Health(tmp_path)
    with descriptors_left(health_module.SQLITE_DESCRIPTORS - 1):
        assert isinstance(health.error("x", cannot_open), DescriptorsExhausted)
    health.check()
    assert not isinstance(health.error("x", cannot_open), DescriptorsExhausted)
    with pytest.raises(StorageError, match="failed earlier"):
        health.check()


def test_g5_a_quota_that_cannot_be_tried_out_is_tried_again(tmp_path: Path) -> None:
    failed = with_code(sqlite3.SQLITE_IOERR_WRITE)
    health = Health(tmp_path)
    with descriptors_left(0):
        assert isinstance(health.error("x", failed), DescriptorsExhausted)
    health.check()
