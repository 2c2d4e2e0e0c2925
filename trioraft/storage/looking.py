"""Looking into the directory of a stopped node, whoever it belongs to.

Rules of this file: everything is checked as if the node were opened, and nothing is changed.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from ..core.errors import StorageError
from ..core.types import NodeId, Recovered
from .directory import DATABASE, LOCK, Directory
from .health import DISK_TROUBLE, Health
from .log_loading import load, read_owner
from .matching import match_snapshot, recovered_of
from .received_snapshot import ReceivedSnapshot
from .snapshot_files import SnapshotFiles
from .wal_check import check_database_files


@attrs.frozen
class StoredNode:
    """What a directory says of its node."""

    cluster_id: str
    node_id: NodeId
    recovered: Recovered
    notices: tuple[str, ...]
    """What the next opening would say."""


def look_into(path: Path) -> StoredNode:
    """Read and check everything in a storage's directory.

    Args:
        path: of a node that does not run.

    Raises:
        StorageError: a process has it open, there is no storage, it is of a newer format, or it
            cannot be read.
        CorruptStorage: it holds something else than what was written.
    """
    if not path.is_dir() or not {DATABASE, LOCK} & {file.name for file in path.iterdir()}:
        raise StorageError(
            f"there is no storage of trioraft in {path}: give the directory that the node was "
            "opened with"
        )
    health = Health(path)
    directory = Directory(path, health)
    findings = directory.take()
    try:
        if findings.is_new:
            raise StorageError(f"the storage in {path} was never finished: it holds nothing yet")
        try:
            check_database_files(
                directory.database,
                directory.write_ahead_log,
                was_left_open=findings.was_left_open,
            )
        except DISK_TROUBLE as error:
            raise health.error("looking into the storage", error) from error
        owner = read_owner(directory.database)
        loaded = load(directory.database, owner)
        snapshots = SnapshotFiles(path, owner.cluster_id, health)
        received = ReceivedSnapshot(path, owner.cluster_id, health)
        snapshot, _, problems = match_snapshot(loaded, snapshots, received)
    finally:
        directory.let_go()
    recovered = recovered_of(loaded, snapshot)
    notices = (*loaded.notices, *problems)
    return StoredNode(owner.cluster_id, owner.node_id, recovered, notices)
