"""What the tests of `SharedLog` share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trioraft import CorruptStorage, Entry, SharedLog
from trioraft.core.types import HardState, Recovered
from trioraft.protocols import Storage

CLUSTER = "tests"
GROUPS = ("eu", "us", "as")


def open_shared(path: Path, *, log_bytes_max: int | None = None) -> SharedLog:
    """Open it as node 0."""
    shared = SharedLog(path, log_bytes_max=log_bytes_max)
    shared.open(cluster_id=CLUSTER, node_id="0")
    return shared


def open_group(shared: SharedLog, group: str) -> tuple[Storage, Recovered | None]:
    """Open a group as node 0."""
    storage = shared.storage_of(group)
    return storage, storage.open(cluster_id=CLUSTER, node_id="0")


@contextmanager
def opened(
    path: Path, groups: Iterable[str] = GROUPS, *, log_bytes_max: int | None = None
) -> Iterator[tuple[SharedLog, Mapping[str, Storage]]]:
    """It, and the storages of these groups."""
    shared = open_shared(path, log_bytes_max=log_bytes_max)
    try:
        yield shared, {group: open_group(shared, group)[0] for group in groups}
    finally:
        shared.close()


def entries_of(group: str, first: int, count: int, term: int = 1) -> list[Entry]:
    """Entries of this group and no other."""
    return [
        Entry(index, term, f"{group} {index}/{term} ".encode().ljust(100, b"."))
        for index in range(first, first + count)
    ]


def fill(storages: Mapping[str, Storage], first: int, appends: int, term: int = 1) -> None:
    """Append one entry after the other, from `first` on, to each group in turn."""
    for index in range(first, first + appends):
        for group, storage in storages.items():
            storage.append(HardState(term, group), entries_of(group, index, 1, term), index)


def content(path: Path) -> dict[str, Recovered | str]:
    """What each group holds, or that it is refused."""
    shared = open_shared(path)
    found: dict[str, Recovered | str] = {}
    try:
        for group in shared.groups:
            try:
                storage, recovered = open_group(shared, group)
            except CorruptStorage as error:
                is_named = f"group {group!r}" in str(error)
                found[group] = "refused" if is_named else f"without a name: {error}"
            else:
                assert recovered is not None
                found[group] = recovered
                storage.close()
    finally:
        shared.close()
    return found
