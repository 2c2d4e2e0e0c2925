"""Storages for many groups of one process: each group's own, the whole taken by one process."""

from __future__ import annotations

import pytest

from trioraft.core.errors import StorageError
from trioraft.core.types import Entry, HardState
from trioraft.storage.groups import MemoryGroupStorages


def test_each_group_has_a_storage_of_its_own_and_finds_it_again() -> None:
    storages = MemoryGroupStorages()
    storages.open(cluster_id="c", node_id="a")
    first, second = storages.storage_of("first"), storages.storage_of("second")
    first.open(cluster_id="c", node_id="a")
    first.append(HardState(3, "a"), (Entry(1, 3, b"x"),), 1)
    first.close()
    storages.close()
    storages.open(cluster_id="c", node_id="a")
    recovered = storages.storage_of("first").open(cluster_id="c", node_id="a")
    assert recovered is not None
    assert recovered.hard_state == HardState(3, "a")
    assert second.open(cluster_id="c", node_id="a") is None


def test_they_belong_to_one_process_at_a_time_and_to_one_for_ever() -> None:
    storages = MemoryGroupStorages()
    storages.open(cluster_id="c", node_id="a")
    with pytest.raises(StorageError, match="in use by process 'a'"):
        storages.open(cluster_id="c", node_id="a")
    storages.close()
    storages.close()
    with pytest.raises(StorageError, match="belongs to"):
        storages.open(cluster_id="c", node_id="b")
