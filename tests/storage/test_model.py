"""Both storages against a plain list, step by step, whatever the steps are."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.thorough import tries
from trioraft import Configuration, Entry, MemoryStorage, SharedLog, StorageError
from trioraft.core.types import HardState, Recovered, SnapshotMeta
from trioraft.storage import log_database, records, shared_database
from trioraft.storage.base import Storage
from trioraft.storage.sqlite import SQLiteStorage

from .support import CLUSTER, VOTERS, crashed_copy, entries

IDENTITIES = st.sampled_from([None, None, None, b"", b"one", b"another" * 2000])


class StorageModel(RuleBasedStateMachine):
    """A storage, and what it should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.term = 1
        self.hard_state = HardState()
        self.identity: bytes | None = None
        self.base_index = 0
        self.base_term = 0
        self.log: list[Entry] = []
        self.snapshots: list[tuple[SnapshotMeta, bytes]] = []
        self.storage = self.make()

    def make(self) -> Storage:
        """A new storage."""
        return MemoryStorage()

    def again(self) -> Storage:
        """The storage as it is after a restart."""
        self.storage.close()
        return self.storage

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.log)

    def term_at(self, index: int) -> int | None:
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self.log[index - self.base_index - 1].term
        return None

    @initialize()
    def open_new(self) -> None:
        assert self.storage.open(cluster_id=CLUSTER, node_id="0") is None

    @rule(
        back=st.sampled_from([0, 0, 0, 0, 1, 3, 10, 30]),
        count=st.sampled_from([0, 1, 1, 2, 5, 60]),
        vote=st.sampled_from([None, "0", "1"]),
        with_hard_state=st.booleans(),
        identity=IDENTITIES,
    )
    def append(
        self,
        back: int,
        count: int,
        vote: str | None,
        with_hard_state: bool,
        identity: bytes | None,
    ) -> None:
        newest = self.snapshots[-1][0].index if self.snapshots else 0
        first = max(self.base_index + 1, newest + 1, self.last_index + 1 - back)
        if back:
            self.term += 1
        new = entries(first, count, self.term, data_bytes=20)
        hard_state = HardState(self.term, vote) if with_hard_state else None
        self.storage.append(hard_state, new, first, identity)
        self.stored(identity)
        self.log[first - self.base_index - 1 :] = new
        self.hard_state = hard_state or self.hard_state

    def stored(self, identity: bytes | None) -> None:
        self.identity = self.identity if identity is None else identity

    @rule(vote=st.sampled_from([None, "0", "1"]), identity=IDENTITIES)
    def vote(self, vote: str | None, identity: bytes | None) -> None:
        self.term += 1
        self.hard_state = HardState(self.term, vote)
        self.storage.append(self.hard_state, (), None, identity)
        self.stored(identity)

    @precondition(lambda self: self.log)
    @rule(data=st.data(), size=st.sampled_from([0, 10, 3000]))
    def write_snapshot(self, data: st.DataObject, size: int) -> None:
        newest = self.snapshots[-1][0].index if self.snapshots else 0
        index = data.draw(st.integers(max(newest, self.base_index + 1), self.last_index))
        term = self.term_at(index)
        assert term is not None
        content = bytes([index % 256]) * size
        chunks = [content[: size // 3], content[size // 3 :]]
        meta = self.storage.write_snapshot(index, term, VOTERS, chunks)
        assert meta == SnapshotMeta(index, term, VOTERS, size, zlib.crc32(content))
        self.adopt(meta, content)

    def adopt(self, meta: SnapshotMeta, content: bytes) -> None:
        kept = [s for s in self.snapshots if (s[0].index, s[0].term) != (meta.index, meta.term)]
        kept.append((meta, content))
        kept.sort(key=lambda s: (s[0].index, s[0].term))
        self.snapshots = kept[-2:]

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        newest = self.snapshots[-1][0].index
        index = data.draw(st.integers(self.base_index, max(newest, self.base_index)))
        term = self.term_at(index)
        assert term is not None
        self.storage.compact(index, term)
        self.rebase(index, term)

    def rebase(self, index: int, term: int) -> None:
        self.log = self.log[index - self.base_index :]
        self.base_index, self.base_term = index, term

    @rule(
        ahead=st.sampled_from([-3, -1, 0, 1, 20]),
        other_term=st.booleans(),
        breaks=st.sampled_from([False, False, True]),
        restarts=st.booleans(),
        identity=IDENTITIES,
    )
    def install(
        self, ahead: int, other_term: bool, breaks: bool, restarts: bool, identity: bytes | None
    ) -> None:
        newest = self.snapshots[-1][0].index if self.snapshots else 0
        index = max(self.last_index + ahead, newest, self.base_index + 1)
        known_term = self.term_at(index)
        if other_term or known_term is None or known_term == self.base_term:
            self.term += 1
            known_term = self.term
        content = b"%d" % index * 100
        meta = SnapshotMeta(index, known_term, VOTERS, len(content), zlib.crc32(content))
        sent = content[:-1] + b"!" if breaks else content
        assert self.storage.receive_chunk(meta, 0, sent[:50]) == 50
        if restarts:
            self.restart()
        wanted = self.storage.receive_chunk(meta, 50, sent[50:])
        if breaks:
            assert wanted == 0
            with pytest.raises(StorageError, match="is not complete"):
                self.storage.install_snapshot(meta, identity)
            return
        assert wanted == len(content)
        self.storage.install_snapshot(meta, identity)
        self.stored(identity)
        if self.term_at(index) != known_term:
            self.log, self.base_index = [], index
        self.rebase(index, known_term)
        self.adopt(meta, content)

    @rule()
    def restart(self) -> None:
        self.storage = self.again()
        newest = self.snapshots[-1][0] if self.snapshots else None
        assert self.storage.open(cluster_id=CLUSTER, node_id="0") == Recovered(
            self.hard_state,
            tuple(self.log),
            Configuration(()) if newest is None else newest.configuration,
            self.base_index,
            self.base_term,
            newest,
            self.identity,
        )

    @invariant()
    def snapshots_can_be_read(self) -> None:
        for meta, content in self.snapshots:
            assert b"".join(self.storage.read_snapshot(meta)) == content

    def teardown(self) -> None:
        self.storage.close()


class SQLiteModel(StorageModel):
    """The same, in a directory. Half of the restarts are crashes."""

    def make(self) -> Storage:
        self.directory = TemporaryDirectory()
        self.incarnation = 0
        return SQLiteStorage(self.path)

    @property
    def path(self) -> Path:
        return Path(self.directory.name) / str(self.incarnation)

    def again(self) -> Storage:
        if self.incarnation % 2 == 0:
            storage, self.incarnation = self.storage, self.incarnation + 1
            assert isinstance(storage, SQLiteStorage)
            crashed_copy(storage, self.path)
            storage.close()
        else:
            self.storage.close()
            before, self.incarnation = self.path, self.incarnation + 1
            before.rename(self.path)
        return SQLiteStorage(self.path)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class GroupModel(StorageModel):
    """The same, as one of the groups of a directory; another one writes and compacts meanwhile."""

    def make(self) -> Storage:
        self.directory = TemporaryDirectory()
        self.incarnation = 0
        return self.opened()

    @property
    def path(self) -> Path:
        return Path(self.directory.name) / str(self.incarnation)

    def opened(self) -> Storage:
        self.shared = SharedLog(self.path)
        self.shared.open(cluster_id=CLUSTER, node_id="0")
        self.other = self.shared.storage_of("other")
        recovered = self.other.open(cluster_id=CLUSTER, node_id="0")
        others = () if recovered is None else recovered.entries
        assert all(entry.data == b"other" for entry in others)
        self.others_last = 0 if recovered is None else recovered.base_index + len(others)
        return self.shared.storage_of("under test")

    @rule(count=st.sampled_from([1, 7]))
    def other_writes(self, count: int) -> None:
        first = self.others_last + 1
        self.others_last += count
        new = [Entry(index, 1, b"other") for index in range(first, first + count)]
        self.other.append(None, new, first)

    @precondition(lambda self: self.others_last > 0)
    @rule()
    def other_compacts(self) -> None:
        self.other.write_snapshot(self.others_last, 1, VOTERS, [b"other"])
        self.other.compact(self.others_last, 1)

    def again(self) -> Storage:
        before, self.incarnation = self.path, self.incarnation + 1
        if self.incarnation % 2:
            shutil.copytree(before, self.path)
            self.shared.close()
        else:
            self.shared.close()
            before.rename(self.path)
        return self.opened()

    def teardown(self) -> None:
        self.shared.close()
        self.directory.cleanup()


def run(machine: type[StorageModel], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_memory_storage_is_its_model() -> None:
    run(StorageModel, tries(20), 40)


def test_sqlite_storage_is_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small bounds, so that copying the write-ahead log and sweeping in slices happen often.
    monkeypatch.setattr(log_database, "WAL_BYTES_MAX", 60_000)
    monkeypatch.setattr(log_database, "SWEEP_RECORDS_MAX", 2)
    run(SQLiteModel, tries(7), 30)


def test_the_storage_of_a_group_is_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_database, "WAL_BYTES_MAX", 60_000)
    monkeypatch.setattr(shared_database, "SWEEP_RECORDS_MAX", 4)
    monkeypatch.setattr(shared_database, "SWEEP_EVERY", 2)
    monkeypatch.setattr(shared_database, "SWEEP_DEAD_MIN", 3)
    monkeypatch.setattr(shared_database, "READ_RECORDS_MAX", 2)
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", 900)  # so that an append is several of them
    run(GroupModel, tries(7), 40)
