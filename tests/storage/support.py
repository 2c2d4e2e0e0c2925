"""What the tests of SQLiteStorage share: ways to fill, to crash and to damage one.

Rules of this file: a crash without a process is a copy of the files of an open storage; SQLite
cannot tell it from a process that was killed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from trioraft import Configuration, Entry
from trioraft.core.types import HardState, Recovered, SnapshotMeta
from trioraft.storage.sqlite import SQLiteStorage

CLUSTER = "tests"
VOTERS = Configuration(("0", "1", "2"))
DATABASE = "log.sqlite3"
WRITE_AHEAD_LOG = "log.sqlite3-wal"
LOCK = "trioraft.lock"


def entries(first: int, count: int, term: int = 1, data_bytes: int = 100) -> list[Entry]:
    """Entries first … first + count - 1, each with data of its own."""
    return [
        Entry(index, term, (b"%d/%d " % (index, term)).ljust(data_bytes, b"."))
        for index in range(first, first + count)
    ]


def open_storage(
    path: Path, *, log_bytes_max: int | None = None
) -> tuple[SQLiteStorage, Recovered | None]:
    """Open it as node 0."""
    storage = SQLiteStorage(path, log_bytes_max=log_bytes_max)
    return storage, storage.open(cluster_id=CLUSTER, node_id="0")


def content(path: Path) -> Recovered | None:
    """What a storage holds; it is closed again."""
    storage, recovered = open_storage(path)
    storage.close()
    return recovered


def filled(path: Path, appends: Sequence[int] = (3, 1, 40, 2, 200, 1)) -> SQLiteStorage:
    """An open storage with these appends, each with a hard state of its own."""
    storage, _ = open_storage(path)
    index = 1
    for term, count in enumerate(appends, 1):
        storage.append(HardState(term, str(term % 3)), entries(index, count, term), index)
        index += count
    return storage


def snapshot(storage: SQLiteStorage, index: int, term: int) -> SnapshotMeta:
    """A snapshot whose content says which one it is."""
    return storage.write_snapshot(index, term, VOTERS, [b"snapshot %d" % index])


def crashed_copy(storage: SQLiteStorage, path: Path) -> Path:
    """The storage as a process that was killed just now would leave it."""
    shutil.copytree(storage.directory, path)
    return path


def fingerprint(path: Path) -> dict[str, str]:
    """Every file in a directory, with a hash of what it holds."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())
    }


def flip(file: Path, position: int, bit: int = 0) -> None:
    """Flip one bit; a negative position counts from the end."""
    position %= file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(position)
        byte = opened.read(1)[0]
        opened.seek(position)
        opened.write(bytes([byte ^ (1 << bit)]))
