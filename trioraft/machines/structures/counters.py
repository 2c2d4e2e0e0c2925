"""Counter: a number that every node agrees on.

Rules of this file: it never leaves what 64 bits hold; a command that would is refused and changes
nothing.
"""

from __future__ import annotations

from ..replicated import ReplicatedObject, command, query

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Counter(ReplicatedObject):
    """A replicated integer, 0 at first."""

    value: int = 0

    @command
    def add(self, n: int = 1) -> int:
        """Add `n`; returns the new value. Raises OverflowError beyond 64 bits."""
        return self._become(self.value + n)

    @command
    def put(self, value: int) -> int:
        """Make it `value`; returns the value before."""
        before = self.value
        self._become(value)
        return before

    @command
    def compare_and_put(self, expected: int, value: int) -> bool:
        """Make it `value` if it is `expected`; returns whether it was."""
        if self.value != expected:
            return False
        self._become(value)
        return True

    @query
    def get(self) -> int:
        """The value."""
        return self.value

    def _become(self, value: int) -> int:
        if not _LOWEST <= value <= _HIGHEST:
            raise OverflowError(f"a Counter holds 64 bits; {value} is more, so it stays")
        self.value = value
        return value
