"""What a storage is: one atomic, durable write at a time.

Rules of this file:

* `append` is all or nothing, and durable when it returns. It is the only call on the hot path.
* The methods are plain functions. A storage with `blocking = True` may wait for a disk; the node
  calls it in a worker thread, never two calls at the same time.
* A storage never repairs in silence: what it cannot read as it was written is `CorruptStorage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..core.types import Entry, HardState, LogIndex, NodeId, Recovered


class Storage(Protocol):
    """Where term, vote and log survive a crash."""

    @property
    def blocking(self) -> bool:
        """Whether calls may wait for a disk and belong into a worker thread."""

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """Take the storage and return what it holds, or None when it is new.

        Raises:
            StorageError: in use by someone else, or it belongs to another node or cluster.
            CorruptStorage: what it holds is not what was written.
        """

    def append(
        self, hard_state: HardState | None, entries: Sequence[Entry], replace_from: LogIndex | None
    ) -> None:
        """Store atomically and durably: the hard state if given; then the log, cut before
        `replace_from` and continued with `entries` (which start there).

        Raises:
            StorageError: nothing of this call is stored, and the node dies.
        """

    def close(self) -> None:
        """Let go of it; what was appended stays. Idempotent."""
