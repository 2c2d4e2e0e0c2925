"""Set: members, each once, in the order in which they came.

Rules of this file: the members are a dict's keys. Python's own set has another order in each
process, and a command that depends on it would let the nodes differ.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from ..replicated import ReplicatedObject, command, query

T = TypeVar("T")


class Set(ReplicatedObject, Generic[T]):
    """A replicated set."""

    entries: dict[T, None] = msgspec.field(default_factory=dict)

    @command
    def add(self, member: T) -> bool:
        """Add a member; returns whether it is new."""
        is_new = member not in self.entries
        self.entries[member] = None
        return is_new

    @command
    def discard(self, member: T) -> bool:
        """Remove a member; returns whether it was one."""
        if member not in self.entries:
            return False
        del self.entries[member]
        return True

    @query
    def contains(self, member: T) -> bool:
        """Whether it is a member."""
        return member in self.entries

    @query
    def size(self) -> int:
        """How many members there are."""
        return len(self.entries)

    @query
    def members(self) -> list[T]:
        """All members, in the order in which they came."""
        return list(self.entries)
