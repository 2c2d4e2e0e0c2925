"""Dict: keys with values, in the order in which the keys came.

Rules of this file: an absent key reads as None, so a stored None cannot be told from none at all;
`contains` can.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from ..replicated import ReplicatedObject, command, query

K = TypeVar("K")
V = TypeVar("V")


class Dict(ReplicatedObject, Generic[K, V]):
    """A replicated dict."""

    entries: dict[K, V] = msgspec.field(default_factory=dict)

    @command
    def put(self, key: K, value: V) -> V | None:
        """Store a value; returns the one before, or None."""
        before = self.entries.get(key)
        self.entries[key] = value
        return before

    @command
    def put_all(self, entries: dict[K, V]) -> None:
        """Store several values at once."""
        self.entries.update(entries)

    @command
    def pop(self, key: K) -> V | None:
        """Remove a key; returns its value, or None."""
        return self.entries.pop(key, None)

    @command
    def compare_and_put(self, key: K, expected: V | None, value: V) -> bool:
        """Store a value if the present one is `expected` (None: there is none).

        Returns whether it was.
        """
        if self.entries.get(key) != expected:
            return False
        self.entries[key] = value
        return True

    @command
    def clear(self) -> None:
        """Remove all keys."""
        self.entries.clear()

    @query
    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        return self.entries.get(key)

    @query
    def contains(self, key: K) -> bool:
        """Whether there is such a key."""
        return key in self.entries

    @query
    def size(self) -> int:
        """How many keys there are."""
        return len(self.entries)

    @query
    def items(self) -> dict[K, V]:
        """A copy of all keys and values."""
        return self.entries
