"""The storages a test cluster can keep its logs in.

Rules of this file: a node's storage outlives its incarnations; a restart finds what the crash
left. What is on a disk is gone with the cluster.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, final

from ..core.errors import ConfigError
from ..core.types import NodeId
from ..storage.base import Storage
from ..storage.memory import MemoryStorage
from ..storage.sqlite import SQLiteStorage

StorageKind: TypeAlias = Literal["memory", "sqlite"] | Callable[[NodeId], Storage]
"""By name, or a function that makes a node's storage."""


@final
class Storages:
    """One storage for each node, made when it is first asked for."""

    def __init__(self, make: Callable[[NodeId], Storage]) -> None:
        self._make = make
        self._storages: dict[NodeId, Storage] = {}

    @classmethod
    @contextmanager
    def of(cls, kind: StorageKind) -> Iterator[Storages]:
        """Storages of this kind."""
        if callable(kind):
            yield cls(kind)
        elif kind == "memory":
            yield cls(lambda _node_id: MemoryStorage())
        elif kind == "sqlite":
            with tempfile.TemporaryDirectory(prefix="trioraft-") as directory:
                yield cls(lambda node_id: SQLiteStorage(Path(directory, node_id)))
        else:
            raise ConfigError(f'storage is {kind!r}; give "memory" or "sqlite"')

    def storage(self, node_id: NodeId) -> Storage:
        """This node's storage, the same one over all its incarnations."""
        if node_id not in self._storages:
            self._storages[node_id] = self._make(node_id)
        return self._storages[node_id]
