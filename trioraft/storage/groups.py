"""GroupStorages: where many groups of one process survive, each with a `Storage` of its own.

Rules of this file:

* Towards its node each storage is as `Storage` has it, with everything that promises. Whether
  several share a file, and a sync, is the business of whoever hands them out.
* A storage that is not open costs little: a group that hibernates has closed its own.
* `storage_of` neither blocks nor writes: what a group has stored is looked at by its `open`.
"""

from __future__ import annotations

from typing import Protocol, final

from ..core.errors import StorageError
from ..core.types import NodeId
from .base import Storage
from .memory import MemoryStorage


class GroupStorages(Protocol):
    """Storages for all groups of one process. Like those it hands out, one with `blocking` may
    wait for a disk, and may say by `is_volatile = True` that its content goes with the process."""

    @property
    def blocking(self) -> bool:
        """Whether `open` and `close` may wait for a disk, and belong into a worker thread."""

    def open(self, *, cluster_id: str, node_id: NodeId) -> None:
        """Take what is shared between the groups, before any storage of a group is opened.

        Args:
            cluster_id: whose groups these are; it is stored the first time, and compared after.
            node_id: whose process this is; likewise.

        Raises:
            StorageError: in use by someone else, or it belongs to another process or cluster.
            CorruptStorage: what it holds is not what was written.
        """

    def storage_of(self, group: str) -> Storage:
        """The storage of this group: the same object, or one over the same content, each time.

        It is opened and closed by the group's node, many times while this is open, from the node's
        worker threads: those of different groups call at the same time.

        Args:
            group: the name of the group, 1 to 64 printable characters.
        """

    def close(self) -> None:
        """Let go of what is shared; the storages of all groups are closed already. Idempotent."""


@final
class MemoryGroupStorages:
    """The groups of one process in its memory. Open it again and it holds what was appended.

    All methods are as `GroupStorages` has them.
    """

    blocking = False
    is_volatile = True

    def __init__(self) -> None:
        self._by_group: dict[str, MemoryStorage] = {}
        self._owner: tuple[str, NodeId] | None = None
        self._is_open = False

    def open(self, *, cluster_id: str, node_id: NodeId) -> None:
        """Take it; see `GroupStorages.open`.

        Raises:
            StorageError: it is open already, or belongs to another process or cluster.
        """
        owner = (cluster_id, node_id)
        if self._is_open:
            raise StorageError(
                f"this MemoryGroupStorages is in use by process {node_id!r}: give each its own"
            )
        if self._owner not in (None, owner):
            raise StorageError(
                f"this MemoryGroupStorages belongs to (cluster, process) {self._owner}, not "
                f"{owner}: give each process its own"
            )
        self._owner, self._is_open = owner, True

    def storage_of(self, group: str) -> MemoryStorage:
        """The storage of this group, the same object each time."""
        return self._by_group.setdefault(group, MemoryStorage())

    def close(self) -> None:
        """Let go of it; see `GroupStorages.close`."""
        self._is_open = False
