"""A new node's directory, that begins with a snapshot.

Rules of this file:

* The directory is empty before. The snapshot comes first, complete and durable; the database comes
  last, in one rename. Without it nobody takes the directory for a node's: whoever is killed leaves
  something that is refused, by nodes and by the next who restores.
* What was begun and fails is taken away again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs

from ..core.errors import StorageError
from ..core.types import Configuration, HardState, LogIndex, NodeId, SnapshotMeta, Term
from . import formats
from .directory import Directory
from .health import DISK_TROUBLE, Health
from .log_database import Base, Beginning, Owner, create_database
from .snapshot_files import SnapshotFiles, content_chunks, file_name, read_header

MAY_BE_THERE = frozenset({"lost+found"})
"""In a directory that is empty all the same: it is a volume."""


@attrs.frozen
class NewNode:
    """What a directory shall say."""

    cluster_id: str
    node_id: NodeId
    index: LogIndex
    """Of the last entry that the snapshot stands for."""
    index_term: Term
    """The term of that entry."""
    configuration: Configuration
    hard_state: HardState
    identity: bytes
    """Of its disk: opaque here."""
    notice: str
    """What the node says in its log when it is opened first."""


def check_is_empty(path: Path) -> None:
    """Refuse what holds anything; a missing directory is as good as an empty one.

    Raises:
        StorageError: there is something.
    """
    try:
        names = set(os.listdir(path)) - MAY_BE_THERE
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be used: {error.strerror}; give a directory") from error
    if names:
        some = ", ".join(sorted(names)[:5])
        raise StorageError(
            f"{path} is not empty (there is: {some}). A backup is restored into an empty or a new "
            "directory only: if this is what an interrupted restore has left, or a disk that is "
            "not needed any more, empty it first; nothing was changed"
        )


def make_node(path: Path, node: NewNode, content: Iterable[bytes]) -> SnapshotMeta:
    """Make a directory in which a node finds itself at the end of a snapshot.

    Args:
        path: empty, or not there yet.
        node: what it shall say.
        content: of the snapshot; what it raises comes through, and nothing is left then.

    Returns:
        The snapshot's meta.

    Raises:
        StorageError: it is not empty, or cannot be written.
        DiskFull: there is no room; nothing is left.
    """
    check_is_empty(path)
    health = Health(path)
    directory = Directory(path, health)
    was_there = path.exists()
    directory.acquire()
    try:
        with ExitStack() as undo:
            undo.callback(unmake_node, path, is_removed=not was_there)
            snapshots = SnapshotFiles(directory, node.cluster_id, health)
            meta = snapshots.write(node.index, node.index_term, node.configuration, content)
            beginning = Beginning(
                Base(node.index, node.index_term),
                node.hard_state,
                node.identity,
                (node.notice,),
                formats.needed_by(node.configuration),
            )
            try:
                create_database(directory.database, Owner(node.cluster_id, node.node_id), beginning)
            except DISK_TROUBLE as error:
                raise health.error("creating the database", error) from error
            undo.pop_all()
    finally:
        directory.release()
    return meta


def content_of(path: Path, meta: SnapshotMeta) -> Iterator[bytes]:
    """The content of the snapshot in a directory that `make_node` has made, to make another of it.

    Raises:
        CorruptStorage: at the end, if it is not what was written.
        OSError: it cannot be read.
    """
    file_path = path / file_name(meta)
    with file_path.open("rb") as file:
        read_header(file, str(file_path))
        yield from content_chunks(file, meta, str(file_path))


def unmake_node(path: Path, *, is_removed: bool) -> None:
    """Take away what `make_node` has made, and nothing else was in.

    Args:
        path: the directory.
        is_removed: it was not there before, either.
    """
    with suppress(OSError):
        for name in set(os.listdir(path)) - MAY_BE_THERE:
            (path / name).unlink(missing_ok=True)
        if is_removed:
            path.rmdir()
