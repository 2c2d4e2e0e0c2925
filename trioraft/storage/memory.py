"""MemoryStorage: survives the node, not the process. For tests, simulations and throw-away state.

Rules of this file: it keeps the storage protocol to the letter, so that a test with it says
something about the others; nothing of a failed call is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from ..core.errors import StorageError
from ..core.types import Entry, HardState, LogIndex, NodeId, Recovered


@final
class MemoryStorage:
    """A storage in this process's memory. Open it again and it holds what was appended.

    ```python
    storage = MemoryStorage()  # one for each node; keep it to restart the node
    ```
    """

    blocking = False

    def __init__(self) -> None:
        self._identity: tuple[str, NodeId] | None = None
        self._is_open = False
        self._hard_state = HardState()
        self._entries: list[Entry] = []

    def open(self, *, cluster_id: str, node_id: NodeId) -> Recovered | None:
        """Take the storage; see `Storage.open`.

        Raises:
            StorageError: it is open already, or belongs to another node or cluster.
        """
        identity = (cluster_id, node_id)
        if self._is_open:
            raise StorageError(
                f"this MemoryStorage is in use by node {node_id!r}: give each node its own"
            )
        if self._identity not in (None, identity):
            raise StorageError(
                f"this MemoryStorage belongs to (cluster, node) {self._identity}, not {identity}: "
                "give each node its own"
            )
        is_new = self._identity is None
        self._identity = identity
        self._is_open = True
        return None if is_new else Recovered(self._hard_state, tuple(self._entries))

    def append(
        self, hard_state: HardState | None, entries: Sequence[Entry], replace_from: LogIndex | None
    ) -> None:
        """Store atomically; see `Storage.append`."""
        if not self._is_open:
            raise StorageError("append on a MemoryStorage that is not open")
        if replace_from is not None:
            if not 1 <= replace_from <= len(self._entries) + 1:
                raise StorageError(
                    f"entries from {replace_from} would leave a gap after {len(self._entries)}"
                )
            self._entries[replace_from - 1 :] = entries
        if hard_state is not None:
            self._hard_state = hard_state

    def close(self) -> None:
        """Let go of it; see `Storage.close`."""
        self._is_open = False
