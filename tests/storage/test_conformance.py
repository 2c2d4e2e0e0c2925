"""The storages keep the protocol, and the suite that says so notices storages that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from trioraft import Entry, MemoryStorage, StorageError
from trioraft.core.errors import SnapshotGone
from trioraft.core.types import HardState, LogIndex, NodeId, Recovered, SnapshotMeta, Term
from trioraft.storage.base import Storage
from trioraft.storage.shared import SharedLog
from trioraft.storage.sqlite import SQLiteStorage
from trioraft.testing.faulty_storage import FaultyStorage
from trioraft.testing.storage_conformance import (
    STORAGE_CHECKS,
    StorageCheck,
    StorageRuleBroken,
    check_storage,
)

every_check = pytest.mark.parametrize("check", STORAGE_CHECKS, ids=lambda check: check.__name__)


@every_check
def test_memory_storage_conforms(check: StorageCheck) -> None:
    check_storage(MemoryStorage, checks=[check])


@every_check
def test_sqlite_storage_conforms(check: StorageCheck, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    check_storage(
        lambda: SQLiteStorage(path), reborn=lambda _: SQLiteStorage(str(path)), checks=[check]
    )


@every_check
def test_a_sqlite_storage_can_be_opened_again(check: StorageCheck, tmp_path: Path) -> None:
    check_storage(lambda: SQLiteStorage(tmp_path), checks=[check])


@every_check
def test_the_storage_of_a_group_conforms(check: StorageCheck, tmp_path: Path) -> None:
    with open_shared(tmp_path) as shared:
        check_storage(
            lambda: shared.storage_of("a"),
            reborn=lambda _: shared.storage_of("a"),
            checks=[check],
        )


@every_check
def test_the_storage_of_a_group_conforms_among_others(check: StorageCheck, tmp_path: Path) -> None:
    """Others have written before it, and it is opened by another process after each closing."""
    shared = SharedLog(tmp_path)
    shared.open(cluster_id="all", node_id="0")
    others = [shared.storage_of(name) for name in ("a", "b")]
    for other in others:
        other.open(cluster_id="all", node_id="0")
        other.append(HardState(7, "x"), [Entry(1, 7, b"theirs")], 1)
        other.close()

    def reborn(_: Storage) -> Storage:
        shared.close()
        shared.open(cluster_id="all", node_id="0")
        return shared.storage_of("under test")

    check_storage(lambda: shared.storage_of("under test"), reborn=reborn, checks=[check])
    for other in others:
        recovered = other.open(cluster_id="all", node_id="0")
        assert recovered == Recovered(HardState(7, "x"), (Entry(1, 7, b"theirs"),))
    shared.close()


@every_check
def test_a_faulty_storage_without_faults_conforms(check: StorageCheck) -> None:
    check_storage(lambda: FaultyStorage(MemoryStorage()), checks=[check])


@contextmanager
def open_shared(path: Path) -> Iterator[SharedLog]:
    shared = SharedLog(path)
    shared.open(cluster_id="all", node_id="0")
    yield shared
    shared.close()


class Wrong:
    """A MemoryStorage with a bug planted by the subclass."""

    blocking = False

    def __init__(self) -> None:
        self.inner = MemoryStorage()

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        return self.inner.open(cluster_id=cluster_id, node_id=node_id)

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        self.inner.append(hard_state, entries, replace_from, identity)


class ForgetsVotes(Wrong):
    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        self.inner.append(hard_state or HardState(), entries, replace_from, identity)


class NeverCuts(Wrong):
    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        if entries or replace_from is None:
            self.inner.append(hard_state, entries, replace_from, identity)


class IsAlwaysNew(Wrong):
    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        self.inner.open(cluster_id=cluster_id, node_id=node_id)
        return None


class TakesAnyone(Wrong):
    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        return self.inner.open(cluster_id="c", node_id="n")


class StoresHalf(Wrong):
    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        self.inner.append(hard_state, (), None)
        self.inner.append(None, entries, replace_from, identity)


class IsOfAnEarlierTrioraft(Wrong):
    def append(  # type: ignore[override] # on purpose
        self, hard_state: HardState | None, entries: Sequence[Entry], replace_from: LogIndex | None
    ) -> None:
        self.inner.append(hard_state, entries, replace_from)


class ForgetsItsIdentity(Wrong):
    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        self.inner.append(hard_state, entries, replace_from, identity or b"")


class StoresItsIdentityFirst(Wrong):
    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        replace_from: LogIndex | None,
        identity: bytes | None = None,
    ) -> None:
        self.inner.append(None, (), None, identity)
        self.inner.append(hard_state, entries, replace_from)


class InstallsWithoutIdentity(Wrong):
    def install_snapshot(self, meta: SnapshotMeta, identity: bytes | None = None) -> None:
        self.inner.install_snapshot(meta)


class NeverCompacts(Wrong):
    def compact(self, base_index: LogIndex, base_term: Term) -> None:
        self.inner.compact(0, 0)


class KeepsAnyChunk(Wrong):
    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        self.inner.receive_chunk(meta, offset, data)
        return offset + len(data)


class TakesAnyContent(Wrong):
    def receive_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        wanted = self.inner.receive_chunk(meta, offset, data)
        return meta.size_bytes if offset + len(data) == meta.size_bytes else wanted


class DoesNotSayGone(Wrong):
    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        try:
            return self.inner.read_chunk(meta, offset, bytes_max)
        except SnapshotGone as error:
            raise StorageError(str(error)) from error


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (ForgetsVotes, "hard state"),
        (NeverCuts, "cut without entries"),
        (IsAlwaysNew, "not new any more"),
        (TakesAnyone, "is refused to"),
        (StoresHalf, "a refused append stores nothing"),
        (IsOfAnEarlierTrioraft, "append does not take the parameter 'identity'"),
        (ForgetsItsIdentity, "an append without one leaves it"),
        (StoresItsIdentityFirst, "a refused append stores no identity"),
        (InstallsWithoutIdentity, "a snapshot of what is stored brings one"),
        (NeverCompacts, "compacted inside an append"),
        (KeepsAnyChunk, "a transfer begins at 0"),
        (DoesNotSayGone, "older ones are gone"),
        (TakesAnyContent, "thrown away with its last chunk"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_suite_notices(wrong: Callable[[], Storage], rule: str) -> None:
    with pytest.raises(StorageRuleBroken, match=rule):
        check_storage(wrong)


def test_every_check_says_which_rule_it_checks() -> None:
    for check in STORAGE_CHECKS:
        assert check.__doc__, check
