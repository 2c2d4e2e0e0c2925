"""The storages a test cluster can keep its logs in.

Rules of this file: a node's storage outlives its incarnations; a restart finds what the crash
left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, final

from ..core.errors import ConfigError
from ..core.types import NodeId
from ..storage.base import Storage
from ..storage.memory import MemoryStorage

StorageKind: TypeAlias = Literal["memory"]


@final
class Storages:
    """One storage for each node, made when it is first asked for."""

    def __init__(self) -> None:
        self._storages: dict[NodeId, Storage] = {}

    @classmethod
    @contextmanager
    def of(cls, kind: StorageKind) -> Iterator[Storages]:
        """Storages of this kind."""
        if kind != "memory":
            raise ConfigError(f'storage is {kind!r}; give "memory"')
        yield cls()

    def storage(self, node_id: NodeId) -> Storage:
        """This node's storage, the same one over all its incarnations."""
        return self._storages.setdefault(node_id, MemoryStorage())
